"""How far the worker has come, for whoever waits for decisions: offsets in a file that all processes map."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path

from sokuji.log.files import make_folder, replace_file

_OFFSET_BYTES = 8


class Progress:
    """By partition of the events log, the offset before which every event's decisions are in the decisions log."""

    def __init__(self, path: Path, partitions: int) -> None:
        """Open the file, made if it is not there."""
        make_folder(path.parent)
        if not path.exists():
            replace_file(path, bytes(partitions * _OFFSET_BYTES))
        with path.open("r+b") as file:
            self._ends = memoryview(mmap.mmap(file.fileno(), partitions * _OFFSET_BYTES)).cast("Q")

    def publish(self, ends: Mapping[int, int]) -> None:
        """Say that the worker has come to `ends`. During a replay it has been further already."""
        for partition, end in ends.items():
            self._ends[partition] = max(self._ends[partition], end)

    def read(self) -> dict[int, int]:
        """How far it has come."""
        return dict(enumerate(self._ends))

    def close(self) -> None:
        """Unmap the file."""
        self._ends.release()
