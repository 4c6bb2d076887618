"""Rows as they were at one moment, read while the writer continues: copy on write.

The saving thread copies a row and then checks that the row's version has not changed since that moment. Before the writer changes a row
that is not saved yet, it puts a copy of the old row aside. So if a version differs, the old row is found there.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from sokuji.compiled import compiled
from sokuji.online.base import Rows
from sokuji.online.hashing import Digests
from sokuji.online.shared import table
from sokuji.online.shared.index import SlotNumbers, Slots
from sokuji.online.shared.ordered import acquire_fence, load_acquire
from sokuji.online.shared.run import Numbers, block_rows

_HEADER_WORDS = table.SLOT_HEADER_WORDS
_BLOCKS_AT_A_TIME = 16
"""Small enough for the caches. Each step in the interpreter may wait for the writer's thread, so few steps are better."""


class RowSnapshot:
    """The rows in some slots at the moment of creation. The writer calls `put_aside`, one other thread calls `blocks`."""

    def __init__(self, slots: Slots, numbers: SlotNumbers, seen_us: npt.NDArray[np.int64]) -> None:
        headers = slots[:, :_HEADER_WORDS][numbers]
        self.digests: Digests = np.ascontiguousarray(headers[:, 1:])
        self.seen_us = seen_us
        self._slots, self._numbers = slots, numbers
        self._versions = headers[:, 0].copy()
        end = int(numbers.max(initial=-1)) + 1
        self._saved = np.zeros(end, np.bool_)
        self._aside: list[npt.NDArray[np.uint64]] = []
        self._aside_starts: list[int] = []
        self._aside_count = 0
        self._place = np.empty(end, np.int64)  # position among the rows put aside

    def put_aside(self, numbers: SlotNumbers) -> None:
        """Copy the rows of these slots before they are changed. The rows must be unchanged since the snapshot."""
        numbers = numbers[~self._saved[numbers]]
        if len(numbers):
            rows = np.empty((len(numbers), self._slots.shape[1] - _HEADER_WORDS), np.uint64)
            copy_rows(self._slots, numbers, rows)
            self._place[numbers] = np.arange(self._aside_count, self._aside_count + len(numbers))
            self._aside.append(rows)
            self._aside_starts.append(self._aside_count)
            self._aside_count += len(numbers)

    def blocks(self, order: Numbers) -> Iterator[Rows]:
        """The rows in this order, in the blocks that `run.write_run` takes."""
        words = self._slots.shape[1] - _HEADER_WORDS
        block = block_rows(8 * words)
        for start in range(0, len(order), block * _BLOCKS_AT_A_TIME):
            chosen = order[start : start + block * _BLOCKS_AT_A_TIME]
            numbers = self._numbers[chosen]
            rows, unchanged = np.empty((len(chosen), words), np.uint64), np.empty(len(chosen), np.bool_)
            _copy_unchanged(self._slots, numbers, self._versions[chosen], rows, unchanged)
            for index in np.flatnonzero(~unchanged).tolist():
                rows[index] = self._old(int(self._place[numbers[index]]))
            self._saved[numbers] = True
            for first in range(0, len(rows), block):
                yield rows[first : first + block].view(np.uint8)

    def _old(self, place: int) -> npt.NDArray[np.uint64]:
        piece = bisect.bisect_right(self._aside_starts, place) - 1
        row: npt.NDArray[np.uint64] = self._aside[piece][place - self._aside_starts[piece]]
        return row


@compiled
def copy_rows(slots: Slots, numbers: SlotNumbers, rows: npt.NDArray[np.uint64]) -> None:
    """Copy the row of each slot to its place in `rows`. For slot -1, the place keeps its content."""
    for number in range(len(numbers)):
        slot = numbers[number]
        if slot >= 0:
            for word in range(rows.shape[1]):
                rows[number, word] = slots[slot, _HEADER_WORDS + word]


@compiled
def _copy_unchanged(
    slots: Slots, numbers: SlotNumbers, versions: npt.NDArray[np.uint64], rows: npt.NDArray[np.uint64], unchanged: npt.NDArray[np.bool_]
) -> None:
    current = slots[:, 0]
    for number in range(len(numbers)):
        slot = numbers[number]
        for word in range(rows.shape[1]):
            rows[number, word] = slots[slot, _HEADER_WORDS + word]
        acquire_fence()
        unchanged[number] = load_acquire(current, slot) == versions[number]
