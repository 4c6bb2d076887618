"""Maintenance keeps a table with a commit every second healthy for years: compaction, vacuum, and the cleaning of its log."""

from __future__ import annotations

import datetime as dt
import os
import random
import re
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from sokuji.errors import LakeError
from sokuji.lake.delta.tables import DeltaLake
from sokuji.meta.objects import Ref
from tests.lake.duck import select

REF = Ref("shop", "orders")
HOUR = 3600.0


@pytest.fixture
def lake(tmp_path: Path) -> DeltaLake:
    """A lake that keeps old versions for an hour, with one empty table, `REF`."""
    lake = DeltaLake(tmp_path, time_travel_hours=1)
    lake.create(REF, pa.schema([("id", pa.int64())]))
    return lake


def append(lake: DeltaLake, *ids: int, **transactions: int) -> None:
    lake.append(REF, pa.table({"id": ids}).to_reader(), transactions=transactions)


def ids(lake: DeltaLake, at: dt.datetime | None = None) -> list[int]:
    return [number for (number,) in select(lake.snapshot(REF, at=at), ["id"])]


def make_older(path: Path, hours: float) -> None:
    """A commit has its time inside and as that of its file."""
    moment = time.time() - hours * HOUR
    if path.suffix == ".json":
        path.write_text(re.sub(r'"timestamp":\d+', f'"timestamp":{int(moment * 1000)}', path.read_text()))
        path.with_name(f"{path.name}.crc32").write_text(f"{zlib.crc32(path.read_bytes()):08x}")
    os.utime(path, (moment, moment))


def test_offsets_outlive_checkpoints_and_compactions(lake: DeltaLake, tmp_path: Path) -> None:
    for number in range(1, 121):
        append(lake, number, sink=number)
    lake.maintain([REF])
    assert len(list((tmp_path / "shop/orders/_delta_log").glob("*.checkpoint.parquet"))) == 1
    fresh = DeltaLake(tmp_path).snapshot(REF, applications=["sink"])
    assert (fresh.transactions, len(fresh.files)) == ({"sink": 120}, 1)
    with pytest.raises(LakeError, match="120 does not follow"):
        append(lake, 121, sink=120)


def versions(folder: Path) -> list[int]:
    return sorted({int(path.name[:20]) for path in folder.glob("0*")}) if folder.exists() else []


@pytest.mark.slow
def test_the_log_stays_short_and_the_history_keeps_what_time_travel_needs(
    lake: DeltaLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sokuji.lake.delta.commits._FILES_MAX", 50)
    log, history = tmp_path / "shop/orders/_delta_log", tmp_path / "shop/orders/.history/_delta_log"
    other = DeltaLake(tmp_path, time_travel_hours=1)
    for number in range(1, 310):
        append(lake, number, sink=number)
        if number in {130, 260}:
            other.maintain([REF])
    other.maintain([REF])
    # Compactions are versions, too.
    newest = lake.snapshot(REF).version
    assert versions(log) == list(range(299, newest + 1))
    assert versions(history) == list(range(299))
    # As if versions up to 149 were ten hours old, those to 249 half an hour, and the rest of now.
    moments = {}
    for version in range(newest + 1):
        for path in [*history.glob(f"{version:020}*"), *log.glob(f"{version:020}*")]:
            if version < 250:
                make_older(path, 10 if version < 150 else 0.5)
    moments = {minutes: dt.datetime.now(dt.UTC) - dt.timedelta(minutes=minutes) for minutes in (55, 20, 0)}
    reopened = DeltaLake(tmp_path, time_travel_hours=1)
    expected = {minutes: ids(reopened, moment) for minutes, moment in moments.items()}
    assert [len(found) for found in expected.values()] == [148, 248, 309]
    reopened.maintain([REF])
    assert versions(history) == list(range(99, 299))
    assert {minutes: ids(reopened, moment) for minutes, moment in moments.items()} == expected
    append(reopened, 310, sink=310)
    assert ids(lake) == ids(DeltaLake(tmp_path)) == list(range(1, 311))
    assert lake.snapshot(REF, applications=["sink"]).transactions == {"sink": 310}


def test_files_that_no_version_names_go_with_time(lake: DeltaLake, tmp_path: Path) -> None:
    append(lake, 1)
    young, old = tmp_path / "shop/orders/part-young.parquet", tmp_path / "shop/orders/part-old.parquet"
    for path in (young, old):
        path.write_bytes(b"of a process that died before it could commit")
    make_older(old, 3)
    lake.maintain([REF])
    assert (young.exists(), old.exists(), ids(lake)) == (True, False, [1])


def test_a_table_that_is_gone_is_no_obstacle_for_others(lake: DeltaLake) -> None:
    for number in range(30):
        append(lake, number)
    lake.maintain([Ref("shop", "gone"), REF])
    assert len(lake.snapshot(REF).files) == 1


def test_large_files_are_left_alone(lake: DeltaLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sokuji.lake.delta.compaction.STEPS", ((30_000, 20),))
    append(lake, *(random.getrandbits(60) for _ in range(10_000)))
    (large,) = lake.snapshot(REF).files
    for number in range(20):
        append(lake, number)
    lake.maintain([REF])
    assert large in lake.snapshot(REF).files
    assert len(lake.snapshot(REF).files) == 2


@pytest.mark.slow
def test_commits_beside_the_moving_of_the_log_are_all_there(lake: DeltaLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sokuji.lake.delta.commits._FILES_MAX", 10)
    maintaining, done = DeltaLake(tmp_path), threading.Event()

    def append_all(numbers: range) -> None:
        own = DeltaLake(tmp_path)
        for number in numbers:
            append(own, number)

    def maintain() -> None:
        while not done.is_set():
            maintaining.maintain([REF])

    with ThreadPoolExecutor(3) as threads:
        moving = threads.submit(maintain)
        for appending in [threads.submit(append_all, range(start, start + 125)) for start in (0, 125)]:
            appending.result()
        done.set()
        moving.result()
    assert ids(lake) == list(range(250))
    assert versions(tmp_path / "shop/orders/.history/_delta_log")
