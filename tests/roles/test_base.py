"""The table of roles, and that all users of the table agree with it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from sokuji import cli
from sokuji.config import Config, TrackSettings
from sokuji.roles.base import ROLES, TRACK, ProjectFolder, Role

ROOT = Path(__file__).parents[2]
MODULES = {"sokuji.roles.base", "sokuji.cli"}
NOT_FOR_HELP = {"msgspec", "pyarrow", "duckdb", "sqlalchemy", "uvloop", "sokuji.config", "sokuji.backends", "http.server"}
FEATURES, ACTIONS = "features.py", "actions.py"


def _needed(folder: Path) -> list[str]:
    project = ProjectFolder(folder, Config())
    return [role.name for role in ROLES if role.is_needed(project)]


def test_a_role_of_the_reactive_side_is_needed_where_something_is_declared_for_it(tmp_path: Path) -> None:
    assert _needed(tmp_path) == ["track", "sink"]
    (tmp_path / FEATURES).touch()
    assert _needed(tmp_path) == ["track", "analyze", "sink"]
    (tmp_path / FEATURES).rename(tmp_path / ACTIONS)
    assert _needed(tmp_path) == ["track", "analyze", "api", "deliver", "sink"]


@pytest.mark.parametrize(
    ("file", "restarted"),
    [(FEATURES, {"analyze", "api", "deliver"}), (ACTIONS, {"analyze", "api", "deliver"}), ("models/m.sql", set())],
)
def test_a_role_reads_something_else_when_the_files_it_compiles_change(tmp_path: Path, file: str, restarted: set[str]) -> None:
    project, before = ProjectFolder(tmp_path, Config(data=tmp_path)), {}
    for name in (FEATURES, ACTIONS):
        (tmp_path / name).touch()
    before = {role: role.reads(project) for role in ROLES}
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("# another")
    assert {role.name for role in ROLES if role.reads(project) != before[role]} == restarted


def test_each_role_has_ports_of_its_own() -> None:
    ports = [port for role in ROLES for port in role.ports(Config())]
    assert [port for port, count in Counter(port for _, _, port in ports).items() if count > 1] == []
    assert {host for setting, host, _ in ports if setting.endswith(".health_port")} == {"127.0.0.1"}
    assert [role.name for role in ROLES if len(role.ports(Config())) == 2] == ["track", "api"]


def test_a_port_that_is_known_only_once_it_is_taken_cannot_be_asked() -> None:
    assert TRACK.ready_url(Config()) == "http://127.0.0.1:8080/ready"
    assert TRACK.ready_url(Config(track=TrackSettings(port=0))) is None


@pytest.mark.parametrize("page", ["security.md", "settings.md"])
@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_the_pages_name_a_roles_ports(page: str, role: Role) -> None:
    text = (ROOT / "docs" / page).read_text()
    for setting, _, port in role.ports(Config()):
        assert re.search(rf"`{re.escape(setting)}`[ |(`]+{port}\b", text), (setting, port)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_role_is_a_command(role: Role) -> None:
    assert cli.main.commands[role.name].help == role.summary


@pytest.mark.parametrize("module", sorted(MODULES))
def test_the_table_is_read_without_what_roles_run_on(module: str) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    imported = set(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split())
    assert not imported & NOT_FOR_HELP
