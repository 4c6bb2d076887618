"""Delta tables beyond the contract: folders, partitions, deleted files, and values that DuckDB reads."""

from __future__ import annotations

import datetime as dt
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sokuji import types as t
from sokuji.errors import LakeError
from sokuji.lake.delta.physical import from_stored
from sokuji.lake.delta.tables import DeltaLake
from sokuji.meta.objects import Ref
from tests.lake.duck import select

REF = Ref("shop", "orders")
SCHEMA = pa.schema([("id", pa.int64())])


@pytest.fixture
def lake(tmp_path: Path) -> DeltaLake:
    return DeltaLake(tmp_path)


def ids(*numbers: int) -> pa.RecordBatchReader:
    return pa.table({"id": numbers}).to_reader()


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b"])
def test_a_table_stays_inside_the_lake(lake: DeltaLake, name: str) -> None:
    with pytest.raises(LakeError, match="cannot name"):
        lake.create(Ref("shop", name), SCHEMA)


def test_a_table_partitioned_by_day_has_a_folder_a_day(lake: DeltaLake) -> None:
    ref = Ref("shop", "visits")
    schema = pa.schema([("id", pa.int64()), ("time", pa.timestamp("us", tz="UTC"))])
    lake.create(ref, schema, day_of="time")
    times = [dt.datetime(2026, 1, 1, 23, 59, tzinfo=dt.UTC), dt.datetime(2026, 1, 2, tzinfo=dt.UTC), None]
    times.append(dt.datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=dt.UTC))
    visits = pa.table({"id": range(4), "time": pa.array(times, pa.timestamp("us", tz="UTC"))}, schema=schema)
    lake.append(ref, visits.to_reader())
    snapshot = lake.snapshot(ref)
    assert snapshot.schema == schema
    # The day of the most rows has a file; those of few rows share one.
    assert sorted(Path(file).parent.name for file in snapshot.files) == ["_day=2026-01-01", "_day=__HIVE_DEFAULT_PARTITION__"]


def test_maintenance_deletes_files_past_their_retention(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path, time_travel_hours=0)
    lake.create(REF, SCHEMA)
    lake.append(REF, ids(1))
    old = lake.snapshot(REF)
    lake.replace(REF, ids(2))
    time.sleep(0.01)
    lake.maintain([REF])
    assert [Path(file).exists() for file in old.files] == [False]
    assert select(lake.snapshot(REF), ["id"]) == [(2,)]


VALUES: list[tuple[t.Type, list[Any]]] = [
    (t.INT64, [2**63 - 1, -(2**63)]),
    (t.FLOAT64, [1.5, float("inf"), -0.0]),
    (t.NUMERIC, [Decimal("99999999999999999999999999999.999999999")]),
    (t.BOOL, [True, False]),
    (t.STRING, ["", "日本 \x00 🙂"]),
    (t.BYTES, [b"", b"\xff\x00"]),
    (t.DATE, [dt.date(1, 1, 1), dt.date(9999, 12, 31)]),
    (t.DATETIME, [dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 999_999)]),  # noqa: DTZ001 - a civil time
    (t.TIME, [dt.time(), dt.time(23, 59, 59, 999_999)]),
    (t.TIMESTAMP, [dt.datetime(1, 1, 1, tzinfo=dt.UTC), dt.datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=dt.UTC)]),
    (t.JSON, ['{"a":1}', "null"]),
    (t.array(t.TIME), [[], [dt.time(1)], [dt.time(2), None]]),
    (t.struct([t.Field("two words", t.TIME), t.Field("", t.INT64)]), [{"two words": dt.time(3), "_field_2": 1}]),
    (
        t.array(t.struct([t.Field("at", t.array(t.TIME)), t.Field("name", t.STRING)])),
        [[{"at": [dt.time(4), None], "name": "x"}, {"at": None, "name": None}, None]],
    ),
]


@pytest.mark.parametrize(("type_", "values"), VALUES, ids=[str(type_) for type_, _ in VALUES])
def test_values_of_every_type_come_back(type_: t.Type, values: list[Any], lake: DeltaLake) -> None:
    ref = Ref("shop", "values")
    values = [None, *values]
    written = pa.table({"value": pa.array(values, t.to_arrow(type_))})
    lake.create(ref, written.schema)
    lake.append(ref, written.slice(1).to_reader())
    lake.append(ref, written.slice(0, 1).to_reader())
    read = [value for (value,) in select(lake.snapshot(ref), [from_stored(type_, "value")])]
    assert sorted(read, key=str) == sorted(values, key=str)


def test_intervals_come_back(lake: DeltaLake) -> None:
    ref = Ref("shop", "values")
    values = [pa.MonthDayNano([14, -3, 5_000_000]), None, pa.MonthDayNano([-1, 40, -1_000])]
    written = pa.table({"value": pa.array(values, t.to_arrow(t.INTERVAL))}).slice(0, 3)
    lake.create(ref, written.schema)
    lake.append(ref, written.to_reader())
    equal = f"{from_stored(t.INTERVAL, 'value')} = INTERVAL '14 months -3 days 5 milliseconds'"
    assert select(lake.snapshot(ref), [equal]) == [(False,), (True,), (None,)]
