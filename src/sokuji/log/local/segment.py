"""A segment: one file of a partition, named by the offset of its first row.

    file           = segment header, Arrow schema message, frame, frame, ...
    segment header = magic (8 bytes), base offset (u64), length of the schema message (u32), CRC-32 of the schema message (u32)
    frame          = frame header, Arrow record batch message
    frame header   = magic (4 bytes), CRC-32 of all that follows (u32), length of the message (u64), base offset (u64), rows (u32),
                     bytes of the decompressed message (u32, at most 2^32 - 1)

All integers are little-endian. Arrow messages and both headers are a multiple of 8 bytes long. So every buffer in a mapped segment is
aligned, and an uncompressed one is read without a copy.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from sokuji.disk.stored import check_format
from sokuji.errors import CorruptLogError, LogError

SUFFIX = ".segment"
RESTORE = "restore the file from a copy"

_SEGMENT = struct.Struct("<8sQII")
_SEGMENT_NAME, _SEGMENT_FORMAT = b"sokuji\xf5", 1
_SEGMENT_MAGIC = _SEGMENT_NAME + bytes([_SEGMENT_FORMAT])

_FRAME = struct.Struct("<4sIQQII")
_FRAME_MAGIC = b"\xf5\xf8fr"  # not valid UTF-8, so text in an event never looks like a frame
_CHECKED_FROM = 8  # the checksum covers the frame from this byte on

# LZ4 reduces an event to a third of its bytes for 0.3 us. The faster checksum and sync save more than that. Below this size, its fixed
# cost per column is more than it saves. Arrow's thread pool is not used: up to some thousand rows it costs more than it gains.
_COMPRESS_FROM_BYTES = 32 * 1024
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
_ONE_THREAD = pa.ipc.IpcReadOptions(use_threads=False)

# A batch above this is stored as several frames, so that no reader has to hold much more than this at once.
_FRAME_BYTES_MAX = 32 * 1024 * 1024

_U32_MAX = 2**32 - 1

_INDEX_EVERY_BYTES = 64 * 1024


class Frame(NamedTuple):
    """The place of rows `[base_offset, end_offset)` in a segment."""

    position: int
    end_position: int
    base_offset: int
    end_offset: int
    decoded_bytes: int
    checksum: int


class EncodedBatch(NamedTuple):
    """A record batch message that becomes a frame once its offset is known."""

    message: pa.Buffer
    rows: int
    decoded_bytes: int
    checksum: int

    @property
    def size(self) -> int:
        """Bytes of the frame."""
        return _FRAME.size + int(self.message.size)


def encode(batch: pa.RecordBatch) -> list[EncodedBatch]:
    """`batch` as one message, or as several if it is very large; no message if it is empty."""
    if batch.num_rows == 0:
        return []
    size = pa.ipc.get_record_batch_size(batch)
    if size <= _FRAME_BYTES_MAX or batch.num_rows == 1:
        message = _compressed(batch) if size >= _COMPRESS_FROM_BYTES else batch.serialize()
        return [EncodedBatch(message, batch.num_rows, min(size, _U32_MAX), zlib.crc32(message))]
    half = batch.num_rows // 2
    return encode(batch.slice(0, half)) + encode(batch.slice(half))


def _compressed(batch: pa.RecordBatch) -> pa.Buffer:
    # Arrow compresses only streams. A stream is the schema, the batch and an end mark; only the batch is needed.
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=_COMPRESSED) as stream:
        stream.write_batch(batch)
        end = sink.tell()
    start = batch.schema.serialize().size
    return sink.getvalue().slice(start, end - start)


def frame_bytes(encoded: EncodedBatch, base_offset: int) -> bytes:
    """The frame that holds `encoded` at `base_offset`."""
    header = bytearray(_FRAME.pack(_FRAME_MAGIC, 0, encoded.message.size, base_offset, encoded.rows, encoded.decoded_bytes))
    # The checksum starts with the message. So the message's part is computed before the offset is known, outside of the lock.
    struct.pack_into("<I", header, 4, zlib.crc32(header[_CHECKED_FROM:], encoded.checksum))
    return b"".join((header, encoded.message))


def segment_header(schema: pa.Schema, base_offset: int) -> bytes:
    """The first bytes of a segment file."""
    message: bytes = schema.serialize().to_pybytes()
    return _SEGMENT.pack(_SEGMENT_MAGIC, base_offset, len(message), zlib.crc32(message)) + message


def segment_path(folder: Path, base_offset: int) -> Path:
    """The file of the segment that begins at `base_offset`."""
    return folder / f"{base_offset:020d}{SUFFIX}"


def base_offsets(folder: Path) -> list[int]:
    """The base offsets of a partition's segments, ascending."""
    return sorted(int(path.stem) for path in folder.iterdir() if path.suffix == SUFFIX)


class Segment:
    """A segment file, mapped for reading. Not thread-safe: reading extends an index of frame positions."""

    def __init__(self, folder: Path, base_offset: int, schema: pa.Schema) -> None:
        """Open the segment.

        Raises:
            FileNotFoundError: the file does not exist (any more).
            CorruptLogError: its header is damaged.
            FormatError: a newer release wrote it.
            LogError: it holds rows of another schema.
        """
        self.path = segment_path(folder, base_offset)
        self.base_offset = base_offset
        self._remap()
        self.first_position = self._check_header(schema)
        self.schema = schema
        # Parallel lists: the frame that begins at offset _offsets[i] begins at byte _positions[i].
        self._offsets, self._positions = [base_offset], [self.first_position]
        self._latest = (base_offset, self.first_position)

    def _remap(self) -> None:
        with self.path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < _SEGMENT.size:
                raise CorruptLogError(f"{self.path} is shorter than the header of a log segment; {RESTORE}")
            self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        self._buffer = pa.py_buffer(self._map)

    def _check_header(self, schema: pa.Schema) -> int:
        magic, base_offset, length, checksum = _SEGMENT.unpack_from(self._map)
        if magic.startswith(_SEGMENT_NAME):
            check_format(magic[-1], _SEGMENT_FORMAT, self.path)
        message = self._map[_SEGMENT.size : _SEGMENT.size + length]
        if magic != _SEGMENT_MAGIC or base_offset != self.base_offset or zlib.crc32(message) != checksum:
            raise CorruptLogError(f"{self.path} does not begin like a log segment; {RESTORE}")
        stored = pa.ipc.read_schema(pa.py_buffer(message))
        if not stored.equals(schema):
            raise LogError(f"{self.path} holds rows of another schema:\n{stored}\nexpected was:\n{schema}")
        self._schema_message = message
        return _SEGMENT.size + len(message)

    def refresh(self) -> None:
        """Map the file again if it has grown.

        Raises:
            FileNotFoundError: the file has grown and was deleted since.
        """
        if self._map.size() != self.size:
            self._remap()

    @property
    def size(self) -> int:
        """Bytes of the mapped file; `refresh` updates it."""
        return len(self._map)

    def frame_at(self, position: int, offset: int) -> Frame | None:
        """The frame that begins at byte `position` with row `offset`; None if no complete frame is there."""
        if position + _FRAME.size > self.size:
            return None
        magic, checksum, length, base_offset, rows, decoded_bytes = _FRAME.unpack_from(self._map, position)
        end_position = position + _FRAME.size + length
        if magic != _FRAME_MAGIC or base_offset != offset or rows == 0 or end_position > self.size:
            return None
        return Frame(position, end_position, base_offset, base_offset + rows, decoded_bytes, checksum)

    def is_intact(self, frame: Frame) -> bool:
        """Whether the frame's checksum is right."""
        header = self._map[frame.position + _CHECKED_FROM : frame.position + _FRAME.size]
        return zlib.crc32(header, zlib.crc32(self._message(frame))) == frame.checksum

    def _message(self, frame: Frame) -> pa.Buffer:
        start = frame.position + _FRAME.size
        return self._buffer.slice(start, frame.end_position - start)

    def frames(self, offset: int, end: int) -> Iterator[Frame]:
        """The frames in this segment that hold rows of `[offset, end)`.

        Raises:
            CorruptLogError: a frame is damaged. Rows before `end` must be known to be completely written.
            FileNotFoundError: see `refresh`.
        """
        position, next_offset = self._seek(offset)
        while next_offset < end:
            frame = self.frame_at(position, next_offset)
            if frame is None:
                self.refresh()
                if position == self.size:
                    return
                frame = self.frame_at(position, next_offset)
            if frame is None:
                raise CorruptLogError(
                    f"{self.path}, byte {position}: the frame that begins with row {next_offset} is damaged; restore the file from a copy"
                )
            self._remember(frame)
            if frame.end_offset > offset:
                yield frame
            position, next_offset = frame.end_position, frame.end_offset

    def _seek(self, offset: int) -> tuple[int, int]:
        if self._latest[0] <= offset:
            return self._latest[1], self._latest[0]
        index = bisect_right(self._offsets, offset) - 1
        return self._positions[index], self._offsets[index]

    def _remember(self, frame: Frame) -> None:
        if frame.base_offset <= self._latest[0]:
            return
        self._latest = (frame.base_offset, frame.position)
        if frame.position >= self._positions[-1] + _INDEX_EVERY_BYTES:
            self._offsets.append(frame.base_offset)
            self._positions.append(frame.position)

    def decode(self, frame: Frame) -> pa.RecordBatch:
        """The rows of a frame.

        Raises:
            CorruptLogError: the frame fails its checksum.
        """
        if not self.is_intact(frame):
            rows = f"rows {frame.base_offset} to {frame.end_offset - 1}"
            raise CorruptLogError(
                f"{self.path}, byte {frame.position}: the frame with {rows} fails its checksum; restore the file from a copy"
            )
        message = self._message(frame)
        if message.size == frame.decoded_bytes:
            return pa.ipc.read_record_batch(message, self.schema)
        # Only a stream can be read without Arrow's thread pool, which takes ten times as long for some hundred rows.
        stream = pa.py_buffer(b"".join((self._schema_message, message)))
        return pa.ipc.open_stream(stream, options=_ONE_THREAD).read_next_batch()

    def holds_frame_after(self, position: int) -> bool:
        """Whether an intact frame begins anywhere after byte `position`."""
        while (position := self._map.find(_FRAME_MAGIC, position + 1)) >= 0:
            if position + _FRAME.size <= self.size:
                frame = self.frame_at(position, _FRAME.unpack_from(self._map, position)[3])
                if frame is not None and self.is_intact(frame):
                    return True
        return False
