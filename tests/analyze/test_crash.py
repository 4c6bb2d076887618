"""SIGKILL kills the worker again and again: afterwards state, decisions and log agree; no decision is missing or made twice."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.analyze.side import SHARED, Side, declare, side
from tests.lake.platform import START_US
from tests.searching import examples

ROUNDS = examples(6)
VISITORS = 40
FEATURES = """
from sokuji.features import events, view

buys = events("buy")
view("shopper", entity="visitor", buys=buys.count(), spend=buys.sum("revenue"), last_item=buys.last("item"), items=buys.distinct("item"))
"""
ACTIONS = """
from sokuji.rules import popup, rule

rule("third", on="buy", when="buys = 3", do=popup(title="{item}"))
rule("often", on="buy", when="MOD(buys, 5) = 0", do=popup(title="{item}"), at_most="2 ever")
"""


class Shop:
    """Appends events, some of them twice, until it is told to stop; some visitors become known."""

    def __init__(self, opened: Side) -> None:
        self._side, self._chance = opened, random.Random(2019)
        self.sent: list[dict[str, Any]] = []

    def sell(self, stop: threading.Event) -> None:
        while not stop.is_set():
            rows = [self._event() for _ in range(self._chance.randint(1, 30))]
            self.sent += rows
            partition = self._chance.randrange(2)
            for part in (partition, 1 - partition):  # a visitor's events are always in the same partition
                own = [row for row in rows if int(row["visitor_id"][1:]) % 2 == part]
                self._side.track(*own, *self._chance.sample(own, len(own) // 5), partition=part)
            time.sleep(self._chance.uniform(0, 0.02))

    def _event(self) -> dict[str, Any]:
        number, visitor = len(self.sent), self._chance.randrange(VISITORS)
        return {
            "message_id": f"m{number}-{self._chance.getrandbits(32)}",
            "visitor_id": f"v{visitor}",
            "received_at": START_US + 1000 * number,
            "properties": {"revenue": number % 7, "item": f"i{number % 50}"},
        }


@pytest.mark.slow
@pytest.mark.e2e
def test_killed_at_any_moment_it_agrees_with_the_log_afterwards(tmp_path: Path) -> None:
    declared = declare(tmp_path, FEATURES, ACTIONS)
    chance = random.Random(7)
    with side(tmp_path, SHARED) as opened:
        shop, stop = Shop(opened), threading.Event()
        thread = threading.Thread(target=shop.sell, args=(stop,))
        thread.start()
        for _ in range(ROUNDS):
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.analyze.working", str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            assert process.stdout is not None
            assert process.stdout.readline() == b"working\n"
            time.sleep(chance.uniform(0, 0.5))
            process.kill()
            process.communicate()
        stop.set()
        thread.join()
    # Opened again, as a process that starts does: what the last one wrote and did not publish counts.
    with side(tmp_path, SHARED) as opened:
        with opened.worker(declared) as worker:
            while worker.run_once() or worker.is_replaying:
                pass
            features = worker.stages["shop"].state.features([f"v:v{visitor}" for visitor in range(VISITORS)], 0)
        decisions = opened.decisions()
    events = defaultdict(list)
    for event in shop.sent:
        events[event["visitor_id"]].append(event)
    assert [row["buys"] for row in features] == [len(events[f"v{visitor}"]) for visitor in range(VISITORS)]
    assert [row["spend"] for row in features] == [
        float(sum(event["properties"]["revenue"] for event in events[f"v{visitor}"])) for visitor in range(VISITORS)
    ]
    decided = Counter((row["properties"]["rule"], row["visitor_id"], row["properties"]["trigger_id"]) for row in decisions if _acted(row))
    expected = [("third", visitor, own[2]["message_id"]) for visitor, own in events.items() if len(own) >= 3]
    expected += [("often", visitor, own[at]["message_id"]) for visitor, own in events.items() for at in (4, 9) if len(own) > at]
    assert decided == Counter(expected)


def _acted(row: dict[str, Any]) -> bool:
    return str(row["event_name"]) == "action_decided"
