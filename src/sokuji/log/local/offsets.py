"""Committed offsets of consumers: one small file per consumer, replaced as a whole at each commit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from sokuji.disk.files import exclusive, sync_folder
from sokuji.disk.stored import read_record, write_record
from sokuji.errors import DamagedFileError, LogError

_FORMAT = 2  # 1 had no checksum, and no format
_REMEDY = "restore it from a copy, or delete it: the consumer then reads the log from its beginning, and skips what it has"
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_SUFFIX = ".json"


class ConsumerOffsets:
    """The committed offsets of a log's consumers, shared by all processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def commit(self, consumer: str, offsets: Mapping[int, int]) -> None:
        """Store `offsets` durably; partitions not named keep theirs."""
        path = self._path(consumer)
        with exclusive(self._folder / "lock"):
            merged = self.committed(consumer) | dict(offsets)
            write_record(path, merged, format=_FORMAT)

    def committed(self, consumer: str) -> dict[int, int]:
        """The committed offsets of one consumer by partition.

        Raises:
            DamagedFileError: the file cannot be read.
            FormatError: a newer release wrote it.
        """
        try:
            return read_record(self._path(consumer), dict[int, int], format=_FORMAT, remedy=_REMEDY)
        except FileNotFoundError:
            return {}

    def forget(self, consumer: str) -> None:
        """Remove the offsets of a consumer, if it has any."""
        with exclusive(self._folder / "lock"):
            if (path := self._path(consumer)).exists():
                path.unlink()
                sync_folder(self._folder)

    def damaged(self, consumer: str, reason: str) -> DamagedFileError:
        """The error for offsets that cannot belong to this log."""
        return DamagedFileError(self._path(consumer), reason, _REMEDY)

    def lowest(self, partition: int) -> int | None:
        """The offset up to which every consumer has read; None if there is no consumer."""
        consumers = [path.name.removesuffix(_SUFFIX) for path in self._folder.iterdir() if path.suffix == _SUFFIX]
        return min((self.committed(consumer).get(partition, 0) for consumer in consumers), default=None)

    def _path(self, consumer: str) -> Path:
        if _NAME.fullmatch(consumer) is None:
            raise LogError(f"{consumer!r} cannot name a consumer; use letters, digits, '.', '_' and '-'")
        return self._folder / f"{consumer}{_SUFFIX}"
