"""Offsets by partition in a small file that all processes map into memory.

    file = offset (u64) of each partition, then each again with all bits inverted

A process killed between the two writes leaves the new offset in one copy and the old one in the other. Damage leaves one right copy.
If the larger copy may be wrong, the smaller one is still safe: everything before it is there.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from sokuji.disk.files import exclusive, make_folder, replace_file

_OFFSET_BYTES = 8
_ALL_BITS = 2**64 - 1


class Ends:
    """The current offsets."""

    def __init__(self, path: Path, partitions: int) -> None:
        """Map the file. A file that is missing or has another length is created with zeros; its user then determines the offsets again."""
        make_folder(path.parent)
        with exclusive(path.with_name(f"{path.name}.lock")):
            stored = path.read_bytes() if path.exists() else b""
            if len(stored) == partitions * _OFFSET_BYTES:  # an old file with one copy; changed in place, as others may have mapped it
                with path.open("ab") as file:
                    file.write(bytes(byte ^ 0xFF for byte in stored))
            elif len(stored) != 2 * partitions * _OFFSET_BYTES:
                replace_file(path, bytes(partitions * _OFFSET_BYTES) + b"\xff" * partitions * _OFFSET_BYTES)
        with path.open("r+b") as file:
            self._words = memoryview(mmap.mmap(file.fileno(), 2 * partitions * _OFFSET_BYTES)).cast("Q")
        self._partitions = partitions

    def __getitem__(self, partition: int) -> int:
        return self._words[partition]

    def __setitem__(self, partition: int, offset: int) -> None:
        self._words[partition] = offset
        self._words[self._partitions + partition] = offset ^ _ALL_BITS

    def __len__(self) -> int:
        return self._partitions

    def certain(self, partition: int) -> int:
        """The smaller of the two copies: the offset itself or, while another process changes it, perhaps the previous one."""
        return min(self._words[partition], self._words[self._partitions + partition] ^ _ALL_BITS)

    def close(self) -> None:
        """Unmap the file."""
        self._words.release()
