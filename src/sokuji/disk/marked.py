"""An append-only file that is valid up to the length that a checkpoint, stored elsewhere, records."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import NamedTuple, TypeAlias

from sokuji.disk.files import make_folder
from sokuji.errors import DamagedFileError

REMEDY = "restore it from a copy, or start the worker: it rebuilds its state from the lake and the log"
_READ_BYTES = 1 << 20


class Mark(NamedTuple):
    """The valid length of a file, and the CRC-32 of the content up to there."""

    length: int
    checksum: int


AnyMark: TypeAlias = Mark | int
"""A mark, or a length alone: checkpoints of sokuji before 0.1 had no checksums."""


class MarkedFile:
    """An append-only file. In a crash, bytes appended after opening are lost unless a later `mark` was stored."""

    def __init__(self, path: Path, mark: AnyMark) -> None:
        """Open `path`, created if it does not exist, and cut off everything after `mark`.

        Raises:
            DamagedFileError: the content up to `mark` has changed.
        """
        make_folder(path.parent)
        self.path = path
        self._checksum = check(path, mark)
        self._file = path.open("a+b")
        self._file.truncate(mark if isinstance(mark, int) else mark.length)

    def read(self) -> bytes:
        """The valid content."""
        self._file.seek(0)
        return self._file.read()

    def append(self, content: bytes) -> None:
        """Append to the end."""
        self._file.write(content)
        self._checksum = zlib.crc32(content, self._checksum)

    def mark(self) -> Mark:
        """Make everything durable and return the mark of the end."""
        self._file.flush()
        os.fdatasync(self._file.fileno())
        return Mark(self._file.tell(), self._checksum)

    def close(self) -> None:
        """Close the file. Content appended after the last mark may be lost."""
        self._file.close()


class Unkept:
    """A `MarkedFile` without a file, for state that is not stored: appended content is dropped."""

    def read(self) -> bytes:
        """No content."""
        return b""

    def append(self, content: bytes) -> None:
        """Drop the bytes."""

    def mark(self) -> Mark:
        """The mark of an empty file."""
        return Mark(0, 0)

    def close(self) -> None:
        """Do nothing."""


def open_marked(folder: Path | None, name: str, mark: AnyMark) -> MarkedFile | Unkept:
    """Open the file with this name in `folder`; without a folder, a stand-in that stores nothing. Raises like `MarkedFile`."""
    return Unkept() if folder is None else MarkedFile(folder / name, mark)


def check(path: Path, mark: AnyMark) -> int:
    """The CRC-32 of the content of `path` up to `mark`. A missing file counts as empty.

    Raises:
        DamagedFileError: the file is shorter than the mark, or has other content.
    """
    length, expected = mark if isinstance(mark, Mark) else (mark, None)
    size = path.stat().st_size if path.exists() else 0
    if size < length:
        raise DamagedFileError(path, f"it has {size} bytes, but {length} were written and synced", REMEDY)
    checksum, left = 0, length
    if length:
        with path.open("rb") as file:
            while left and (part := file.read(min(left, _READ_BYTES))):
                checksum, left = zlib.crc32(part, checksum), left - len(part)
    if expected is not None and checksum != expected:
        raise DamagedFileError(path, f"its first {length} bytes have the checksum {checksum:08x}, and {expected:08x} was written", REMEDY)
    return checksum
