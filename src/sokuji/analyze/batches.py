"""Cut the log into micro-batches, with the same cuts after a crash as before it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sokuji.clock import now_us
from sokuji.dedup.rule import Places
from sokuji.errors import LogError
from sokuji.log.base import Log

CONSUMER = "analyze"
"""The consumer of the logs that the worker reads."""

NEXT_CONSUMER = "analyze.next"
"""The consumer of the events log while the state of the next worker is built. It reads from where the lake ended when the build began."""

BATCHES_LOG = "batches"
BATCH_SCHEMA = pa.schema(
    [
        pa.field("now_us", pa.int64(), nullable=False),  # the time for the batch's timers and schedules
        pa.field("ends", pa.list_(pa.int64()), nullable=False),  # the end of the batch, by partition of the events log
    ]
)
"""A row is a batch. The row is durable before any effect of the batch."""

BYTES_MAX = 256 * 1024 * 1024
"""Bytes of a batch from which on no further partition is read for it.

So large events cannot take all memory. The last read adds at most `log.base.READ_BYTES_MAX`, and a frame.
"""

_READ_ROWS = 1_000

Offsets = dict[int, int]  # by partition


@dataclass(frozen=True, slots=True)
class Logs:
    """The logs that a worker reads and writes. All but `events` have one partition."""

    events: Log
    batches: Log
    decisions: Log
    identities: Log
    bad_events: Log

    def published(self) -> dict[str, int]:
        """The ends of the logs to which the worker publishes."""
        return {log.name: log.end(0) for log in (self.decisions, self.identities, self.bad_events)}


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of the events log in processing order, with their positions."""

    number: int  # increases from batch to batch; a batch that is cut again has the same number
    now_us: int
    rows: pa.RecordBatch
    partitions: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    ends: Offsets

    @property
    def places(self) -> Places:
        """The position of each row in the log."""
        return Places(self.partitions, self.offsets)

    def part(self, first: int, last: int) -> Batch:
        """The same batch with only these rows."""
        rows, partitions, offsets = self.rows.slice(first, last - first), self.partitions[first:last], self.offsets[first:last]
        return Batch(self.number, self.now_us, rows, partitions, offsets, self.ends)


class _Part(NamedTuple):
    partition: int
    rows: pa.RecordBatch
    offsets: npt.NDArray[np.int64]
    following: int  # the offset to read next


class _Recorded(NamedTuple):
    """A row of the batches log."""

    offset: int
    now_us: int
    ends: Offsets


class Batches:
    """Cuts the events log into batches of the available rows. A batch that was recorded before a crash is cut again in the same way."""

    def __init__(self, events: Log, batches: Log, start: Mapping[int, int], number: int, *, rows_max: int) -> None:
        """Continue at the offsets `start` with batch `number`. A batch has at most `rows_max` rows of each partition."""
        self._events, self._batches, self._rows_max = events, batches, rows_max
        self.ends: Offsets = {partition: start.get(partition, events.start(partition)) for partition in range(events.partitions)}
        self._recorded: deque[_Recorded] = deque()  # by an earlier worker, in the order to cut them again
        self._place = number  # the position in the batches log to read from, and later to write to
        self._replay_until = batches.end(0)
        self._read_recorded()
        self._recorder = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._recording: Future[int] | None = None

    @property
    def number(self) -> int:
        """The number of the next batch: the offset of its row in the batches log, or an offset that its row may get once it is recorded."""
        return self._recorded[0].offset if self._recorded else self._place

    @property
    def is_replaying(self) -> bool:
        """Whether an earlier run already processed the next batch, at least partly."""
        return bool(self._recorded)

    def wait(self, timeout_seconds: float) -> bool:
        """Wait up to this time for rows of the next batch. Returns whether there are some."""
        return self.is_replaying or self._events.wait(self.ends, timeout_seconds)

    def next(self) -> Batch:
        """The next batch; empty if there are no rows. Before `settle` has returned, the batch must have no effect.

        Raises:
            OffsetTrimmedError: the log has lost rows that were not processed.
        """
        self.settle()
        if self._recorded:
            number, time_us, ends = self._recorded.popleft()
            parts = self._read(ends)
            self._read_recorded()
        else:
            parts, number = self._read_what_is_there(), self._place
            time_us, ends = self._record(parts)
        batch = self._cut(number, time_us, parts, ends)
        self.ends = ends
        return batch

    def settle(self) -> None:
        """Wait until the last batch is recorded durably, which happens while the batch is processed.

        Raises:
            LogError: the batch cannot be recorded, or another worker runs on the log.
        """
        if self._recording is None:
            return
        recording, self._recording = self._recording, None
        offset = recording.result()
        self._pass_gap(offset)
        self._place = offset + 1
        self._pass_gap(self._batches.end(0))

    def _pass_gap(self, until: int) -> None:
        """Advance to `until` in the batches log. Before it, there must be no rows but our own."""
        if until > self._place:
            read = self._batches.read(0, self._place, 1, until=until)
            if read.batch.num_rows:
                raise LogError(f"a batch was recorded at {read.offsets[0]}: another worker runs on log {self._events.name!r}")
            self._place = read.next_offset

    def close(self) -> None:
        """End the thread that records batches."""
        self._recorder.shutdown()

    def lag_rows(self) -> int:
        """The number of rows of the log that are not in any batch yet."""
        return self._events.lag(self.ends)

    def _read_what_is_there(self) -> list[_Part]:
        """One read of each partition, in their order. Those furthest behind are read first, and none is read after `BYTES_MAX`."""
        parts: list[_Part] = []
        for partition in sorted(self.ends, key=lambda partition: -self._events.lag({partition: self.ends[partition]})):
            if sum(part.rows.nbytes for part in parts) < BYTES_MAX:
                parts.append(_Part(partition, *self._events.read(partition, self.ends[partition], self._rows_max)))
        return sorted(parts, key=lambda part: part.partition)

    def _read(self, ends: Offsets) -> list[_Part]:
        parts: list[_Part] = []
        for partition, start in self.ends.items():
            place = start
            while place < ends[partition]:
                part = _Part(partition, *self._events.read(partition, place, self._rows_max, until=ends[partition]))
                parts.append(part)
                place = part.following
        return parts

    def _record(self, parts: Sequence[_Part]) -> tuple[int, Offsets]:
        ends = self.ends | {part.partition: part.following for part in parts}
        time_us = now_us()
        row = pa.RecordBatch.from_pydict({"now_us": [time_us], "ends": [list(ends.values())]}, schema=BATCH_SCHEMA)
        self._recording = self._recorder.submit(self._batches.append, 0, row)
        return time_us, ends

    def _read_recorded(self) -> None:
        """Read the next batch to cut again, if there is one."""
        while not self._recorded and self._place < self._replay_until:
            read = self._batches.read(0, self._place, _READ_ROWS, until=self._replay_until)
            for offset, row in zip(read.offsets.tolist(), read.batch.to_pylist(), strict=True):
                self._recorded.append(_Recorded(offset, row["now_us"], dict(enumerate(row["ends"]))))
            self._place = read.next_offset

    def _cut(self, number: int, time_us: int, parts: Sequence[_Part], ends: Offsets) -> Batch:
        rows = pa.concat_batches([part.rows for part in parts] or [pa.RecordBatch.from_pylist([], schema=self._events.schema)])
        partitions = np.repeat(np.array([part.partition for part in parts], np.int32), [part.rows.num_rows for part in parts])
        offsets = np.concatenate([np.zeros(0, np.int64), *(part.offsets for part in parts)])
        order = _by_time(rows, partitions)
        if order is not None:
            rows, partitions, offsets = rows.take(pa.array(order)), partitions[order], offsets[order]
        return Batch(number, time_us, rows, partitions, offsets, ends)


def _by_time(rows: pa.RecordBatch, partitions: npt.NDArray[np.int32]) -> npt.NDArray[np.intp] | None:
    """The order by time received that keeps the order within each partition; None if the rows are already in this order.

    The events of a person are in several partitions once two of their devices are linked.
    """
    times = rows.column("received_at").cast(pa.int64()).to_numpy().copy()
    for partition in np.unique(partitions):
        own = partitions == partition
        times[own] = np.maximum.accumulate(times[own])
    order = np.argsort(times, kind="stable")
    return None if np.array_equal(order, np.arange(len(order))) else order
