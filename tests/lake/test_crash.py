"""SIGKILL kills a sink at random moments while rows are appended: at the end each row is in its table, once."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from sokuji.meta.objects import Ref
from tests.conftest import IS_LONG
from tests.lake import sinker
from tests.lake.duck import select
from tests.lake.platform import START_US, Lakeside, bad_rows, lakeside

ROUNDS = 160 if IS_LONG else 2
DATASETS = ["shop", "blog"]


class Load:
    """Appends numbered events to both datasets and both partitions, each several times, and refused events."""

    def __init__(self, side: Lakeside, chance: random.Random) -> None:
        self._side, self._chance = side, chance
        self.count = 0

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            new = range(self.count, self.count + self._chance.randint(1, 20))
            old = [self._chance.randrange(new.stop) for _ in range(5)]
            # Columns appear as it goes on.
            rows = [
                {
                    "dataset": DATASETS[number % 2],
                    "message_id": f"m{number}",
                    "received_at": START_US + new.start * 1000,
                    "properties": {"number": number, f"p{number // 500}": number},
                }
                for number in [*new, *old]
            ]
            for partition in range(2):
                own = [row for row, number in zip(rows, [*new, *old], strict=True) if number // 2 % 2 == partition]
                self._side.track(*own, partition=partition)
            self._side.bad_events.append(0, bad_rows(*(f"m{number}" for number in new)))
            self.count = new.stop
            time.sleep(0.01)


def _committed(side: Lakeside) -> int:
    return sum(side.events.committed("sink").values())


def _wait_for_progress(side: Lakeside) -> None:
    before, deadline = _committed(side), time.monotonic() + 60
    while _committed(side) == before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.e2e
def test_every_row_is_in_its_table_once_however_often_the_sink_is_killed(tmp_path: Path) -> None:
    chance = random.Random(2019)
    stop = threading.Event()
    committed_by = []
    with lakeside(tmp_path) as side:
        load = Load(side, random.Random(7))
        appending = threading.Thread(target=load.run, args=[stop])
        appending.start()
        try:
            for number in range(ROUNDS):
                process = sinker.start(tmp_path)
                if number % 2:  # else while it starts, perhaps
                    _wait_for_progress(side)
                time.sleep(chance.uniform(0.02, 0.6))
                process.kill()
                process.wait()
                committed_by.append(_committed(side))
        finally:
            stop.set()
            appending.join()
        side.drain()
        stored = {name: select(side.tables.snapshot(Ref(name, "events")), ["message_id", "number"]) for name in DATASETS}
        refused = [message for (message,) in select(side.tables.snapshot(Ref("shop", "bad_events")), ["message_id"])]
    assert len(set(committed_by)) >= ROUNDS / 2  # every second one got something done
    for remainder, name in enumerate(DATASETS):
        expected = [(f"m{number}", float(number)) for number in range(load.count) if number % 2 == remainder]
        assert Counter(stored[name]) == Counter(expected)
    assert Counter(refused) == Counter(f"m{number}" for number in range(load.count))
