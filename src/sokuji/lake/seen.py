"""Which messages a table has already: sorted runs of 128-bit ids, kept beside the offsets in the log that they reflect.

A repeat is recognised while it comes at most `window_minutes` after the message (by `received_at`, counted in whole minutes) and while
the message is among the newest `ids_max` or so of its table. Beyond that it is taken for a new message. An id is 112 bits of the MD5 of
source and message id, and 16 bits for the minute it was received in.

The files are derived: what they lack is read from the log again, as they say up to where they are complete, and if they are lost they are
made anew from the table.
"""

from __future__ import annotations

import json
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
_WINDOW_MINUTES_MAX = 44 * 24 * 60  # minutes are stored modulo 2^16
_RUN_IDS_MAX = 4_000_000  # larger runs are not merged any more, which bounds the memory of a merge
_MERGE_RATIO = 4
_SLACK_MINUTES = 60


class Ids(NamedTuple):
    """Ids of messages: the first half of each hash, and the second with its last 16 bits replaced by the minute."""

    high: Words
    low: Words

    def take(self, which: Mask | npt.NDArray[np.intp]) -> Ids:
        """A selection."""
        return Ids(self.high[which], self.low[which])


def make_ids(high: Words, low: Words, received_at_us: npt.NDArray[np.int64]) -> Ids:
    """Ids from both halves of a 128-bit hash and the times the messages were received."""
    minutes = (received_at_us // 60_000_000).astype(np.uint64) & _MINUTE_MASK
    return Ids(high, (low & ~_MINUTE_MASK) | minutes)


class Seen:
    """The messages of one table. The memory is that of the files mapped: 16 bytes an id."""

    def __init__(self, folder: Path, *, window_minutes: int, ids_max: int) -> None:
        """Load what `save` left in `folder`; nothing, if it is not complete."""
        if not 0 < window_minutes <= _WINDOW_MINUTES_MAX:
            raise SokujiError(f"a deduplication window of {window_minutes} minutes is not possible; it may have 1 to {_WINDOW_MINUTES_MAX}")
        self._folder, self._window, self._ids_max = folder, window_minutes, ids_max
        self._runs: list[tuple[str, Ids]] = []
        self.offsets: dict[str, int] | None = None
        """Application -> next offset: all rows before it are known here. None: nothing was saved."""
        self._load()

    def _load(self) -> None:
        manifest = self._folder / "manifest.json"
        while manifest.exists():
            content = json.loads(manifest.read_bytes())
            try:
                self._runs = [(name, _mapped(self._folder / name)) for name in content["runs"]]
            except FileNotFoundError:  # the owner merged runs meanwhile and wrote a new manifest
                if content == json.loads(manifest.read_bytes()):
                    return  # there is none: files were deleted
                continue
            self.offsets = content["offsets"]
            return

    def __len__(self) -> int:
        return sum(len(run.high) for _, run in self._runs)

    def is_new(self, ids: Ids) -> Mask:
        """For each id whether it was not seen within the window before, in here or earlier in `ids` itself."""
        order = np.argsort(ids.high, kind="stable")  # stable: repeats stay in their order
        ordered = ids.take(order)
        new = ~self._repeats(ordered)
        for _, run in self._runs:
            new &= ~_found(run, ordered, self._window)
        result = np.empty(len(order), np.bool_)
        result[order] = new
        return result

    def _repeats(self, ordered: Ids) -> Mask:
        """Which ids repeat their predecessor."""
        same = (ordered.high[1:] == ordered.high[:-1]) & _within(ordered.low[:-1], ordered.low[1:], self._window)
        return np.concatenate([np.zeros(min(1, len(ordered.high)), np.bool_), same])

    def add(self, ids: Ids, newest_us: int) -> None:
        """Remember ids, of which the newest was received at `newest_us`. Files are written, but count only with `save`."""
        if not len(ids.high):
            return
        merged, count = [ids], len(ids.high)
        while self._runs and _mergeable(len(self._runs[-1][1].high), count):
            merged.append(self._runs.pop()[1])
            count += len(merged[-1].high)
        run = Ids(np.concatenate([run.high for run in merged]), np.concatenate([run.low for run in merged]))
        run = run.take(_ages(run, newest_us) <= self._window + _SLACK_MINUTES)
        self._runs.append(self._write(run.take(np.argsort(run.high, kind="stable"))))
        self._forget(newest_us)

    def _forget(self, newest_us: int) -> None:
        """Drop the oldest minutes when there are too many ids; a tenth at least, as this rewrites all files."""
        if len(self) <= self._ids_max:
            return
        ages = [_ages(run, newest_us) for _, run in self._runs]
        counts = np.cumsum(np.bincount(np.concatenate(ages)))
        oldest = int(np.searchsorted(counts, self._ids_max * 0.9))
        self._runs = [self._write(run.take(age < oldest)) for (_, run), age in zip(self._runs, ages, strict=True)]

    def _write(self, ids: Ids) -> tuple[str, Ids]:
        make_folder(self._folder)
        name = f"{uuid.uuid4().hex}.npy"
        np.save(self._folder / name, np.stack(ids))
        return name, _mapped(self._folder / name)

    def save(self, offsets: Mapping[str, int]) -> None:
        """Make what was added durable, with the offsets it reflects; applications not named keep theirs."""
        self.offsets = {**(self.offsets or {}), **offsets}
        make_folder(self._folder)
        names = [name for name, _ in self._runs]
        replace_file(self._folder / "manifest.json", json.dumps({"offsets": self.offsets, "runs": names}).encode())
        for path in self._folder.glob("*.npy"):
            if path.name not in names:
                path.unlink()


def _mapped(path: Path) -> Ids:
    words = np.load(path, mmap_mode="r")
    return Ids(words[0], words[1])


def _mergeable(before: int, count: int) -> bool:
    return before < _MERGE_RATIO * count and before + count <= _RUN_IDS_MAX


def _ages(ids: Ids, newest_us: int) -> npt.NDArray[np.int64]:
    """How many minutes before `newest_us` each message came, plus the slack: clocks of collectors differ."""
    newest = np.uint64(newest_us // 60_000_000 + _SLACK_MINUTES)
    return ((newest - ids.low) & _MINUTE_MASK).astype(np.int64)


def _within(earlier: Words, later: Words, window: int) -> Mask:
    """Whether the hashes' second halves are equal and the minutes at most `window` apart, in either order."""
    distance = (later - earlier) & _MINUTE_MASK
    distance = np.minimum(distance, (earlier - later) & _MINUTE_MASK)
    equal: Mask = ((earlier >> _MINUTE_BITS) == (later >> _MINUTE_BITS)) & (distance <= np.uint64(window))
    return equal


def _found(run: Ids, ordered: Ids, window: int) -> Mask:
    """Which of the ordered ids a run has within the window."""
    found = np.zeros(len(ordered.high), np.bool_)
    places = np.searchsorted(run.high, ordered.high)
    candidates = np.flatnonzero(places < len(run.high))
    while len(candidates):  # again only for ids whose first halves are equal
        at = places[candidates]
        candidates, at = candidates[equal := run.high[at] == ordered.high[candidates]], at[equal]
        found[candidates] |= _within(run.low[at], ordered.low[candidates], window)
        places[candidates] += 1
        candidates = candidates[places[candidates] < len(run.high)]
    return found
