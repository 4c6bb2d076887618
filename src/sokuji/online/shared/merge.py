"""Find the newest row of each key over several runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sokuji.online.base import Rows
from sokuji.online.shared.run import Columns, Numbers, Run, block_rows

_BLOCKS_AT_A_TIME = 64


class Newest(NamedTuple):
    """The newest row of each key over some runs, ordered by digest."""

    columns: Columns
    run: npt.NDArray[np.int32]
    """Which of the runs has the row."""
    number: Numbers
    """The row's position in this run."""

    def only(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.intp] | slice) -> Newest:
        """The chosen rows, in the order of `chosen`."""
        high, low, seen_us = self.columns
        return Newest(Columns(high[chosen], low[chosen], seen_us[chosen]), self.run[chosen], self.number[chosen])


def newest(runs: Sequence[Run], expired_before_us: int) -> Newest:
    """The newest row of each key over `runs` (ordered from new to old), without rows last seen before `expired_before_us`."""
    high = np.concatenate([np.empty(0, np.uint64), *(run.high for run in runs)])
    low = np.concatenate([np.empty(0, np.uint64), *(run.low for run in runs)])
    seen_us = np.concatenate([np.empty(0, np.int64), *(run.seen_us for run in runs)])
    owner = np.repeat(np.arange(len(runs), dtype=np.int32), [run.count for run in runs])
    number = np.concatenate([np.empty(0, np.int64), *(np.arange(run.count) for run in runs)])
    # Stable, so the newest of equal keys stays first. Fast, as the sort detects the runs that are already ordered.
    order = np.argsort(high, kind="stable")
    if np.any((high[order][1:] == high[order][:-1]) & (low[order][1:] != low[order][:-1])):
        order = np.lexsort((low, high))  # keys that share a high digest may be interleaved
    ordered = Newest(Columns(high, low, seen_us), owner, number).only(order)
    high, low, seen_us = ordered.columns
    first = np.ones(len(order), np.bool_)
    first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    return ordered.only(first & (seen_us >= expired_before_us))


def rows_of(runs: Sequence[Run], kept: Newest) -> Iterator[Rows]:
    """The rows of `kept`, in the blocks that `run.write_run` takes. Rows of one run must be in ascending order."""
    if not len(kept.run):
        return
    width = runs[0].width
    step = block_rows(width)
    for start in range(0, len(kept.run), step * _BLOCKS_AT_A_TIME):
        rows = _gather(runs, kept.only(slice(start, start + step * _BLOCKS_AT_A_TIME)), width)
        for first in range(0, len(rows), step):
            yield rows[first : first + step]


def _gather(runs: Sequence[Run], kept: Newest, width: int) -> Rows:
    result = np.empty((len(kept.run), width), np.uint8)
    for number, run in enumerate(runs):
        places = np.flatnonzero(kept.run == number)
        if len(places):
            result[places] = run.rows(kept.number[places])
    return result
