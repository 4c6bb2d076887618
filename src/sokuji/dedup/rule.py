"""Which messages are repeats: the one rule, which the lake and the worker keep, each with an index of its own (`runs`, `table`).

Each partition of the log is divided into stretches of as many offsets: as many rows, or fewer where offsets have gaps. A message is a
repeat if one with its source and id was taken in the same partition, in the same stretch or in the one before; else it is taken itself.
All messages of a visitor are in one partition.

The log's offsets are the only clock of the rule. They are the same for everybody who reads the log, after a crash as before, and in a
table as in the log; and no machine's clock sets them forward or back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]


class Places(NamedTuple):
    """Where messages stand in the log. Those of one partition are in the order of their offsets."""

    partitions: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]

    def take(self, which: Mask | Indices) -> Places:
        """A selection."""
        return Places(self.partitions[which], self.offsets[which])


class Part(NamedTuple):
    """Messages of one stretch of a partition, and which of those asked about they are."""

    partition: int
    stretch: int
    rows: slice | Indices


class RepeatRule:
    """The rule for a log."""

    def __init__(self, rows: int, partitions: int) -> None:
        """A message is compared with those of at most `rows` offsets before it, and of half as many at least, shared by the partitions."""
        self.stretch_rows = max(1, rows // 2 // partitions)

    def remembered_from(self, offset: int) -> int:
        """The first offset of those that a message at `offset` is compared with."""
        return max(0, offset // self.stretch_rows - 1) * self.stretch_rows

    def parts(self, places: Places) -> Iterator[Part]:
        """The messages by partition and stretch, the stretches of each partition in their order."""
        partitions, stretches = places.partitions, places.offsets // self.stretch_rows
        if not len(partitions):
            return
        if (partitions == partitions[0]).all() and stretches[0] == stretches[-1]:
            yield Part(int(partitions[0]), int(stretches[0]), slice(None))
            return
        for partition in np.unique(partitions):
            own = partitions == partition
            for stretch in np.unique(stretches[own]):
                yield Part(int(partition), int(stretch), np.flatnonzero(own & (stretches == stretch)))
