"""What consumers have read: one small file a consumer, replaced whole at each commit."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from sokuji.errors import LogError
from sokuji.log.files import exclusive, replace_file

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_SUFFIX = ".json"


class ConsumerOffsets:
    """The committed offsets of a log's consumers, shared by all processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def commit(self, consumer: str, offsets: Mapping[int, int]) -> None:
        """Remember `offsets` durably; partitions not named keep theirs."""
        path = self._path(consumer)
        with exclusive(self._folder / "lock"):
            merged = self.committed(consumer) | dict(offsets)
            replace_file(path, json.dumps(merged).encode())

    def committed(self, consumer: str) -> dict[int, int]:
        """The offsets of one consumer by partition."""
        path = self._path(consumer)
        if not path.exists():
            return {}
        return {int(partition): offset for partition, offset in json.loads(path.read_bytes()).items()}

    def lowest(self, partition: int) -> int | None:
        """The offset up to which every consumer has read; None if there is no consumer."""
        consumers = [path.name.removesuffix(_SUFFIX) for path in self._folder.iterdir() if path.suffix == _SUFFIX]
        return min((self.committed(consumer).get(partition, 0) for consumer in consumers), default=None)

    def _path(self, consumer: str) -> Path:
        if _NAME.fullmatch(consumer) is None:
            raise LogError(f"{consumer!r} cannot name a consumer; use letters, digits, '.', '_' and '-'")
        return self._folder / f"{consumer}{_SUFFIX}"
