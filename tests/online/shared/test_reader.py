"""Readers in other processes: whole rows at any moment, replaced files, and the rows of a dead writer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sokuji.errors import OnlineStoreError
from sokuji.online.shared import table
from sokuji.online.shared.reader import SharedReader
from sokuji.online.shared.store import SharedStore
from tests.online import writer
from tests.online.rows import WIDTH, put, seen

NAMES = [f"k{number}" for number in range(100)]


def open_store(folder: Path, rows_max: int = 1000) -> SharedStore:
    return SharedStore(folder, width=WIDTH, rows_max=rows_max)


def test_readers_follow_compaction(tmp_path: Path) -> None:
    with open_store(tmp_path, rows_max=7) as store, SharedReader(tmp_path) as reader:
        numbers: dict[str, int] = {}
        for batch in range(60):
            numbers |= {NAMES[(batch * 13 + step) % 40]: batch for step in range(5)}
            put(store, {name: value for name, value in numbers.items() if value == batch}, now_us=batch)
            store.checkpoint({"batch": batch}, wait=batch % 3 == 0)
            assert seen(reader, NAMES) == numbers
        # Compaction of what was there at the last checkpoint may be under way; without any there would be 60.
        assert len(list(tmp_path.glob("*.run"))) < 30


def test_a_file_of_a_writer_before_is_not_taken_for_one_of_the_same_number(tmp_path: Path) -> None:
    def fill(store: SharedStore, value: int) -> None:
        for name in NAMES[:10]:
            put(store, {name: value}, now_us=1)

    with open_store(tmp_path, rows_max=5) as store:
        fill(store, 1)
        reader = SharedReader(tmp_path)
        assert seen(reader, NAMES[:10]) == dict.fromkeys(NAMES[:10], 1)
    open_store(tmp_path, rows_max=5).close()  # what no checkpoint names is removed, and its numbers are free again
    with open_store(tmp_path, rows_max=5) as store, reader:
        fill(store, 2)
        assert seen(reader, NAMES[:10]) == dict.fromkeys(NAMES[:10], 2)


def test_a_table_that_is_gone_with_the_machines_memory_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "current").write_text("/dev/shm/gone-with-the-machine")
    with pytest.raises(OnlineStoreError, match="not running"):
        SharedReader(tmp_path)


def test_a_row_that_a_dead_writer_left_half_changed_is_an_error_until_it_is_back(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, SharedReader(tmp_path) as reader:
        put(store, {"a": 1, "b": 2})
        store.checkpoint({}, wait=True)
        words = np.frombuffer(store._table.memory, np.uint64)
        slot = store._table.layout.slots_word  # of "a", the first that was put
        words[slot] += 1  # as if killed after it began
        with pytest.raises(OnlineStoreError, match="the row of 'a' cannot be read"):
            reader.get("a")
        assert seen(reader, ["b"]) == {"b": 2}
        del words
        store.close()
        with open_store(tmp_path):
            assert seen(reader, ["a", "b"]) == {"a": 1, "b": 2}


@pytest.mark.parametrize("seqlock", [table.INDEX_VERSION, table.RUNS_VERSION])
def test_what_a_dead_writer_was_changing_for_all_rows_is_an_error_for_those_not_in_memory(tmp_path: Path, seqlock: int) -> None:
    with open_store(tmp_path) as store, SharedReader(tmp_path) as reader:
        put(store, {"a": 1})
        np.frombuffer(store._table.memory, np.uint64)[seqlock] += 1  # as if killed after it began
        with pytest.raises(OnlineStoreError, match="the row of 'b' cannot be read"):
            reader.get("b")
        assert seen(reader, ["a"]) == {"a": 1}


def test_a_table_of_another_format_is_refused(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        np.frombuffer(store._table.memory, np.uint64)[table.FORMAT] += 1
        with pytest.raises(OnlineStoreError, match="not a table of this version"):
            SharedReader(tmp_path)


@contextmanager
def writing(folder: Path, *, rows_max: int, count: int, batch: int, checkpoints: bool) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.online.writer", str(folder), str(rows_max), str(count), str(batch), str(int(checkpoints))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        process.kill()
        process.communicate()
        SharedStore(folder, width=writer.WIDTH, rows_max=rows_max).close()  # removes what was left in shared memory


def watch(folder: Path, *, count: int, changes: int, watchers: int) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.online.watcher", str(folder), str(count), str(changes)]
    running = [subprocess.Popen([*command, str(seed)], stdout=subprocess.PIPE, text=True) for seed in range(watchers)]
    return [json.loads(process.communicate()[0]) for process in running]


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows_max", "batch", "checkpoints"), [(100, 2000, False), (60, 50, True)], ids=["all rows in memory", "a part of the rows in memory"]
)
def test_no_row_is_torn_missing_or_older_than_one_read_before(tmp_path: Path, rows_max: int, batch: int, checkpoints: bool) -> None:
    with writing(tmp_path, rows_max=rows_max, count=100, batch=batch, checkpoints=checkpoints):
        for found in watch(tmp_path, count=100, changes=1000, watchers=2):
            assert (found["torn"], found["missing"], found["back"]) == (0, 0, 0)
            assert found["fresh"] >= 1000
            assert not found["numba"]
