"""The rows of a log that its consumer, the sink, has not committed yet, by dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sokuji.dedup.rule import Places
from sokuji.events import by_dataset
from sokuji.lake.events import PLACE_COLUMNS
from sokuji.log.base import Log

CONSUMER = "sink"
_READ_ROWS = 1_000_000
ROUND_BYTES = 96 * 1024 * 1024  # of rows in memory at a time; the last read adds at most `log.base.READ_BYTES_MAX`
Mask = npt.NDArray[np.bool_]
Offsets = dict[int, int]  # by partition


def applications(log: Log) -> dict[int, str]:
    """The application id in a table's transactions for each partition. The number of a transaction is the next offset to read."""
    return {partition: f"sink-{log.name}-{partition}" for partition in range(log.partitions)}


def positions(log: Log) -> Offsets:
    """The offsets before which every row of the log is in the lake, by partition: the consumer's offsets, at least the log's start."""
    committed = log.committed(CONSUMER)
    return {partition: max(committed.get(partition, 0), log.start(partition)) for partition in range(log.partitions)}


@dataclass(frozen=True, slots=True)
class Backlog:
    """Rows of one dataset from several partitions, in processing order, and the position of each in the log."""

    rows: pa.Table
    partitions: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]

    @property
    def places(self) -> Places:
        """The position of each row in the log."""
        return Places(self.partitions, self.offsets)

    def placed(self) -> pa.Table:
        """The rows with `PLACE_COLUMNS`."""
        rows = self.rows
        for name, places in zip(PLACE_COLUMNS, (self.partitions, self.offsets), strict=True):
            rows = rows.append_column(name, pa.array(places, pa.int64()))
        return rows

    def take(self, which: Mask) -> Backlog:
        """Select some of the rows."""
        return Backlog(self.rows.filter(pa.array(which)), self.partitions[which], self.offsets[which])

    def from_offsets(self, committed: Mapping[int, int]) -> Mask:
        """Which rows are at or after the committed offsets."""
        if not committed:
            return np.ones(len(self.offsets), np.bool_)
        limits = np.zeros(max(*committed, int(self.partitions.max(initial=0))) + 1, np.int64)
        limits[list(committed)] = list(committed.values())
        result: Mask = self.offsets >= limits[self.partitions]
        return result


def read(log: Log, start: Offsets, limit: int) -> tuple[dict[str, Backlog], Offsets]:
    """Read about `limit` rows from `start`. Returns the rows by dataset, and the offsets to read next.

    The partitions that are furthest behind are read first; after `ROUND_BYTES`, no further partition is read.
    """
    behind = sorted(start, key=lambda partition: -log.lag({partition: start[partition]}))
    return _read(log, {partition: start[partition] for partition in behind}, limit // len(start) + 1)


def read_until(log: Log, start: Offsets, end: Offsets) -> dict[str, Backlog]:
    """All rows from `start` to `end`, by dataset."""
    parts: dict[str, list[Backlog]] = {}
    while start != end:
        found, start = _read(log, start, _READ_ROWS, end)
        for dataset, rows in found.items():
            parts.setdefault(dataset, []).append(rows)
    return {dataset: joined(rows) for dataset, rows in parts.items()}


def _read(log: Log, start: Offsets, limit: int, end: Offsets | None = None) -> tuple[dict[str, Backlog], Offsets]:
    """Read at most `limit` rows of each partition, none from `end` on. Returns the rows by dataset, and the offsets to read next."""
    parts: dict[str, list[Backlog]] = {}
    following = dict(start)
    size = 0
    for partition, offset in start.items():
        if size >= ROUND_BYTES:
            break
        batch, offsets, following[partition] = log.read(partition, offset, limit, until=None if end is None else end[partition])
        size += batch.nbytes
        for dataset, rows, places in by_dataset(batch):
            own = Backlog(pa.table(rows), np.full(len(places), partition, np.int32), offsets[places])
            parts.setdefault(dataset, []).append(own)
    return {dataset: joined(rows) for dataset, rows in parts.items()}, following


def joined(parts: Sequence[Backlog]) -> Backlog:
    """The rows of all parts, one after the other."""
    return Backlog(
        pa.concat_tables([part.rows for part in parts]),
        np.concatenate([part.partitions for part in parts]),
        np.concatenate([part.offsets for part in parts]),
    )
