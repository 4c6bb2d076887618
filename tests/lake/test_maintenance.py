"""What keeps a table that is committed to every second fit for years: compaction, vacuum, and the cleaning of its log."""

from __future__ import annotations

import datetime as dt
import os
import random
import re
import time
from pathlib import Path

import pyarrow as pa
import pytest

from sokuji.errors import LakeError
from sokuji.lake.delta import DeltaLake
from sokuji.meta.base import Ref
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


def log_files(root: Path) -> list[Path]:
    return sorted((root / "shop/orders/_delta_log").glob("0*"))


def make_older(path: Path, hours: float) -> None:
    """A commit has its time inside and as that of its file."""
    moment = time.time() - hours * HOUR
    if path.suffix == ".json":
        path.write_text(re.sub(r'"timestamp":\d+', f'"timestamp":{int(moment * 1000)}', path.read_text()))
    os.utime(path, (moment, moment))


def test_offsets_outlive_checkpoints_and_compactions(lake: DeltaLake, tmp_path: Path) -> None:
    for number in range(1, 121):
        append(lake, number, sink=number)
    lake.maintain([REF])
    assert any("checkpoint" in path.name for path in log_files(tmp_path))
    fresh = DeltaLake(tmp_path).snapshot(REF, applications=["sink"])
    assert (fresh.transactions, len(fresh.files)) == ({"sink": 120}, 1)
    with pytest.raises(LakeError, match="120 does not follow"):
        append(lake, 121, sink=120)


@pytest.mark.slow
def test_the_log_keeps_what_time_travel_needs_and_no_more(lake: DeltaLake, tmp_path: Path) -> None:
    for number in range(1, 310):
        append(lake, number)
    # As if versions up to 149 were ten hours old, those to 249 half an hour, and the rest of now.
    for path in log_files(tmp_path):
        version = int(path.name[:20])
        if version < 250:
            make_older(path, 10 if version < 150 else 0.5)
    DeltaLake(tmp_path, time_travel_hours=1).maintain([REF])
    assert int(log_files(tmp_path)[0].name[:20]) == 99
    reopened = DeltaLake(tmp_path, time_travel_hours=1)
    assert ids(reopened) == list(range(1, 310))
    now = dt.datetime.now(dt.UTC)
    assert ids(reopened, now - dt.timedelta(minutes=20)) == list(range(1, 250))
    # The newest version of then is older than the retention, but was the newest within it.
    assert ids(reopened, now - dt.timedelta(minutes=55)) == list(range(1, 150))
    append(reopened, 310)
    assert ids(lake)[-1] == 310


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
    monkeypatch.setattr("sokuji.lake.delta._COMPACTION", ((30_000, 20),))
    append(lake, *(random.getrandbits(60) for _ in range(10_000)))
    (large,) = lake.snapshot(REF).files
    for number in range(20):
        append(lake, number)
    lake.maintain([REF])
    assert large in lake.snapshot(REF).files
    assert len(lake.snapshot(REF).files) == 2
