"""The contract of `Lake`. A new backend adds a function that opens it to `BACKENDS`."""

from __future__ import annotations

import datetime as dt
import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sokuji.errors import AlreadyExistsError, ConflictError, LakeError, NotFoundError
from sokuji.lake.base import Kept, Lake, Snapshot
from sokuji.lake.delta.tables import DeltaLake
from sokuji.lake.memory import MemoryLake
from sokuji.meta.objects import Ref

BACKENDS: dict[str, Callable[[Path], Callable[[], Lake]]] = {
    "delta": lambda folder: lambda: DeltaLake(folder),
    "memory": lambda _: functools.cache(MemoryLake),
}
REF = Ref("shop", "orders")
SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string())])


class OpenLake(Protocol):
    """Opens one and the same lake each time, as another process would."""

    def __call__(self) -> Lake: ...


@pytest.fixture(params=BACKENDS)
def open_lake(request: pytest.FixtureRequest, tmp_path: Path) -> OpenLake:
    return BACKENDS[request.param](tmp_path / "lake")


@pytest.fixture
def lake(open_lake: OpenLake) -> Lake:
    """A lake with one empty table, `REF`."""
    lake = open_lake()
    lake.create(REF, SCHEMA)
    return lake


def orders(*ids: int, **columns: pa.Array) -> pa.RecordBatchReader:
    table = pa.table({"id": pa.array(ids, pa.int64()), "name": pa.array([f"order {number}" for number in ids]), **columns})
    return table.to_reader()


def rows(lake: Lake, snapshot: Snapshot, *columns: str) -> list[tuple[Any, ...]]:
    """The rows in the order of the first column."""
    found = lake.scan(snapshot, columns or None).read_all()
    return sorted(zip(*(column.to_pylist() for column in found.columns), strict=True), key=lambda row: row[0])


def ids(lake: Lake, snapshot: Snapshot) -> list[int]:
    return [number for (number,) in rows(lake, snapshot, "id")]


def test_a_new_table_is_empty(lake: Lake) -> None:
    snapshot = lake.snapshot(REF)
    assert (snapshot.files, snapshot.schema, snapshot.tail) == ((), SCHEMA, None)


def test_a_table_is_created_once(lake: Lake) -> None:
    with pytest.raises(AlreadyExistsError, match=r"shop\.orders"):
        lake.create(REF, SCHEMA)


def test_a_missing_table_is_named(lake: Lake) -> None:
    missing = Ref("shop", "none")
    for action in (
        lambda: lake.snapshot(missing),
        lambda: lake.snapshot(missing, at=dt.datetime.now(dt.UTC)),
        lambda: lake.drop(missing),
        lambda: lake.append(missing, orders(1)),
        lambda: lake.replace(missing, orders(1)),
    ):
        with pytest.raises(NotFoundError, match=r"shop\.none"):
            action()


def test_appended_rows_are_in_the_next_snapshot_of_any_process(lake: Lake, open_lake: OpenLake) -> None:
    other = open_lake()
    before = other.snapshot(REF)
    version = lake.append(REF, orders(1, 2))
    assert ids(other, other.snapshot(REF)) == [1, 2]
    assert other.snapshot(REF).version == version > before.version
    assert before.files == ()


def test_an_append_of_no_rows_still_carries_its_transactions(lake: Lake) -> None:
    lake.append(REF, orders(), transactions={"sink-0": 7})
    assert lake.snapshot(REF, applications=["sink-0"]).transactions == {"sink-0": 7}


def test_new_columns_are_null_in_older_rows(lake: Lake, open_lake: OpenLake) -> None:
    other = open_lake()
    other.snapshot(REF)
    lake.append(REF, orders(1))
    lake.append(REF, orders(2, price=pa.array([2.5])))
    lake.append(REF, orders(3))
    assert rows(other, other.snapshot(REF), "id", "price") == [(1, None), (2, 2.5), (3, None)]
    assert other.snapshot(REF).schema == SCHEMA.append(pa.field("price", pa.float64()))


def test_rows_of_another_type_are_refused_and_nothing_is_committed(lake: Lake) -> None:
    version = lake.snapshot(REF).version
    with pytest.raises(LakeError, match="'id' holds int64"):
        lake.append(REF, pa.table({"id": ["one"]}).to_reader())
    with pytest.raises(LakeError, match="only in case"):
        lake.append(REF, pa.table({"ID": [1]}).to_reader())
    assert lake.snapshot(REF).version == version


def test_transactions_are_of_the_same_version_as_the_files(lake: Lake, open_lake: OpenLake) -> None:
    other = open_lake()
    applications = ["sink-0", "sink-1"]
    assert other.snapshot(REF, applications=applications).transactions == {}
    for number in range(1, 30):
        lake.append(REF, orders(number), transactions={f"sink-{number % 2}": number})
        snapshot = other.snapshot(REF, applications=applications)
        assert max(snapshot.transactions.values()) == max(ids(other, snapshot)) == number


def test_replaced_rows_bring_their_columns(lake: Lake) -> None:
    lake.append(REF, orders(1, 2))
    lake.replace(REF, pa.table({"name": ["all"], "total": [3.0]}).to_reader())
    snapshot = lake.snapshot(REF)
    assert snapshot.schema == pa.schema([("name", pa.string()), ("total", pa.float64())])
    assert rows(lake, snapshot) == [("all", 3.0)]


def test_a_replacement_computed_from_a_version_that_is_gone_is_refused(lake: Lake, open_lake: OpenLake) -> None:
    read = lake.snapshot(REF).version
    open_lake().append(REF, orders(1))
    with pytest.raises(LakeError, match="run the statement again"):
        lake.replace(REF, orders(9), read_version=read)
    lake.replace(REF, orders(9), read_version=lake.snapshot(REF).version)
    assert ids(lake, lake.snapshot(REF)) == [9]


def test_a_rewrite_touches_its_files_only(lake: Lake, open_lake: OpenLake) -> None:
    lake.append(REF, orders(1, 2))
    read = lake.snapshot(REF)
    open_lake().append(REF, orders(3))
    lake.rewrite(REF, read.files, orders(2))
    assert ids(lake, lake.snapshot(REF)) == [2, 3]
    lake.rewrite(REF, lake.snapshot(REF).files, orders())
    assert ids(lake, lake.snapshot(REF)) == []


def test_a_rewrite_computed_from_a_version_that_is_gone_is_refused(lake: Lake, open_lake: OpenLake) -> None:
    lake.append(REF, orders(1))
    read = lake.snapshot(REF)
    open_lake().append(REF, orders(2))
    for files in (read.files, ()):
        with pytest.raises(ConflictError, match="run the statement again"):
            lake.rewrite(REF, files, orders(9), read_version=read.version)
    lake.rewrite(REF, read.files, orders(9), read_version=lake.snapshot(REF).version)
    assert ids(lake, lake.snapshot(REF)) == [2, 9]


def test_a_rewrite_of_a_file_that_is_gone_is_refused(lake: Lake, open_lake: OpenLake) -> None:
    other = open_lake()
    lake.append(REF, orders(1))
    read = other.snapshot(REF)
    lake.rewrite(REF, read.files, orders(10))
    with pytest.raises(ConflictError, match="run the statement again"):
        other.rewrite(REF, read.files, orders(20))
    assert ids(lake, lake.snapshot(REF)) == [10]


def test_old_versions_are_read_as_of_their_time(lake: Lake) -> None:
    moments = []
    for number in range(1, 4):
        lake.append(REF, orders(number))
        time.sleep(0.005)  # commits carry milliseconds
        moments.append(dt.datetime.now(dt.UTC))
        time.sleep(0.005)
    lake.replace(REF, pa.table({"total": [6]}).to_reader())
    assert [ids(lake, lake.snapshot(REF, at=moment)) for moment in moments] == [[1], [1, 2], [1, 2, 3]]
    assert rows(lake, lake.snapshot(REF, at=dt.datetime.now(dt.UTC))) == [(6,)]


def test_a_time_before_the_table_or_past_its_retention_is_refused(lake: Lake) -> None:
    now = dt.datetime.now(dt.UTC)
    with pytest.raises(LakeError, match="did not exist yet"):
        lake.snapshot(REF, at=now - dt.timedelta(hours=1))
    with pytest.raises(LakeError, match="kept for 168 hours"):
        lake.snapshot(REF, at=now - dt.timedelta(hours=169))


def test_a_dropped_table_is_gone_and_one_of_its_name_is_another(lake: Lake, open_lake: OpenLake) -> None:
    other = open_lake()
    lake.append(REF, orders(1))
    assert ids(other, other.snapshot(REF)) == [1]
    lake.drop(REF)
    with pytest.raises(NotFoundError):
        other.snapshot(REF)
    lake.create(REF, pa.schema([("other", pa.string())]))
    lake.append(REF, pa.table({"other": ["x"]}).to_reader())
    assert rows(other, other.snapshot(REF)) == [("x",)]
    other.append(REF, pa.table({"other": ["y"]}).to_reader())
    assert rows(lake, lake.snapshot(REF)) == [("x",), ("y",)]


def test_concurrent_appends_are_all_there(open_lake: OpenLake, lake: Lake) -> None:
    lakes = [open_lake() for _ in range(3)]
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda number: lakes[number % 3].append(REF, orders(number)), range(30)))
    assert ids(lake, lake.snapshot(REF)) == list(range(30))


def test_compaction_leaves_the_rows_and_the_old_versions(lake: Lake, open_lake: OpenLake) -> None:
    for number in range(40):
        lake.append(REF, orders(number))
    before = dt.datetime.now(dt.UTC)
    old = lake.snapshot(REF)
    time.sleep(0.005)
    open_lake().maintain([REF])
    assert len(lake.snapshot(REF).files) == 1
    assert ids(lake, lake.snapshot(REF)) == ids(lake, old) == ids(lake, lake.snapshot(REF, at=before)) == list(range(40))


def test_compaction_beside_rewrites_and_appends_neither_loses_nor_doubles_a_row(lake: Lake, open_lake: OpenLake) -> None:
    """The rewriter changes the sign of all rows it sees, again and again; a lost or doubled row would show in the absolute values."""
    stop = False

    def append() -> None:
        own = open_lake()
        for number in range(1, 61):
            own.append(REF, orders(number))

    def rewrite() -> int:
        own, done = open_lake(), 0
        while not stop:
            read = own.snapshot(REF)
            if not read.files:
                continue
            negated = orders(*(-number for number in ids(own, read)))
            try:
                own.rewrite(REF, read.files, negated)
                done += 1
            except LakeError:
                continue
        return done

    def compact() -> None:
        own = open_lake()
        while not stop:
            own.maintain([REF])

    with ThreadPoolExecutor(3) as threads:
        appending, rewriting, compacting = threads.submit(append), threads.submit(rewrite), threads.submit(compact)
        wait([appending])
        stop = True
        appending.result()
        compacting.result()
        assert rewriting.result() > 0
    assert sorted(map(abs, ids(lake, lake.snapshot(REF)))) == list(range(1, 61))


def test_a_table_partitioned_by_day_looks_like_any_other(lake: Lake) -> None:
    ref = Ref("shop", "visits")
    schema = pa.schema([("id", pa.int64()), ("time", pa.timestamp("us", tz="UTC"))])
    lake.create(ref, schema, day_of="time")
    times = [dt.datetime(2026, 1, 1, 23, 59, tzinfo=dt.UTC), dt.datetime(2026, 1, 2, tzinfo=dt.UTC), None]
    times.append(dt.datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=dt.UTC))
    visits = pa.table({"id": range(4), "time": pa.array(times, pa.timestamp("us", tz="UTC"))}, schema=schema)
    lake.append(ref, visits.to_reader())
    snapshot = lake.snapshot(ref)
    assert snapshot.schema == schema
    assert rows(lake, snapshot, "id", "time") == list(enumerate(times))
    lake.rewrite(ref, snapshot.files, visits.to_reader(), read_version=snapshot.version)
    lake.replace(ref, visits.to_reader())
    assert rows(lake, lake.snapshot(ref), "id", "time") == list(enumerate(times))


def test_a_scan_has_the_columns_and_rows_that_are_asked_for(lake: Lake) -> None:
    lake.append(REF, orders(1, 2))
    lake.append(REF, orders(3, 4, price=pa.array([2.5, None])))
    snapshot = lake.snapshot(REF)
    tail = pa.table({"id": [5, 6], "name": ["five", None], "price": [None, 1.0]}, schema=snapshot.schema)
    with_tail = replace(snapshot, tail=tail)
    assert lake.scan(with_tail).schema == snapshot.schema
    assert rows(lake, with_tail, "id", "price") == [(1, None), (2, None), (3, 2.5), (4, None), (5, None), (6, 1.0)]
    cheap = lake.scan(with_tail, ["price", "id"], (pc.field("price") < 2) | (pc.field("id") == 1)).read_all()
    assert cheap.to_pylist() == [{"price": None, "id": 1}, {"price": 1.0, "id": 6}]
    assert lake.scan(snapshot, ["id"], pc.field("id") > 99).read_all().num_rows == 0
    by_file = [lake.scan(replace(snapshot, files=(file,)), ["id"]).read_all().column("id").to_pylist() for file in snapshot.files]
    assert sorted(by_file) == [[1, 2], [3, 4]]


def test_an_old_version_has_the_columns_that_it_had(lake: Lake) -> None:
    lake.append(REF, orders(1))
    old = lake.snapshot(REF)
    lake.append(REF, orders(2, price=pa.array([2.5])))
    assert lake.scan(old).read_all().to_pylist() == [{"id": 1, "name": "order 1"}]


def test_a_property_without_a_column_is_hidden_until_it_is_made_again(lake: Lake) -> None:
    lake.append(REF, orders(1, price=pa.array([2.5])))
    lake.keep(REF, {"Price": Kept(pa.float64(), has_column=False)})
    assert lake.snapshot(REF).schema == SCHEMA
    with pytest.raises(LakeError, match="was dropped"):
        lake.append(REF, orders(2, price=pa.array([1.0])))
    lake.keep(REF, {"price": Kept(pa.string())})
    lake.remake(REF, {"price": pa.string()}, lambda some: {"price": pa.array(["x"] * some.num_rows)})
    assert rows(lake, lake.snapshot(REF), "id", "price") == [(1, "x")]


def test_columns_are_added_to_the_table_that_was_read(lake: Lake) -> None:
    lake.append(REF, orders(1))
    read = lake.snapshot(REF).schema
    lake.add_columns(REF, pa.schema([("price", pa.float64())]), expected=read)
    assert rows(lake, lake.snapshot(REF), "id", "price") == [(1, None)]
    with pytest.raises(ConflictError, match="run the statement again"):
        lake.add_columns(REF, pa.schema([("other", pa.float64())]), expected=read)
    with pytest.raises(ConflictError, match="run the statement again"):
        lake.append(REF, orders(2), expected=read)
