"""The embedded store beyond the contract: one writer, bounded memory, full disks, damage, leftovers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sokuji.errors import DamagedFileError, OnlineStoreError
from sokuji.online.shared.checkpoint import RUNS_MAX
from sokuji.online.shared.reader import SharedReader
from sokuji.online.shared.store import SharedStore
from sokuji.online.shared.table import Layout, TableFile, current_table
from tests.disk.full import files_no_larger_than
from tests.online.rows import WIDTH, keys, put, rows, stored

NAMES = [f"k{number}" for number in range(500)]


def open_store(folder: Path, rows_max: int = 1000) -> SharedStore:
    return SharedStore(folder, width=WIDTH, rows_max=rows_max)


def shared_memory_of(folder: Path) -> list[Path]:
    with open_store(folder):
        table = current_table(folder)
        assert table is not None
    return list(table.parent.glob(f"{table.name.rpartition('-')[0]}-*"))


def test_a_store_has_one_writer(tmp_path: Path) -> None:
    with open_store(tmp_path), pytest.raises(OnlineStoreError, match="open in another process"):
        open_store(tmp_path)
    open_store(tmp_path).close()


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    for width in (0, -8, 12):
        with pytest.raises(OnlineStoreError, match=f"multiple of 8 bytes, not {width}"):
            SharedStore(tmp_path, width=width, rows_max=10)
    for rows_max in (0, -1, 2**31):
        with pytest.raises(OnlineStoreError, match=f"rows_max .* not {rows_max}"):
            SharedStore(tmp_path, width=8, rows_max=rows_max)


def test_rows_of_another_width_are_refused(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    with pytest.raises(OnlineStoreError, match=f"rows of {WIDTH} bytes, not {WIDTH + 8}"):
        SharedStore(tmp_path, width=WIDTH + 8, rows_max=10)
    open_store(tmp_path).close()


def test_a_store_may_be_opened_with_more_or_less_memory(tmp_path: Path) -> None:
    numbers = {name: number for number, name in enumerate(NAMES)}
    with open_store(tmp_path) as store:
        for name, value in numbers.items():
            put(store, {name: value}, now_us=value)
        store.checkpoint({}, wait=True)
    for rows_max in (10, 1, 499, 500, 1000):
        with open_store(tmp_path, rows_max) as store:
            assert stored(store, NAMES) == numbers
            kept = store._resident.find(store._hasher.digests(keys(NAMES))) >= 0
            assert kept.nonzero()[0].tolist() == list(range(max(0, 500 - rows_max), 500)), "those seen last are in memory"


def test_memory_comes_with_rows_and_stays_in_its_bound(tmp_path: Path) -> None:
    width, rows_max = 8 * 1024, 20_000  # 160 MB
    with SharedStore(tmp_path, width=width, rows_max=rows_max) as store:
        table = current_table(tmp_path)
        assert table is not None
        assert table.stat().st_blocks * 512 < 50e6
        for _ in range(30):
            store.put_many(keys(f"{number}" for number in range(1000)), rows(range(1000), width), 0)
        assert table.stat().st_blocks * 512 < 60e6, "a row that changes takes no more memory"
        for batch in range(30):
            store.put_many(keys(f"{batch}-{number}" for number in range(1000)), rows(range(1000), width), batch)
        table = current_table(tmp_path)
        assert table is not None
        assert table.stat().st_size < rows_max * (width + 24) + 64 * rows_max
        assert table.stat().st_blocks * 512 <= table.stat().st_size + 4096
        assert stored(store, [f"{batch}-7" for batch in range(30)]) == {f"{batch}-7": 7 for batch in range(30)}


def test_a_store_without_rows_takes_little_whatever_it_may_hold(tmp_path: Path) -> None:
    with SharedStore(tmp_path, width=256, rows_max=2_000_000) as store:
        store.put_many(keys(["a"]), rows([1], 256), 0)
        table = current_table(tmp_path)
        assert table is not None
        assert table.stat().st_blocks * 512 < 2e6


def test_readers_go_over_to_a_larger_table(tmp_path: Path) -> None:
    with SharedStore(tmp_path, width=WIDTH, rows_max=1000, slots_min=2) as store, SharedReader(tmp_path) as reader:
        before = current_table(tmp_path)
        for number, name in enumerate(NAMES):
            put(store, {name: number})
            assert reader.get(name) == rows([number])[0].tobytes()
        assert stored(store, NAMES) == {name: number for number, name in enumerate(NAMES)}
        assert before is not None
        assert not before.exists()
        store.checkpoint({}, wait=True)
    with SharedStore(tmp_path, width=WIDTH, rows_max=1000, slots_min=2) as store:
        assert stored(store, NAMES) == {name: number for number, name in enumerate(NAMES)}


def test_rows_seen_longest_ago_leave_memory_first(tmp_path: Path) -> None:
    with open_store(tmp_path, rows_max=100) as store:
        put(store, dict.fromkeys(NAMES[:100], 1), now_us=1)
        store.checkpoint({}, wait=True)
        put(store, dict.fromkeys(NAMES[:50], 2), now_us=2)
        put(store, dict.fromkeys(NAMES[100:130], 3), now_us=3)
        in_memory = store._resident.find(store._hasher.digests(keys(NAMES))) >= 0
        assert in_memory[:50].all()
        assert in_memory[100:130].all()
        assert 0 < in_memory[50:100].sum() <= 20


def test_shared_memory_is_given_back(tmp_path: Path) -> None:
    assert shared_memory_of(tmp_path) == []
    program = f"""
import os, signal
from pathlib import Path
from tests.online.shared.test_store import open_store
open_store(Path({str(tmp_path)!r}))
os.kill(os.getpid(), signal.SIGKILL)
"""
    for _ in range(2):
        subprocess.run([sys.executable, "-c", program], check=False)
    table = current_table(tmp_path)
    assert table is not None
    assert table.exists(), "a killed writer leaves its table, for readers"
    assert shared_memory_of(tmp_path) == []


def test_without_room_in_shared_memory_the_table_is_in_the_folder(tmp_path: Path) -> None:
    shared = os.statvfs("/dev/shm")
    layout = Layout(width=8 * 1024, slots=shared.f_bavail * shared.f_frsize // 8192)
    table = TableFile(tmp_path, layout, bytes(16))
    assert table.path.parent == tmp_path
    table.close()
    assert not table.path.exists()


def test_a_table_that_cannot_be_as_long_as_it_must_be(tmp_path: Path) -> None:
    with files_no_larger_than(1_000_000):
        with pytest.raises(OnlineStoreError, match=r"cannot be made: .* lower rows_max"):
            SharedStore(tmp_path, width=WIDTH, rows_max=20_000, slots_min=20_000)
        with SharedStore(tmp_path, width=WIDTH, rows_max=20_000, slots_min=10) as store:
            put(store, {"a": 1})
            with pytest.raises(OnlineStoreError, match=r"cannot be made: .* lower rows_max"):
                put(store, {f"b{number}": number for number in range(19_500)})
            put(store, {"c": 3})
            assert stored(store, ["a", "b7", "c"]) == {"a": 1, "c": 3}, "it goes on in the smaller one"


SMALL_SHARED_MEMORY = ["unshare", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$0" "$@"']


@pytest.mark.e2e
@pytest.mark.skipif(
    subprocess.run([*SMALL_SHARED_MEMORY, "true"], capture_output=True, check=False).returncode != 0, reason="needs namespaces"
)
def test_no_room_for_rows_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
import numpy as np
from sokuji.errors import OnlineStoreError
from sokuji.online.shared.store import SharedStore
from tests.online.rows import keys
with SharedStore({str(tmp_path)!r}, width=4096, rows_max=15_000, slots_min=15_000) as store:
    def put(name, count):
        store.put_many(keys(f"{{name}}{{number}}" for number in range(count)), np.ones((count, 4096), np.uint8), 0)
    put("a", 2000)
    Path("/dev/shm/other").write_bytes(bytes(20_000_000))
    try:
        put("b", 10_000)
    except OnlineStoreError as error:
        print(error)
    assert store.get_many(keys(["a7", "b7"])).found.tolist() == [True, False]
    put("c", 100)
    assert store.get_many(keys(["a7", "c7"])).found.all()
"""
    run = subprocess.run([*SMALL_SHARED_MEMORY, sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "no room for" in run.stdout
    assert "lower rows_max or free space" in run.stdout


def test_a_checkpoint_that_fails_leaves_the_last_and_the_next_has_everything(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        put(store, {"a": 1})
        store.checkpoint({"batch": 1}, wait=True)
        put(store, dict.fromkeys(NAMES, 2))
        with files_no_larger_than(300):
            store.checkpoint({"batch": 2})
            with pytest.raises(OnlineStoreError, match=r"the checkpoint in .* failed: .* the one before it stands"):
                store._collect(wait=True)
            assert store.offsets() == {"batch": 1}
            with pytest.raises(OnlineStoreError, match="failed"):
                store.checkpoint({"batch": 2}, wait=True)
        assert len(list(tmp_path.glob("*.run"))) == 1
        put(store, {"b": 3})
        store.checkpoint({"batch": 3}, wait=True)
    with open_store(tmp_path) as store:
        assert stored(store, NAMES) == dict.fromkeys(NAMES, 2)
        assert stored(store, ["a", "b"]) == {"a": 1, "b": 3}


@pytest.mark.parametrize("meanwhile", ["put", "expire", "leave memory"])
def test_a_checkpoint_has_rows_as_they_were_however_they_change_while_it_is_written(tmp_path: Path, meanwhile: str) -> None:
    count, width = 5000, 4096  # written in about 50 ms, changed in a fifth of that; test_snapshot leaves nothing to chance
    names = keys(f"k{number}" for number in range(count))
    then = rows(range(count), width)
    with SharedStore(tmp_path, width=width, rows_max=count) as store:
        store.put_many(names, then, 1)
        store.checkpoint({"batch": 1})
        if meanwhile == "expire":
            store.expire(2)
        if meanwhile == "leave memory":
            store.put_many(keys(["new"]), rows([1], width), 2)
        for batch in range(2, 5):
            store.put_many(names.slice(batch * 100), rows(range(batch * count, (batch + 1) * count - batch * 100), width), batch)
    with SharedStore(tmp_path, width=width, rows_max=count) as store:
        assert store.offsets() == {"batch": 1}
        assert np.array_equal(store.get_many(names).rows, then)
        assert not store.get_many(keys(["new"])).found[0]


def test_a_full_disk_when_rows_must_leave_memory(tmp_path: Path) -> None:
    with open_store(tmp_path, rows_max=100) as store:
        put(store, dict.fromkeys(NAMES[:100], 1))
        with files_no_larger_than(100), pytest.raises(OnlineStoreError, match="no room in memory, and none in"):
            put(store, {"new": 2})
        assert stored(store, [*NAMES, "new"]) == dict.fromkeys(NAMES[:100], 1)
        assert not list(tmp_path.glob("*.run"))
        put(store, {"new": 2})
        assert stored(store, [*NAMES, "new"]) == dict.fromkeys(NAMES[:100], 1) | {"new": 2}


def test_compaction_that_fails_loses_nothing(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        for batch in range(RUNS_MAX):
            put(store, dict.fromkeys(NAMES[batch::RUNS_MAX], batch))
            store.checkpoint({"batch": batch}, wait=True)
        put(store, {"last": 1})
        with files_no_larger_than(max(path.stat().st_size for path in tmp_path.glob("*.run"))):
            store.checkpoint({"batch": RUNS_MAX}, wait=True)
            with pytest.raises(OnlineStoreError, match=r"compaction in .* failed: .* nothing is lost"):
                store._checkpoints.finish_compaction()
        expected = {name: number % RUNS_MAX for number, name in enumerate(NAMES)} | {"last": 1}
        assert stored(store, [*NAMES, "last"]) == expected
        assert len(list(tmp_path.glob("*.run"))) == RUNS_MAX + 1
        store.checkpoint({"batch": RUNS_MAX + 1}, wait=True)
        store._checkpoints.finish_compaction()
    with open_store(tmp_path) as store:
        assert stored(store, [*NAMES, "last"]) == expected
        assert len(list(tmp_path.glob("*.run"))) == 1


def test_compaction_bounds_files_and_their_size(tmp_path: Path) -> None:
    with open_store(tmp_path, rows_max=50) as store:
        for batch in range(100):
            put(store, dict.fromkeys(NAMES[:80], batch), now_us=batch)
            store.checkpoint({"batch": batch}, wait=True)
        store._checkpoints.finish_compaction()
        store.offsets()
        assert len(store._disk.runs) <= RUNS_MAX + 1
        assert sum(run.count for run in store._disk.runs) < 80 * 2 * (RUNS_MAX + 1)
        assert {path.stem for path in tmp_path.glob("*.run")} == {run.path.stem for run in [*store._disk.runs, *store._spilled]}
        assert stored(store, NAMES) == dict.fromkeys(NAMES[:80], 99)


def test_expired_rows_leave_the_files_with_compaction(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        put(store, dict.fromkeys(NAMES, 1), now_us=10)
        store.checkpoint({}, wait=True)
        store.expire(11)
        for batch in range(100):
            put(store, {f"n{batch}": 1}, now_us=20)
            store.checkpoint({}, wait=True)
        store._checkpoints.finish_compaction()
        assert all(run.count <= 100 for run in store._disk.runs[:-1])
        store.erase(keys(["n0"]))  # rewrites the oldest run, whatever compaction did
        assert sum(run.count for run in store._disk.runs) < 200 + 500


def test_leftovers_of_a_crash_are_removed_once_there_is_something_newer(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        put(store, {"a": 1})
        store.checkpoint({}, {"x": b"1"}, wait=True)
    for name in ("000000000900.run", "000000000901.blobs", "copy of 1.run"):
        (tmp_path / name).write_bytes(b"torn")
    with open_store(tmp_path) as store:
        assert stored(store, ["a"]) == {"a": 1}
        put(store, {"a": 2})
        store.checkpoint({}, wait=True)
    assert not {path.name for path in tmp_path.iterdir()} & {"000000000900.run", "000000000901.blobs"}
    assert (tmp_path / "copy of 1.run").exists()


def test_an_older_manifest_takes_nothing_away_from_the_newer_one(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    with open_store(tmp_path) as store:
        put(store, {"a": 1})
        store.checkpoint({}, wait=True)
        older = manifest.read_bytes()
        put(store, {"a": 2})
        store.checkpoint({}, wait=True)
    newer = manifest.read_bytes()
    manifest.write_bytes(older)
    with open_store(tmp_path) as store:
        assert stored(store, ["a"]) == {"a": 1}
    manifest.write_bytes(newer)
    with open_store(tmp_path) as store:
        assert stored(store, ["a"]) == {"a": 2}


@pytest.mark.parametrize("pattern", ["*.run", "*.blobs", "manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "short", "changed"])
def test_damage_to_what_the_manifest_names_is_an_error_that_names_the_file(tmp_path: Path, pattern: str, damage: str) -> None:
    with open_store(tmp_path) as store:
        put(store, {"a": 1})
        store.checkpoint({}, {"x": b"1"}, wait=True)
    (path,) = tmp_path.glob(pattern)
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(whole[:-1] if damage == "short" else whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises((OnlineStoreError, DamagedFileError), match=path.name):
        open_store(tmp_path)
    path.write_bytes(whole)
    with open_store(tmp_path) as store:
        assert stored(store, ["a"]) == {"a": 1}


def test_erased_keys_are_in_no_file(tmp_path: Path) -> None:
    secret = np.frombuffer(b"a secret of this visitor" * (WIDTH // 24), np.uint8).reshape(1, WIDTH)
    with open_store(tmp_path) as store:
        put(store, {name: number for number, name in enumerate(NAMES)})
        store.put_many(keys(["visitor"]), secret, 0)
        store.checkpoint({"batch": 1}, wait=True)
        table = current_table(tmp_path)
        assert table is not None
        files = [table, *tmp_path.glob("*.run")]
        assert all(secret.tobytes() in path.read_bytes() for path in files)
        store.erase(keys(["visitor"]))
        for path in [table, *tmp_path.glob("*.run")]:
            assert secret.tobytes() not in path.read_bytes(), path
        assert stored(store, NAMES) == {name: number for number, name in enumerate(NAMES)}
