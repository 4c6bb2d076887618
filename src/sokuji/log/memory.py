"""The log in memory, lost when the process ends. In tests, it shows what a broker may do but a local disk does not (gaps in offsets)."""

from __future__ import annotations

import re
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sokuji.errors import LogError, OffsetTrimmedError
from sokuji.log.base import READ_BYTES_MAX, Log, Read

_CONSUMER = re.compile(r"[A-Za-z0-9._-]+")


class _Appended(NamedTuple):
    """The rows of one append."""

    offsets: npt.NDArray[np.int64]
    batch: pa.RecordBatch
    time: float

    @property
    def end(self) -> int:
        """The offset after the last row."""
        return int(self.offsets[-1]) + 1


@dataclass
class _Partition:
    """The rows of one partition by offset."""

    appended: list[_Appended] = field(default_factory=list)
    start: int = 0
    end: int = 0

    def append(self, batch: pa.RecordBatch, gap: int) -> int:
        """Add rows, then skip `gap` offsets."""
        first = self.end
        if batch.num_rows:
            self.appended.append(_Appended(np.arange(first, first + batch.num_rows), batch, time.time()))
            self.end += batch.num_rows + gap
        return first

    def parts(self, offset: int, limit: int, end: int) -> Iterator[tuple[pa.RecordBatch, npt.NDArray[np.int64]]]:
        """At most `limit` rows of `[offset, end)`, one part for each append."""
        for each in self.appended[bisect_left(self.appended, offset + 1, key=lambda each: each.end) :]:
            first, last = np.searchsorted(each.offsets, (offset, end)).tolist()
            count = min(last - first, limit)
            if count <= 0:
                return
            yield each.batch.slice(first, count), each.offsets[first : first + count]
            limit -= count

    def trim(self, up_to: int, max_age_seconds: float | None, max_bytes: int | None) -> int:
        """Remove the oldest appends whose rows are all before `up_to`, by the rules of `Log.trim`, and return the bytes freed."""
        kept, freed, now = sum(each.batch.nbytes for each in self.appended), 0, time.time()
        while self.appended and self.appended[0].end <= up_to:
            oldest = self.appended[0]
            expired = max_age_seconds is not None and now - oldest.time > max_age_seconds
            if not expired and (max_bytes is None or kept - freed <= max_bytes):
                break
            del self.appended[0]
            freed += oldest.batch.nbytes
            self.start = oldest.end if self.appended else self.end
        return freed


@dataclass
class _Stored:
    schema: pa.Schema
    partitions: list[_Partition]
    consumers: dict[str, dict[int, int]] = field(default_factory=dict)


class Memory:
    """The storage of one process's logs, like a folder for local ones."""

    def __init__(self) -> None:
        self._logs: dict[str, _Stored] = {}
        self.changed = threading.Condition()
        """Held while a log is read or changed; notified of each append."""

    def log(self, name: str, schema: pa.Schema, partitions: int) -> _Stored:
        """The storage of one log, created if it does not exist."""
        with self.changed:
            stored = self._logs.setdefault(name, _Stored(schema, [_Partition() for _ in range(partitions)]))
        if len(stored.partitions) != partitions or not stored.schema.equals(schema):
            raise LogError(f"log {name!r} has {len(stored.partitions)} partitions, not {partitions}, or another schema")
        return stored


class MemoryLog(Log):
    """A log in a `Memory`. Thread-safe; any number may be open."""

    def __init__(self, memory: Memory, schema: pa.Schema, *, name: str, partitions: int = 4, gap: int = 0) -> None:
        """Open the log `name`; create it if it does not exist. After each append, `gap` offsets are skipped."""
        self.name, self.schema, self.partitions, self._gap = name, schema, partitions, gap
        self._stored, self._changed = memory.log(name, schema, partitions), memory.changed

    def append_many(self, batches: Mapping[int, pa.RecordBatch]) -> dict[int, int]:
        """See `Log.append_many`. The rows last as long as the process."""
        for partition, batch in batches.items():
            self._partition(partition)
            if not batch.schema.equals(self.schema):
                raise LogError(f"log {self.name!r} cannot take rows of another schema:\n{batch.schema}\nexpected was:\n{self.schema}")
        with self._changed:
            firsts = {partition: self._partition(partition).append(batch, self._gap) for partition, batch in batches.items()}
            self._changed.notify_all()
        return firsts

    def read(self, partition: int, offset: int, limit: int, *, until: int | None = None) -> Read:
        """See `Log.read`."""
        with self._changed:
            stored = self._partition(partition)
            if offset < stored.start:
                raise OffsetTrimmedError(partition, offset, stored.start)
            end = stored.end if until is None else min(stored.end, until)
            batches, offsets, size = [pa.RecordBatch.from_pylist([], schema=self.schema)], [np.arange(0)], 0
            for batch, places in stored.parts(offset, limit, end):
                batches.append(batch)
                offsets.append(places)
                size += batch.nbytes
                if size >= READ_BYTES_MAX:
                    break
        row_offsets = np.concatenate(offsets)
        if len(row_offsets) < limit and size < READ_BYTES_MAX:
            return Read(pa.concat_batches(batches), row_offsets, max(offset, end))
        return Read(pa.concat_batches(batches), row_offsets, int(row_offsets[-1]) + 1 if len(row_offsets) else offset)

    def start(self, partition: int) -> int:
        """See `Log.start`."""
        return self._partition(partition).start

    def end(self, partition: int) -> int:
        """See `Log.end`."""
        return self._partition(partition).end

    def lag(self, offsets: Mapping[int, int]) -> int:
        """See `Log.lag`. Counts offsets, as a client of a broker does."""
        return sum(max(0, self.end(partition) - offset) for partition, offset in offsets.items())

    def before_end(self, partition: int, rows: int) -> int:
        """See `Log.before_end`. Counts offsets."""
        return max(self.start(partition), self.end(partition) - rows)

    def wait(self, offsets: Mapping[int, int], timeout_seconds: float) -> bool:
        """See `Log.wait`."""
        with self._changed:
            return self._changed.wait_for(
                lambda: any(self.end(partition) > offset for partition, offset in offsets.items()), timeout_seconds
            )

    def commit(self, consumer: str, offsets: Mapping[int, int]) -> None:
        """See `Log.commit`."""
        if _CONSUMER.fullmatch(consumer) is None:
            raise LogError(f"{consumer!r} cannot name a consumer; use letters, digits, '.', '_' and '-'")
        with self._changed:
            for partition, offset in offsets.items():
                if not 0 <= offset <= self.end(partition):
                    raise LogError(f"{consumer!r} cannot commit offset {offset} of partition {partition} of log {self.name!r}")
            self._stored.consumers.setdefault(consumer, {}).update(offsets)

    def committed(self, consumer: str) -> dict[int, int]:
        """See `Log.committed`."""
        with self._changed:
            return dict(self._stored.consumers.get(consumer, {}))

    def forget(self, consumer: str) -> None:
        """See `Log.forget`."""
        with self._changed:
            self._stored.consumers.pop(consumer, None)

    def trim(self, *, max_age_seconds: float | None = None, max_bytes: int | None = None) -> int:
        """See `Log.trim`. Frees whole appends."""
        freed = 0
        with self._changed:
            for number, partition in enumerate(self._stored.partitions):
                read = min((offsets.get(number, 0) for offsets in self._stored.consumers.values()), default=partition.end)
                freed += partition.trim(read, max_age_seconds, max_bytes)
        return freed

    def close(self) -> None:
        """See `Log.close`. The rows stay in the memory."""

    def _partition(self, partition: int) -> _Partition:
        if not 0 <= partition < self.partitions:
            raise LogError(f"log {self.name!r} has no partition {partition}; there are {self.partitions}, from 0")
        return self._stored.partitions[partition]
