"""From the logs into the tables, each row once."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from sokuji.config import LakeSettings, LogSettings
from sokuji.dedup.rule import RepeatRule
from sokuji.disk.stored import write_record
from sokuji.errors import FormatError, LakeError, LogError, NotFoundError, StaleTableError
from sokuji.events import EVENT_SCHEMA
from sokuji.lake.events import FIXED_SCHEMA
from sokuji.log.local.log import LocalLog
from sokuji.meta.objects import Column, Ref, Table, TableKind
from sokuji.service.metrics import render
from sokuji.sink import sink as sink_module
from sokuji.sink.sink import Sink
from sokuji.types import BOOL, FLOAT64, INT64, STRING
from tests.lake.duck import select
from tests.lake.platform import PARTITIONS, START_US, Lakeside, bad_rows, lakeside, log_rows

REF = Ref("shop", "events")
HOUR_US = 3_600_000_000


whichever_log = pytest.mark.usefixtures("opening")
"""Of tests that are run on each backend of the logs."""


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


@whichever_log
def test_a_row_says_where_in_the_log_it_stands(side: Lakeside) -> None:
    offsets = [side.events.append(partition, log_rows(events(number))) for number, partition in ((1, 0), (2, 0), (3, 1))]
    side.drain()
    side.track(*events(2))  # is left out
    last = side.events.append(0, log_rows(events(4)))
    place = ["number", "log_partition", "log_offset"]
    tail = side.fresh.snapshot(REF).tail
    assert tail is not None
    assert tail.select(place).to_pylist() == [{"number": 4.0, "log_partition": 0, "log_offset": last}]
    side.drain()
    assert select(side.tables.snapshot(REF), place) == [(1.0, 0, offsets[0]), (2.0, 0, offsets[1]), (3.0, 1, offsets[2]), (4.0, 0, last)]


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


@whichever_log
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


@whichever_log
@pytest.mark.parametrize("restart", [False, True])
def test_repeats_are_left_out(side: Lakeside, restart: bool) -> None:
    side.track(*events(1, 2, 2))
    side.track(*events(10, 11), partition=1)
    sink = side.sink()
    sink.drain()
    if restart:
        sink.close()
        sink = side.sink()
    with sink:
        side.track(*events(2, 3), *events(3, received_at=START_US + HOUR_US))
        side.track(*events(11, 12, 11), partition=1)
        sink.drain()
    assert numbers(side) == [1, 2, 3, 10, 11, 12]


@pytest.mark.parametrize("hours", [-2, 26, 72, 24 * 365])
def test_no_clock_makes_a_repeat_a_message_of_its_own(side: Lakeside, hours: int) -> None:
    side.track(*events(1))
    side.drain()
    side.track(*events(2, received_at=START_US + hours * HOUR_US))  # from a collector whose clock was set
    side.drain()
    side.track(*events(1, 2, received_at=START_US + 1_000_000), *events(1, 2, received_at=START_US + hours * HOUR_US))
    side.drain()
    assert numbers(side) == [1, 2]


def test_a_repeat_two_stretches_of_the_log_later_is_a_message_of_its_own(tmp_path: Path) -> None:
    with lakeside(tmp_path, rule=RepeatRule(16, PARTITIONS)) as side:  # stretches of 4
        side.track(*events(1, 2, 3, 4, 5, 6, 1, 4, 7, 8, 1))
        side.drain()
        assert numbers(side) == [1, 1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("damage", [lambda _: b"", lambda content: content[:-1] + bytes([content[-1] ^ 1])])
@pytest.mark.parametrize("name", ["*.ids", "manifest.json"])
def test_files_of_ids_that_are_damaged_are_made_again_from_the_table(
    side: Lakeside, caplog: pytest.LogCaptureFixture, name: str, damage: Callable[[bytes], bytes]
) -> None:
    side.track(*events(1, 2, 3))
    side.track(*events(4), partition=1)
    side.drain()
    [path] = (side.folder / "sink" / "seen" / "shop").glob(name)
    path.write_bytes(damage(path.read_bytes()))
    side.track(*events(1, 2, 3, 5))
    side.track(*events(4), partition=1)
    side.drain()
    assert numbers(side) == [1, 2, 3, 4, 5]
    assert str(path) in caplog.text


def test_files_of_ids_of_the_first_format_are_made_again_and_those_of_a_newer_one_refused(side: Lakeside) -> None:
    side.track(*events(1, 2, 3))
    side.drain()
    folder = side.folder / "sink" / "seen" / "shop"
    shutil.rmtree(folder)
    folder.mkdir()
    old = folder / f"{32 * 'a'}.npy"
    (folder / "manifest.json").write_text(f'{{"offsets": {{"sink-events-0": 3}}, "runs": [["{old.name}", 1767225600000000]]}}')
    for path in (old, folder / "mine.npy"):
        path.write_bytes(b"ids")
    side.track(*events(1, 2, 3, 4))
    side.drain()
    assert numbers(side) == [1, 2, 3, 4]
    assert [path.name for path in folder.glob("*.npy")] == ["mine.npy"]  # what somebody else put there stays
    write_record(folder / "manifest.json", {"stretch_rows": 1}, format=99)
    side.track(*events(5))
    with pytest.raises(FormatError, match=r"manifest\.json has format 99"):
        side.drain()


def test_a_log_that_ends_before_what_the_sink_has_committed_is_another_log(side: Lakeside) -> None:
    side.track(*events(1, 2))
    side.drain()
    path = side.folder / "sink" / "events.json"
    said = msgspec.json.decode(path.read_bytes().partition(b"\n")[0])
    write_record(path, said | {"positions": {"0": 3, "1": 0}}, format=1)
    (side.folder / "log" / "events" / "consumers" / "sink.json").unlink()  # else that is named
    with pytest.raises(LogError, match=r"partition 0 of the log 'events' ends at 2, and the sink has committed it up to 3: .*restore"):
        side.drain()


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
    side.track(*events(3, 5, 1))
    side.track(*events(4), partition=1)
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
        side.track(*events(*range(20), 30, 31))
        side.track(*events(*range(20, 30)), partition=1)
        side.drain()
        assert numbers(side) == list(range(32))


@whichever_log
def test_ids_are_learnt_from_the_table_when_their_files_are_lost(side: Lakeside) -> None:
    side.track(*events(1, 2))
    side.track(*events(3, received_at=START_US + 20 * HOUR_US))
    side.drain()
    shutil.rmtree(side.folder / "sink" / "seen")
    side.track(*events(1, 2, 3, 4, received_at=START_US + 20 * HOUR_US))
    side.drain()
    assert numbers(side) == [1, 2, 3, 4]


def test_ids_learnt_again_tell_what_was_taken_from_what_was_a_repeat(tmp_path: Path) -> None:
    with lakeside(tmp_path, rule=RepeatRule(10 * 2 * PARTITIONS, PARTITIONS)) as side:  # stretches of 10 rows
        side.track(*events(1, *range(100, 109)), *events(1, *range(110, 119)))  # taken in the first, a repeat in the second
        side.drain()
        shutil.rmtree(side.folder / "sink" / "seen")
        side.track(*events(1, 118))  # in the third, to which only what was taken in the second matters
        side.drain()
        assert sorted(numbers(side)) == sorted([1, *range(100, 109), *range(110, 119), 1])


@whichever_log
def test_a_dropped_table_begins_again(side: Lakeside) -> None:
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
            for number in range(3 * (sink_module._ATTEMPTS - 1)):  # so many drops make no writer give up, however slow it is
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
        Sink(
            other, side.bad_events, side.tables, side.catalog, folder=side.folder / "sink2", settings=side.settings, rule=side.rule
        ) as sink,
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
            rule=side.rule,
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


def copy_of_the_lake(side: Lakeside) -> Callable[[], None]:
    """Copies the lake's tables; the function puts the copy in their place."""
    shutil.copytree(side.folder / "lake", side.folder / "copy")

    def restore() -> None:
        shutil.rmtree(side.folder / "lake")
        (side.folder / "copy").rename(side.folder / "lake")

    return restore


@pytest.mark.parametrize("by_query", [False, True])
def test_a_table_restored_from_an_older_copy_gets_what_the_log_still_has(side: Lakeside, by_query: bool) -> None:
    side.track(*events(*range(10)))
    side.track(*events(20, 21), partition=1)
    side.bad_events.append(0, bad_rows("b1"))
    side.drain()
    restore = copy_of_the_lake(side)
    side.track(*events(*range(5, 15)))
    side.track(*events(22), *events(30, dataset="blog"), partition=1)
    side.bad_events.append(0, bad_rows("b2"))
    side.drain()
    side.tables.drop(Ref("blog", "events"))
    restore()
    if by_query:
        snapshot = side.fresh.snapshot(REF)
        assert snapshot.tail is None
        assert len(select(side.fresh.snapshot(Ref("shop", "bad_events")), ["message_id"])) == 2
    else:
        side.drain()
    assert numbers(side) == [*range(15), 20, 21, 22]
    assert sorted(select(side.tables.snapshot(Ref("shop", "bad_events")), ["message_id"])) == [("b1",), ("b2",)]
    side.track(*events(14, 15))
    side.drain()
    assert numbers(side) == [*range(16), 20, 21, 22]


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_a_sink_killed_while_it_reads_again_brings_nothing_back_that_was_dropped(tmp_path: Path, rounds: int) -> None:
    dropped = Ref("blog", "events")
    with lakeside(tmp_path, LakeSettings(commit_rows=4)) as side:
        side.track(*events(*range(10)))
        side.drain()
        restore = copy_of_the_lake(side)
        for number in range(10, 16):
            side.track(*events(number), *events(number, dataset="blog"))
        side.drain()
        side.tables.drop(dropped)
        assert in_lake_and_log(side) == list(range(16))  # remembers how far the sink was
        restore()
        with side.sink() as killed:
            for _ in range(rounds):
                killed.run_once()
        assert in_lake_and_log(side) == list(range(16))
        with pytest.raises(NotFoundError):
            side.fresh.snapshot(dropped)
        side.drain()
        assert numbers(side) == list(range(16))
        with pytest.raises(NotFoundError):
            numbers(side, dropped)
        side.track(*events(3, dataset="blog"))
        side.drain()
        assert numbers(side, dropped) == [3]


def test_a_copy_older_than_the_log_is_refused_with_what_to_do(side: Lakeside, tmp_path: Path) -> None:
    with LocalLog(tmp_path / "small", EVENT_SCHEMA, name="events", partitions=2, segment_bytes=2_000) as log:

        def sink() -> Sink:
            folder = tmp_path / "sink"
            return Sink(log, side.bad_events, side.tables, side.catalog, folder=folder, settings=side.settings, rule=side.rule)

        def drain(*sent: int) -> None:
            log.append(0, log_rows(events(*sent)))
            with sink() as running:
                running.drain()

        drain(*range(10))
        restore = copy_of_the_lake(side)
        drain(*range(10, 60))
        drain(*range(60, 90))
        log.trim(max_bytes=0)
        assert log.start(0) > 10
        restore()
        begins = log.start(0)
        wanted = rf"table shop\.events has partition 0 .* up to offset 10,.* committed it up to 90, and the log begins at {begins};"
        for _ in range(2):
            with pytest.raises(StaleTableError, match=wanted):
                sink()


@pytest.mark.parametrize("ahead", [8, 12])
def test_an_offset_that_is_ahead_of_what_was_committed_loses_nothing(side: Lakeside, ahead: int) -> None:
    side.track(*events(*range(5)))
    side.drain()
    side.track(*events(*range(5, 12)))
    side.events.commit("sink", {0: ahead})  # from elsewhere
    assert in_lake_and_log(side) == list(range(12))
    side.drain()
    assert numbers(side) == list(range(12))


def in_lake_and_log(side: Lakeside) -> list[int]:
    """What a query sees."""
    snapshot = side.fresh.snapshot(REF)
    tail = [] if snapshot.tail is None else snapshot.tail.column("number").to_pylist()
    return sorted(int(number) for number in [*(number for (number,) in select(snapshot, ["number"])), *tail])
