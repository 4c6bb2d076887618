"""Valid events with JSON that readers interpret differently: none stops the worker."""

from __future__ import annotations

from pathlib import Path
from random import Random

from sokuji.lake.memory import MemoryLake
from tests.analyze.side import StateInMemory, declare, drain, numbered, read_all, side
from tests.fuzz import worker as fuzzer

OLD = '{"a":1e999,"sha":9085e20999,"n":' + "9" * 400 + ',"previous_id":"before","previous_id":"other"}'


def test_hostile_events_are_taken_in_and_decided_on(tmp_path: Path) -> None:
    with (
        side(tmp_path, StateInMemory(), lake=MemoryLake()) as shop,
        shop.worker(declare(tmp_path, fuzzer.FEATURES, fuzzer.ACTIONS)) as worker,
    ):
        count = fuzzer.track(shop, Random(1), 0)
        drain(worker)
        assert count > 0
        assert len(read_all(shop.logs.decisions)) > count / 4
        fuzzer.check(shop)


def test_numbers_beyond_float64_in_a_log_from_before_stop_nothing(tmp_path: Path) -> None:
    events = numbered(
        {"type": "alias", "event_name": "alias", "visitor_id": "v", "user_id": "u", "properties": OLD},
        {"type": "track", "event_name": "e", "visitor_id": "before", "properties": OLD, "context": '{"timezone":"UTC","x":1e999}'},
    )
    with (
        side(tmp_path, StateInMemory(), lake=MemoryLake()) as shop,
        shop.worker(declare(tmp_path, fuzzer.FEATURES, fuzzer.ACTIONS)) as worker,
    ):
        shop.track(*events)
        drain(worker)
        assert [(row["visitor_id"], row["user_id"]) for row in read_all(shop.logs.identities)] == [("before", "u")]
        fuzzer.check(shop)
