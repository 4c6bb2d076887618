"""How far the worker has come, for processes that wait for decisions: offsets in a shared memory map. And whether a worker runs."""

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
        """Open or create the file."""
        self.path, self._ends = path, Ends(path, partitions)
        # Two descriptors, because a lock is not visible to its holder: one process may be both the worker and the one that asks.
        self._held, self._asking = (os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) for _ in range(2))

    def publish(self, ends: Mapping[int, int]) -> None:
        """Record that the worker has come to `ends`. During a replay the recorded offsets may be higher already; they stay."""
        for partition, end in ends.items():
            self._ends[partition] = max(self._ends.certain(partition), end)

    def begin(self, log_ends: Mapping[int, int]) -> None:
        """Record that a worker starts on a log with these ends. Higher offsets come from another log, or this log is an older copy."""
        for partition, end in log_ends.items():
            self._ends[partition] = min(self._ends.certain(partition), end)

    def current(self) -> dict[int, int]:
        """The offsets up to which the state is up to date; empty while no worker keeps it so (in a replay, the state is behind `read`)."""
        return self.read() if self.is_led() else {}

    def read(self) -> dict[int, int]:
        """How far the worker has come; in a replay, how far the one before had come."""
        return {partition: self._ends.certain(partition) for partition in range(len(self._ends))}

    def lead(self) -> None:
        """Declare the state up to date from now on, until `leave` or the death of the process."""
        fcntl.fcntl(self._held, fcntl.F_OFD_SETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))

    def leave(self) -> None:
        """Declare that nobody keeps the state up to date any more."""
        fcntl.fcntl(self._held, fcntl.F_OFD_SETLK, _LOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0))

    def is_led(self) -> bool:
        """Whether a worker runs whose state is up to date: it lives and is not replaying. Takes 1 us."""
        found = fcntl.fcntl(self._asking, fcntl.F_OFD_GETLK, _LOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0))
        kind: int = _LOCK.unpack(found)[0]
        return kind != fcntl.F_UNLCK

    def close(self) -> None:
        """Unmap the file and leave."""
        self._ends.close()
        os.close(self._held)
        os.close(self._asking)
