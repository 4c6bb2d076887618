"""A file that is only appended to, and counts as far as somebody else's checkpoint says."""

from __future__ import annotations

import os
from pathlib import Path

from sokuji.errors import SokujiError
from sokuji.log.files import make_folder


class MarkedFile:
    """Bytes appended since it was opened are lost in a crash unless a `mark` taken after them was kept."""

    def __init__(self, path: Path, mark: int) -> None:
        """Open `path`, made if it is not there, and cut off what lies behind `mark`.

        Raises:
            SokujiError: the file is shorter than `mark`: it was durable up to there.
        """
        make_folder(path.parent)
        self.path = path
        size = path.stat().st_size if path.exists() else 0
        if size < mark:
            raise SokujiError(f"{path} has {size} bytes, but {mark} were written and synced; restore it from a copy")
        self._file = path.open("a+b")
        self._file.truncate(mark)

    def read(self) -> bytes:
        """All that counts."""
        self._file.seek(0)
        return self._file.read()

    def append(self, content: bytes) -> None:
        """Add to the end."""
        self._file.write(content)

    def mark(self) -> int:
        """Make everything durable and return where it ends."""
        self._file.flush()
        os.fdatasync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file; what was appended after the last mark may be lost."""
        self._file.close()
