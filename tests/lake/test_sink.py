"""From the logs into the tables, each row once."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sokuji.config import LakeSettings, LogSettings
from sokuji.errors import LakeError, NotFoundError
from sokuji.events import EVENT_SCHEMA
from sokuji.lake.events import FIXED_SCHEMA
from sokuji.lake.sink import Sink
from sokuji.log.local import LocalLog
from sokuji.meta.base import Column, Ref, Table, TableKind
from sokuji.metrics import render
from sokuji.types import BOOL, FLOAT64, INT64, STRING
from tests.lake.duck import select
from tests.lake.platform import START_US, Lakeside, bad_rows, lakeside, log_rows

REF = Ref("shop", "events")
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US


@pytest.fixture
def side(tmp_path: Path) -> Iterator[Lakeside]:
    with lakeside(tmp_path) as side:
        yield side


def events(*numbers: int, **common: Any) -> list[Mapping[str, Any]]:
    return [{"message_id": f"m{number}", "properties": {"number": number}, **common} for number in numbers]


def numbers(side: Lakeside, ref: Ref = REF) -> list[int]:
    return [int(number) for (number,) in select(side.tables.snapshot(ref), ["number"])]


def test_rows_of_all_partitions_are_in_the_table(side: Lakeside) -> None:
    side.track(*events(1, 2, 3))
    side.track(*events(4, 5), partition=1)
    side.drain()
    assert numbers(side) == [1, 2, 3, 4, 5]
    table = side.catalog.table(REF)
    assert (table.kind, table.columns[-1]) == (TableKind.EVENTS, Column("number", FLOAT64))


def test_a_row_says_where_in_the_log_it_stands(side: Lakeside) -> None:
    side.track(*events(1, 2))
    side.track(*events(3), partition=1)
    side.drain()
    side.track(*events(2, 4))  # the second 2 is left out
    place = ["number", "log_partition", "log_offset"]
    tail = side.lake.snapshot(REF).tail
    assert tail is not None
    assert tail.select(place).to_pylist() == [{"number": 4.0, "log_partition": 0, "log_offset": 3}]
    side.drain()
    assert select(side.tables.snapshot(REF), place) == [(1.0, 0, 0), (2.0, 0, 1), (3.0, 1, 0), (4.0, 0, 3)]


def test_a_table_from_before_there_were_these_columns_gets_them(side: Lakeside) -> None:
    names = ("is_bot", "log_partition", "log_offset")
    before = pa.schema([field for field in FIXED_SCHEMA if field.name not in names])
    side.tables.create(REF, before, day_of="_date")
    old = pa.Table.from_pylist([{"message_id": "m0", "_date": START_US}], schema=before)
    side.tables.append(REF, old.to_reader())
    side.track(*events(1, context='{"userAgent": "Googlebot/2.1"}'))
    side.drain()
    assert select(side.tables.snapshot(REF), ["message_id", *names]) == [("m0", None, None, None), ("m1", True, 0, 0)]
    assert {column.name: column.type for column in side.catalog.table(REF).columns}["is_bot"] == BOOL


def test_every_row_once_however_often_a_sink_starts(side: Lakeside) -> None:
    for number in range(6):
        side.track(*events(number), partition=number % 2)
        side.drain()
        side.drain()
    assert numbers(side) == list(range(6))


def test_each_dataset_has_its_own_table(side: Lakeside) -> None:
    side.track(*events(1, 2), *events(1, 3, dataset="blog"), *events(4))
    side.drain()
    assert numbers(side) == [1, 2, 4]
    assert numbers(side, Ref("blog", "events")) == [1, 3]
    assert side.catalog.datasets() == ["blog", "shop"]


def test_refused_events_are_in_their_own_table(side: Lakeside) -> None:
    side.bad_events.append(0, bad_rows("b1", "b2"))
    side.drain()
    side.bad_events.append(0, bad_rows("b3"))
    side.drain()
    ref = Ref("shop", "bad_events")
    rows = select(side.tables.snapshot(ref), ["message_id", "code", "reason", "payload"])
    assert rows == [(f"b{number}", "missing_id", "no id", "{}") for number in (1, 2, 3)]
    assert side.catalog.table(ref).kind is TableKind.EVENTS


def test_a_backlog_of_many_rounds_is_drained(tmp_path: Path) -> None:
    with lakeside(tmp_path, LakeSettings(commit_rows=10)) as side:
        side.track(*events(*range(95)))
        side.track(*events(*range(95, 130)), partition=1)
        with side.sink() as sink:
            assert 0 < sink.run_once() < 130
            sink.drain()
            assert sink.run_once() == 0
        assert numbers(side) == list(range(130))


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("partition", [0, 1])
def test_repeats_are_left_out(side: Lakeside, restart: bool, partition: int) -> None:
    side.track(*events(1, 2, 2))
    sink = side.sink()
    sink.drain()
    if restart:
        sink.close()
        sink = side.sink()
    with sink:
        side.track(*events(2, 3), *events(3, received_at=START_US + HOUR_US), partition=partition)
        sink.drain()
    assert numbers(side) == [1, 2, 3]


def test_a_repeat_after_the_window_is_a_message_of_its_own(side: Lakeside) -> None:
    side.track(*events(1))
    side.track(*events(1, received_at=START_US + DAY_US))
    side.track(*events(1, received_at=START_US + DAY_US + 60_000_000))
    side.drain()
    assert numbers(side) == [1, 1]


def test_other_sources_and_datasets_have_their_own_ids(side: Lakeside) -> None:
    side.track(*events(1), *events(1, source="app"), *events(1, dataset="blog"))
    side.drain()
    assert numbers(side) == [1, 1]
    assert numbers(side, Ref("blog", "events")) == [1]


def crash_before_anything_was_saved(side: Lakeside) -> None:
    """Drain so that the tables have everything and the sink's files and offsets say nothing of it, as after a kill between the two."""
    kept = [side.folder / "sink", side.folder / "log" / "events" / "consumers"]
    for number, folder in enumerate(kept):
        shutil.copytree(folder, side.folder / f"kept{number}")
    side.drain()
    for number, folder in enumerate(kept):
        shutil.rmtree(folder)
        (side.folder / f"kept{number}").rename(folder)


def test_a_sink_killed_between_commit_and_save_repeats_nothing_and_still_knows_repeats(side: Lakeside) -> None:
    side.track(*events(1, 2))
    side.drain()
    side.track(*events(2, 3))
    side.track(*events(4), partition=1)
    crash_before_anything_was_saved(side)
    side.track(*events(3, 4, 5, 1))
    side.drain()
    assert numbers(side) == [1, 2, 3, 4, 5]


def test_it_still_knows_them_when_it_reads_less_at_once_than_before(tmp_path: Path) -> None:
    with lakeside(tmp_path) as side:
        side.track(*events(0))
        side.drain()
        side.track(*events(*range(1, 20)))
        side.track(*events(*range(20, 30)), partition=1)
        crash_before_anything_was_saved(side)
    with lakeside(tmp_path, LakeSettings(commit_rows=4)) as side:
        with side.sink() as sink:
            sink.run_once()
        side.drain()
        side.track(*events(*range(32)))
        side.drain()
        assert numbers(side) == list(range(32))


def test_a_repeat_that_was_left_out_before_a_crash_does_not_prolong_the_window(side: Lakeside) -> None:
    side.track(*events(0))
    side.drain()
    side.track(*events(1), *events(1, received_at=START_US + 20 * HOUR_US))
    crash_before_anything_was_saved(side)
    side.track(*events(1, received_at=START_US + 30 * HOUR_US))
    side.drain()
    assert numbers(side) == [0, 1, 1]


def test_ids_are_learnt_from_the_table_when_their_files_are_lost(side: Lakeside) -> None:
    side.track(*events(1, 2))
    side.track(*events(3, received_at=START_US + 20 * HOUR_US))
    side.drain()
    shutil.rmtree(side.folder / "sink" / "seen")
    side.track(*events(1, 2, 3, 4, received_at=START_US + 20 * HOUR_US))
    side.drain()
    assert numbers(side) == [1, 2, 3, 4]


def test_a_dropped_table_begins_anew(side: Lakeside) -> None:
    side.track(*events(1, 2))
    with side.sink() as sink:
        sink.drain()
        side.tables.drop(REF)
        sink.drain()
        with pytest.raises(NotFoundError):
            side.tables.snapshot(REF)
        side.track(*events(2, 3, 3))
        sink.drain()
    assert numbers(side) == [2, 3]


@pytest.mark.slow
def test_a_table_dropped_again_and_again_under_load_is_never_broken(tmp_path: Path) -> None:
    with lakeside(tmp_path, LakeSettings(commit_seconds=0.001)) as side:
        stop = threading.Event()
        sink = side.sink()
        running = threading.Thread(target=sink.run, args=[stop])
        running.start()
        try:
            dropped, chance = 0, random.Random(2019)
            for number in range(90):
                side.track(*events(number))
                if number % 3 == 0:
                    try:
                        side.tables.drop(REF)
                        dropped += 1
                    except NotFoundError:
                        pass
                    time.sleep(chance.uniform(0, 0.2))
            while running.is_alive() and any(feed.pending() for feed in sink._feeds):
                time.sleep(0.01)
            side.track(*events(1000, 1001))
        finally:
            stop.set()
            running.join()
            sink.close()
        assert dropped > 5
        assert numbers(side)[-2:] == [1000, 1001]
        assert len(numbers(side)) == len(set(numbers(side)))


def test_columns_that_someone_else_adds_are_used(side: Lakeside) -> None:
    side.track(*events(1))
    time = pa.array([START_US], pa.timestamp("us", tz="UTC"))
    other_columns = pa.table({"_date": time, "price": ["free"], "extra": pa.array([7], pa.int64())})
    with side.sink() as sink:
        sink.drain()
        side.tables.append(REF, other_columns.to_reader())
        side.track(
            {"message_id": "m2", "properties": {"number": 2, "price": 5, "extra": 8}}, {"message_id": "m3", "properties": {"price": "x"}}
        )
        sink.drain()
    rows = select(side.tables.snapshot(REF), ["message_id", "price", "extra", "properties"])
    assert rows == [
        ("m1", None, None, '{"number": 1}'),
        ("m2", None, None, '{"number": 2, "price": 5, "extra": 8}'),
        ("m3", "x", None, '{"price": "x"}'),
        (None, "free", 7, None),
    ]


def test_a_compaction_beside_it_is_no_obstacle(side: Lakeside) -> None:
    with side.sink() as sink:
        for number in range(30):
            side.track(*events(number))
            sink.drain()
            sink.maintain()
    assert numbers(side) == list(range(30))
    assert len(side.tables.snapshot(REF).files) < 25


def test_one_sink_at_a_time(side: Lakeside) -> None:
    with side.sink(), pytest.raises(LakeError, match="another sink runs"):
        side.sink()
    side.sink().close()


def test_a_name_that_is_taken_is_an_error_and_loses_nothing(side: Lakeside) -> None:
    side.catalog.create_dataset("shop")
    side.catalog.put_table(Table(REF, TableKind.TABLE, (Column("id", INT64), Column("name", STRING))))
    side.track(*events(1))
    with side.sink() as sink, pytest.raises(LakeError, match=r"shop\.events is a table"):
        sink.drain()
    side.catalog.drop_table(REF)
    side.drain()
    assert numbers(side) == [1]


def test_a_table_of_another_log_is_not_taken_for_its_own(side: Lakeside) -> None:
    side.track(*events(1, 2, 3))
    side.drain()
    with (
        LocalLog(side.folder / "other", EVENT_SCHEMA, name="events", partitions=2) as other,
        Sink(other, side.bad_events, side.tables, side.catalog, folder=side.folder / "sink2", settings=side.settings) as sink,
    ):
        other.append(0, log_rows(events(4)))
        with pytest.raises(LakeError, match="it is another log"):
            sink.drain()


def test_running_commits_what_comes_and_drains_at_the_end(tmp_path: Path) -> None:
    with lakeside(tmp_path, LakeSettings(commit_seconds=0.05)) as side:
        stop = threading.Event()
        with side.sink() as sink:
            running = threading.Thread(target=sink.run, args=[stop])
            running.start()
            side.track(*events(1))
            deadline = time.monotonic() + 30
            while not (REF in [table.ref for table in side.catalog.tables()] and numbers(side) == [1]):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            side.track(*events(2))
            stop.set()
            running.join()
        assert numbers(side) == [1, 2]


def test_what_it_counts(side: Lakeside) -> None:
    side.track(*events(1, 2, 2), *events(1, dataset="blog"))
    side.bad_events.append(0, bad_rows("b1"))
    with side.sink() as sink:
        assert "sokuji_sink_events_lag_rows 4\n" in render(sink.metrics)
        sink.drain()
        page = render(sink.metrics)
    for line in (
        'sokuji_sink_events_total{dataset="shop"} 2',
        'sokuji_sink_events_total{dataset="blog"} 1',
        'sokuji_sink_events_duplicates_total{dataset="shop"} 1',
        'sokuji_sink_bad_events_total{dataset="shop"} 1',
        "sokuji_sink_events_lag_rows 0",
        "sokuji_sink_events_commit_seconds_count 1",
    ):
        assert f"{line}\n" in page


def test_the_logs_are_trimmed_to_their_retention_but_not_past_the_sink(tmp_path: Path) -> None:
    with (
        lakeside(tmp_path) as side,
        LocalLog(tmp_path / "small", EVENT_SCHEMA, name="events", partitions=2, segment_bytes=20_000) as log,
        Sink(
            log,
            side.bad_events,
            side.tables,
            side.catalog,
            folder=tmp_path / "sink",
            settings=side.settings,
            retention=LogSettings(retention_bytes=100_000),
        ) as sink,
    ):
        for first in range(0, 1000, 20):
            log.append(0, log_rows(events(*range(first, first + 20))))
        sink.maintain()
        assert log.start(0) == 0
        sink.drain()
        sink.maintain()
        assert 0 < log.start(0) < 1000
        assert sum(path.stat().st_size for path in (tmp_path / "small/events/0").glob("*.segment")) <= 50_000
        assert numbers(side) == list(range(1000))
