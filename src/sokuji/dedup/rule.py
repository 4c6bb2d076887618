"""The deduplication rule. The lake and the worker both apply it, each with an index of its own (`runs`, `table`).

Each partition of the log is divided into stretches with the same number of offsets: as many rows, or fewer if offsets have gaps. A
message is a repeat if the same partition has an accepted message with the same source and id in the same stretch or in the one before.
Otherwise it is accepted. All messages of a visitor are in one partition.

The log's offsets are the only clock of the rule. Every reader of the log sees the same offsets, also after a crash, and the tables store
the same offsets. No machine's clock can move them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]


class Places(NamedTuple):
    """The positions of messages in the log. Those of one partition are in the order of their offsets."""

    partitions: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]

    def take(self, which: Mask | Indices) -> Places:
        """The selected positions."""
        return Places(self.partitions[which], self.offsets[which])


class Part(NamedTuple):
    """The given messages that belong to one stretch of a partition."""

    partition: int
    stretch: int
    rows: slice | Indices


class RepeatRule:
    """The deduplication rule for one log."""

    def __init__(self, rows: int, partitions: int) -> None:
        """Compare a message with those of at most `rows`, and at least half as many, offsets before it. The partitions share `rows`."""
        self.stretch_rows = max(1, rows // 2 // partitions)

    def remembered_from(self, offset: int) -> int:
        """The first offset that a message at `offset` is compared with."""
        return max(0, offset // self.stretch_rows - 1) * self.stretch_rows

    def parts(self, places: Places) -> Iterator[Part]:
        """The messages by partition and stretch; the stretches of each partition are in order."""
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
