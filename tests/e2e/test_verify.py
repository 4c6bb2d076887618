"""`sokuji features verify` on a running platform: late events, repeats, merges, bots, poison and kills make no difference."""

from __future__ import annotations

import http.client
import json
import random
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sokuji.analyze.state.served import SERVED_LOG, SERVED_SCHEMA
from sokuji.log.local.log import LocalLog
from sokuji.roles.up import running
from tests.e2e.killing import kill_role
from tests.e2e.ports import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
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
            batch = [self._event() for _ in range(20)]
            body = json.dumps({"writeKey": KEY, "sentAt": datetime.now(UTC).isoformat(), "batch": [*batch, batch[0]]})
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("POST", "/v1/batch", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            assert (response.status, json.loads(response.read())["success"]) == (200, True)
            connection.close()

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
    command = [sys.executable, "-m", "sokuji", "features", "verify", "-p", str(folder), "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def test_what_was_served_agrees_with_the_lake_after_kills(tmp_path: Path) -> None:
    port, visitors = free_port(), Visitors()
    (tmp_path / "sokuji.toml").write_text(SETTINGS.format(track=port, track_health=free_port(), analyze=free_port(), lake=free_port()))
    (tmp_path / "features.py").write_text(FEATURES)
    with running(tmp_path) as supervisor:
        for _ in range(4):
            visitors.send(port, EVENTS // 4)
            kill_role(supervisor.pid, "analyze")
            time.sleep(0.5)
        deadline = time.monotonic() + 60
        while (found := verify(tmp_path))[1]["rows"] < 2 * EVENTS and time.monotonic() < deadline:
            assert found[1] | {"rows": 0} == {"rows": 0, "features": FEATURES_COUNT, "mismatches": 0, "missing": 0, "extra": 0}
    expected = {"rows": 2 * EVENTS, "features": FEATURES_COUNT, "mismatches": 0, "missing": 0, "extra": 0}
    assert found == (0, expected)
    assert verify(tmp_path) == (0, expected)  # the platform need not run
    _spoil(tmp_path / ".sokuji" / "analyze" / "main")
    assert verify(tmp_path) == (1, expected | {"mismatches": 1})


def _spoil(folder: Path) -> None:
    """Change one number of one row."""
    [served] = folder.glob(f"*/{SERVED_LOG}")
    with LocalLog(served.parent, SERVED_SCHEMA, name=SERVED_LOG, partitions=1) as log:
        rows = log.read(0, 0, 100_000).batch.to_pylist()
    row = next(row for row in rows if row["key"] == "v:v10" and row["numbers"][0] > 0)
    row["numbers"][0] += 1
    shutil.rmtree(served)
    with LocalLog(served.parent, SERVED_SCHEMA, name=SERVED_LOG, partitions=1) as log:
        log.append(0, pa.RecordBatch.from_pylist(rows, schema=SERVED_SCHEMA))
