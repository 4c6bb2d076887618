"""Read rows from another process than the writer's, without a lock and without calling another process."""

from __future__ import annotations

import mmap
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sokuji.errors import OnlineStoreError
from sokuji.online.base import OnlineReader
from sokuji.online.digest import digest
from sokuji.online.shared import table
from sokuji.online.shared.manifest import read_manifest
from sokuji.online.shared.run import Run
from sokuji.online.shared.table import Layout, current_table

_PATIENCE_SECONDS = 1.0
"""How long to wait for the writer to finish a row. It needs less than a microsecond, unless it does not get the processor, or died."""


class _Mapped:
    """One table, mapped into this process."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self.bytes = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
        self.path, self.words = path, self.bytes.cast("Q")
        if self.words[table.FORMAT] != table.MAGIC:
            raise OnlineStoreError(f"{path} is not a table of this version of sokuji; restart the writer")
        self.layout = Layout(self.words[table.WIDTH], self.words[table.SLOTS])
        self.salt = bytes(self.bytes[8 * table.SALT : 8 * table.SALT_END])


class _PublishedRuns(NamedTuple):
    """What the writer publishes about rows that are on disk only."""

    cold: bool  # whether there are any
    expired_before_us: int
    ids: list[int]  # the newest first


class SharedReader(OnlineReader):
    """Reads the rows of a `SharedStore` on this machine."""

    def __init__(self, folder: Path | str) -> None:
        """Attach to the store in `folder`.

        Raises:
            OnlineStoreError: no writer has opened the store since the machine started, or it was closed.
        """
        self._folder = Path(folder)
        self._runs: dict[int, Run] = {}
        table_now = self._attach()
        if table_now is None:
            raise OnlineStoreError(f"the online store in {self._folder} is not running: start the process that writes it")
        self._use(table_now)

    def _attach(self) -> _Mapped | None:
        """The currently published table; None if there is none."""
        while (path := current_table(self._folder)) is not None:
            try:
                return _Mapped(path)
            except OSError:
                if current_table(self._folder) == path:  # not just replaced: lost at a restart of the machine, or never a table
                    return None
        return None

    def _use(self, mapped: _Mapped) -> None:
        self._table, self._words, self._bytes, self._salt = mapped, mapped.words, mapped.bytes, mapped.salt
        layout = mapped.layout
        self._index_word, self._mask = layout.index_word, layout.buckets - 1
        self._slots_word, self._slot_words, self._width = layout.slots_word, layout.slot_words, layout.width

    def _follow(self) -> None:
        """Switch to the next writer's table, if there is one yet."""
        successor = self._attach()
        if successor is not None and successor.path != self._table.path:
            self._runs.clear()  # the next writer may reuse the ids of files that were never in a checkpoint
            self._use(successor)

    def get(self, key: str) -> bytes | None:
        """See `OnlineReader.get`. Waits up to a second while a writer changes the row."""
        deadline = None
        while True:
            if self._words[table.SUPERSEDED]:
                self._follow()
            high, low = digest(key, self._salt)
            version = self._words[table.INDEX_VERSION]
            slot = self._find(high, low)
            if slot is not None:
                row = self._copy(slot, high, low)
                if row is not None:
                    return row
            elif not version & 1 and self._words[table.INDEX_VERSION] == version and (runs := self._published_runs()) is not None:
                try:
                    return self._read_runs(high, low, runs)
                except FileNotFoundError:  # replaced since the run's id was read
                    self._runs.clear()
            now = time.monotonic()
            deadline = deadline or now + _PATIENCE_SECONDS
            if now > deadline:
                raise OnlineStoreError(
                    f"the row of {key!r} cannot be read: the writer of {self._folder} stopped while changing rows; restart the writer"
                )
            time.sleep(0)  # the writer may wait for this very processor

    def _find(self, high: int, low: int) -> int | None:
        """The first word of the slot of a digest; None if the index does not have the digest."""
        words, mask, index_word, tag = self._words, self._mask, self._index_word, low >> 32
        bucket = high & mask
        while entry := words[index_word + bucket]:
            if entry >> 32 == tag:
                slot = self._slots_word + ((entry & 0xFFFFFFFF) - 1) * self._slot_words
                if words[slot + 1] == high and words[slot + 2] == low:
                    return slot
            bucket = (bucket + 1) & mask
        return None

    def _copy(self, slot: int, high: int, low: int) -> bytes | None:
        """The row in a slot; None if the row was being changed or the slot was given to another key."""
        words = self._words
        version = words[slot]
        start = 8 * (slot + table.SLOT_HEADER_WORDS)
        row = bytes(self._bytes[start : start + self._width])
        whole = not version & 1 and words[slot + 1] == high and words[slot + 2] == low
        return row if whole and words[slot] == version else None

    def _read_runs(self, high: int, low: int, runs: _PublishedRuns) -> bytes | None:
        """The row on disk; None if there is none."""
        if not runs.cold:
            return None
        for run_id in runs.ids:
            run = self._runs.get(run_id)
            if run is None:
                self._runs = {each: run for each, run in self._runs.items() if each in runs.ids}
                run = self._runs[run_id] = Run(self._folder, run_id)
            number = run.find(high, low)
            if number >= 0:
                if run.seen_us[number] < runs.expired_before_us:
                    return None
                return run.rows(np.array([number])).tobytes()
        return None

    def _published_runs(self) -> _PublishedRuns | None:
        """The published runs; None while the writer changes them."""
        words = self._words
        version = words[table.RUNS_VERSION]
        cold, expired_before_us, count = words[table.COLD], words[table.EXPIRED_BEFORE], words[table.RUN_COUNT]
        runs = _PublishedRuns(bool(cold), expired_before_us, list(words[table.RUN_IDS : table.RUN_IDS + count]))
        return runs if not version & 1 and words[table.RUNS_VERSION] == version else None

    def offsets(self) -> dict[str, int]:
        """See `OnlineReader.offsets`."""
        return read_manifest(self._folder).offsets

    def close(self) -> None:
        """See `OnlineReader.close`."""
        self._runs.clear()
        self._words.release()
        self._bytes.release()
