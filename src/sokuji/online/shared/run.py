"""A run: rows in a file that never changes, ordered by digest. Checkpoints and rows that left memory are stored as runs.

    header    one `_Header`
    columns   high digests u64[n], low digests u64[n], last-seen times i64[n]
    blocks    the rows, a fixed number per block, compressed with LZ4
    ends      u64[blocks]: where each block ends; u32[blocks]: its CRC-32

If several runs have a key, the newest run has its row. Files are written completely before anything names them, so a damaged file was
not caused by a crash.
"""

from __future__ import annotations

import bisect
import mmap
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sokuji.disk.files import write_all
from sokuji.errors import OnlineStoreError
from sokuji.online.base import Rows

Numbers = npt.NDArray[np.int64]
"""Positions of rows in a run."""

_MAGIC: Final = b"sokruns1"
_HEADER = struct.Struct("<8sIIQQ")  # magic, width, rows per block, rows, position of the ends; then CRC-32 of header, columns and ends
_HEADER_BYTES = 64
_BLOCK_BYTES = 64 * 1024  # reading a single row means decoding one block, about 30 us
_WRITE_BYTES = 4 * 1024 * 1024
_CODEC = pa.Codec("lz4_raw")


class Columns(NamedTuple):
    """The columns that a run keeps for each row."""

    high: npt.NDArray[np.uint64]
    low: npt.NDArray[np.uint64]
    seen_us: npt.NDArray[np.int64]


def run_path(folder: Path, run_id: int) -> Path:
    """The file of a run."""
    return folder / f"{run_id:012d}.run"


def block_rows(width: int) -> int:
    """The number of rows of this width in a block."""
    return max(1, _BLOCK_BYTES // width)


def in_blocks(rows: Rows, order: Numbers) -> Iterator[Rows]:
    """`rows[order]`, one block at a time."""
    step = block_rows(rows.shape[1])
    for start in range(0, len(order), step):
        yield rows[order[start : start + step]]


def write_run(path: Path, width: int, columns: Columns, blocks: Iterable[Rows]) -> None:
    """Write a run of rows ordered by digest, (high, low). All blocks but the last are full. Not synced."""
    content = b"".join(column.tobytes() for column in columns)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        position = _HEADER_BYTES + len(content)
        write_all(descriptor, content, _HEADER_BYTES)
        ends, checksums, waiting = [], [], bytearray()
        for block in blocks:
            compressed = _CODEC.compress(block, asbytes=True)
            waiting += compressed
            ends.append(position + len(waiting))
            checksums.append(zlib.crc32(compressed))
            if len(waiting) >= _WRITE_BYTES:
                write_all(descriptor, bytes(waiting), position)
                position += len(waiting)
                waiting.clear()
        write_all(descriptor, bytes(waiting), position)
        position += len(waiting)
        table = np.array(ends, np.uint64).tobytes() + np.array(checksums, np.uint32).tobytes()
        write_all(descriptor, table, position)
        header = _HEADER.pack(_MAGIC, width, block_rows(width), len(columns.high), position)
        checksum = zlib.crc32(table, zlib.crc32(content, zlib.crc32(header)))
        write_all(descriptor, (header + checksum.to_bytes(4, "little")).ljust(_HEADER_BYTES, b"\0"), 0)
    finally:
        os.close(descriptor)


class Run:
    """A run open for reading. It stays readable after its file is unlinked."""

    def __init__(self, folder: Path, run_id: int, *, verify: bool = False) -> None:
        """Map the file. With `verify`, read all columns and compare their checksum.

        Raises:
            FileNotFoundError: there is no such run.
            OnlineStoreError: the file is not a run, or is damaged.
        """
        self.id, self.path = run_id, run_path(folder, run_id)
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._bytes = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) if size >= _HEADER_BYTES else b""
        if self._bytes[:8] != _MAGIC:
            raise OnlineStoreError(f"{self.path} is damaged: it does not begin as a run of rows; restore it, or the folder, from a backup")
        _, self.width, self._block_rows, self.count, ends = _HEADER.unpack_from(self._bytes)
        blocks = -(-self.count // max(1, self._block_rows))
        if size < ends + 12 * blocks:
            raise OnlineStoreError(f"{self.path} is damaged: it has {size} bytes of {ends + 12 * blocks}; restore it from a backup")
        if verify and self._checksum(ends, 12 * blocks) != self._view(_HEADER.size, 4):
            raise OnlineStoreError(f"{self.path} is damaged: its columns fail their checksum; restore it from a backup")
        self.high = np.frombuffer(self._bytes, np.uint64, self.count, _HEADER_BYTES)
        self.low = np.frombuffer(self._bytes, np.uint64, self.count, _HEADER_BYTES + 8 * self.count)
        self.seen_us = np.frombuffer(self._bytes, np.int64, self.count, _HEADER_BYTES + 16 * self.count)
        self._ends = np.frombuffer(self._bytes, np.uint64, blocks, ends)
        self._checksums = np.frombuffer(self._bytes, np.uint32, blocks, ends + 8 * blocks)
        self._ordered = memoryview(self._bytes)[_HEADER_BYTES : _HEADER_BYTES + 8 * self.count].cast("Q")

    def _view(self, start: int, size: int) -> memoryview:
        return memoryview(self._bytes)[start : start + size]

    def _checksum(self, ends: int, ends_bytes: int) -> bytes:
        checksum = 0
        for part in (self._view(0, _HEADER.size), self._view(_HEADER_BYTES, 24 * self.count), self._view(ends, ends_bytes)):
            checksum = zlib.crc32(part, checksum)
        return checksum.to_bytes(4, "little")

    def find(self, high: int, low: int) -> int:
        """The position of a digest; -1 if the run does not have it."""
        position = bisect.bisect_left(self._ordered, high)
        while position < self.count and self._ordered[position] == high:
            if int(self.low[position]) == low:
                return position
            position += 1
        return -1

    def find_all(self, digests: npt.NDArray[np.uint64]) -> Numbers:
        """Call `find` for each digest of u64[n, 2]."""
        result = np.full(len(digests), -1, np.int64)
        wanted = np.arange(len(digests))
        positions = np.searchsorted(self.high, digests[:, 0])
        while len(wanted):  # one turn, except for keys that share a high digest
            same = positions < self.count
            wanted, positions = wanted[same], positions[same]
            same = self.high[positions] == digests[wanted, 0]
            wanted, positions = wanted[same], positions[same]
            same = self.low[positions] == digests[wanted, 1]
            result[wanted[same]] = positions[same]
            wanted, positions = wanted[~same], positions[~same] + 1
        return result

    def rows(self, numbers: Numbers) -> Rows:
        """The rows at these positions, which must be strictly increasing.

        Raises:
            OnlineStoreError: a block fails its checksum.
        """
        result = np.empty((len(numbers), self.width), np.uint8)
        for start, rows in self.pieces(numbers):
            result[start : start + len(rows)] = rows
        return result

    def pieces(self, numbers: Numbers) -> Iterator[tuple[int, Rows]]:
        """The rows like `rows`, but block by block: the index in `numbers` of a block's first row, and the rows."""
        blocks, starts = np.unique(numbers // self._block_rows, return_index=True)
        ends = np.append(starts, len(numbers))[1:]
        for block, start, end in zip(blocks.tolist(), starts.tolist(), ends.tolist(), strict=True):
            first, last = int(numbers[start]) - block * self._block_rows, int(numbers[end - 1]) - block * self._block_rows
            piece = self._block(block)[first : last + 1]
            yield start, piece if len(piece) == end - start else piece[numbers[start:end] - numbers[start]]

    def _block(self, block: int) -> Rows:
        start = int(self._ends[block - 1]) if block else _HEADER_BYTES + 24 * self.count
        compressed = self._view(start, int(self._ends[block]) - start)
        if zlib.crc32(compressed) != self._checksums[block]:
            raise OnlineStoreError(f"{self.path} is damaged: block {block} fails its checksum; restore it from a backup")
        rows = min(self._block_rows, self.count - block * self._block_rows)
        return np.frombuffer(_CODEC.decompress(compressed, rows * self.width), np.uint8).reshape(rows, self.width)
