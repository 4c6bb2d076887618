"""The log cut into micro-batches, the same cuts after a crash as before it."""

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
"""Of the logs that the worker reads."""

NEXT_CONSUMER = "analyze.next"
"""Of the events log, while the state of the next worker is made: it will read on where the lake ended when that began."""

BATCHES_LOG = "batches"
BATCH_SCHEMA = pa.schema(
    [
        pa.field("now_us", pa.int64(), nullable=False),  # the clock that the batch's timers and schedules go by
        pa.field("ends", pa.list_(pa.int64()), nullable=False),  # where the batch ends, by partition of the events log
    ]
)
"""A row is a batch. It is durable before anything comes of the batch."""

BYTES_MAX = 256 * 1024 * 1024
"""When a batch has as many bytes, no further partition is read for it, so that large events cannot take all memory. The last read adds
`log.base.READ_BYTES_MAX` at most, and a frame."""

_READ_ROWS = 1_000

Offsets = dict[int, int]  # by partition


@dataclass(frozen=True, slots=True)
class Logs:
    """What a worker reads and writes; all but `events` have one partition."""

    events: Log
    batches: Log
    decisions: Log
    identities: Log
    bad_events: Log

    def published(self) -> dict[str, int]:
        """Where the logs that the worker publishes in end."""
        return {log.name: log.end(0) for log in (self.decisions, self.identities, self.bad_events)}


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of the events log in the order they are worked on, and where each stands."""

    number: int  # grows from batch to batch; a batch that is cut again has the same one
    now_us: int
    rows: pa.RecordBatch
    partitions: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    ends: Offsets

    @property
    def places(self) -> Places:
        """Where each row stands."""
        return Places(self.partitions, self.offsets)

    def part(self, first: int, last: int) -> Batch:
        """The same batch with these of its rows only."""
        rows, partitions, offsets = self.rows.slice(first, last - first), self.partitions[first:last], self.offsets[first:last]
        return Batch(self.number, self.now_us, rows, partitions, offsets, self.ends)


class _Part(NamedTuple):
    partition: int
    rows: pa.RecordBatch
    offsets: npt.NDArray[np.int64]
    following: int  # where to read on


class _Recorded(NamedTuple):
    """A row of the batches log."""

    offset: int
    now_us: int
    ends: Offsets


class Batches:
    """Cuts the events log into batches. Whatever is there becomes one; a batch that was recorded before a crash is cut again as it was."""

    def __init__(self, events: Log, batches: Log, start: Mapping[int, int], number: int, *, rows_max: int) -> None:
        """Go on at offsets `start` with batch `number`; a batch has at most `rows_max` rows of each partition."""
        self._events, self._batches, self._rows_max = events, batches, rows_max
        self.ends: Offsets = {partition: start.get(partition, events.start(partition)) for partition in range(events.partitions)}
        self._recorded: deque[_Recorded] = deque()  # by a worker before, in the order to be cut again
        self._place = number  # in the batches log: where it is read on, then where the next batch goes
        self._replay_until = batches.end(0)
        self._read_recorded()
        self._recorder = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._recording: Future[int] | None = None

    @property
    def number(self) -> int:
        """The next batch's: the offset of its row in the batches log, or while it is not recorded, one that its row may get."""
        return self._recorded[0].offset if self._recorded else self._place

    @property
    def is_replaying(self) -> bool:
        """Whether the next batch was worked on before, as far as the worker that did so came."""
        return bool(self._recorded)

    def wait(self, timeout_seconds: float) -> bool:
        """Whether there is something for the next batch, after this long at most."""
        return self.is_replaying or self._events.wait(self.ends, timeout_seconds)

    def next(self) -> Batch:
        """The next batch, which has no rows if nothing is there. Nothing may come of it before `settle` has returned.

        Raises:
            OffsetTrimmedError: the log has lost rows that were not worked on.
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
        """Return once the last batch is recorded durably, which goes on while it is worked on.

        Raises:
            LogError: it cannot be recorded, or another worker runs on the log.
        """
        if self._recording is None:
            return
        recording, self._recording = self._recording, None
        offset = recording.result()
        self._pass_gap(offset)
        self._place = offset + 1
        self._pass_gap(self._batches.end(0))

    def _pass_gap(self, until: int) -> None:
        """Go on to `until` in the batches log, before which no row but our own is."""
        if until > self._place:
            read = self._batches.read(0, self._place, 1, until=until)
            if read.batch.num_rows:
                raise LogError(f"a batch was recorded at {read.offsets[0]}: another worker runs on log {self._events.name!r}")
            self._place = read.next_offset

    def close(self) -> None:
        """End the thread that records."""
        self._recorder.shutdown()

    def lag_rows(self) -> int:
        """How many rows of the log are not in any batch yet."""
        return self._events.lag(self.ends)

    def _read_what_is_there(self) -> list[_Part]:
        """Of each partition what one read gives, in their order. None is read beyond `BYTES_MAX`: those furthest behind come first."""
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
        """See that there is a batch to be cut again, if there is one more."""
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
    """The order by time received that keeps the order within each partition; None if that is the order already.

    A person's events are in several partitions once two of their devices are known as theirs.
    """
    times = rows.column("received_at").cast(pa.int64()).to_numpy().copy()
    for partition in np.unique(partitions):
        own = partitions == partition
        times[own] = np.maximum.accumulate(times[own])
    order = np.argsort(times, kind="stable")
    return None if np.array_equal(order, np.arange(len(order))) else order
