"""The file with a store's rows in memory, mapped by its processes: one writes, any number read without a lock.

    header  u64[512]: see the constants
    index   u64[buckets]: open addressing with linear probing; 0 if empty, else the low digest's upper half << 32 | slot + 1
    slots   u64[slots, 3 + width / 8]: version, high and low digest, row

The version of a slot is odd while the writer changes it (a seqlock). So a reader that sees the same even version before and after it
copied a row has a consistent row. `INDEX_VERSION` does the same for index entries that move. A new entry needs no version, as its slot
is complete before. The file has its full length from the start, but uses memory only as rows are added.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from sokuji.disk.files import replace_file
from sokuji.errors import OnlineStoreError

MAGIC = int.from_bytes(b"soktabl1", "little")
HEADER_BYTES = 4096
SLOT_HEADER_WORDS = 3

# Words of the header.
FORMAT, WIDTH, SLOTS, SALT, SALT_END = 0, 1, 2, 3, 5
SUPERSEDED = 5
"""1: the writer has left this table; `current` names the next one, or will soon."""
INDEX_VERSION = 6
RUNS_VERSION = 7
"""A seqlock over the next three words, which a reader needs to find rows that are on disk only."""
COLD, EXPIRED_BEFORE, RUN_COUNT, RUN_IDS = 8, 9, 10, 11
RUNS_MAX = HEADER_BYTES // 8 - RUN_IDS

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  -- files there have unguessable names, are made new and are the owner's alone
_GROWTH_BYTES = 32 * 1024 * 1024
_CURRENT = "current"


@dataclass(frozen=True)
class Layout:
    """The positions in a table file."""

    width: int
    slots: int

    @property
    def buckets(self) -> int:
        """The number of buckets: a power of two, so that a mask finds the bucket. At most half are used, which keeps probing short."""
        return 1 << max(2 * self.slots - 1, 7).bit_length()

    @property
    def slot_words(self) -> int:
        """Words of a slot."""
        return SLOT_HEADER_WORDS + self.width // 8

    @property
    def index_word(self) -> int:
        """The first word of the index."""
        return HEADER_BYTES // 8

    @property
    def slots_word(self) -> int:
        """The first word of the slots."""
        return self.index_word + self.buckets

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole file."""
        return 8 * (self.slots_word + self.slots * self.slot_words)


def current_table(folder: Path) -> Path | None:
    """The table that the writer of the store in `folder` published; None if there is none, or its file has no valid path."""
    try:
        path = (folder / _CURRENT).read_bytes()
    except FileNotFoundError:
        return None
    return Path(os.fsdecode(path)) if path and b"\0" not in path else None


class TableFile:
    """A table, as its writer holds it: created empty, published once filled, removed at the end."""

    def __init__(self, folder: Path, layout: Layout, salt: bytes) -> None:
        """Create a table for the store in `folder`: in shared memory if it has room, else in the folder itself.

        Raises:
            OnlineStoreError: there is no room for its index.
        """
        self.layout, self._folder = layout, folder
        self._prefix = f"sokuji-{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]}-"
        self.path = self._place() / f"{self._prefix}{secrets.token_hex(8)}.table"
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self._reserved = 0
        try:
            self._lengthen()
            self._reserve(8 * layout.slots_word)
        except BaseException:
            os.close(self._descriptor)
            self.path.unlink()
            raise
        self.memory = mmap.mmap(self._descriptor, layout.size_bytes)
        words = memoryview(self.memory).cast("Q")
        words[WIDTH], words[SLOTS] = layout.width, layout.slots
        self.memory[8 * SALT : 8 * SALT_END] = salt
        words[FORMAT] = MAGIC

    def _place(self) -> Path:
        if _SHARED_MEMORY.is_dir():
            room = os.statvfs(_SHARED_MEMORY)
            if room.f_bavail * room.f_frsize >= self.layout.size_bytes:
                return _SHARED_MEMORY
        return self._folder

    def _lengthen(self) -> None:
        try:
            os.ftruncate(self._descriptor, self.layout.size_bytes)
        except OSError as error:
            raise OnlineStoreError(f"a table of {self.layout.size_bytes:,} bytes cannot be made: {error}; lower rows_max") from error

    def reserve(self, slots: int) -> None:
        """Make sure that the first `slots` slots have memory. Touching a page without memory would kill the process.

        Raises:
            OnlineStoreError: there is no room.
        """
        needed = 8 * (self.layout.slots_word + slots * self.layout.slot_words)
        if needed > self._reserved:
            self._reserve(min(self.layout.size_bytes, needed + _GROWTH_BYTES))

    def _reserve(self, size: int) -> None:
        try:
            os.posix_fallocate(self._descriptor, self._reserved, size - self._reserved)
        except OSError as error:
            raise OnlineStoreError(f"no room for {size:,} bytes of rows in {self.path}: {error}; lower rows_max or free space") from error
        self._reserved = size

    def publish(self) -> None:
        """Point readers to this table, and remove the tables of earlier writers. Readers leave an old table at their next read."""
        replace_file(self._folder / _CURRENT, os.fsencode(self.path))
        for folder in {self._folder, _SHARED_MEMORY}:
            for path in folder.glob(f"{self._prefix}*.table"):
                if path != self.path:
                    _supersede(path)
                    path.unlink()

    def close(self) -> None:
        """Remove the table. Readers that have mapped it keep reading it until there is another."""
        memoryview(self.memory).cast("Q")[SUPERSEDED] = 1
        os.close(self._descriptor)
        if current_table(self._folder) == self.path:
            (self._folder / _CURRENT).unlink()
        self.path.unlink(missing_ok=True)  # a larger table's `publish` may have removed it already


def _supersede(path: Path) -> None:
    with path.open("r+b") as file:
        if os.fstat(file.fileno()).st_size >= HEADER_BYTES:
            file.seek(8 * SUPERSEDED)
            file.write((1).to_bytes(8, "little"))
