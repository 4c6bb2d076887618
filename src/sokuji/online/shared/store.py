"""The embedded online store: rows in memory that other processes read, checkpoints in a folder.

<folder>/lock            held by the writer
<folder>/current         the path of the table that readers map (see `table`)
<folder>/manifest.json   the last complete checkpoint (see `manifest`)
<folder>/*.run, *.blobs  rows and blobs
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sokuji.disk.files import hold, make_folder
from sokuji.errors import OnlineStoreError
from sokuji.online.base import Found, Keys, OnlineStore, Rows
from sokuji.online.checks import check_rows
from sokuji.online.hashing import Digests, Hasher
from sokuji.online.shared.checkpoint import Checkpoint, Checkpoints, merge_runs, save_run
from sokuji.online.shared.erasure import erase_from_disk, without
from sokuji.online.shared.manifest import Disk
from sokuji.online.shared.resident import CHANGED, CLEAN, ResidentRows
from sokuji.online.shared.restore import restore
from sokuji.online.shared.run import Run, in_blocks
from sokuji.online.shared.table import Layout, TableFile

_LEAVE_SHARE = 16
"""When memory is full, this part of all rows leaves it at once: choosing the rows scans all of them."""
_SPILLED_MAX = 32
_SLOTS_MIN = 4096  # most of some hundred datasets are small, and a table's index takes all of its memory at the start


class SharedStore(OnlineStore):
    """Rows in memory, shared with the readers of this machine (`SharedReader`). Not thread-safe: one thread writes.

    At most `rows_max` rows are in memory. Rows seen longest ago stay on disk only and are read from there. Such a read costs one lookup per
    run (at most about 8) and decoding one block.
    """

    def __init__(self, folder: Path | str, *, width: int, rows_max: int, slots_min: int = _SLOTS_MIN) -> None:
        """Open the store in `folder` as it was at its last complete checkpoint; create it if it does not exist.

        Args:
            folder: on a local disk, only for this store.
            width: bytes of a row, a multiple of 8; fixed when the store is created.
            rows_max: rows in memory. Each takes `width` + 24 bytes there, and 16 to 32 bytes in the index.
            slots_min: rows that the first table has room for. A full table is replaced by one twice as large, up to `rows_max`.

        Raises:
            OnlineStoreError: another process has it open, its rows have another width, a file is damaged, or there is no room.
        """
        if width <= 0 or width % 8:
            raise OnlineStoreError(f"the width of rows is a positive multiple of 8 bytes, not {width}")
        if not 0 < rows_max < 2**31:
            raise OnlineStoreError(f"rows_max is a number of rows from 1 to 2**31 - 1, not {rows_max}")
        self.width, self._rows_max = width, rows_max
        folder = Path(folder)
        make_folder(folder)
        with ExitStack() as undo:
            self._lock = _lock(folder)
            undo.callback(os.close, self._lock)
            self._disk = Disk.open(folder, width)
            manifest = self._disk.manifest
            self._hasher = Hasher(manifest.salt)
            self._clock_us, self._expired_before_us = manifest.clock_us, manifest.expired_before_us
            self._spilled: list[Run] = []
            self._runs = self._disk.runs
            self._slots = min(rows_max, max(slots_min, 2 * sum(run.count for run in self._runs)))
            self._table = TableFile(folder, Layout(width, self._slots), manifest.salt)
            undo.callback(self._table.close)
            self._resident = ResidentRows(self._table)
            self._cold = restore(self._resident, self._runs, self._expired_before_us)
            self._publish_runs()
            self._table.publish()
            undo.pop_all()
        self._checkpoints = Checkpoints(self._disk)
        self._closed = False

    def get_many(self, keys: Keys, room: Rows | None = None) -> Found:
        """See `OnlineStore.get_many`."""
        digests = self._hasher.digests(keys)
        slots = self._resident.find(digests)
        found = slots >= 0
        rows = np.zeros((len(digests), self.width), np.uint8) if room is None else room[: len(digests)]
        if room is not None:
            rows[~found] = 0
        self._resident.copy(slots, rows)
        if self._cold:
            self._read_runs(digests, rows, found)
        return Found(rows, found)

    def _read_runs(self, digests: Digests, rows: Rows, found: npt.NDArray[np.bool_]) -> None:
        """Add the rows that are on disk only to `rows` and `found`."""
        wanted = np.flatnonzero(~found)
        for run in self._runs:
            numbers = run.find_all(digests[wanted])
            here = numbers >= 0
            places, numbers = wanted[here], numbers[here]
            alive = run.seen_us[numbers] >= self._expired_before_us
            places, numbers = places[alive], numbers[alive]
            numbers, repeats = np.unique(numbers, return_inverse=True)
            rows[places] = run.rows(numbers)[repeats]
            found[places] = True
            wanted = wanted[~here]  # older runs can only have older rows

    def put_many(self, keys: Keys, rows: Rows, now_us: int) -> None:
        """See `OnlineStore.put_many`."""
        digests = self._hasher.digests(keys)
        check_rows(rows, len(digests), self.width)
        self._clock_us = max(self._clock_us, now_us)
        rows = np.ascontiguousarray(rows)
        for start in range(0, len(digests), self._rows_max):
            part = slice(start, start + self._rows_max)
            self._make_room(digests[part])
            self._resident.put(digests[part], rows[part], self._clock_us)

    def _make_room(self, digests: Digests) -> None:
        """Make sure that there is a free slot for each digest that has none."""
        if self._resident.room >= len(digests):
            return
        while (missing := int(np.sum(self._resident.find(digests) < 0)) - self._resident.room) > 0:
            if self._slots < self._rows_max:
                self._grow(missing)
                continue
            self._collect()
            count = max(missing, self._rows_max // _LEAVE_SHARE)
            if len(leaving := self._resident.oldest(CLEAN, count)) < missing and self._checkpoints.under_way:
                self._collect(wait=True)
                leaving = self._resident.oldest(CLEAN, count)
            if not len(leaving):
                leaving = self._resident.oldest(CHANGED, count)
                self._spill(leaving)
            if not self._cold:
                self._cold = True
                self._publish_runs()
            self._resident.remove(leaving)

    def _grow(self, missing: int) -> None:
        """Switch to a table at least twice as large. Readers switch at their next read."""
        self._collect(wait=True)
        slots = min(self._rows_max, max(2 * self._slots, self._slots + missing))
        larger = TableFile(self._disk.folder, Layout(self.width, slots), self._disk.manifest.salt)
        try:
            rows = self._resident.moved_to(larger)
            rows.publish([run.id for run in self._runs], cold=self._cold, expired_before_us=self._expired_before_us)
            larger.publish()
        except BaseException:
            larger.close()
            raise
        smaller, self._table, self._resident, self._slots = self._table, larger, rows, slots
        smaller.close()

    def _spill(self, slots: npt.NDArray[np.int32]) -> None:
        """Write rows that must leave memory but are in no checkpoint yet. The next checkpoint includes their run."""
        try:
            spilled = self._spilled
            if len(spilled) == _SPILLED_MAX:
                spilled = [merge_runs(self._disk, spilled, self._expired_before_us)]
            batch = self._resident.batch(slots)
            run = save_run(self._disk, batch.digests, batch.seen_us, partial(in_blocks, batch.rows))
            self._replace_spilled([run, *spilled])
        except OSError as error:
            raise OnlineStoreError(f"no room in memory, and none in {self._disk.folder}: {error}") from error

    def _replace_spilled(self, spilled: list[Run]) -> None:
        before, self._spilled = self._spilled, spilled
        self._follow_disk()
        for run in before:
            if run not in spilled:
                run.path.unlink()

    def checkpoint(self, offsets: Mapping[str, int], blobs: Mapping[str, bytes] | None = None, *, wait: bool = False) -> None:
        """See `OnlineStore.checkpoint`. A row is copied when it is written to disk, or before it changes, whichever comes first."""
        self._collect(wait=True)
        changed = self._resident.snapshot()
        self._checkpoints.begin(
            Checkpoint(changed, tuple(self._spilled), dict(offsets), dict(blobs or {}), self._clock_us, self._expired_before_us)
        )
        if wait:
            self._collect(wait=True)

    def _collect(self, *, wait: bool = False) -> None:
        """Take over the results of finished background work."""
        try:
            finished = self._checkpoints.finished(wait=wait)
        except BaseException:
            self._resident.settle(CHANGED)  # whatever the error is: rows that are not saved must be in the next checkpoint
            raise
        if finished:
            self._resident.settle(CLEAN)
            named = set(self._disk.manifest.runs)
            self._spilled = [run for run in self._spilled if run.id not in named]
            self._checkpoints.compact_if_due()
        self._follow_disk()

    def _follow_disk(self) -> None:
        runs, retired = self._disk.take_changes()
        runs = [*self._spilled, *runs]
        if runs != self._runs:
            self._runs = runs
            self._publish_runs()
        for path in retired:
            path.unlink()  # only now: readers have been told of the replacement

    def _publish_runs(self) -> None:
        self._resident.publish([run.id for run in self._runs], cold=self._cold, expired_before_us=self._expired_before_us)

    def offsets(self) -> dict[str, int]:
        """See `OnlineStore.offsets`."""
        self._collect()
        return dict(self._disk.manifest.offsets)

    def blobs(self) -> dict[str, bytes]:
        """See `OnlineStore.blobs`."""
        self._collect()
        return dict(self._disk.blobs)

    def expire(self, older_than_us: int) -> None:
        """See `OnlineStore.expire`. Scans all rows in memory. Files lose the rows when they are compacted."""
        if older_than_us <= self._expired_before_us:
            return
        self._expired_before_us = older_than_us
        self._publish_runs()  # first: a reader that no longer finds a row in memory must not find it on disk
        self._resident.remove(self._resident.seen_before(older_than_us))

    def erase(self, keys: Keys) -> None:
        """See `OnlineStore.erase`. Rewrites each file that has one of the keys, about 1 s for 500 MB of rows."""
        digests = self._hasher.digests(keys)
        self._collect(wait=True)
        self._checkpoints.finish_compaction()
        slots = self._resident.find(digests)
        self._resident.remove(np.unique(slots[slots >= 0]))
        try:
            spilled = without(self._disk, self._spilled, digests)
            erase_from_disk(self._disk, digests)
        except OSError as error:
            raise OnlineStoreError(f"cannot erase from the files in {self._disk.folder}: {error}") from error
        self._replace_spilled(spilled)

    def close(self) -> None:
        """See `OnlineStore.close`. Readers keep their mapped table until the store is opened again."""
        if self._closed:
            return
        self._closed = True
        try:
            self._collect(wait=True)
            self._checkpoints.finish_compaction()
            self._follow_disk()
        finally:
            self._checkpoints.close()
            self._table.close()
            os.close(self._lock)
            del self._resident, self._table  # these hold the mapped memory


def _lock(folder: Path) -> int:
    try:
        return hold(folder / "lock")
    except BlockingIOError as error:
        raise OnlineStoreError(f"the online store in {folder} is open in another process; a store has one writer") from error
