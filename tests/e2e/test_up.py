"""`sokuji init` and `sokuji up` as a new user runs them, with curl."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from sokuji.roles.up import running
from tests.e2e.command import sql

pytestmark = pytest.mark.e2e
SOKUJI = [sys.executable, "-m", "sokuji"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(*arguments: str | Path) -> str:
    return subprocess.run([*SOKUJI, *map(str, arguments)], check=True, capture_output=True, text=True, timeout=120).stdout


@pytest.fixture
def project(tmp_path: Path) -> tuple[Path, str, int]:
    """A project's folder, write key and collector port."""
    folder, port = tmp_path / "shop", _free_port()
    _run("init", folder)
    settings = (folder / "sokuji.toml").read_text().replace("8080", f"{port}\nhealth_port = {_free_port()}")
    settings += f"\n[lake]\nhealth_port = {_free_port()}\n"
    (folder / "sokuji.toml").write_text(settings)
    match = re.search(r'write_key = "(\w+)"', settings)
    assert match is not None
    return folder, match[1], port


def _curl(port: int, key: str, event: dict[str, object]) -> None:
    command = ["curl", "--silent", "--fail", f"localhost:{port}/v1/track", "-u", f"{key}:", "-d", json.dumps(event)]
    subprocess.run(command, check=True, timeout=30)


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_from_a_first_event_over_killed_roles_to_a_second_start(project: tuple[Path, str, int]) -> None:
    folder, key, port = project
    with running(folder) as supervisor:
        _curl(port, key, {"event": "buy", "anonymousId": "v1", "properties": {"revenue": 30}})
        answer = _run("sql", "-p", folder, "--format", "json", "SELECT event_name, keys.visitor_id, revenue FROM main.events")
        assert json.loads(answer) == [{"event_name": "buy", "visitor_id": "v1", "revenue": 30.0}]
        _check_doors(folder, port)
        _kill_every_role(supervisor.pid)
        _curl_once_it_is_back(port, key, {"event": "buy", "anonymousId": "v2"})
        assert _visitors(folder) == ["v1", "v2"]
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(60) == 0
    with running(folder):
        _curl(port, key, {"event": "buy", "anonymousId": "v3"})
    assert _visitors(folder) == ["v1", "v2", "v3"], "what was acknowledged before a stop is there after a start"


def _visitors(folder: Path) -> list[str]:
    return [row["who"] for row in sql(folder, "SELECT keys.visitor_id AS who FROM main.events ORDER BY who")]


def _check_doors(folder: Path, port: int) -> None:
    """Whoever watches the platform sees it well and ready, and metrics are not on the collector's port, which is open to all."""
    private = [int(found) for found in re.findall(r"health_port = (\d+)", (folder / "sokuji.toml").read_text())]
    for each in (port, *private):
        for path in ("health", "ready"):
            assert _status(f"http://127.0.0.1:{each}/{path}") == 200
    assert [_status(f"http://127.0.0.1:{each}/metrics") for each in (*private, port)] == [200, 200, 404]


def _kill_every_role(supervisor: int) -> None:
    children = subprocess.run(["pgrep", "-P", str(supervisor)], check=True, capture_output=True, text=True).stdout.split()
    for child in children:
        subprocess.run(["kill", "-9", child], check=True)


def _curl_once_it_is_back(port: int, key: str, event: dict[str, object]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            return _curl(port, key, event)
        except subprocess.CalledProcessError:
            assert time.monotonic() < deadline, "the collector does not come back"
            time.sleep(0.2)
