"""Checkpoints and compaction, both in the background."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from sokuji.errors import OnlineStoreError
from sokuji.online.base import Rows
from sokuji.online.hashing import Digests
from sokuji.online.shared.manifest import Disk, Manifest
from sokuji.online.shared.merge import newest, rows_of
from sokuji.online.shared.run import Columns, Numbers, Run
from sokuji.online.shared.snapshot import RowSnapshot
from sokuji.service.priority import give_way

RUNS_MAX = 8
"""Compaction starts above this number of runs. Each run costs a lookup for a key that is not in memory, and repeats rows."""
_RUNS_LIMIT = 128
"""Above this number of runs, checkpoints wait for compaction. A table has room for 501 run ids."""


@dataclass(frozen=True)
class Checkpoint:
    """The state that becomes durable in one checkpoint."""

    changed: RowSnapshot
    spilled: Sequence[Run]
    """Runs of rows that left memory since the last checkpoint, the newest first."""
    offsets: Mapping[str, int]
    blobs: Mapping[str, bytes]
    clock_us: int
    expired_before_us: int


class Checkpoints:
    """Runs one checkpoint at a time and, beside it, one compaction."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._savers = ThreadPoolExecutor(1, thread_name_prefix="online-checkpoint", initializer=give_way)
        self._compactors = ThreadPoolExecutor(1, thread_name_prefix="online-compaction", initializer=give_way)
        self._saving: Future[None] | None = None
        self._compacting: Future[None] | None = None

    def begin(self, checkpoint: Checkpoint) -> None:
        """Start a checkpoint. `finished` must have reported the end of the last one."""
        self._saving = self._savers.submit(self._save, checkpoint)

    @property
    def under_way(self) -> bool:
        """Whether there is a checkpoint whose end `finished` has not reported yet."""
        return self._saving is not None

    def finished(self, *, wait: bool) -> bool:
        """Report the end of the running checkpoint, once; False if it still runs or there is none. With `wait`, wait for the end.

        Raises:
            OnlineStoreError: the checkpoint failed. This also counts as its end.
        """
        saving = self._saving
        if saving is None or not (wait or saving.done()):
            return False
        try:
            saving.result()
        except OSError as error:
            raise OnlineStoreError(f"the checkpoint in {self._disk.folder} failed: {error}; the one before it stands") from error
        finally:
            self._saving = None
        return True

    def _save(self, checkpoint: Checkpoint) -> None:
        with ExitStack() as undo:
            runs = list(checkpoint.spilled)
            changed = checkpoint.changed
            if len(changed.digests):
                runs.insert(0, save_run(self._disk, changed.digests, changed.seen_us, changed.blocks))
                undo.callback(runs[0].path.unlink)
            self._disk.commit(
                lambda manifest: msgspec.structs.replace(
                    manifest,
                    runs=(*(run.id for run in runs), *manifest.runs),
                    offsets=dict(checkpoint.offsets),
                    clock_us=checkpoint.clock_us,
                    expired_before_us=checkpoint.expired_before_us,
                ),
                runs,
                checkpoint.blobs,
            )
            undo.pop_all()

    def compact_if_due(self) -> None:
        """Start compaction if there are many runs and none is running. With very many runs, wait for the running one first.

        Raises:
            OnlineStoreError: the last compaction failed; the runs are unchanged.
        """
        runs = self._disk.runs
        if self._compacting is not None and (self._compacting.done() or len(runs) > _RUNS_LIMIT):
            self.finish_compaction()
            runs = self._disk.runs
        if self._compacting is None and len(runs) > RUNS_MAX:
            merged = runs[: _worth_merging([run.count for run in runs])]
            self._compacting = self._compactors.submit(compact, self._disk, merged)

    def finish_compaction(self) -> None:
        """Wait for the running compaction, if there is one.

        Raises:
            OnlineStoreError: it failed; the runs are unchanged.
        """
        compacting, self._compacting = self._compacting, None
        if compacting is None:
            return
        try:
            compacting.result()
        except OSError as error:
            raise OnlineStoreError(f"compaction in {self._disk.folder} failed: {error}; nothing is lost") from error

    def close(self) -> None:
        """Wait for the running checkpoint and compaction."""
        self._savers.shutdown()
        self._compactors.shutdown()


def save_run(disk: Disk, digests: Digests, seen_us: npt.NDArray[np.int64], blocks: Callable[[Numbers], Iterable[Rows]]) -> Run:
    """Write rows as a new run, not synced and not in the manifest. `blocks` gives the rows in a given order, one block at a time."""
    high, low = digests.T
    order = np.lexsort((low, high))
    return disk.new_run(Columns(high[order], low[order], seen_us[order]), blocks(order))


def merge_runs(disk: Disk, runs: Sequence[Run], expired_before_us: int) -> Run:
    """Write the newest rows of `runs` (ordered from new to old) as one new run, not synced and not in the manifest."""
    kept = newest(runs, expired_before_us)
    return disk.new_run(kept.columns, rows_of(runs, kept))


def compact(disk: Disk, runs: Sequence[Run]) -> None:
    """Replace some runs, which are consecutive in the manifest, by one."""
    old = {run.id for run in runs}
    with ExitStack() as undo:
        merged = merge_runs(disk, runs, disk.manifest.expired_before_us)
        undo.callback(merged.path.unlink)

        def replaced(manifest: Manifest) -> Manifest:
            # Checkpoints may have added runs before these since, but never between them.
            index = manifest.runs.index(runs[0].id)
            after = (each for each in manifest.runs[index:] if each not in old)
            return msgspec.structs.replace(manifest, runs=(*manifest.runs[:index], merged.id, *after))

        disk.commit(replaced, [merged])
        undo.pop_all()


def _worth_merging(counts: Sequence[int]) -> int:
    """How many of the newest runs to merge, given their row counts. Older runs are included while they are not much larger.

    So a run is rewritten only when it grows by at least half, and a large run of cold rows stays as it is for a long time.
    """
    taken = sum(counts[:2])
    for number, count in enumerate(counts[2:], 2):
        if count > 2 * taken:
            return number
        taken += count
    return len(counts)
