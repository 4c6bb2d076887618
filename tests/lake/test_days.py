"""Tables partitioned by day: days with many rows have files of their own, all other days share files."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from sokuji.lake.delta import files
from sokuji.lake.delta.tables import DeltaLake
from sokuji.meta.objects import Ref

REF = Ref("shop", "events")
SCHEMA = pa.schema([("id", pa.int64()), ("_date", pa.timestamp("us", "UTC"))])
START = dt.datetime(1960, 5, 4, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


@pytest.fixture
def lake(tmp_path: Path) -> DeltaLake:
    lake = DeltaLake(tmp_path)
    lake.create(REF, SCHEMA, day_of="_date")
    return lake


def append(lake: DeltaLake, times: Sequence[dt.datetime | None], *, start: int = 0) -> None:
    ids = list(range(start, start + len(times)))
    lake.append(REF, pa.table({"id": ids, "_date": pa.array(times, SCHEMA.field("_date").type)}).to_reader(max_chunksize=5_000))


def rows(lake: DeltaLake) -> list[tuple[int, dt.datetime | None]]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        query = "SELECT id, epoch_us(_date) FROM read_parquet($files, hive_partitioning = false) ORDER BY id"
        found = connection.execute(query, {"files": list(lake.snapshot(REF).files)}).fetchall()
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return [(id_, None if us is None else epoch + dt.timedelta(microseconds=us)) for id_, us in found]


def days(lake: DeltaLake) -> list[str]:
    """Of the files."""
    return sorted(Path(file).parent.name for file in lake.snapshot(REF).files)


def test_many_days_in_one_commit_share_a_few_files(lake: DeltaLake) -> None:
    times = [START + DAY * (number * 7_919 % 20_000) for number in range(20_000)]
    append(lake, times)
    assert len(lake.snapshot(REF).files) <= 32
    assert rows(lake) == list(enumerate(times))


def test_a_day_of_many_rows_has_a_file_of_its_own(lake: DeltaLake) -> None:
    append(lake, [START] * 500 + [START + DAY] * 400 + [START + DAY * number for number in range(2, 40)] + [None])
    assert days(lake) == ["_day=1960-05-04", "_day=1960-05-05", "_day=__HIVE_DEFAULT_PARTITION__"]


def test_late_events_of_a_dozen_days_are_one_file(lake: DeltaLake) -> None:
    append(lake, [START + DAY * day for day in range(12) for _ in range(20)] + [START])
    assert days(lake) == ["_day=1960-05-04", "_day=__HIVE_DEFAULT_PARTITION__"]


def test_a_commit_tells_between_which_times_a_file_lies(lake: DeltaLake, tmp_path: Path) -> None:
    odd = dt.timedelta(microseconds=1)
    append(lake, [START - odd, START + 3 * odd, None, START + DAY * 4_000 + odd])
    append(lake, [dt.datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=dt.UTC)], start=4)
    told = pa.table(DeltaTable(str(tmp_path / "shop" / "events")).get_add_actions(flatten=True)).to_pylist()
    seen = 0
    for each in told:
        file = [file for file in lake.snapshot(REF).files if file.endswith(each["path"].rsplit("/", 1)[-1])]
        times = pq.ParquetFile(file[0]).read(["_date"]).column(0).to_pylist()
        if each.get("min._date") is None:
            continue
        for time in times:
            if time is not None:
                seen += 1
                assert each["min._date"] <= time <= each["max._date"]
        assert each["null_count._date"] == times.count(None)
    assert seen == 3
    assert len(rows(lake)) == 5


def test_small_files_of_many_days_are_merged(lake: DeltaLake, monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[dt.datetime | None] = [START + DAY * number for number in range(60)]
    with monkeypatch.context() as patch:
        patch.setattr(files, "_SHARE", 10**9)  # as tables were written before
        patch.setattr(files, "_DAYS_MAX", 10**9)
        patch.setattr(files, "_OWN_ROWS", 0)
        for at in range(0, 60, 20):
            append(lake, times[at : at + 20], start=at)
    today = dt.datetime.now(dt.UTC)
    append(lake, [today], start=60)
    assert len(days(lake)) == 61
    version = lake.snapshot(REF).version
    lake.maintain([REF])
    assert days(lake) == [f"_day={today.date()}", "_day=__HIVE_DEFAULT_PARTITION__"]
    assert [id_ for id_, _ in rows(lake)] == list(range(61))
    assert rows(lake)[:60] == list(enumerate(times))
    assert lake.snapshot(REF).version > version
    settled = lake.snapshot(REF).version
    lake.maintain([REF])
    assert lake.snapshot(REF).version == settled


def test_files_of_few_rows_are_merged_among_each_other_and_in_the_order_of_time(lake: DeltaLake) -> None:
    for number in range(40):
        append(lake, [START + DAY * (day * 40 + number) for day in range(20)], start=20 * number)
    assert len(days(lake)) == 40
    lake.maintain([REF])
    [file] = lake.snapshot(REF).files
    times = pq.ParquetFile(file).read(["_date"]).column(0).to_pylist()
    assert times == sorted(times)
    assert [id_ for id_, _ in rows(lake)] == list(range(800))
