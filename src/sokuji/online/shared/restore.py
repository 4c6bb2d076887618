"""Load rows from disk into memory when a store is opened: 1 million rows of 1.5 KiB in a few seconds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from sokuji.online.shared.merge import newest
from sokuji.online.shared.resident import ResidentRows
from sokuji.online.shared.run import Run

_ROWS_AT_A_TIME = 2048
_THREADS = min(4, os.cpu_count() or 1)


def restore(resident: ResidentRows, runs: Sequence[Run], expired_before_us: int) -> bool:
    """Fill `resident` with the rows seen last. Returns whether some rows had to stay on disk.

    Raises:
        OnlineStoreError: a run is damaged, or there is no room.
    """
    kept = newest(runs, expired_before_us)
    cold = len(kept.run) - resident.room
    if cold > 0:
        kept = kept.only(np.sort(np.argpartition(kept.columns.seen_us, cold)[cold:]))
    kept = kept.only(np.argsort(kept.run, kind="stable"))  # by run and position, so that each block is read once
    first_of_run = np.searchsorted(kept.run, np.arange(len(runs) + 1)).tolist()

    def load(run: Run, first: int, end: int) -> None:
        piece = kept.only(slice(first, end))
        resident.load(first, piece.columns, run.pieces(piece.number))

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="online-restore") as threads:
        loads = []
        for run, first_row, end_row in zip(runs, first_of_run[:-1], first_of_run[1:], strict=True):
            for first in range(first_row, end_row, _ROWS_AT_A_TIME):
                end = min(first + _ROWS_AT_A_TIME, end_row)
                resident.reserve(end)  # takes a second for a million rows; done here while the threads decode
                loads.append(threads.submit(load, run, first, end))
        for each in loads:
            each.result()
    resident.start()
    return cold > 0
