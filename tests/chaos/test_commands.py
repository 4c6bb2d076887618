"""The commands on a damaged data folder: one line that names the file, never a traceback."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import sokuji
from sokuji.cli import main

COMMANDS = {
    "sql": ["sql", "SELECT COUNT(*) FROM main.events, main.kept"],
    "doctor": ["doctor"],
    "models": ["models"],
    "adopt": ["adopt"],
    "verify": ["features", "verify"],
    "get": ["features", "get", "--visitor", "v1"],
    "apply": ["apply"],
}
DAMAGED = {
    "meta.db": {"sql", "doctor", "adopt"},
    "log/events/log.json": {"sql"},
    "log/events/consumers/sink.json": {"sql"},
    "log/events/0/00000000000000000000.segment": {"sql"},
    "lake/.format.json": {"sql", "doctor", "adopt"},
    "lake/main/kept/_delta_log/00000000000000000001.json": {"sql"},
    "models/.format.json": {"doctor", "models", "adopt"},
}
"""By file, the commands that cannot do without it: the others may or may not."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands") / "project"
    folder.mkdir()
    (folder / "sokuji.toml").write_text('[sources.web]\nwrite_key = "w"\n[log]\npartitions = 1\n')
    (folder / "features.py").write_text(
        'from sokuji.features import events, view\n\nview("buyer", entity="visitor", buys=events("buy").count())\n'
    )
    with sokuji.open(folder) as platform:
        platform.track({"type": "track", "event": "buy", "messageId": "m1", "anonymousId": "v1"})
        platform.sql("CREATE TABLE main.kept AS SELECT 1 AS id")
        with platform._backends.make_sink() as sink:
            sink.drain()
        platform.track({"type": "track", "event": "buy", "messageId": "m2", "anonymousId": "v1"})
        assert platform.models.orphans() == []
    return folder


@pytest.mark.parametrize("file", [file if file == "meta.db" else pytest.param(file, marks=pytest.mark.long) for file in DAMAGED])
def test_a_command_names_what_is_damaged(project: Path, tmp_path: Path, file: str) -> None:
    for name, arguments in COMMANDS.items():
        broken = tmp_path / name
        shutil.copytree(project, broken)
        path = broken / ".sokuji" / file
        path.write_bytes(path.read_bytes()[:-5])
        done = CliRunner().invoke(main, [*arguments, "-p", str(broken)])
        assert isinstance(done.exception, SystemExit | None), (name, done.exception)
        errors = [line for line in done.output.splitlines() if line.startswith(("error:", "FAIL stores:"))]
        if name in DAMAGED[file]:
            assert len(errors) == 1, (name, done.output)
            assert str(path.parent) in errors[0], (name, errors)
            assert done.exit_code == 1, (name, done.output)
