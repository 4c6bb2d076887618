"""The worker's index: hash tables in memory, consistent with the checkpoint.

An id takes at most 27 bytes in memory, for two stretches of each partition, and 16 bytes on disk, in files that list the ids in order of
arrival.
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
from sokuji.disk.marked import AnyMark, Mark, open_marked
from sokuji.errors import DamagedFileError

_SLOTS_MIN = 1 << 16
_FILL_MAX = 0.6  # of a table's slots; above it, probing gets slow
_MOVED = 4  # slots of the smaller table that move with each new id: all have moved long before the larger table is full
_OWN = re.compile(r"[0-9]+-[0-9]+\.ids")
_LOG = logging.getLogger(__name__)


class TableMark(msgspec.Struct):
    """The part of a checkpoint that is needed to restore the index."""

    stretch_rows: int
    files: dict[str, Mark]


class Deduplicator:
    """The messages of a dataset that were already processed."""

    def __init__(self, folder: Path | None, mark: TableMark | None, rule: RepeatRule) -> None:
        """Load the ids that the files in `folder` hold up to `mark`, an earlier result of `mark()`; without a folder nothing is stored."""
        self._folder, self._rule = folder, rule
        self._stretches: dict[int, list[_Stretch]] = {}  # by partition: the last two
        self._kept: list[set[str]] = [set(), set() if mark is None else set(mark.files)]  # the files of the last checkpoints
        if folder is not None:
            make_folder(folder)
        self.is_complete = mark is not None and self._load(mark)
        """Whether all ids up to the checkpoint are known. If not, the index is empty and must be rebuilt."""
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
        """Which of the messages, with ids of shape [n, 2], are not repeats of a known or an earlier message. Their ids are remembered."""
        new = np.empty(len(ids), np.bool_)
        for partition, number, rows in self._rule.parts(places):
            before, stretch = self._at(partition, number)
            new[rows] = stretch.add(ids[rows], _NONE if before is None else before.slots)
        return new

    def _at(self, partition: int, number: int) -> tuple[_Stretch | None, _Stretch]:
        """The stretch before this one, and this stretch, created if it does not exist."""
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
        """Make all ids durable. The result lets the next start restore the index up to here."""
        table_mark = TableMark(
            self._rule.stretch_rows, {each.name: each.mark() for stretches in self._stretches.values() for each in stretches}
        )
        self._clean()
        self._kept = [self._kept[-1], set(table_mark.files)]
        return table_mark

    def _clean(self) -> None:
        """Delete files that neither this checkpoint nor the last two name. The very last one may not be durable yet."""
        names = {each.name for stretches in self._stretches.values() for each in stretches}.union(*self._kept)
        for path in () if self._folder is None else self._folder.iterdir():
            if _OWN.fullmatch(path.name) and path.stem not in names:
                path.unlink()

    def close(self) -> None:
        """Close the files."""
        for stretches in self._stretches.values():
            for stretch in stretches:
                stretch.close()


class _Stretch:
    """A hash table that grows gradually: ids move to the larger table as others come. Moving millions at once would take a second."""

    def __init__(self, folder: Path | None, name: str, mark: AnyMark = 0) -> None:
        """Load the ids that the file `<partition>-<number>` holds up to `mark`.

        Raises:
            DamagedFileError: the file does not hold what was written.
        """
        self.name, self.count = name, 0
        self.partition, self.number = map(int, name.split("-"))
        self._file = open_marked(folder, f"{name}.ids", mark)
        self.slots, self._before, self._moved = _table(_SLOTS_MIN), _NONE, 0
        self._put(np.frombuffer(self._file.read(), np.uint64).reshape(-1, 2), _NONE)

    def add(self, ids: Words, older: Words) -> Mask:
        """Remember the ids that are neither here nor in the table `older`, and return which ones these are."""
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
        """Make room for `more` ids."""
        size = len(self.slots)
        while self.count + more > size * _FILL_MAX:
            size *= 2
        if size > len(self.slots):
            self.settle()
            self._before, self._moved = self.slots if self.count else _NONE, 0
            self.slots = _table(size)

    def _move(self, slots: int) -> None:
        """Move the ids in the next `slots` slots of the smaller table."""
        part = self._before[self._moved : self._moved + slots]
        ids = part[part.any(axis=1)]
        _insert(self.slots, _NONE, _NONE, fixed(ids), np.empty(len(ids), np.bool_))
        self._moved += slots
        if self._moved >= len(self._before):
            self._before = _NONE

    def settle(self) -> None:
        """Move all remaining ids."""
        self._move(len(self._before))

    def mark(self) -> Mark:
        """Make the file durable."""
        return self._file.mark()

    def close(self) -> None:
        """Close the file. Ids added after the last mark may be lost."""
        self._file.close()


def _table(slots: int) -> Words:
    # numpy would ask for huge pages: the first ids put into a large table would wait until all of it is zeroed.
    return np.frombuffer(mmap.mmap(-1, 16 * slots), np.uint64).reshape(-1, 2)


_NONE: Words = np.zeros((0, 2), np.uint64)


@compiled
def _find(slots: Words, a: np.uint64, b: np.uint64) -> Any:
    """The slot where the id belongs; -1 if the id is already there."""
    at = np.int64(a & np.uint64(len(slots) - 1))
    while slots[at, 0] or slots[at, 1]:
        if slots[at, 0] == a and slots[at, 1] == b:
            return -1
        at = (at + 1) & (len(slots) - 1)
    return at


@compiled
def _insert(slots: Words, before: Words, older: Words, ids: Words, new: Mask) -> None:
    """Put the ids that are in none of the tables into `slots`, by linear probing. An empty slot is two zeros."""
    for row in range(len(ids)):
        a, b = ids[row]
        at = _find(slots, a, b)
        new[row] = at >= 0 and (len(before) == 0 or _find(before, a, b) >= 0) and (len(older) == 0 or _find(older, a, b) >= 0)
        if new[row]:
            slots[at] = ids[row]
