"""SIGKILL kills a collector under load at random moments: all acknowledged events are in the log."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sokuji.log.local.log import LocalLog
from tests.conftest import IS_LONG
from tests.log.collector import PARTITIONS, WRITE_KEY, open_events

ROUNDS = 200 if IS_LONG else 2
VISITORS = 8


class Visitor:
    """Sends numbered events, one request after the other, and never the same event twice."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.next_number = 0
        self.acknowledged: list[int] = []

    def send_until_refused(self, port: int, chance: random.Random) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            while True:
                numbers = range(self.next_number, self.next_number + chance.choice([1, 1, 5, 100]))
                self.next_number = numbers.stop
                connection.request("POST", "/v1/batch", self.request(numbers), {"Content-Type": "application/json"})
                response = connection.getresponse()
                response.read()
                assert response.status == 200
                self.acknowledged += numbers
        except (OSError, http.client.HTTPException):
            return  # the collector is dead; these numbers may be stored, or not
        finally:
            connection.close()

    def request(self, numbers: range) -> str:
        events = [
            {
                "type": "track",
                "event": "view",
                "anonymousId": self.name,
                "messageId": f"{self.name}-{number}",
                "properties": {"number": number, "text": "x" * (number % 500)},
            }
            for number in numbers
        ]
        return json.dumps({"writeKey": WRITE_KEY, "batch": events})


def _acknowledged(visitors: list[Visitor]) -> int:
    return sum(len(visitor.acknowledged) for visitor in visitors)


def one_life(folder: Path, visitors: list[Visitor], chance: random.Random) -> None:
    """Start the collector, load it, kill it."""
    collector = subprocess.Popen([sys.executable, "-m", "tests.log.collector", str(folder)], stdout=subprocess.PIPE)
    assert collector.stdout is not None
    with collector.stdout:
        port = int(collector.stdout.readline())
    threads = [threading.Thread(target=visitor.send_until_refused, args=(port, random.Random(chance.random()))) for visitor in visitors]
    for thread in threads:
        thread.start()
    before, deadline = _acknowledged(visitors), time.monotonic() + 60
    while _acknowledged(visitors) == before:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(chance.uniform(0, 0.3))
    collector.kill()
    collector.wait()
    for thread in threads:
        thread.join()


def stored_numbers(log: LocalLog) -> dict[str, list[int]]:
    """The numbers of each visitor's events in the order of the log."""
    found: dict[str, list[int]] = {}
    for partition in range(PARTITIONS):
        offset = 0
        while offset < log.end(partition):
            batch, _, offset = log.read(partition, offset, 10_000)
            for visitor, properties in zip(*(batch.column(name).to_pylist() for name in ("visitor_id", "properties")), strict=True):
                found.setdefault(visitor, []).append(json.loads(properties)["number"])
    return found


@pytest.mark.slow
@pytest.mark.e2e
def test_every_acknowledged_event_is_stored_once_and_in_order(tmp_path: Path) -> None:
    chance = random.Random(2019)
    visitors = [Visitor(f"visitor-{number}") for number in range(VISITORS)]
    for _ in range(ROUNDS):
        one_life(tmp_path, visitors, chance)
    with open_events(tmp_path) as log:
        stored = stored_numbers(log)
    assert _acknowledged(visitors) >= ROUNDS
    for visitor in visitors:
        numbers = stored[visitor.name]
        assert all(earlier < later for earlier, later in itertools.pairwise(numbers)), f"{visitor.name}: repeated or reordered"
        assert not set(visitor.acknowledged) - set(numbers), f"{visitor.name}: lost"
