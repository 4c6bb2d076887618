"""Which messages were worked on already: exact within a stated number of them, consistent with the checkpoint."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sokuji.analyze.hashing import Words
from sokuji.analyze.marked import MarkedFile
from sokuji.online.jit import fixed, kernel

_SLOTS_MIN = 1 << 16
_FILL_MAX = 0.6  # of a table's slots; beyond it probing gets slow
_MOVED = 4  # slots of the smaller table that move with each new id: all have moved long before the larger one is full


class Deduplicator:
    """The newest message ids of a dataset: all of the last `ids_max / 2`, up to `ids_max`.

    Two generations of half that size each: when the newer is full, the older is forgotten. Each is a hash table in memory, 27 bytes an
    id, and a file of the ids in the order they came.
    """

    def __init__(self, folder: Path, marks: Mapping[str, int], *, ids_max: int) -> None:
        """Load what the files in `folder` hold up to `marks`, as `mark` gave them."""
        self._folder, self._ids_max = folder, max(2, ids_max // 2)
        names = sorted(marks, key=int) or ["0"]
        self._generations = [_Generation(folder, name, marks.get(name, 0)) for name in names]
        for path in folder.glob("*.ids"):
            if path.stem not in names:
                path.unlink()

    def first(self, ids: Words) -> npt.NDArray[np.bool_]:
        """Which of the ids (shape [n, 2]) were not seen before, here or earlier in `ids`; all are remembered."""
        older = self._generations[0] if len(self._generations) > 1 else None
        new = self._generations[-1].add(ids, older)
        if self._generations[-1].count >= self._ids_max:
            self._rotate()
        return new

    def _rotate(self) -> None:
        following = str(int(self._generations[-1].name) + 1)
        self._generations[-1].settle()
        for generation in self._generations[:-1]:
            generation.close()  # its file stays until the next start: the last checkpoint may count on it
        self._generations = [self._generations[-1], _Generation(self._folder, following, 0)]

    def mark(self) -> dict[str, int]:
        """Make what was seen durable; to be given to the next start, if everything before it is to be known."""
        return {generation.name: generation.mark() for generation in self._generations}

    def close(self) -> None:
        """Close the files."""
        for generation in self._generations:
            generation.close()


class _Generation:
    """A hash table that grows a little at a time: ids move to the larger one as others come. Moving millions at once takes a second."""

    def __init__(self, folder: Path, name: str, mark: int) -> None:
        self.name, self.count = name, 0
        self._file = MarkedFile(folder / f"{name}.ids", mark)
        self.slots, self._before, self._moved = _table(_SLOTS_MIN), _NONE, 0
        self._put(np.frombuffer(self._file.read(), np.uint64).reshape(-1, 2), _NONE)

    def add(self, ids: Words, older: _Generation | None) -> npt.NDArray[np.bool_]:
        new = self._put(ids, _NONE if older is None else older.slots)
        self._file.append(ids[new].tobytes())
        return new

    def _put(self, ids: Words, older: Words) -> npt.NDArray[np.bool_]:
        self._grow(len(ids))
        self._move(_MOVED * len(ids))
        new = np.empty(len(ids), np.bool_)
        _insert(self.slots, self._before, older, fixed(ids), new)
        self.count += int(new.sum())
        return new

    def _grow(self, more: int) -> None:
        """See that there is room for `more` ids."""
        size = len(self.slots)
        while self.count + more > size * _FILL_MAX:
            size *= 2
        if size > len(self.slots):
            self.settle()
            self._before, self._moved = self.slots if self.count else _NONE, 0
            self.slots = _table(size)

    def _move(self, slots: int) -> None:
        """Move what is in the next so many slots of the table before."""
        part = self._before[self._moved : self._moved + slots]
        ids = part[part.any(axis=1)]
        _insert(self.slots, _NONE, _NONE, fixed(ids), np.empty(len(ids), np.bool_))
        self._moved += slots
        if self._moved >= len(self._before):
            self._before = _NONE

    def settle(self) -> None:
        """Move all that has not moved."""
        self._move(len(self._before))

    def mark(self) -> int:
        return self._file.mark()

    def close(self) -> None:
        self._file.close()


def _table(slots: int) -> Words:
    # numpy would ask for huge pages: the first ids put into a large table would wait until all of it is zeroed.
    return np.frombuffer(mmap.mmap(-1, 16 * slots), np.uint64).reshape(-1, 2)


_NONE: Words = np.zeros((0, 2), np.uint64)


@kernel
def _find(slots: Words, a: np.uint64, b: np.uint64) -> Any:
    """Where the id would go; -1 if it is there."""
    at = np.int64(a & np.uint64(len(slots) - 1))
    while slots[at, 0] or slots[at, 1]:
        if slots[at, 0] == a and slots[at, 1] == b:
            return -1
        at = (at + 1) & (len(slots) - 1)
    return at


@kernel
def _insert(slots: Words, before: Words, older: Words, ids: Words, new: npt.NDArray[np.bool_]) -> None:
    """Put the ids that are in none of the tables into `slots`, by linear probing; an empty slot is two zeros."""
    for row in range(len(ids)):
        a, b = ids[row]
        at = _find(slots, a, b)
        new[row] = at >= 0 and (len(before) == 0 or _find(before, a, b) >= 0) and (len(older) == 0 or _find(older, a, b) >= 0)
        if new[row]:
            slots[at] = ids[row]
