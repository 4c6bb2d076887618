"""How far the worker has come, for whoever waits for decisions: offsets in a file that all processes map. And whether one runs at all."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Mapping
from pathlib import Path

from sokuji.log.ends import Ends

_LOCK = struct.Struct("hhqqi4x")
"""`struct flock` of 64-bit Linux: type, whence, start, length, process."""


class Progress:
    """By partition of the events log, the offset before which every event's decisions are in the decisions log."""

    def __init__(self, path: Path, partitions: int) -> None:
        """Open the file, made if it is not there."""
        self.path, self._ends = path, Ends(path, partitions)
        # Two, as who holds a lock does not see it: a process may be both, the worker and who asks.
        self._held, self._asking = (os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) for _ in range(2))

    def publish(self, ends: Mapping[int, int]) -> None:
        """Say that the worker has come to `ends`. During a replay it has been further already."""
        for partition, end in ends.items():
            self._ends[partition] = max(self._ends.certain(partition), end)

    def begin(self, log_ends: Mapping[int, int]) -> None:
        """A worker starts on a log that ends there. Beyond, no worker has come: that was another log, or this one is an older copy."""
        for partition, end in log_ends.items():
            self._ends[partition] = min(self._ends.certain(partition), end)

    def current(self) -> dict[int, int]:
        """How far the state is up to date: nowhere while nobody keeps it so, as in a replay it is behind what `read` says."""
        return self.read() if self.is_led() else {}

    def read(self) -> dict[int, int]:
        """How far it has come, in a replay the one before it."""
        return {partition: self._ends.certain(partition) for partition in range(len(self._ends))}

    def lead(self) -> None:
        """Say that the state is up to date from now on, until `leave` or the death of the process."""
        fcntl.fcntl(self._held, fcntl.F_OFD_SETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))

    def leave(self) -> None:
        """Nobody keeps the state up to date any more."""
        fcntl.fcntl(self._held, fcntl.F_OFD_SETLK, _LOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0))

    def is_led(self) -> bool:
        """Whether a worker runs whose state is up to date: it lives, and does not repeat what one before it had done. In 1 us."""
        found = fcntl.fcntl(self._asking, fcntl.F_OFD_GETLK, _LOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0))
        kind: int = _LOCK.unpack(found)[0]
        return kind != fcntl.F_UNLCK

    def close(self) -> None:
        """Unmap the file, and leave."""
        self._ends.close()
        os.close(self._held)
        os.close(self._asking)
