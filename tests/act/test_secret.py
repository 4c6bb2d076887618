"""The secret's file."""

import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from sokuji.act.secret import Secret
from sokuji.cli import main
from sokuji.errors import ConfigError

SIGNING = (Path(__file__).parents[2] / "docs" / "actions.md").read_text().partition("## Signed user ids")[2].partition("\n## ")[0]


def test_it_is_made_once_and_is_only_the_owners(tmp_path: Path) -> None:
    path = tmp_path / "data" / "secret"
    first = Secret.open(path)
    assert Secret.open(path).key("token") == first.key("token")
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["secret"]


def test_roles_that_start_together_agree(tmp_path: Path) -> None:
    keys: list[bytes] = []
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait()
        keys.append(Secret.open(tmp_path / "secret").key("token"))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["secret"]


def test_each_purpose_has_its_own_key() -> None:
    secret = Secret(bytes(32))
    keys = [secret.key("token"), secret.key("server main"), bytes.fromhex(secret.server_key("other").removeprefix("sk_"))]
    assert len(set(keys)) == 3
    assert Secret(b"x" * 32).key("token") != secret.key("token")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    known = Secret.open(path).key("token")
    stored = path.read_bytes()
    for damaged in (b"short", stored[:33], bytes([stored[0] ^ 1]) + stored[1:]):
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match=f"^{path} is damaged: .*; restore it"):
            Secret.open(path)
    path.write_bytes(stored[:32])  # as an earlier release made it
    assert Secret.open(path).key("token") == known


def test_whoever_runs_the_project_can_see_what_its_servers_need(tmp_path: Path) -> None:
    (tmp_path / "sokuji.toml").write_text('[sources.web]\nwrite_key = "public"\ndataset = "shop"\n')
    (tmp_path / "actions.py").write_text(
        "from sokuji.rules import rule, webhook\n"
        "rule('a', do=webhook('https://crm.example/a')); rule('b', do=webhook('https://crm.example/b'))\n"
    )
    shown = [CliRunner().invoke(main, ["keys", "-p", str(tmp_path), *more]).output.splitlines() for more in ([], ["--secret"])]
    secret = Secret.open(tmp_path / ".sokuji" / "secret")
    assert shown[0] == ["web\tpublic\tshop.events"]
    assert [line.split("\t")[:2] for line in shown[1][1:]] == [
        ["shop", secret.server_key("shop")],
        ["https://crm.example:443", secret.webhook_secret("https://crm.example:443")],
    ]


@pytest.mark.parametrize("user", ["u1", "", "Zoë 😀", "a'b\n"])
def test_a_site_signs_as_the_documentation_says(tmp_path: Path, user: str) -> None:
    (tmp_path / "sokuji.toml").write_text('[sources.web]\nwrite_key = "public"\ndataset = "shop"\n')
    shown = CliRunner().invoke(main, ["keys", "-p", str(tmp_path), "--sign", user]).output
    key = Secret.open(tmp_path / ".sokuji" / "secret").server_key("shop")
    examples = re.findall(r"```(python|js|php|ruby)\n(.*?)```", SIGNING, re.DOTALL)
    assert [language for language, _ in examples] == ["python", "js", "php", "ruby"]
    programs = {"python": (sys.executable, "-c"), "js": ("node", "-e"), "php": ("php", "-r"), "ruby": ("ruby", "-e")}
    for language, text in examples:
        command, option = programs[language]
        if shutil.which(command):
            environment = os.environ | {"SOKUJI_SERVER_KEY": key, "USER_ID": user}
            done = subprocess.run([command, option, text], env=environment, check=False, capture_output=True)
            assert (shown, done.stderr) == (f"shop\t{done.stdout.decode().strip()}\n", b"")
