"""The online store in the memory of one process: only what the contract asks, for tests of code that uses it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sokuji.disk.files import make_folder
from sokuji.errors import OnlineStoreError
from sokuji.online.base import Found, Keys, OnlineReader, OnlineStore, Rows
from sokuji.online.checks import check_keys, check_rows

_ID_FILE = "memory"


class _Entry(NamedTuple):
    row: bytes
    seen_us: int


class _Checkpoint(NamedTuple):
    entries: dict[str, _Entry]
    clock_us: int
    offsets: dict[str, int]
    blobs: dict[str, bytes]


class _Kept:
    """The state of one store that outlives its writer."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.entries: dict[str, _Entry] = {}
        self.checkpoint = _Checkpoint({}, 0, {}, {})
        self.has_writer = False


class MemoryStores:
    """Stores that live as long as this object. The folder holds only the store's id, so the store moves and is deleted with its folder."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    def open(self, folder: Path, *, width: int, rows_max: int) -> OnlineStore:  # noqa: ARG002 there is no other place for rows
        """Open a store as `OpenStore` says."""
        make_folder(folder)
        file = folder / _ID_FILE
        if not file.exists():
            file.write_text(secrets.token_hex(), encoding="ascii")
        kept = self._kept.setdefault(file.read_text(encoding="ascii"), _Kept(width))
        if kept.has_writer:
            raise OnlineStoreError(f"the online store in {folder} is open already; a store has one writer")
        if kept.width != width:
            raise OnlineStoreError(f"the online store in {folder} has rows of {kept.width} bytes, not {width}")
        return MemoryStore(kept)

    def read(self, folder: Path) -> OnlineReader:
        """Open a reader as `OpenReader` says."""
        file = folder / _ID_FILE
        kept = self._kept.get(file.read_text(encoding="ascii")) if file.exists() else None
        if kept is None or not kept.has_writer:
            raise OnlineStoreError(f"the online store in {folder} is not running: open it for its writer first")
        return MemoryReader(kept)


class MemoryStore(OnlineStore):
    """Rows in a dict, and a copy of it as the last checkpoint."""

    def __init__(self, kept: _Kept) -> None:
        """Become the writer of `kept`, starting from its last checkpoint. Created by `MemoryStores.open`."""
        self.width, self._kept = kept.width, kept
        kept.has_writer, kept.entries, self._clock_us = True, dict(kept.checkpoint.entries), kept.checkpoint.clock_us

    def get_many(self, keys: Keys, room: Rows | None = None) -> Found:
        """See `OnlineStore.get_many`."""
        check_keys(keys)
        entries, nothing = [self._kept.entries.get(key) for key in keys.to_pylist()], bytes(self.width)
        stored = b"".join(nothing if entry is None else entry.row for entry in entries)
        rows = np.empty((len(keys), self.width), np.uint8) if room is None else room[: len(keys)]
        rows[:] = np.frombuffer(stored, np.uint8).reshape(rows.shape)
        return Found(rows, np.array([entry is not None for entry in entries], np.bool_))

    def put_many(self, keys: Keys, rows: Rows, now_us: int) -> None:
        """See `OnlineStore.put_many`."""
        check_keys(keys)
        check_rows(rows, len(keys), self.width)
        self._clock_us = max(self._clock_us, now_us)
        self._kept.entries.update((key, _Entry(row.tobytes(), self._clock_us)) for key, row in zip(keys.to_pylist(), rows, strict=True))

    def checkpoint(self, offsets: Mapping[str, int], blobs: Mapping[str, bytes] | None = None, *, wait: bool = False) -> None:  # noqa: ARG002
        """See `OnlineStore.checkpoint`. The checkpoint is always complete on return."""
        self._kept.checkpoint = _Checkpoint(dict(self._kept.entries), self._clock_us, dict(offsets), dict(blobs or {}))

    def offsets(self) -> dict[str, int]:
        """See `OnlineStore.offsets`."""
        return dict(self._kept.checkpoint.offsets)

    def blobs(self) -> dict[str, bytes]:
        """See `OnlineStore.blobs`."""
        return dict(self._kept.checkpoint.blobs)

    def expire(self, older_than_us: int) -> None:
        """See `OnlineStore.expire`."""
        self._kept.entries = {key: entry for key, entry in self._kept.entries.items() if entry.seen_us >= older_than_us}

    def erase(self, keys: Keys) -> None:
        """See `OnlineStore.erase`."""
        check_keys(keys)
        for key in keys.to_pylist():
            self._kept.entries.pop(key, None)
            self._kept.checkpoint.entries.pop(key, None)

    def close(self) -> None:
        """See `OnlineStore.close`."""
        if "_kept" in self.__dict__:
            self._kept.has_writer = False
            del self._kept


class MemoryReader(OnlineReader):
    """Reads beside a `MemoryStore`, in its process."""

    def __init__(self, kept: _Kept) -> None:
        """Read the rows of `kept`. Created by `MemoryStores.read`."""
        self._kept = kept

    def get(self, key: str) -> bytes | None:
        """See `OnlineReader.get`."""
        entry = self._kept.entries.get(key)
        return None if entry is None else entry.row

    def offsets(self) -> dict[str, int]:
        """See `OnlineReader.offsets`."""
        return dict(self._kept.checkpoint.offsets)

    def close(self) -> None:
        """See `OnlineReader.close`."""
        self.__dict__.pop("_kept", None)
