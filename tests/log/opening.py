"""The logs of a test: on the disk, or in memory with offsets that have gaps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from sokuji.log.base import Log
from sokuji.log.local.log import LocalLog
from sokuji.log.memory import Memory, MemoryLog

GAP = 3

Opening = Callable[[Path, pa.Schema, str, int], Log]
"""Opens the log of this name and of so many partitions in a folder, one and the same each time."""


def on_disk(folder: Path, schema: pa.Schema, name: str, partitions: int, *, segment_bytes: int = 64 * 1024 * 1024) -> Log:
    return LocalLog(folder, schema, name=name, partitions=partitions, segment_bytes=segment_bytes)


class InMemory:
    """Opens logs that leave out offsets past each append. One is gone when the folder of its name is."""

    def __init__(self) -> None:
        self._memories: dict[Path, Memory] = {}

    def __call__(self, folder: Path, schema: pa.Schema, name: str, partitions: int) -> Log:
        place = folder / name
        if not place.exists():
            place.mkdir(parents=True)
            self._memories[place] = Memory()
        return MemoryLog(self._memories[place], schema, name=name, partitions=partitions, gap=GAP)
