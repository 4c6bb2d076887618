"""Erase keys from the files of a store, for good."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from sokuji.online.hashing import Digests
from sokuji.online.shared.manifest import Disk
from sokuji.online.shared.merge import newest, rows_of
from sokuji.online.shared.run import Numbers, Run


def without(disk: Disk, runs: Sequence[Run], digests: Digests) -> list[Run]:
    """`runs`, where each run with one of the digests is replaced by a rewritten one.

    The new runs are not synced and not in the manifest.
    """
    return [_rewritten(disk, run, numbers) if len(numbers := _positions(run, digests)) else run for run in runs]


def _positions(run: Run, digests: Digests) -> Numbers:
    numbers = run.find_all(digests)
    return numbers[numbers >= 0]


def _rewritten(disk: Disk, run: Run, erased: Numbers) -> Run:
    kept = newest([run], disk.manifest.expired_before_us)
    kept = kept.only(~np.isin(kept.number, erased))
    return disk.new_run(kept.columns, rows_of([run], kept))


def erase_from_disk(disk: Disk, digests: Digests) -> None:
    """Rewrite the runs of the manifest that have one of the digests. Nothing else may change the manifest meanwhile."""
    before = disk.runs
    after = without(disk, before, digests)
    new = [run for run in after if run not in before]
    if new:
        disk.commit(lambda manifest: msgspec.structs.replace(manifest, runs=tuple(run.id for run in after)), new)
