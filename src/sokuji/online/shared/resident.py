"""The rows in memory: the writer's side of a table."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sokuji.compiled import compiled, inlined
from sokuji.online.base import Rows
from sokuji.online.hashing import Digests
from sokuji.online.shared import table
from sokuji.online.shared.index import SlotNumbers, Slots, Words, add, add_all, find, find_all, remove_all
from sokuji.online.shared.ordered import release_fence, store_release
from sokuji.online.shared.run import Columns
from sokuji.online.shared.snapshot import RowSnapshot, copy_rows

FREE, CLEAN, CHANGED, SAVING = 0, 1, 2, 3
"""States of a slot. CLEAN: its row is in a run that the manifest names. SAVING: it is in the snapshot and has not changed since."""

_WORD = np.uint64
_HEADER_WORDS = table.SLOT_HEADER_WORDS
_FREE_STEP = 65_536
_MOVED_AT_ONCE = 16_384


class SlotRows(NamedTuple):
    """Rows, with the columns that a run keeps for each row."""

    digests: Digests
    seen_us: npt.NDArray[np.int64]
    rows: Rows


class ResidentRows:
    """At most `slots` rows, in a table that other processes read at the same time."""

    def __init__(self, file: table.TableFile) -> None:
        words = np.frombuffer(file.memory, np.uint64)
        layout = file.layout
        self._file = file
        self._header = words[: layout.index_word]
        self._index = words[layout.index_word : layout.slots_word]
        self._slots: Slots = words[layout.slots_word :].reshape(layout.slots, layout.slot_words)
        self._seen = _zeros(layout.slots, np.int64)
        self._state = _zeros(layout.slots, np.uint8)
        # A stack of free slots; the last one is taken first. Entries before `_free_from` are slots never used, and are written when needed.
        self._free: SlotNumbers = _zeros(layout.slots, np.int32)
        self._free_count = self._free_from = layout.slots
        self._reserved = 0
        self._snapshot: RowSnapshot | None = None

    @property
    def room(self) -> int:
        """The number of free slots."""
        return self._free_count

    def find(self, digests: Digests) -> SlotNumbers:
        """The slot of each digest, -1 if it has none."""
        result = np.empty(len(digests), np.int32)
        find_all(self._index, self._slots, digests, result)
        return result

    def copy(self, slots: SlotNumbers, rows: Rows) -> None:
        """Copy the row of each slot to its place in `rows`. For slot -1, the place keeps its content."""
        copy_rows(self._slots, slots, rows.view(np.uint64))

    def put(self, digests: Digests, rows: Rows, now_us: int) -> None:
        """Change or add rows. There must be a free slot for each new one."""
        taken = len(self._state) - self._free_count
        self.reserve(min(taken + len(digests), len(self._state)))
        if self._snapshot is not None:
            slots = self.find(digests)
            self._put_aside(self._snapshot, slots[slots >= 0])
        words = rows.view(np.uint64)
        words = words if words.flags.aligned else words.copy()
        self._write_free(len(digests))
        self._free_count = _put(self._index, self._slots, digests, words, now_us, self._seen, self._state, self._free, self._free_count)

    def load(self, first: int, columns: Columns, pieces: Iterable[tuple[int, Rows]]) -> None:
        """Fill free slots from `first` on, before the table is published. Call `start` after the last `load`."""
        end = first + len(columns.high)
        self._slots[first:end, 1], self._slots[first:end, 2], self._seen[first:end] = columns
        for start, rows in pieces:
            _fill(self._slots, first + start, rows.view(np.uint64))

    def reserve(self, count: int) -> None:
        """Reserve memory for the first `count` slots. A freed slot is reused before a slot that was never used."""
        if count > self._reserved:
            self._file.reserve(count)
            self._reserved = count

    def start(self) -> None:
        """Make the loaded rows, which fill all reserved slots, visible to lookups."""
        self._state[: self._reserved] = CLEAN
        self._free_count -= self._reserved
        self._free_from = self._free_count
        add_all(self._index, self._slots, self._reserved)

    def moved_to(self, file: table.TableFile) -> ResidentRows:
        """The same rows in the same states, moved to a larger, empty table. There must be no snapshot."""
        moved, slots = ResidentRows(file), np.flatnonzero(self._state != FREE)
        moved.reserve(len(slots))
        for start in range(0, len(slots), _MOVED_AT_ONCE):
            part = slice(start, start + _MOVED_AT_ONCE)
            moved._slots[: len(slots)][part] = self._slots[slots[part]]
        moved._seen[: len(slots)] = self._seen[slots]
        moved.start()
        moved._state[: len(slots)] = self._state[slots]
        return moved

    def _write_free(self, count: int) -> None:
        """Write the next `count` entries of the free-slot stack, if not yet written."""
        start, end = max(self._free_count - count, 0), self._free_from
        if start < end:
            start = max(min(start, end - _FREE_STEP), 0)
            self._free[start:end] = np.arange(len(self._free) - start, len(self._free) - end, -1) - 1
            self._free_from = start

    def in_state(self, state: int) -> SlotNumbers:
        """The slots in a state."""
        return np.flatnonzero(self._state == state).astype(np.int32)

    def snapshot(self) -> RowSnapshot:
        """Take a snapshot of the changed rows. Only one may exist at a time; it ends with `settle`."""
        slots = self.in_state(CHANGED)
        self._state[slots] = SAVING
        self._snapshot = RowSnapshot(self._slots, slots, self._seen[slots])
        return self._snapshot

    def settle(self, state: int) -> None:
        """End the snapshot. Its rows that have not changed since get `state`."""
        self._state[self.in_state(SAVING)] = state
        self._snapshot = None

    def _put_aside(self, snapshot: RowSnapshot, slots: SlotNumbers) -> None:
        snapshot.put_aside(np.unique(slots[self._state[slots] == SAVING]))

    def oldest(self, state: int, count: int) -> SlotNumbers:
        """At most `count` of the slots in a state, those seen longest ago."""
        slots = self.in_state(state)
        if len(slots) <= count:
            return slots
        return slots[np.argpartition(self._seen[slots], count - 1)[:count]]

    def seen_before(self, time_us: int) -> SlotNumbers:
        """The slots whose row was last put before a time."""
        return np.flatnonzero((self._state != FREE) & (self._seen < time_us)).astype(np.int32)

    def batch(self, slots: SlotNumbers) -> SlotRows:
        """A copy of the rows in these slots."""
        words = np.empty((len(slots), self._slots.shape[1] - _HEADER_WORDS), np.uint64)
        copy_rows(self._slots, slots, words)
        digests = np.ascontiguousarray(self._slots[slots, 1:_HEADER_WORDS])
        return SlotRows(digests, self._seen[slots], words.view(np.uint8))

    def remove(self, slots: SlotNumbers) -> None:
        """Free these slots, and overwrite their rows with zeros."""
        if self._snapshot is not None:
            self._put_aside(self._snapshot, slots)
        version = self._header[table.INDEX_VERSION : table.INDEX_VERSION + 1]
        remove_all(self._index, self._slots, version, slots)
        _wipe(self._slots, slots)
        self._state[slots] = FREE
        self._free[self._free_count : self._free_count + len(slots)] = slots
        self._free_count += len(slots)

    def publish(self, run_ids: list[int], *, cold: bool, expired_before_us: int) -> None:
        """Publish to readers where to find rows that are on disk only; `cold` says whether there are any."""
        ids = np.array(run_ids, np.uint64)
        _publish(self._header, _WORD(cold), _WORD(expired_before_us), ids)


def _zeros(count: int, type_: npt.DTypeLike) -> npt.NDArray[Any]:
    """Zeros that use memory only where they are written. With 500 datasets and room for two million rows each, most have few rows.

    Fresh pages are zero. Memory that malloc reuses would have to be cleared, and so be used.
    """
    memory = mmap.mmap(-1, max(count, 1) * np.dtype(type_).itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(memory, type_)[:count]


@inlined
def _open_slot(versions: Words, slot: int) -> None:
    store_release(versions, slot, versions[slot] + _WORD(1))
    release_fence()


@inlined
def _close_slot(versions: Words, slot: int) -> None:
    store_release(versions, slot, versions[slot] + _WORD(1))


@compiled
def _put(  # noqa: PLR0917  -- a kernel has no keywords
    index: Words,
    slots: Slots,
    digests: Digests,
    rows: npt.NDArray[np.uint64],
    now_us: int,
    seen: npt.NDArray[np.int64],
    state: npt.NDArray[np.uint8],
    free: SlotNumbers,
    free_count: int,
) -> int:
    versions = slots[:, 0]
    for number in range(len(digests)):
        high, low = digests[number, 0], digests[number, 1]
        slot = find(index, slots, high, low)
        new = slot < 0
        if new:
            free_count -= 1
            slot = free[free_count]
        _open_slot(versions, slot)
        slots[slot, 1], slots[slot, 2] = high, low
        for word in range(rows.shape[1]):
            slots[slot, _HEADER_WORDS + word] = rows[number, word]
        _close_slot(versions, slot)
        seen[slot], state[slot] = now_us, CHANGED
        if new:
            add(index, high, low, slot)
    return free_count


@compiled
def _fill(slots: Slots, first: int, rows: npt.NDArray[np.uint64]) -> None:
    for number in range(len(rows)):
        for word in range(rows.shape[1]):
            slots[first + number, _HEADER_WORDS + word] = rows[number, word]


@compiled
def _wipe(slots: Slots, numbers: SlotNumbers) -> None:
    versions = slots[:, 0]
    for slot in numbers:
        _open_slot(versions, slot)
        slots[slot, 1:] = 0
        _close_slot(versions, slot)


@compiled
def _publish(header: Words, cold: np.uint64, expired_before_us: np.uint64, run_ids: npt.NDArray[np.uint64]) -> None:
    store_release(header, table.RUNS_VERSION, header[table.RUNS_VERSION] + _WORD(1))
    release_fence()
    header[table.COLD], header[table.EXPIRED_BEFORE], header[table.RUN_COUNT] = cold, expired_before_us, _WORD(len(run_ids))
    header[table.RUN_IDS : table.RUN_IDS + len(run_ids)] = run_ids
    store_release(header, table.RUNS_VERSION, header[table.RUNS_VERSION] + _WORD(1))
