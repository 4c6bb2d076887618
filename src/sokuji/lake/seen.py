"""Which messages a table has already: sorted runs of 128-bit ids, kept beside the offsets in the log that they reflect.

A message is a repeat if it was received at most `window_minutes` (counted in whole minutes of `received_at`) before or after one that was
taken for new, and if that one is among the last `ids_max` of its table. Else it is taken for new itself. That is exact while rows come
at most an hour out of order, as partitions are read in turn and clocks of collectors differ. An id is 112 bits of the MD5 of source and
message id, and 16 bits for the minute it was received in.

The files are derived: what they lack is read from the log again, as they say up to where they are complete, and if they are lost they are
made anew from the table.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sokuji.errors import SokujiError
from sokuji.log.files import make_folder, replace_file

Mask = npt.NDArray[np.bool_]
Words = npt.NDArray[np.uint64]

_MINUTE_BITS = np.uint64(16)
_MINUTE_MASK = np.uint64(0xFFFF)
_MINUTE_US = 60_000_000
# Minutes are stored modulo 2^16, and an id may be as old as two windows before its run goes; a third one must still tell it apart.
_WINDOW_MINUTES_MAX = 15 * 24 * 60
_RUN_IDS_MAX = 4_000_000  # larger runs are not merged any more, which bounds the memory of a merge
_RUNS_MIN = 8  # runs go whole, oldest first: this many at least hold the ids that are kept
_MERGE_RATIO = 4
_DISORDER_MINUTES = 60


class Ids(NamedTuple):
    """Ids of messages: the first half of each hash, and the second with its last 16 bits replaced by the minute."""

    high: Words
    low: Words

    def take(self, which: Mask | npt.NDArray[np.intp]) -> Ids:
        """A selection."""
        return Ids(self.high[which], self.low[which])


def make_ids(high: Words, low: Words, received_at_us: npt.NDArray[np.int64]) -> Ids:
    """Ids from both halves of a 128-bit hash and the times the messages were received."""
    minutes = (received_at_us // _MINUTE_US).astype(np.uint64) & _MINUTE_MASK
    return Ids(high, (low & ~_MINUTE_MASK) | minutes)


class _Run(NamedTuple):
    """Ids sorted by their first halves, in a file of this name; the newest was received at `newest_us`."""

    name: str
    newest_us: int
    ids: Ids


class Seen:
    """The messages of one table. The memory is that of the files mapped: 16 bytes an id."""

    def __init__(self, folder: Path, *, window_minutes: int, ids_max: int) -> None:
        """Load what `save` left in `folder`; nothing, if it is not complete."""
        if not 0 < window_minutes <= _WINDOW_MINUTES_MAX:
            raise SokujiError(f"a deduplication window of {window_minutes} minutes is not possible; it may have 1 to {_WINDOW_MINUTES_MAX}")
        self._folder, self._window, self._ids_max = folder, window_minutes, ids_max
        self._run_ids_max = min(_RUN_IDS_MAX, ids_max // _RUNS_MIN)
        self._runs: list[_Run] = []  # in the order they were added
        self.offsets: dict[str, int] | None = None
        """Application -> next offset: all rows before it are known here. None: nothing was saved."""
        self._load()

    def _load(self) -> None:
        manifest = self._folder / "manifest.json"
        while manifest.exists():
            content = json.loads(manifest.read_bytes())
            try:
                self._runs = [_Run(name, newest_us, _mapped(self._folder / name)) for name, newest_us in content["runs"]]
            except FileNotFoundError:  # the owner merged runs meanwhile and wrote a new manifest
                if content == json.loads(manifest.read_bytes()):
                    return  # there is none: files were deleted
                continue
            self.offsets = content["offsets"]
            return

    def __len__(self) -> int:
        return sum(len(run.ids.high) for run in self._runs)

    def reflects(self, transactions: Mapping[str, int]) -> bool:
        """Whether this can be of the table with these transactions: of one dropped since it is not."""
        return all(transactions.get(name, 0) >= offset for name, offset in (self.offsets or {}).items())

    def clear(self) -> None:
        """Forget everything, as if nothing had been saved."""
        self._runs, self.offsets = [], None

    def is_new(self, ids: Ids) -> Mask:
        """For each id whether no message of the window was seen before: one in here, or earlier in `ids` and new itself."""
        order = np.argsort(ids.high, kind="stable")  # stable: repeats stay in their order
        ordered = ids.take(order)
        new = np.ones(len(order), np.bool_)
        for run in self._runs:
            new &= ~_found(run.ids, ordered, self._window)
        new[new] = ~_repeats(ordered.take(new), self._window)
        result = np.empty(len(order), np.bool_)
        result[order] = new
        return result

    def add(self, ids: Ids, newest_us: int) -> None:
        """Remember ids, of which the newest was received at `newest_us`. Files are written, but count only with `save`."""
        if not len(ids.high):
            return
        self._forget(newest_us)
        merged, count, run_newest_us = [ids], len(ids.high), newest_us
        while self._runs and self._mergeable(len(self._runs[-1].ids.high), count):
            before = self._runs.pop()
            merged.append(before.ids)
            count += len(before.ids.high)
            run_newest_us = max(run_newest_us, before.newest_us)
        run = Ids(np.concatenate([run.high for run in merged]), np.concatenate([run.low for run in merged]))
        run = run.take(_is_kept(run.low, newest_us, self._window))
        self._runs.append(self._write(run.take(np.argsort(run.high, kind="stable")), run_newest_us))
        while len(self) - len(self._runs[0].ids.high) >= self._ids_max:
            self._runs.pop(0)

    def _mergeable(self, before: int, count: int) -> bool:
        return before < _MERGE_RATIO * count and before + count <= self._run_ids_max

    def _forget(self, newest_us: int) -> None:
        """Drop the runs whose window is over."""
        oldest_us = newest_us - (self._window + _DISORDER_MINUTES + 1) * _MINUTE_US
        self._runs = [run for run in self._runs if run.newest_us >= oldest_us]

    def _write(self, ids: Ids, newest_us: int) -> _Run:
        make_folder(self._folder)
        name = f"{uuid.uuid4().hex}.npy"
        with (self._folder / name).open("wb") as file:
            np.save(file, np.stack(ids))
            file.flush()
            os.fsync(file.fileno())
        return _Run(name, newest_us, _mapped(self._folder / name))

    def save(self, offsets: Mapping[str, int]) -> None:
        """Make what was added durable, with the offsets it reflects: those before count no more, and none goes back."""
        known = self.offsets or {}
        self.offsets = known | {name: max(offset, known.get(name, 0)) for name, offset in offsets.items()}
        make_folder(self._folder)
        runs = [(run.name, run.newest_us) for run in self._runs]
        replace_file(self._folder / "manifest.json", json.dumps({"offsets": self.offsets, "runs": runs}).encode())
        names = {name for name, _ in runs}
        for path in self._folder.glob("*.npy"):
            if path.name not in names:
                path.unlink()


def _mapped(path: Path) -> Ids:
    words = np.load(path, mmap_mode="r")
    return Ids(words[0], words[1])


def _is_kept(low: Words, newest_us: int, window: int) -> Mask:
    """Which messages may have repeats still, in the minutes from `window` and the disorder before the newest to the disorder after it."""
    last = np.uint64(newest_us // _MINUTE_US + _DISORDER_MINUTES)
    kept: Mask = ((last - low) & _MINUTE_MASK) <= np.uint64(window + 2 * _DISORDER_MINUTES)
    return kept


def _same(some: Words, others: Words) -> Mask:
    """Whether the hashes' second halves are equal."""
    same: Mask = (some >> _MINUTE_BITS) == (others >> _MINUTE_BITS)
    return same


def _near(some: Words, others: Words, window: int) -> Mask:
    """Whether the minutes are at most `window` apart, in either order."""
    distance = np.minimum((some - others) & _MINUTE_MASK, (others - some) & _MINUTE_MASK)
    near: Mask = distance <= np.uint64(window)
    return near


def _repeats(ordered: Ids, window: int) -> Mask:
    """Which ids come within the window of an equal one earlier that is none of these itself."""
    high, low = ordered
    places = np.arange(len(high))
    equal = np.concatenate([np.zeros(min(1, len(high)), np.bool_), (high[1:] == high[:-1]) & _same(low[1:], low[:-1])])
    firsts = np.maximum.accumulate(np.where(equal, 0, places))  # where the group of equal ids begins
    repeats = equal & _near(low, low[firsts], window)
    kept: dict[int, list[int]] = {}
    for place in np.flatnonzero(equal & ~repeats):  # groups longer than a window are rare
        others = kept.setdefault(int(firsts[place]), [])
        repeats[place] = _near(low[others], low[place], window).any()
        if not repeats[place]:
            others.append(int(place))
    return repeats


def _found(run: Ids, ordered: Ids, window: int) -> Mask:
    """Which of the ordered ids a run has within the window."""
    found = np.zeros(len(ordered.high), np.bool_)
    places = np.searchsorted(run.high, ordered.high)
    candidates = np.flatnonzero(places < len(run.high))
    while len(candidates):  # again only for ids whose first halves are equal
        at = places[candidates]
        candidates, at = candidates[equal := run.high[at] == ordered.high[candidates]], at[equal]
        found[candidates] |= _same(run.low[at], ordered.low[candidates]) & _near(run.low[at], ordered.low[candidates], window)
        places[candidates] += 1
        candidates = candidates[places[candidates] < len(run.high)]
    return found
