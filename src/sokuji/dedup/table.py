"""The worker's index: hash tables in memory, consistent with the checkpoint.

27 bytes an id at most, of two stretches of each partition; and 16 on disk, in files of the ids in the order they came.
"""

from __future__ import annotations

import logging
import mmap
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from sokuji.compiled import compiled, fixed
from sokuji.dedup.hashing import Words
from sokuji.dedup.rule import Mask, Places, RepeatRule
from sokuji.disk.files import make_folder
from sokuji.disk.marked import AnyMark, Mark, MarkedFile
from sokuji.errors import DamagedFileError

_SLOTS_MIN = 1 << 16
_FILL_MAX = 0.6  # of a table's slots; beyond it probing gets slow
_MOVED = 4  # slots of the smaller table that move with each new id: all have moved long before the larger one is full
_OWN = re.compile(r"[0-9]+-[0-9]+\.ids")
_LOG = logging.getLogger(__name__)


class TableMark(msgspec.Struct):
    """What a checkpoint keeps, to bring the index back."""

    stretch_rows: int
    files: dict[str, Mark]


class Deduplicator:
    """The messages of a dataset that were worked on."""

    def __init__(self, folder: Path, mark: TableMark | None, rule: RepeatRule) -> None:
        """Load what the files in `folder` hold up to `mark`, as `mark` gave it."""
        self._folder, self._rule = folder, rule
        self._stretches: dict[int, list[_Stretch]] = {}  # by partition, the two last
        self._kept: list[set[str]] = [set(), set() if mark is None else set(mark.files)]  # the files of the last checkpoints
        make_folder(folder)
        self.is_complete = mark is not None and self._load(mark)
        """Whether everything is known up to the checkpoint; else there is nothing, and it is to be learned again."""
        self._clean()

    def _load(self, mark: TableMark) -> bool:
        if mark.stretch_rows != self._rule.stretch_rows:
            return False
        try:
            for name in sorted(mark.files, key=lambda name: int(name.partition("-")[2])):
                stretch = _Stretch(self._folder, name, mark.files[name])
                self._stretches.setdefault(stretch.partition, []).append(stretch)
        except DamagedFileError as error:
            _LOG.warning("ids of messages are learned again from the log and the lake: %s", error)
            self.close()
            self._stretches = {}
            return False
        return True

    def first(self, ids: Words, places: Places) -> Mask:
        """Which of the messages, with the ids of shape [n, 2], are no repeats, of one before or earlier among these; those are kept."""
        new = np.empty(len(ids), np.bool_)
        for partition, number, rows in self._rule.parts(places):
            before, stretch = self._at(partition, number)
            new[rows] = stretch.add(ids[rows], _NONE if before is None else before.slots)
        return new

    def _at(self, partition: int, number: int) -> tuple[_Stretch | None, _Stretch]:
        """A stretch, made if it is not there, and the one before it."""
        stretches = self._stretches.setdefault(partition, [])
        if not stretches or stretches[-1].number != number:
            for stretch in stretches:
                stretch.settle()
                if stretch.number != number - 1:
                    stretch.close()
            last = [stretch for stretch in stretches if stretch.number == number - 1]
            stretches[:] = [*last, _Stretch(self._folder, f"{partition}-{number}")]
        return (stretches[0] if len(stretches) > 1 else None), stretches[-1]

    def mark(self) -> TableMark:
        """Make what was seen durable; to be given to the next start, if everything before it is to be known."""
        made = TableMark(self._rule.stretch_rows, {each.name: each.mark() for stretches in self._stretches.values() for each in stretches})
        self._clean()
        self._kept = [self._kept[-1], set(made.files)]
        return made

    def _clean(self) -> None:
        """Delete the files that neither this nor the last two checkpoints name, of which the very last may not be durable yet."""
        names = {each.name for stretches in self._stretches.values() for each in stretches}.union(*self._kept)
        for path in self._folder.iterdir():
            if _OWN.fullmatch(path.name) and path.stem not in names:
                path.unlink()

    def close(self) -> None:
        """Close the files."""
        for stretches in self._stretches.values():
            for stretch in stretches:
                stretch.close()


class _Stretch:
    """A hash table that grows a little at a time: ids move to the larger one as others come. Moving millions at once takes a second."""

    def __init__(self, folder: Path, name: str, mark: AnyMark = 0) -> None:
        """Load what the file of this name, `<partition>-<number>`, holds up to `mark`.

        Raises:
            DamagedFileError: that is not what was written.
        """
        self.name, self.count = name, 0
        self.partition, self.number = map(int, name.split("-"))
        self._file = MarkedFile(folder / f"{name}.ids", mark)
        self.slots, self._before, self._moved = _table(_SLOTS_MIN), _NONE, 0
        self._put(np.frombuffer(self._file.read(), np.uint64).reshape(-1, 2), _NONE)

    def add(self, ids: Words, older: Words) -> Mask:
        """Remember those ids that are not here and not in the table `older`; gives which those are."""
        new = self._put(ids, older)
        self._file.append(ids[new].tobytes())
        return new

    def _put(self, ids: Words, older: Words) -> Mask:
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

    def mark(self) -> Mark:
        """Make the file durable."""
        return self._file.mark()

    def close(self) -> None:
        """Close the file; what was added after the last mark may be lost."""
        self._file.close()


def _table(slots: int) -> Words:
    # numpy would ask for huge pages: the first ids put into a large table would wait until all of it is zeroed.
    return np.frombuffer(mmap.mmap(-1, 16 * slots), np.uint64).reshape(-1, 2)


_NONE: Words = np.zeros((0, 2), np.uint64)


@compiled
def _find(slots: Words, a: np.uint64, b: np.uint64) -> Any:
    """Where the id would go; -1 if it is there."""
    at = np.int64(a & np.uint64(len(slots) - 1))
    while slots[at, 0] or slots[at, 1]:
        if slots[at, 0] == a and slots[at, 1] == b:
            return -1
        at = (at + 1) & (len(slots) - 1)
    return at


@compiled
def _insert(slots: Words, before: Words, older: Words, ids: Words, new: Mask) -> None:
    """Put the ids that are in none of the tables into `slots`, by linear probing; an empty slot is two zeros."""
    for row in range(len(ids)):
        a, b = ids[row]
        at = _find(slots, a, b)
        new[row] = at >= 0 and (len(before) == 0 or _find(before, a, b) >= 0) and (len(older) == 0 or _find(older, a, b) >= 0)
        if new[row]:
            slots[at] = ids[row]
