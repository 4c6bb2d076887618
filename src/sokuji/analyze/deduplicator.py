"""Which messages were worked on already: exact within a stated number of them, consistent with the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sokuji.analyze.hashing import Words
from sokuji.analyze.marked import MarkedFile
from sokuji.online.jit import kernel

_SLOTS_MIN = 1 << 16
_FILL_MAX = 0.6  # of a table's slots; beyond it probing gets slow


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
    def __init__(self, folder: Path, name: str, mark: int) -> None:
        self.name, self.count = name, 0
        self._file = MarkedFile(folder / f"{name}.ids", mark)
        self.slots: Words = np.zeros((_SLOTS_MIN, 2), np.uint64)
        self._put(np.frombuffer(self._file.read(), np.uint64).reshape(-1, 2))

    def add(self, ids: Words, older: _Generation | None) -> npt.NDArray[np.bool_]:
        new = self._put(ids, None if older is None else older.slots)
        self._file.append(ids[new].tobytes())
        return new

    def _put(self, ids: Words, older: Words | None = None) -> npt.NDArray[np.bool_]:
        self._grow(self.count + len(ids))
        new = np.empty(len(ids), np.bool_)
        _insert(self.slots, self.slots[:0] if older is None else older, ids, new)
        self.count += int(new.sum())
        return new

    def _grow(self, count: int) -> None:
        size = len(self.slots)
        while count > size * _FILL_MAX:
            size *= 2
        if size > len(self.slots):
            known = self.slots[self.slots.any(axis=1)]
            self.slots = np.zeros((size, 2), np.uint64)
            _insert(self.slots, self.slots[:0], known, np.empty(len(known), np.bool_))

    def mark(self) -> int:
        return self._file.mark()

    def close(self) -> None:
        self._file.close()


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
def _insert(slots: Words, older: Words, ids: Words, new: npt.NDArray[np.bool_]) -> None:
    """Put the ids that are in neither table into `slots`, by linear probing; an empty slot is two zeros."""
    for row in range(len(ids)):
        a, b = ids[row]
        at = _find(slots, a, b)
        new[row] = at >= 0 and (len(older) == 0 or _find(older, a, b) >= 0)
        if new[row]:
            slots[at] = ids[row]
