"""Append to one partition, from any number of processes at the same time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from sokuji.disk.files import exclusive, replace_file, sync_folder, write_all
from sokuji.errors import CorruptLogError
from sokuji.log.ends import Ends
from sokuji.log.local.segment import RESTORE, EncodedBatch, Segment, base_offsets, frame_bytes, segment_header, segment_path


class _Tail(NamedTuple):
    """The position where the next frame goes."""

    base: int  # the base offset of the segment
    offset: int
    position: int  # in bytes


class SegmentWriter:
    """Writes at the tail of a partition.

    All changes happen inside `transaction()`, which holds the partition's lock. `ends[partition]` is the published end. All processes share
    it through a mapped file, and it moves only when the rows before it are durable. Bytes beyond the published end were written by a
    process
    that was killed before it could publish: complete frames are kept, a torn one is cut off.
    """

    def __init__(self, partition: int, folder: Path, schema: pa.Schema, ends: Ends, segment_bytes: int) -> None:
        self._partition, self._folder, self._schema = partition, folder, schema
        self._ends, self._segment_bytes = ends, segment_bytes
        self._descriptor = -1  # of the tail's segment
        self._tail = self._published = _Tail(0, 0, 0)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the partition's lock, with the tail as the last transaction of any process left it.

        If the block raises, all frames written but not published are cut off.

        Raises:
            CorruptLogError: durable rows are missing or damaged.
        """
        with exclusive(self._folder / "lock"):
            self._catch_up()
            try:
                yield
            except BaseException:
                self._undo()
                raise

    def write(self, batch: Sequence[EncodedBatch]) -> int:
        """Write the frames of one batch, not yet durable, and return the offset of their first row."""
        first = self._tail.offset
        for encoded in batch:
            if self._tail.offset > first:
                self.sync()  # only the last frame of a log can be torn: recovery relies on it
            if self._tail.position + encoded.size > self._segment_bytes and self._tail.offset > self._tail.base:
                self.roll()
            base, offset, position = self._tail
            write_all(self._descriptor, frame_bytes(encoded, offset), position)
            self._tail = _Tail(base, offset + encoded.rows, position + encoded.size)
        return first

    def sync(self) -> None:
        """Make all written frames durable."""
        os.fdatasync(self._descriptor)

    def publish(self) -> None:
        """Let readers see the written frames, which must be durable."""
        self._published = self._tail
        self._ends[self._partition] = self._tail.offset

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def roll(self) -> None:
        """Begin a new segment. The segment before it is then durable."""
        self.sync()
        offset = self._tail.offset
        header = segment_header(self._schema, offset)
        replace_file(segment_path(self._folder, offset), header)
        self._enter(_Tail(offset, offset, len(header)))

    def trim(self, up_to: int, max_age_seconds: float | None, max_bytes: int | None) -> int:
        """Remove the oldest segments whose rows are all before `up_to`, by the rules of `Log.trim`, and return the bytes freed."""
        files = [(base, segment_path(self._folder, base).stat()) for base in base_offsets(self._folder)]
        kept = sum(stat.st_size for _, stat in files)
        next_bases = [base for base, _ in files[1:]] + [self._tail.offset]
        freed = 0
        for (base, stat), next_base in zip(files, next_bases, strict=True):
            expired = max_age_seconds is not None and time.time() - stat.st_mtime > max_age_seconds
            too_much = max_bytes is not None and kept - freed > max_bytes
            if next_base > up_to or next_base == base or not (expired or too_much):
                break
            if base == self._tail.base:
                self.roll()
                self.publish()
            segment_path(self._folder, base).unlink()
            freed += stat.st_size
        sync_folder(self._folder)
        return freed

    def _catch_up(self) -> None:
        """Update the tail after appends of other processes, or find it when the log is opened."""
        if self._is_current():
            return
        bases = base_offsets(self._folder)
        if not bases:
            replace_file(segment_path(self._folder, 0), segment_header(self._schema, 0))
            bases = [0]
        self._recover(Segment(self._folder, bases[-1], self._schema))

    def _is_current(self) -> bool:
        base, offset, position = self._tail
        if self._descriptor < 0 or os.fstat(self._descriptor).st_size != position or self._ends[self._partition] != offset:
            return False
        # Another process may have begun the next segment without appending to it.
        return base == offset or not segment_path(self._folder, offset).exists()

    def _recover(self, segment: Segment) -> None:
        """Find the end of the last segment. Complete frames that were not yet published become durable; a torn one is cut off."""
        published = self._ends.certain(self._partition)
        known = self._tail.base == segment.base_offset and self._descriptor >= 0
        _, offset, position = self._tail if known else (0, segment.base_offset, segment.first_position)
        while (frame := segment.frame_at(position, offset)) is not None:
            if frame.end_offset > published and not segment.is_intact(frame):
                break
            position, offset = frame.end_position, frame.end_offset
        if offset < published or segment.holds_frame_after(position):
            raise CorruptLogError(f"{segment.path}, byte {position}: row {offset} was durable and is damaged or missing; {RESTORE}")
        self._enter(_Tail(segment.base_offset, offset, position))
        if offset > published or segment.size > position:
            os.ftruncate(self._descriptor, position)
            self.sync()
        self.publish()

    def _undo(self) -> None:
        """Cut off all frames that were written but not published."""
        for base in base_offsets(self._folder):
            if base > self._published.base:
                segment_path(self._folder, base).unlink()
        self._enter(self._published)
        os.ftruncate(self._descriptor, self._published.position)

    def _enter(self, tail: _Tail) -> None:
        self.close()
        self._descriptor = os.open(segment_path(self._folder, tail.base), os.O_RDWR)
        self._tail = tail
