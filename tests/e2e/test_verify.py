"""`sokuji features verify`: late events, repeats, merges, bots, poison and kills make no difference, and one wrong number does."""

from __future__ import annotations

import http.client
import json
import random
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import sokuji
from sokuji.analyze.state.served import SERVED_LOG, SERVED_SCHEMA
from sokuji.log.local.log import LocalLog
from sokuji.roles.up import running
from tests.e2e import command
from tests.e2e.killing import kill_role
from tests.e2e.ports import free_port

pytestmark = pytest.mark.e2e
KEY = "wk_test"
SETTINGS = """
[track]
port = {track}
health_port = {track_health}

[analyze]
health_port = {analyze}
checkpoint_seconds = 0.5
served_sample = 1.0

[lake]
commit_seconds = 0.2
health_port = {lake}

[sources.web]
write_key = "wk_test"
"""
FEATURES = """
from sokuji.features import events, sessions, view

buys, views = events("buy"), events("view")
view(
    "shopper",
    entity="visitor",
    buys=buys.count().over("1h", "7d"),
    rate=buys.sum("100 / revenue"),
    seen=views.last(5, "item"),
    kinds=views.distinct("item").over("1d"),
    visit=sessions.number(),
)
view("member", entity="user", spend=buys.sum("revenue"))
"""
FEATURES_COUNT = 7
EVENTS = 400


class Visitors:
    """Twenty people, of whom some tell who they are; one of them is a program."""

    def __init__(self) -> None:
        self._chance, self._count = random.Random(2019), 0

    def send(self, port: int, count: int) -> None:
        """Send new events in batches, the first of each batch twice, until they are acknowledged."""
        for _ in range(0, count, 20):
            batch = self.events(20)
            body = json.dumps({"writeKey": KEY, "sentAt": datetime.now(UTC).isoformat(), "batch": [*batch, batch[0]]})
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("POST", "/v1/batch", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            assert (response.status, json.loads(response.read())["success"]) == (200, True)
            connection.close()

    def events(self, count: int) -> list[dict[str, Any]]:
        return [self._event() for _ in range(count)]

    def _event(self) -> dict[str, Any]:
        chance, number = self._chance, self._count
        self._count += 1
        visitor = chance.randrange(20)
        event: dict[str, Any] = {
            "type": "track",
            "event": chance.choice(["view", "view", "buy"]),
            "messageId": f"m{number}",
            "anonymousId": f"v{visitor}",
            "timestamp": (datetime.now(UTC) - timedelta(seconds=chance.choice([0, 0, 0, 90, 5000]))).isoformat(),
            "properties": {"item": f"i{chance.randrange(8)}", "revenue": chance.choice([0, 10, 20, 50])},
        }
        if visitor < 8 and chance.random() < 0.2:
            event |= {"type": "identify", "userId": f"u{visitor % 4}"}  # two visitors are one person
        if visitor == 19:
            event["context"] = {"userAgent": "Mozilla/5.0 (compatible; Googlebot/2.1)"}
        return event


def verify(folder: Path) -> tuple[int, dict[str, int]]:
    done = command.sokuji("features", "verify", "-p", folder, "--json")
    assert done.stdout, done.stderr
    return done.exit_code, json.loads(done.stdout.splitlines()[-1])


def test_what_was_served_agrees_with_the_lake(tmp_path: Path) -> None:
    """Without processes: tests/chaos/test_kills.py has them killed, and asks the same at its end."""
    count, visitors = 100, Visitors()
    _write_project(tmp_path)
    with sokuji.open(tmp_path) as platform:
        for start in range(2):
            with platform._backends.make_worker(tmp_path) as worker:  # what comes before the first is history
                while worker.run_once() or worker.is_replaying:
                    pass
                worker.checkpoint(wait=True)
            for event in [] if start else (batch := visitors.events(count)) + batch[:5]:
                platform.track(event)
        with platform._backends.make_sink() as sink:
            sink.drain()
    _check_verified(tmp_path, count)


def _check_verified(folder: Path, events: int) -> None:
    """Of a platform that has ended: it agrees, and one number that is wrong is told."""
    expected = {"rows": 2 * events, "features": FEATURES_COUNT, "mismatches": 0, "missing": 0, "extra": 0}
    assert verify(folder) == (0, expected)
    _spoil(folder / ".sokuji" / "analyze" / "main")
    assert verify(folder) == (1, expected | {"mismatches": 1})


def _write_project(folder: Path) -> int:
    """A project with ports of its own; the collector's."""
    port = free_port()
    settings = SETTINGS.format(track=port, track_health=free_port(), analyze=free_port(), lake=free_port())
    (folder / "sokuji.toml").write_text(settings)
    (folder / "features.py").write_text(FEATURES)
    return port


@pytest.mark.long
def test_what_was_served_agrees_with_the_lake_after_kills(tmp_path: Path) -> None:
    port, visitors = _write_project(tmp_path), Visitors()
    with running(tmp_path) as supervisor:
        for _ in range(4):
            visitors.send(port, EVENTS // 4)
            kill_role(supervisor.pid, "analyze")
            time.sleep(0.5)
        deadline = time.monotonic() + 60
        while (found := verify(tmp_path))[1]["rows"] < 2 * EVENTS and time.monotonic() < deadline:
            assert found[1] | {"rows": 0} == {"rows": 0, "features": FEATURES_COUNT, "mismatches": 0, "missing": 0, "extra": 0}
    assert found[0] == 0
    assert found[1]["rows"] == 2 * EVENTS
    _check_verified(tmp_path, EVENTS)


def _spoil(folder: Path) -> None:
    """Change one number of one row, of a visitor who stays one."""
    [served] = folder.glob(f"*/{SERVED_LOG}")
    with LocalLog(served.parent, SERVED_SCHEMA, name=SERVED_LOG, partitions=1) as log:
        rows = log.read(0, 0, 100_000).batch.to_pylist()
    unknown = {f"v:v{number}" for number in range(8, 19)}
    row = next(row for row in rows if row["key"] in unknown and row["numbers"][0] > 0)
    row["numbers"][0] += 1
    shutil.rmtree(served)
    with LocalLog(served.parent, SERVED_SCHEMA, name=SERVED_LOG, partitions=1) as log:
        log.append(0, pa.RecordBatch.from_pylist(rows, schema=SERVED_SCHEMA))
