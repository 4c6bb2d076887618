"""The sink's index: sorted runs of 128-bit ids in mapped files, stored with the offsets in the log that they reflect.

The files are derived data: missing, lost or damaged ids are read again from the log and the table. An id takes 16 bytes on disk, and in
memory if it is looked at. Merging a run takes another hundred bytes per id for a moment, for at most `_RUN_IDS_MAX` ids.
"""

from __future__ import annotations

import logging
import os
import re
import uuid
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from sokuji.dedup.rule import Indices, Mask, Places, RepeatRule
from sokuji.disk.files import make_folder
from sokuji.disk.stored import read_record, write_record
from sokuji.errors import DamagedFileError

Words = npt.NDArray[np.uint64]

_FORMAT = 2  # 1 was by time
_REMEDY = "it is made again from the log and the table"
_RUN_IDS_MAX = 4_000_000  # larger runs are not merged any more, which limits the memory of a merge
_MERGE_RATIO = 4
_CHECKED_BYTES = 1 << 24
_OWN = re.compile(r"[0-9a-f]{32}\.(ids|npy)")  # npy: of format 1
_LOG = logging.getLogger(__name__)


class Ids(NamedTuple):
    """Message ids: both halves of a hash of source and message id."""

    high: Words
    low: Words

    def take(self, which: Mask | Indices | slice) -> Ids:
        """The selected ids."""
        return Ids(self.high[which], self.low[which])


class _Section(msgspec.Struct):
    """The position of a run in a file, and the partition and stretch it belongs to."""

    file: str
    start: int
    end: int
    partition: int
    stretch: int


class _Manifest(msgspec.Struct):
    stretch_rows: int
    offsets: dict[str, int]
    sections: list[_Section]
    files: dict[str, tuple[int, int]]  # by name: number of ids and checksum


class _Run(NamedTuple):
    """Ids of one stretch of a partition, sorted by their first halves."""

    section: _Section
    ids: Ids


class Seen:
    """The ids of the messages in one table."""

    def __init__(self, folder: Path, rule: RepeatRule, *, check: bool = False) -> None:
        """Load the state that `save` stored in `folder`. Loads nothing if the state is incomplete or was made with another rule.

        `check` reads all files and verifies their checksums. The process that writes them sets it.

        Raises:
            FormatError: a newer release wrote it.
        """
        self._folder, self._rule, self._check = folder, rule, check
        self._runs: list[_Run] = []  # in the order they were added
        self._files: dict[str, tuple[int, int]] = {}
        self.offsets: dict[str, int] | None = None
        """Application -> next offset: all rows before this offset are known here. None: nothing was saved."""
        try:
            self._load()
        except DamagedFileError as error:
            _LOG.warning("%s", error)
            self.clear()

    def _load(self) -> None:
        path = self._folder / "manifest.json"
        while path.exists():
            manifest = read_record(path, _Manifest, format=_FORMAT, remedy=_REMEDY, upgrades={1: lambda _: _NOTHING})
            if manifest.stretch_rows != self._rule.stretch_rows:
                return
            try:
                words = {name: self._mapped(name, *entry) for name, entry in manifest.files.items()}
            except FileNotFoundError as error:  # the owner merged runs meanwhile and wrote a new manifest
                if manifest == read_record(path, _Manifest, format=_FORMAT, remedy=_REMEDY):
                    raise DamagedFileError(Path(error.filename), "it is missing", _REMEDY) from error
                continue
            self._runs = [_Run(each, Ids(*words[each.file][:, each.start : each.end])) for each in manifest.sections]
            self._files, self.offsets = manifest.files, manifest.offsets
            return

    def _mapped(self, name: str, count: int, checksum: int) -> Words:
        path = self._folder / name
        if path.stat().st_size != 16 * count:
            raise DamagedFileError(path, f"it has {path.stat().st_size} bytes, not {16 * count}", _REMEDY)
        words: Words = np.memmap(path, np.uint64, "r", shape=(2, count))
        if self._check and _checksum(words) != checksum:
            raise DamagedFileError(path, "it fails its checksum", _REMEDY)
        return words

    def __len__(self) -> int:
        return sum(len(run.ids.high) for run in self._runs)

    def reflects(self, transactions: Mapping[str, int]) -> bool:
        """Whether this index can belong to a table with these transactions. It cannot if the table was dropped or restored since."""
        return all(transactions.get(name, 0) >= offset for name, offset in (self.offsets or {}).items())

    def clear(self) -> None:
        """Forget everything, as if nothing had been saved."""
        self._runs, self._files, self.offsets = [], {}, None

    def is_new(self, ids: Ids, places: Places) -> Mask:
        """For each message, whether it is not a repeat of a known message or of an earlier one in `ids`."""
        new = np.empty(len(ids.high), np.bool_)
        before: dict[int, tuple[int, Ids]] = {}  # by partition: the previous stretch and its new ids
        for partition, stretch, rows in self._rule.parts(places):
            own = ids.take(rows)
            order = _order(own)
            ordered = own.take(order)
            is_new = _differs_from_last(ordered)
            for run in self._runs:
                if run.section.partition == partition and stretch - 1 <= run.section.stretch <= stretch:
                    is_new &= ~_found(run.ids, ordered)
            if partition in before and before[partition][0] == stretch - 1:
                is_new &= ~_found(before[partition][1], ordered)
            before[partition] = stretch, ordered.take(is_new)
            result = np.empty(len(order), np.bool_)
            result[order] = is_new
            new[rows] = result
        return new

    def add(self, ids: Ids, places: Places) -> None:
        """Remember messages that are not repeats. Files are written now, but become valid only with `save`."""
        added: list[tuple[int, int, Ids]] = []
        for partition, stretch, rows in self._rule.parts(places):
            # Drop the runs that no message is compared with any more.
            self._runs = [run for run in self._runs if run.section.partition != partition or run.section.stretch >= stretch - 1]
            added.append((partition, stretch, self._merged(partition, stretch, ids.take(rows))))
        if added:
            self._write(added)

    def _merged(self, partition: int, stretch: int, ids: Ids) -> Ids:
        """The ids, merged with those of runs that are not much larger. The merged runs are removed."""
        parts, count = [ids], len(ids.high)
        for run in reversed([run for run in self._runs if (run.section.partition, run.section.stretch) == (partition, stretch)]):
            size = len(run.ids.high)
            if size >= _MERGE_RATIO * count or size + count > _RUN_IDS_MAX:
                break
            parts.append(run.ids)
            count += size
            self._runs.remove(run)
        merged = Ids(np.concatenate([part.high for part in parts]), np.concatenate([part.low for part in parts]))
        return merged.take(np.argsort(merged.high))

    def _write(self, added: list[tuple[int, int, Ids]]) -> None:
        make_folder(self._folder)
        name = f"{uuid.uuid4().hex}.ids"
        words: Words = np.empty((2, sum(len(ids.high) for *_, ids in added)), np.uint64)
        for half, halves in zip(words, zip(*(ids for *_, ids in added), strict=True), strict=True):
            np.concatenate(halves, out=half)
        with (self._folder / name).open("wb") as file:
            file.write(words.data)
            file.flush()
            os.fsync(file.fileno())
        self._files[name] = words.shape[1], zlib.crc32(words.data)
        mapped: Words = np.memmap(self._folder / name, np.uint64, "r", shape=words.shape)
        start = 0
        for partition, stretch, ids in added:
            end = start + len(ids.high)
            self._runs.append(_Run(_Section(name, start, end, partition, stretch), Ids(*mapped[:, start:end])))
            start = end

    def save(self, offsets: Mapping[str, int]) -> None:
        """Make all added ids durable, with the offsets that they reflect. An offset never moves back."""
        known = self.offsets or {}
        self.offsets = known | {name: max(offset, known.get(name, 0)) for name, offset in offsets.items()}
        make_folder(self._folder)
        sections = [run.section for run in self._runs]
        used = {section.file for section in sections}
        self._files = {name: entry for name, entry in self._files.items() if name in used}
        manifest = _Manifest(self._rule.stretch_rows, self.offsets, sections, self._files)
        write_record(self._folder / "manifest.json", manifest, format=_FORMAT)
        for path in self._folder.iterdir():
            if _OWN.fullmatch(path.name) and path.name not in used:
                path.unlink()


_NOTHING = {"stretch_rows": 0, "offsets": {}, "sections": [], "files": {}}


def _checksum(words: Words) -> int:
    """The checksum of the file's bytes, read piece by piece, so that they need not stay in memory."""
    content, checksum = words.data.cast("B"), 0
    for start in range(0, len(content), _CHECKED_BYTES):
        checksum = zlib.crc32(content[start : start + _CHECKED_BYTES], checksum)
    return checksum


def _order(ids: Ids) -> Indices:
    """A stable order in which equal ids are adjacent."""
    order = np.argsort(ids.high, kind="stable")
    if (ids.high[order[1:]] == ids.high[order[:-1]]).any():
        order = np.lexsort((ids.low, ids.high))
    return order


def _differs_from_last(ordered: Ids) -> Mask:
    high, low = ordered
    return np.concatenate([np.ones(min(1, len(high)), np.bool_), (high[1:] != high[:-1]) | (low[1:] != low[:-1])])


def _found(run: Ids, ordered: Ids) -> Mask:
    """Which of the ordered ids are in a run."""
    is_known = np.zeros(len(ordered.high), np.bool_)
    places = np.searchsorted(run.high, ordered.high)
    candidates = np.flatnonzero(places < len(run.high))
    while len(candidates):  # more than once only for ids whose first halves are equal
        at = places[candidates]
        candidates, at = candidates[equal := run.high[at] == ordered.high[candidates]], at[equal]
        is_known[candidates] |= run.low[at] == ordered.low[candidates]
        places[candidates] += 1
        candidates = candidates[places[candidates] < len(run.high)]
    return is_known
