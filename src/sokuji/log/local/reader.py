"""Read one partition."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from sokuji.errors import CorruptLogError, OffsetTrimmedError
from sokuji.log.base import READ_BYTES_MAX, Read
from sokuji.log.local.segment import RESTORE, Frame, Segment, base_offsets

# Segments kept mapped: for a consumer at the tail, one that catches up, and the next segment of each.
_OPEN_MAX = 4

_NO_OFFSETS = np.zeros(0, np.int64)


class PartitionReader:
    """The rows of a partition by offset. Thread-safe."""

    def __init__(self, partition: int, folder: Path, schema: pa.Schema) -> None:
        self._partition, self._folder, self._schema = partition, folder, schema
        self._nothing = pa.RecordBatch.from_pylist([], schema=schema)  # created once, as it takes as long as reading a hundred rows
        self._lock = threading.Lock()
        self._bases: list[int] = []
        self._open: dict[int, Segment] = {}

    def start(self) -> int:
        """The offset of the oldest kept row."""
        return base_offsets(self._folder)[0]

    def read(self, offset: int, limit: int, end: int) -> Read:
        """At most `limit` rows from `offset` on, all of them before `end`. Every row before `end` must be durable.

        Raises:
            OffsetTrimmedError, CorruptLogError: see `Log.read`.
        """
        end = min(end, offset + limit)
        if offset >= end:
            return Read(self._nothing, _NO_OFFSETS, offset)
        batches: list[pa.RecordBatch] = []
        size, next_offset = 0, offset
        with self._lock:
            try:
                for segment, frame in self._frames(offset, end):
                    batch = segment.decode(frame)
                    if next_offset > frame.base_offset or end < frame.end_offset:
                        batch = batch.slice(next_offset - frame.base_offset, min(end, frame.end_offset) - next_offset)
                    batches.append(batch)
                    next_offset += batch.num_rows
                    size += frame.decoded_bytes
                    if size >= READ_BYTES_MAX:
                        break
            except FileNotFoundError as error:
                raise OffsetTrimmedError(self._partition, next_offset, self.start()) from error
        return Read(batches[0] if len(batches) == 1 else pa.concat_batches(batches), np.arange(offset, next_offset), next_offset)

    def forget(self) -> None:
        """Unmap all segments; they are mapped again when needed."""
        with self._lock:
            self._open.clear()
            self._bases = []

    def _frames(self, offset: int, end: int) -> Iterator[tuple[Segment, Frame]]:
        while offset < end:
            segment, before = self._segment(offset), offset
            for frame in segment.frames(offset, end):
                yield segment, frame
                offset = frame.end_offset
            if offset == before:
                # The segment ends here, so there must be a next one, created after the folder was listed.
                self._bases = base_offsets(self._folder)
                if self._base(offset) == segment.base_offset:
                    raise CorruptLogError(f"{segment.path} ends before row {offset}, which was durable; {RESTORE}, or the next one")

    def _segment(self, offset: int) -> Segment:
        base = self._base(offset)
        segment = self._open.pop(base, None) or Segment(self._folder, base, self._schema)
        self._open[base] = segment
        if len(self._open) > _OPEN_MAX:
            self._open.pop(next(iter(self._open)))
        return segment

    def _base(self, offset: int) -> int:
        if not self._bases or offset < self._bases[0]:
            self._bases = base_offsets(self._folder)
        if offset < self._bases[0]:
            raise OffsetTrimmedError(self._partition, offset, self._bases[0])
        return self._bases[bisect_right(self._bases, offset) - 1]
