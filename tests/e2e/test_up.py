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


def test_a_first_event_with_curl_comes_back_in_sql(project: tuple[Path, str, int]) -> None:
    folder, key, port = project
    with running(folder):
        _curl(port, key, {"event": "buy", "anonymousId": "v1", "properties": {"revenue": 30}})
        answer = _run("sql", "-p", folder, "--format", "json", "SELECT event_name, keys.visitor_id, revenue FROM main.events")
        assert json.loads(answer) == [{"event_name": "buy", "visitor_id": "v1", "revenue": 30.0}]
        private = [int(found) for found in re.findall(r"health_port = (\d+)", (folder / "sokuji.toml").read_text())]
        for each in (port, *private):
            for path in ("health", "ready"):
                assert _status(f"http://127.0.0.1:{each}/{path}") == 200
        assert [_status(f"http://127.0.0.1:{each}/metrics") for each in (*private, port)] == [200, 200, 404]


def test_what_was_acknowledged_is_there_after_a_stop_and_a_start(project: tuple[Path, str, int]) -> None:
    folder, key, port = project
    for number in range(2):
        with running(folder):
            _curl(port, key, {"event": "buy", "anonymousId": f"v{number}"})
    assert _run("sql", "-p", folder, "--format", "csv", "SELECT COUNT(*) AS n FROM main.events").split() == ["n", "2"]


def test_a_role_that_is_killed_comes_back(project: tuple[Path, str, int]) -> None:
    folder, key, port = project
    with running(folder) as supervisor:
        _curl(port, key, {"event": "buy", "anonymousId": "v1"})
        children = subprocess.run(["pgrep", "-P", str(supervisor.pid)], check=True, capture_output=True, text=True).stdout.split()
        for child in children:
            subprocess.run(["kill", "-9", child], check=True)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                _curl(port, key, {"event": "buy", "anonymousId": "v2"})
                break
            except subprocess.CalledProcessError:
                time.sleep(0.2)
        assert _run("sql", "-p", folder, "--format", "csv", "SELECT COUNT(*) AS n FROM main.events").split() == ["n", "2"]
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(60) == 0
