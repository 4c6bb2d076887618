"""A small shop for the chaos tests: its project, and customers who send until an acknowledgement, like Segment's libraries."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.e2e.ports import free_port

KEY = "wk_chaos"
ITEMS = ("cup", "pot", "tray", "急須")
SETTINGS = """
[track]
port = {track}
health_port = {track_health}

[act]
port = {act}
health_port = {act_health}

[analyze]
health_port = {analyze}
checkpoint_seconds = 0.5
served_sample = 1.0
profiles_max = 20_000

[lake]
health_port = {lake}
commit_seconds = 0.2

[log]
segment_bytes = 200_000

[webhooks]
health_port = {webhooks}
first_retry_seconds = 0.1
last_retry_seconds = 1.0
breaker_seconds = 1.0
private_hosts = ["{receiver}"]

[sources.web]
write_key = "wk_chaos"
"""
FEATURES = """
from sokuji.features import events, view

buys = events("buy")
view(
    "shopper",
    entity="visitor",
    buys=buys.count(),
    spend=buys.sum("revenue"),
    items=buys.distinct("item"),
    last_item=buys.last("item"),
    dearest=buys.max("revenue"),
)
"""
ACTIONS = """
from sokuji.rules import rule, webhook

hook = webhook("http://{receiver}/third", who="{{who}}", number="{{number}}", spend="{{spend}}")
rule("third", on="buy", when="buys = 3", expires="365d", do=hook)
"""
_VISITORS, _EVENTS_A_VISITOR = 8, 12
Event = dict[str, Any]


def make(folder: Path, receiver: str) -> int:
    """A shop's project in `folder`, whose webhooks go to `receiver`; the collector's port."""
    folder.mkdir(parents=True, exist_ok=True)
    ports = {name: free_port() for name in ("track", "act", "track_health", "act_health", "analyze", "lake", "webhooks")}
    (folder / "sokuji.toml").write_text(SETTINGS.format(**ports, receiver=receiver))
    (folder / "features.py").write_text(FEATURES)
    (folder / "actions.py").write_text(ACTIONS.format(receiver=receiver))
    return ports["track"]


class Customer:
    """One client of the collector. What its visitors do is in the order of `acknowledged`: it sends one request at a time."""

    def __init__(self, name: str, port: int, seed: int, *, pause_seconds: float = 0.1) -> None:
        self._name, self._port, self._pause_seconds = name, port, pause_seconds
        self._chance = random.Random(f"{name}-{seed}")
        self._sent, self._time_us = 0, 0
        self.acknowledged: list[Event] = []
        self.repeated = 0

    def send_until(self, stop: threading.Event) -> None:
        """Send new events until `stop` is set, each request again and again until it is acknowledged; and some old ones once more."""
        batches: list[list[Event]] = []
        while not stop.is_set():
            batch = [self._event() for _ in range(self._chance.choice([1, 1, 5, 20]))]
            self._send(batch)
            self.acknowledged += batch
            batches.append(batch)
            if self._chance.random() < 0.2:
                self._send(self._chance.choice(batches))
            time.sleep(self._pause_seconds)

    def _send(self, batch: Sequence[Event]) -> None:
        while not self._is_acknowledged(batch):
            self.repeated += 1
            time.sleep(0.05)

    def _is_acknowledged(self, batch: Sequence[Event]) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        try:
            connection.request("POST", "/v1/batch", json.dumps({"writeKey": KEY, "batch": batch}), {"Content-Type": "application/json"})
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        if response.status == 200:
            assert json.loads(body)["success"]
            return True
        assert response.status in {429, 503}, (response.status, body)
        return False

    def _event(self) -> Event:
        chance, number = self._chance, self._sent
        self._sent += 1
        visitor = number // _EVENTS_A_VISITOR + chance.randrange(_VISITORS)  # old ones go, new ones come
        who = f"{self._name}-{visitor}"
        # Times of one customer differ, so that "last" has one answer.
        self._time_us = max(self._time_us + 1, time.time_ns() // 1000)
        event: Event = {
            "type": "track",
            "event": chance.choice(["view", "buy"]),
            "messageId": f"{self._name}-m{number}",
            "anonymousId": who,
            "timestamp": datetime.fromtimestamp(self._time_us / 1e6, UTC).isoformat(),
            "properties": {"who": who, "number": number, "revenue": chance.choice([5, 10, 20]), "item": chance.choice(ITEMS)},
        }
        if visitor % 2 and chance.random() < 0.1:
            event["userId"] = f"{self._name}-u{visitor // 4}"  # two visitors are one person
        return event


@contextmanager
def trading(customers: Sequence[Customer]) -> Iterator[threading.Event]:
    """The customers send meanwhile. At the end all that was sent is acknowledged; setting what it gives ends it earlier."""
    stop = threading.Event()
    with ThreadPoolExecutor(len(customers)) as pool:
        running = [pool.submit(customer.send_until, stop) for customer in customers]
        try:
            yield stop
        finally:
            stop.set()
        for each in running:
            each.result()
