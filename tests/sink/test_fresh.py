"""A query sees every acknowledged row once: in the files, or in the tail."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from sokuji.errors import LakeError, NotFoundError
from sokuji.lake.base import Snapshot
from sokuji.lake.events import COLUMNS_AT_ONCE, FIXED_SCHEMA
from sokuji.log.base import Log
from sokuji.meta.objects import Ref, TableKind
from sokuji.sink import backlog, fresh
from sokuji.sink.committed import Committed
from tests.lake import sinker
from tests.lake.duck import select
from tests.lake.platform import START_US, Lakeside, bad_rows, lakeside
from tests.sink.test_sink import crash_before_anything_was_saved, events, whichever_log

REF = Ref("shop", "events")


def in_files(snapshot: Snapshot) -> list[int]:
    return [int(message[1:]) for (message,) in select(snapshot, ["message_id"])]


def in_tail(snapshot: Snapshot) -> list[int]:
    return [] if snapshot.tail is None else [int(message[1:]) for message in snapshot.tail.column("message_id").to_pylist()]


def seen(side: Lakeside, ref: Ref = REF) -> list[int]:
    """What a query of now sees."""
    snapshot = side.fresh.snapshot(ref)
    return sorted([*in_files(snapshot), *in_tail(snapshot)])


def test_rows_are_seen_at_once_without_a_sink(side: Lakeside) -> None:
    side.track(*events(1, 2))
    assert seen(side) == [1, 2]
    side.track(*events(3), partition=1)
    assert seen(side) == [1, 2, 3]
    assert side.fresh.snapshot(REF).files == ()


@whichever_log
def test_rows_are_seen_once_before_and_after_they_are_committed(side: Lakeside) -> None:
    for number in range(5):
        side.track(*events(2 * number))
        side.track(*events(2 * number + 1), partition=1)
        assert seen(side) == list(range(2 * number + 2))
        if number % 2:
            side.drain()
            assert seen(side) == list(range(2 * number + 2))
            assert in_tail(side.fresh.snapshot(REF)) == []


def test_the_tail_has_the_columns_of_the_snapshot(side: Lakeside) -> None:
    side.track({"message_id": "m1", "properties": {"a": 1}})
    side.drain()
    side.track({"message_id": "m2", "properties": {"a": "x", "b": True}})
    snapshot = side.fresh.snapshot(REF)
    assert snapshot.tail is not None
    assert snapshot.tail.schema == snapshot.schema
    assert snapshot.schema.names == [*FIXED_SCHEMA.names, "a", "b"]
    assert snapshot.tail.select(["a", "b"]).to_pylist() == [{"a": None, "b": True}]


def test_refreshing_brings_datasets_and_columns_of_the_log_into_the_catalog(side: Lakeside) -> None:
    side.track(*events(1), *events(1, dataset="blog"))
    side.fresh.refresh()
    assert side.catalog.datasets() == ["blog", "shop"]
    table = side.catalog.table(REF)
    assert (table.kind, [column.name for column in table.columns]) == (TableKind.EVENTS, [*FIXED_SCHEMA.names, "number"])


def test_each_dataset_has_its_own_tail(side: Lakeside) -> None:
    side.track(*events(1), *events(2, dataset="blog"))
    assert (seen(side), seen(side, Ref("blog", "events"))) == ([1], [2])
    with pytest.raises(NotFoundError, match=r"news\.events"):
        side.fresh.snapshot(Ref("news", "events"))


@whichever_log
@pytest.mark.parametrize("partition", [0, 1])
def test_repeats_are_left_out_of_the_tail(side: Lakeside, partition: int) -> None:
    side.track(*events(1, 2), partition=partition)
    side.drain()
    side.track(*events(2, 3, 3), partition=partition)
    side.track(*events(3, 1, 4), partition=partition)
    assert seen(side) == [1, 2, 3, 4]
    side.drain()
    assert seen(side) == [1, 2, 3, 4]


def test_rows_that_were_committed_and_not_saved_are_not_in_the_tail(side: Lakeside) -> None:
    side.track(*events(1))
    side.drain()
    side.track(*events(2))
    side.track(*events(3), partition=1)
    crash_before_anything_was_saved(side)
    assert seen(side) == [1, 2, 3]
    side.track(*events(2, 1, 4))
    side.track(*events(3), partition=1)
    assert seen(side) == [1, 2, 3, 4]


def test_after_a_drop_the_tail_is_all_there_is(side: Lakeside) -> None:
    side.track(*events(1, 2))
    side.drain()
    side.tables.drop(REF)
    side.fresh.forget(REF)
    with pytest.raises(NotFoundError):
        side.fresh.snapshot(REF)
    side.track(*events(2, 3))
    assert seen(side) == [2, 3]
    side.drain()
    assert seen(side) == [2, 3]


@whichever_log
def test_a_long_tail_without_a_sink_is_committed(side: Lakeside) -> None:
    numbers = range(fresh._INLINE_ROWS + 1)
    side.track(*events(*numbers))
    snapshot = side.fresh.snapshot(REF)
    assert (sorted(in_files(snapshot)), in_tail(snapshot)) == (list(numbers), [])


def test_a_long_tail_beside_a_sink_is_read(side: Lakeside) -> None:
    numbers = range(fresh._INLINE_ROWS + 1)
    side.track(*events(*numbers))
    with side.sink():
        snapshot = side.fresh.snapshot(REF)
    assert (in_files(snapshot), sorted(in_tail(snapshot))) == ([], list(numbers))


def test_a_sink_that_does_not_come_on_is_an_error(side: Lakeside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh, "_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(fresh, "_INLINE_ROWS", 1)
    monkeypatch.setattr(fresh, "_TAIL_ROWS_MAX", 2)
    side.track(*events(1, 2, 3))
    with side.sink(), pytest.raises(LakeError, match="3 events behind"):
        side.fresh.snapshot(REF)


@whichever_log
def test_settling_commits_what_the_log_has(side: Lakeside) -> None:
    side.track(*events(1, 2))
    side.fresh.settle(REF)
    snapshot = side.fresh.snapshot(REF)
    assert (in_files(snapshot), snapshot.tail) == ([1, 2], None)
    side.fresh.settle(REF)
    side.fresh.settle(Ref("shop", "other"))
    assert side.fresh.snapshot(REF).version == snapshot.version


def test_a_log_that_is_trimmed_while_its_tail_is_read_is_read_on_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with lakeside(tmp_path) as side:
        side.track(*events(1, 2))
        until = Committed.until

        def late(said: Committed, log: Log) -> backlog.Offsets:
            """What a query reads just before a sink commits and retention removes what it committed."""
            monkeypatch.setattr(Committed, "until", until)
            read = until(said, log)
            side.drain()
            side.events.trim(max_bytes=0)
            return read

        monkeypatch.setattr(Committed, "until", late)
        assert seen(side) == [1, 2]
        assert side.events.start(0) == 2


@whichever_log
def test_refused_events_are_committed_when_they_are_asked_for(side: Lakeside) -> None:
    side.bad_events.append(0, bad_rows("m1", "m2"))
    side.fresh.refresh()
    ref = Ref("shop", "bad_events")
    assert side.catalog.table(ref).kind is TableKind.EVENTS
    assert in_files(side.fresh.snapshot(ref)) == [1, 2]


def test_other_tables_are_those_of_the_lake_below(side: Lakeside) -> None:
    side.track(*events(1))
    with pytest.raises(NotFoundError):
        side.fresh.snapshot(Ref("shop", "orders"))


def append_until(side: Lakeside, stop: threading.Event, acknowledged: list[int]) -> None:
    """New events all the time, and repeats of old ones."""
    number = 0
    while not stop.is_set():
        fresh_numbers = range(number, number + 7)
        for partition in range(2):
            side.track(*events(*fresh_numbers[partition::2], received_at=START_US + number * 1000), partition=partition)
        acknowledged.extend(fresh_numbers)
        repeats = range(max(0, number - 21), number, 7)
        side.track(*events(*repeats, received_at=START_US + number * 1000))
        number += 7
        time.sleep(0.002)


@pytest.mark.e2e
@pytest.mark.slow
def test_every_query_beside_a_sink_sees_each_acknowledged_row_once(tmp_path: Path) -> None:
    stop = threading.Event()
    acknowledged: list[int] = []
    with lakeside(tmp_path) as side, lakeside(tmp_path) as reader:
        appending = threading.Thread(target=append_until, args=[side, stop, acknowledged])
        with sinker.running(tmp_path):
            appending.start()
            try:
                tails, versions = 0, set()
                deadline = time.monotonic() + 8
                while time.monotonic() < deadline:
                    before = len(acknowledged)
                    if not before:
                        continue
                    snapshot = reader.fresh.snapshot(REF)
                    tail = in_tail(snapshot)
                    counts = Counter([*in_files(snapshot), *tail])
                    assert set(counts.values()) == {1}
                    assert counts.keys() >= set(acknowledged[:before])
                    tails += bool(tail)
                    versions.add(snapshot.version)
            finally:
                stop.set()
                appending.join()
        assert tails > 5
        assert len(versions) > 5
        assert seen(reader) == acknowledged
        assert in_tail(reader.fresh.snapshot(REF)) == []


def test_a_property_gets_a_column_by_how_often_it_was_committed(side: Lakeside) -> None:
    side.track({"message_id": "first", "properties": {f"p{number}": 1 for number in range(COLUMNS_AT_ONCE)}})
    for number in range(9):
        side.track({"message_id": f"m{number}", "properties": {"often": number}})
        side.drain()  # by a sink of its own each time
    assert "often" not in side.tables.snapshot(REF).schema.names
    side.track({"message_id": "m9", "properties": {"often": 9}})
    tail = side.fresh.snapshot(REF).tail
    assert tail is not None
    assert tail.column("often").to_pylist() == [9.0]
    side.drain()
    assert [value for (value,) in select(side.tables.snapshot(REF), ["often"]) if value is not None] == [9.0]
