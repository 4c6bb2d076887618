"""The whole platform under load while its processes are killed with SIGKILL: what was acknowledged is in the lake, once."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

import sokuji
from sokuji.config import FILE_NAME
from sokuji.platform import Platform
from sokuji.roles import running
from tests.e2e.ports import free_port

WRITE_KEY = "wk_test"
VISITORS = 4
KILLS = ["track", "sink", "track", "sink", "sink", "track"]

SETTINGS = """
[track]
port = {track}

[lake]
commit_seconds = 0.2
health_port = {sink}

[log]
segment_bytes = 200_000

[sources.web]
write_key = "{key}"
dataset = "main"
"""


class Visitor:
    """Sends numbered events, and a request again and again until it is acknowledged, as Segment's libraries do."""

    def __init__(self, name: str, port: int) -> None:
        self.name, self._port = name, port
        self.acknowledged = 0
        self.repeats = 0

    def send_until(self, stop: threading.Event, chance: random.Random) -> None:
        while not stop.is_set():
            numbers = range(self.acknowledged, self.acknowledged + chance.choice([1, 5, 50]))
            while not self._is_acknowledged(self._request(numbers)):
                self.repeats += 1
                time.sleep(0.05)
            self.acknowledged = numbers.stop

    def _is_acknowledged(self, body: str) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("POST", "/v1/batch", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        assert response.status in {200, 503}
        return response.status == 200

    def _request(self, numbers: range) -> str:
        events = [
            {
                "type": "track",
                "event": "view",
                "anonymousId": self.name,
                "messageId": f"{self.name}-{number}",
                "properties": {"number": number},
            }
            for number in numbers
        ]
        return json.dumps({"writeKey": WRITE_KEY, "batch": events})


def role_pid(supervisor: int, role: str) -> int | None:
    """The process of a role, None while there is none."""
    for pid in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split():
        if role in Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0"):
            return int(pid)
    return None


def kill_role(supervisor: int, role: str) -> None:
    while (pid := role_pid(supervisor, role)) is None:
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)


def stored(platform: Platform) -> Counter[tuple[str, int]]:
    """How often each event is in the events table."""
    return Counter(platform.sql("SELECT keys.visitor_id, number FROM main.events").rows())


@pytest.mark.slow
@pytest.mark.e2e
def test_what_was_acknowledged_is_in_the_lake_exactly_once(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / FILE_NAME).write_text(SETTINGS.format(track=port, sink=free_port(), key=WRITE_KEY))
    visitors = [Visitor(f"visitor-{number}", port) for number in range(VISITORS)]
    chance = random.Random(2019)
    stop = threading.Event()
    with running(tmp_path) as supervisor:
        threads = [threading.Thread(target=visitor.send_until, args=(stop, random.Random(chance.random()))) for visitor in visitors]
        for thread in threads:
            thread.start()
        for role in KILLS:
            time.sleep(chance.uniform(0.5, 2.0))
            kill_role(supervisor.pid, role)
        stop.set()
        for thread in threads:
            thread.join()
        with sokuji.open(tmp_path) as platform:
            fresh = stored(platform)
    with sokuji.open(tmp_path) as platform:
        drained = stored(platform)
    expected = {(visitor.name, number) for visitor in visitors for number in range(visitor.acknowledged)}
    assert sum(visitor.repeats for visitor in visitors) > 0
    assert fresh == drained == Counter(expected)
