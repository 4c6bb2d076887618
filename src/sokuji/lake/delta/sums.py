"""Checksums of Parquet files. DuckDB does not check the checksums of pages.

    file = pages, checksums (JSON), their length (u32), footer, its length (u32), "PAR1"
    name = part-<id>-<CRC-32 of everything after the pages, 8 hexadecimal digits>.zstd.parquet

Readers of Parquet ignore bytes between pages and footer. A process checks each part of a file once: the footer, and the pages of the
columns that it reads. Files written before checksums existed have no digits in their names, and are not checked.
"""

from __future__ import annotations

import os
import re
import struct
import threading
import zlib
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from sokuji.errors import DamagedFileError

_SEALED = re.compile(r"-[0-9a-f]{8}\.zstd\.parquet$")
_U32 = struct.Struct("<I")
_END_BYTES = 8  # the footer's length, and "PAR1"
_READ_BYTES = 1 << 20
_FILES_MAX = 100_000  # remembered; above this, all files are checked again
_THREADS = 4
_REMEDY = "restore it from a copy; what reads it fails until then"

Chunks = dict[str, list[tuple[int, int, int]]]
"""Column -> the start, the size and the CRC-32 of its bytes in each row group."""


def is_sealed(file: str) -> bool:
    """Whether a file has checksums, by its name. Files written before checksums existed have none."""
    return _SEALED.search(file) is not None


def seal(path: Path) -> Path:
    """Add checksums to a file that was just written and is not synced yet. Returns its new path."""
    with path.open("r+b") as file:
        chunks = msgspec.json.encode(_chunks(file.fileno(), pq.read_metadata(file)))
        end = file.seek(0, os.SEEK_END)
        file.seek(end - _END_BYTES)
        footer_bytes = _U32.unpack(file.read(4))[0] + _END_BYTES
        file.seek(end - footer_bytes)
        behind = chunks + _U32.pack(len(chunks)) + file.read(footer_bytes)
        file.seek(end - footer_bytes)
        file.write(behind)
    sealed = path.with_name(path.name.removesuffix(".zstd.parquet") + f"-{zlib.crc32(behind):08x}.zstd.parquet")
    return path.rename(sealed)


def _chunks(descriptor: int, metadata: pq.FileMetaData) -> Chunks:
    names = [field.name for field in metadata.schema.to_arrow_schema() for _ in range(_leaves(field.type))]
    found: Chunks = {}
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for place, name in enumerate(names):
            chunk = group.column(place)
            start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
            size = chunk.total_compressed_size
            found.setdefault(name, []).append((start, size, _sum(descriptor, start, size)))
    return found


def _leaves(type_: pa.DataType) -> int:
    if pa.types.is_struct(type_):
        return sum(_leaves(field.type) for field in type_)
    return _leaves(type_.value_type) if pa.types.is_list(type_) else 1


def _sum(descriptor: int, start: int, size: int) -> int:
    checksum, end = 0, start + size
    while start < end:
        piece = os.pread(descriptor, min(_READ_BYTES, end - start), start)
        if not piece:
            return -1  # the file is too short
        checksum, start = zlib.crc32(piece, checksum), start + len(piece)
    return checksum


class Checker:
    """Checks files, and remembers what it has checked. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._whole: dict[str, tuple[Chunks, set[str]]] = {}  # file -> its checksums, and the checked columns

    def check(self, files: Iterable[str], columns: Collection[str] | None = None) -> None:
        """Check these columns of the files, or all columns, unless they are already checked.

        Raises:
            DamagedFileError: a file is damaged.
        """
        todo = [file for file in files if is_sealed(file) and not self._has_checked(file, columns)]
        if len(todo) > 1:
            with ThreadPoolExecutor(_THREADS, thread_name_prefix="checksums") as pool:
                list(pool.map(lambda file: self._check(file, columns), todo))
        elif todo:
            self._check(todo[0], columns)

    def _has_checked(self, file: str, columns: Collection[str] | None) -> bool:
        known = self._whole.get(file)
        return known is not None and known[1].issuperset(known[0] if columns is None else known[0].keys() & set(columns))

    def _check(self, file: str, columns: Collection[str] | None) -> None:
        try:
            descriptor = os.open(file, os.O_RDONLY)
        except FileNotFoundError as error:
            raise DamagedFileError(file, "it is missing", _REMEDY) from error
        try:
            chunks, checked = self._whole.get(file) or (_read_chunks(file, descriptor), set())
            wanted = set(chunks if columns is None else chunks.keys() & set(columns)) - checked
            for name in sorted(wanted):
                if any(_sum(descriptor, start, size) != checksum for start, size, checksum in chunks[name]):
                    raise DamagedFileError(file, f"column {name!r} fails its checksum", _REMEDY)
        finally:
            os.close(descriptor)
        with self._lock:
            if len(self._whole) >= _FILES_MAX:
                self._whole.clear()
            self._whole[file] = chunks, checked | wanted


def _read_chunks(file: str, descriptor: int) -> Chunks:
    """Read the checksums, after a check of all bytes behind the pages."""
    end = os.fstat(descriptor).st_size
    footer = end - _END_BYTES - _u32(descriptor, end - _END_BYTES)
    start = footer - _U32.size - _u32(descriptor, footer - _U32.size)
    behind = os.pread(descriptor, end - start, start) if start > 0 else b""
    if not file.endswith(f"-{zlib.crc32(behind):08x}.zstd.parquet"):
        raise DamagedFileError(file, "its end fails its checksum", _REMEDY)
    return msgspec.json.decode(behind[: footer - start - _U32.size], type=Chunks)


def _u32(descriptor: int, position: int) -> int:
    """The number at this position; 0 if the position is not in the file."""
    content = os.pread(descriptor, _U32.size, position) if position >= 0 else b""
    return int(_U32.unpack(content)[0]) if len(content) == _U32.size else 0


_CHECKER = Checker()


def check(files: Iterable[str], columns: Collection[str] | None = None) -> None:
    """Call `Checker.check` of this process."""
    _CHECKER.check(files, columns)
