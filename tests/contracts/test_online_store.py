"""The contract of `OnlineStore` and its `OnlineReader`. A new backend adds functions that open both to `BACKENDS`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sokuji.errors import OnlineStoreError
from sokuji.online.base import OnlineReader, OnlineStore
from sokuji.online.memory import MemoryStores
from sokuji.online.shared.reader import SharedReader
from sokuji.online.shared.store import SharedStore
from tests.online.rows import WIDTH, keys, put, rows, seen, stored
from tests.searching import examples

NAMES = ["", "a", "b", "c", "d", "é", "日本語", "visitor-1", "visitor-2", "x" * 128, "x" * 129, "x" * 1000]


class Backend(NamedTuple):
    """Opens the store in a folder, and a reader of it."""

    open: Callable[[Path], OnlineStore]
    read: Callable[[Path], OnlineReader]


def shared(folder: Path) -> OnlineStore:
    """All rows in memory."""
    return SharedStore(folder, width=WIDTH, rows_max=1000)


def shared_growing(folder: Path) -> OnlineStore:
    """In a table that is too small at first."""
    return SharedStore(folder, width=WIDTH, rows_max=1000, slots_min=1)


def shared_mostly_on_disk(folder: Path) -> OnlineStore:
    """So few rows in memory that most are on disk, and some leave it before there is a checkpoint."""
    return SharedStore(folder, width=WIDTH, rows_max=3)


MEMORY = MemoryStores()


def memory(folder: Path) -> OnlineStore:
    """In this process."""
    return MEMORY.open(folder, width=WIDTH, rows_max=1000)


BACKENDS = {
    "memory": Backend(memory, MEMORY.read),
    "shared": Backend(shared, SharedReader),
    "shared growing": Backend(shared_growing, SharedReader),
    "shared mostly on disk": Backend(shared_mostly_on_disk, SharedReader),
}


class OpenStore(Protocol):
    """Opens the store; the one opened before is closed, without a checkpoint."""

    def __call__(self) -> OnlineStore: ...


class OpenReader(Protocol):
    """Opens a reader of the store."""

    def __call__(self) -> OnlineReader: ...


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return BACKENDS[request.param]


@pytest.fixture
def open_store(backend: Backend, tmp_path: Path) -> Iterator[OpenStore]:
    opened: list[OnlineStore] = []

    def open_one() -> OnlineStore:
        for store in opened:
            store.close()
        opened.append(backend.open(tmp_path))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def open_reader(backend: Backend, tmp_path: Path) -> Iterator[OpenReader]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(backend.read(tmp_path))


@pytest.fixture
def store(open_store: OpenStore) -> OnlineStore:
    return open_store()


def test_a_key_never_put_has_no_row_and_zero_bytes(store: OnlineStore) -> None:
    got, found = store.get_many(keys(["a", "b"]))
    assert found.tolist() == [False, False]
    assert (got.dtype.name, got.shape) == ("uint8", (2, WIDTH))
    assert not got.any()


def test_rows_come_back_as_last_put_in_the_order_asked_for(store: OnlineStore) -> None:
    put(store, {name: number for number, name in enumerate(NAMES)})
    put(store, {"b": 70, "日本語": 71, "new": 72})
    got, found = store.get_many(keys(["new", "a", "none", "日本語", "a", ""]))
    assert found.tolist() == [True, True, False, True, True, True]
    assert np.array_equal(got[found], rows([72, 1, 71, 1, 0]))


def test_a_row_of_zeros_is_a_row(store: OnlineStore) -> None:
    store.put_many(keys(["a"]), np.zeros((1, WIDTH), np.uint8), 0)
    assert store.get_many(keys(["a"])).found.tolist() == [True]


def test_the_last_row_counts_of_a_key_that_comes_several_times(store: OnlineStore) -> None:
    store.put_many(keys(["a", "b", "a", "b", "a"]), rows([1, 2, 3, 4, 5]), 0)
    assert stored(store, NAMES) == {"a": 5, "b": 4}


def test_a_key_may_be_asked_for_several_times(store: OnlineStore) -> None:
    put(store, {name: number for number, name in enumerate(NAMES)})
    numbers = [0, 2, 2, 4, 7, 7, 7, 4, 3, 2, 1, 0]
    assert np.array_equal(store.get_many(keys(NAMES[number] for number in numbers)).rows, rows(numbers))


def test_no_keys(store: OnlineStore) -> None:
    store.put_many(keys([]), rows([]), 0)
    got, found = store.get_many(keys([]))
    assert (got.shape, found.shape) == ((0, WIDTH), (0,))


def test_keys_may_be_a_slice(store: OnlineStore) -> None:
    names = keys(["a", "b", "c", "d"])
    store.put_many(names.slice(1, 2), rows([1, 2]), 0)
    assert stored(store, NAMES) == {"b": 1, "c": 2}
    assert store.get_many(names.slice(2, 2)).found.tolist() == [True, False]


def test_rows_may_be_any_view_and_are_copied(store: OnlineStore) -> None:
    given = rows(range(8))
    store.put_many(keys(["a", "b", "c"]), given[6:0:-2], 0)
    unaligned = np.frombuffer(b"x" + given.tobytes(), np.uint8)[1:].reshape(-1, WIDTH)
    store.put_many(keys(["d"]), unaligned[7:], 0)
    given[:] = 255
    assert stored(store, NAMES) == {"a": 6, "b": 4, "c": 2, "d": 7}


def test_what_was_got_is_the_callers_own(store: OnlineStore) -> None:
    put(store, {"a": 1})
    store.get_many(keys(["a"])).rows[:] = 255
    assert stored(store, NAMES) == {"a": 1}


def test_rows_are_put_into_room_that_is_given(store: OnlineStore) -> None:
    store.put_many(keys("ab"), rows([1, 2]), 1)
    room = rows([7, 7, 7, 7])
    got = store.get_many(keys("bca"), room)
    assert np.shares_memory(got.rows, room)
    np.testing.assert_array_equal(got.rows, [*rows([2]), np.zeros(store.width, np.uint8), *rows([1])])
    assert got.found.tolist() == [True, False, True]
    np.testing.assert_array_equal(room[3:], rows([7]))


def test_keys_and_rows_of_another_shape_are_refused(store: OnlineStore) -> None:
    no_keys: list[Any] = [pa.array(["a", None]), pa.array([1]), ["a"], pa.chunked_array([["a"]]), pa.array(["a"], pa.large_string())]
    for wrong in no_keys:
        with pytest.raises(OnlineStoreError, match="StringArray without nulls"):
            store.get_many(wrong)
        with pytest.raises(OnlineStoreError, match="StringArray without nulls"):
            store.put_many(wrong, rows([1]), 0)
    others: list[Any] = [rows([1, 2]), rows([1], WIDTH + 8), rows([1]).view(np.int8), rows([1])[0]]
    for other in others:
        with pytest.raises(OnlineStoreError, match=rf"uint8\[1, {WIDTH}\]"):
            store.put_many(keys(["a"]), other, 0)
    assert stored(store, NAMES) == {}


def test_a_new_store_has_no_checkpoint(store: OnlineStore) -> None:
    assert (store.offsets(), store.blobs()) == ({}, {})


def test_a_store_opens_as_at_its_last_checkpoint(open_store: OpenStore) -> None:
    store = open_store()
    before = {name: number for number, name in enumerate(NAMES)}
    put(store, before)
    store.checkpoint({"events/0": 17, "events/1": 2**40}, {"identity": b"\0\xff" * 1000, "empty": b""}, wait=True)
    put(store, {"a": 100, "new": 101})
    store = open_store()
    assert stored(store, [*NAMES, "new"]) == before
    assert store.offsets() == {"events/0": 17, "events/1": 2**40}
    assert store.blobs() == {"identity": b"\0\xff" * 1000, "empty": b""}


def test_a_store_without_a_checkpoint_opens_empty(open_store: OpenStore) -> None:
    put(open_store(), {"a": 1})
    store = open_store()
    assert stored(store, NAMES) == {}
    assert store.offsets() == {}


def test_each_checkpoint_replaces_offsets_and_blobs_whole(open_store: OpenStore) -> None:
    store = open_store()
    store.checkpoint({"a": 1, "b": 2}, {"x": b"1", "y": b"2"}, wait=True)
    store.checkpoint({"b": 3}, {"y": b"4"}, wait=True)
    for _ in range(2):
        assert (store.offsets(), store.blobs()) == ({"b": 3}, {"y": b"4"})
        store = open_store()
    store.checkpoint({"b": 4}, wait=True)
    assert (store.offsets(), store.blobs()) == ({"b": 4}, {})
    store = open_store()
    assert (store.offsets(), store.blobs()) == ({"b": 4}, {})


def test_a_checkpoint_is_of_the_moment_it_was_begun(open_store: OpenStore) -> None:
    store = open_store()
    put(store, {"a": 1, "b": 1})
    store.checkpoint({"batch": 1})
    put(store, {"a": 2, "c": 2})
    store.close()  # which waits for the checkpoint
    store = open_store()
    assert stored(store, NAMES) == {"a": 1, "b": 1}
    assert store.offsets() == {"batch": 1}


def test_what_changed_during_a_checkpoint_is_in_the_next(open_store: OpenStore) -> None:
    store = open_store()
    for batch in range(20):
        put(store, {NAMES[batch % 5]: batch, "every": batch})
        store.checkpoint({"batch": batch})
    store = open_store()
    assert stored(store, [*NAMES, "every"]) == {"": 15, "a": 16, "b": 17, "c": 18, "d": 19, "every": 19}


def test_rows_not_seen_for_long_expire(open_store: OpenStore) -> None:
    store = open_store()
    put(store, {name: number for number, name in enumerate(NAMES)}, now_us=100)
    put(store, {"a": 50}, now_us=200)
    store.checkpoint({"batch": 1}, wait=True)
    put(store, {"b": 60}, now_us=300)
    store.expire(200)
    assert stored(store, NAMES) == {"a": 50, "b": 60}
    put(store, {"c": 70}, now_us=400)
    assert stored(store, NAMES) == {"a": 50, "b": 60, "c": 70}
    store.checkpoint({"batch": 2}, wait=True)
    store = open_store()
    assert stored(store, NAMES) == {"a": 50, "b": 60, "c": 70}
    store.expire(100)
    assert stored(store, NAMES) == {"a": 50, "b": 60, "c": 70}


def test_expiry_is_undone_by_a_crash_before_the_next_checkpoint(open_store: OpenStore) -> None:
    store = open_store()
    put(store, {"a": 1, "b": 2}, now_us=100)
    store.checkpoint({"batch": 1}, wait=True)
    store.expire(101)
    assert stored(store, NAMES) == {}
    assert stored(open_store(), NAMES) == {"a": 1, "b": 2}


def test_time_never_runs_back(open_store: OpenStore) -> None:
    store = open_store()
    put(store, {"a": 1}, now_us=200)
    put(store, {"b": 2}, now_us=100)
    store.checkpoint({"batch": 1}, wait=True)
    store = open_store()
    put(store, {"c": 3}, now_us=50)
    store.expire(200)
    assert stored(store, NAMES) == {"a": 1, "b": 2, "c": 3}


def test_erased_keys_are_gone_from_the_state_and_from_the_last_checkpoint(open_store: OpenStore) -> None:
    store = open_store()
    put(store, {name: number for number, name in enumerate(NAMES)})
    store.checkpoint({"batch": 1}, {"x": b"1"}, wait=True)
    put(store, {"a": 50, "b": 51, "new": 52})
    store.erase(keys(["a", "日本語", "new", "never seen", "a"]))
    rest = {name: number for number, name in enumerate(NAMES) if name not in {"a", "日本語"}}
    assert stored(store, [*NAMES, "new"]) == rest | {"b": 51}
    store = open_store()
    assert stored(store, [*NAMES, "new"]) == rest
    assert (store.offsets(), store.blobs()) == ({"batch": 1}, {"x": b"1"})
    put(store, {"a": 90})
    assert stored(store, ["a"]) == {"a": 90}


def test_a_store_has_one_writer(store: OnlineStore, backend: Backend, tmp_path: Path) -> None:
    with pytest.raises(OnlineStoreError, match="one writer"):
        backend.open(tmp_path)
    store.close()
    backend.open(tmp_path).close()


def test_a_store_moves_and_goes_with_its_folder(backend: Backend, tmp_path: Path) -> None:
    with backend.open(tmp_path / "a") as store:
        put(store, {"a": 1})
        store.checkpoint({"batch": 1}, wait=True)
    (tmp_path / "a").rename(tmp_path / "b")
    with backend.open(tmp_path / "a") as store:
        assert stored(store, NAMES) == {}
    with backend.open(tmp_path / "b") as store:
        assert stored(store, NAMES) == {"a": 1}
    shutil.rmtree(tmp_path / "b")
    with backend.open(tmp_path / "b") as store:
        assert (stored(store, NAMES), store.offsets()) == ({}, {})


def test_closing_twice(store: OnlineStore, open_reader: OpenReader) -> None:
    reader = open_reader()
    for opened in (reader, reader, store, store):
        opened.close()


def test_a_reader_sees_what_is_put_at_once(store: OnlineStore, open_reader: OpenReader) -> None:
    reader = open_reader()
    assert reader.get("a") is None
    put(store, {name: number for number, name in enumerate(NAMES)})
    assert seen(reader, [*NAMES, "none"]) == {name: number for number, name in enumerate(NAMES)}
    put(store, {"a": 70})
    assert reader.get("a") == rows([70]).tobytes()


@pytest.mark.parametrize("saved", [False, True], ids=["no checkpoint yet", "in a checkpoint"])
def test_a_reader_sees_rows_go(store: OnlineStore, open_reader: OpenReader, saved: bool) -> None:
    reader, numbers = open_reader(), {f"k{number}": number for number in range(100)}
    for name, number in numbers.items():
        put(store, {name: number}, now_us=number)
        assert seen(reader, [name]) == {name: number}
    if saved:
        store.checkpoint({}, wait=True)
    assert seen(reader, numbers) == numbers
    store.expire(90)
    store.erase(keys(["k95"]))
    assert seen(reader, numbers) == {name: number for name, number in numbers.items() if number >= 90 and name != "k95"}


def test_a_reader_keeps_the_last_state_until_a_writer_opens_the_store(open_store: OpenStore, open_reader: OpenReader) -> None:
    store = open_store()
    put(store, {"a": 1})
    store.checkpoint({}, wait=True)
    put(store, {"a": 2, "b": 3})
    reader = open_reader()
    store.close()
    assert seen(reader, NAMES) == {"a": 2, "b": 3}
    store = open_store()
    assert seen(reader, NAMES) == {"a": 1}
    put(store, {"a": 4})
    assert seen(reader, NAMES) == {"a": 4}


def test_a_reader_sees_the_offsets_of_the_last_complete_checkpoint(open_store: OpenStore, open_reader: OpenReader) -> None:
    store = open_store()
    reader = open_reader()
    assert reader.offsets() == {}
    store.checkpoint({"events": 1, "links": 2}, {"x": b"1"}, wait=True)
    put(store, {"a": 1})
    assert reader.offsets() == {"events": 1, "links": 2}
    store = open_store()
    assert reader.offsets() == {"events": 1, "links": 2}
    store.checkpoint({"events": 3}, wait=True)
    assert reader.offsets() == {"events": 3}


def test_there_is_nothing_to_read_while_no_writer_has_the_store_open(open_store: OpenStore, open_reader: OpenReader) -> None:
    with pytest.raises(OnlineStoreError, match="not running"):
        open_reader()
    store = open_store()
    assert seen(open_reader(), NAMES) == {}
    store.close()
    with pytest.raises(OnlineStoreError, match="not running"):
        open_reader()


NUMBERS = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 2**64 - 1), max_size=8)


class StoreMachine(RuleBasedStateMachine):
    """A store and a reader against dictionaries: what is in it now, and what was at its last checkpoint."""

    backend: Backend

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = self.backend.open(Path(self.folder.name))
        self.reader = self.backend.read(Path(self.folder.name))
        self.now: dict[str, tuple[int, int]] = {}
        self.clock_us = 0
        self.saved: tuple[dict[str, tuple[int, int]], dict[str, int], int] = ({}, {}, 0)

    @rule(numbers=NUMBERS, step_us=st.integers(-2, 5))
    def put(self, numbers: dict[str, int], step_us: int) -> None:
        put(self.store, numbers, max(0, self.clock_us + step_us))
        self.clock_us = max(self.clock_us, self.clock_us + step_us)
        self.now |= {name: (number, self.clock_us) for name, number in numbers.items()}

    @rule(wait=st.booleans(), offset=st.integers(0, 2**62))
    def checkpoint(self, wait: bool, offset: int) -> None:
        self.store.checkpoint({"events": offset}, {"offset": str(offset).encode()}, wait=wait)
        self.saved = (dict(self.now), {"events": offset}, self.clock_us)

    @rule(age_us=st.integers(0, 20))
    def expire(self, age_us: int) -> None:
        self.store.expire(self.clock_us - age_us)
        self.now = {name: (number, seen) for name, (number, seen) in self.now.items() if seen >= self.clock_us - age_us}

    @rule(names=st.lists(st.sampled_from(NAMES), max_size=3))
    def erase(self, names: list[str]) -> None:
        self.store.erase(keys(names))
        saved, offsets, clock_us = self.saved
        self.now = {name: value for name, value in self.now.items() if name not in names}
        self.saved = ({name: value for name, value in saved.items() if name not in names}, offsets, clock_us)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.backend.open(Path(self.folder.name))
        saved, offsets, self.clock_us = self.saved
        self.now = dict(saved)
        assert self.store.offsets() == offsets
        assert self.store.blobs() == ({"offset": str(offsets["events"]).encode()} if offsets else {})

    @invariant()
    def agrees(self) -> None:
        expected = {name: number for name, (number, _) in self.now.items()}
        assert stored(self.store, NAMES) == expected
        assert seen(self.reader, NAMES) == expected

    def teardown(self) -> None:
        self.reader.close()
        self.store.close()
        self.folder.cleanup()


class MemoryMachine(StoreMachine):
    backend = BACKENDS["memory"]


class SharedMachine(StoreMachine):
    backend = BACKENDS["shared"]


class SharedMostlyOnDiskMachine(StoreMachine):
    backend = BACKENDS["shared mostly on disk"]


TestMemoryAgreesWithTheModel = MemoryMachine.TestCase
TestMemoryAgreesWithTheModel.settings = settings(max_examples=examples(15), stateful_step_count=25, deadline=None)
TestSharedAgreesWithTheModel = SharedMachine.TestCase
TestSharedAgreesWithTheModel.settings = settings(max_examples=examples(15), stateful_step_count=25, deadline=None)
TestSharedMostlyOnDiskAgreesWithTheModel = SharedMostlyOnDiskMachine.TestCase
TestSharedMostlyOnDiskAgreesWithTheModel.settings = settings(max_examples=examples(20), stateful_step_count=30, deadline=None)
