"""The online store contract: the state of every profile, one fixed-width row each.

One writer reads and writes it by key in batches (`OnlineStore`); others read it key by key beside the writer (`OnlineReader`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Rows: TypeAlias = npt.NDArray[np.uint8]
"""Rows of one width: uint8[n, width]."""

Keys: TypeAlias = pa.StringArray
"""Keys of a batch: `pa.string()` without nulls, a slice or not. Any text is a key, the empty one too."""


class Found(NamedTuple):
    """What was asked for, in the order of the keys."""

    rows: Rows
    """uint8[n, width], the caller's own; zero bytes, the state of a profile never seen, where there is no row."""
    found: npt.NDArray[np.bool_]
    """bool[n]: which keys have a row."""


class OnlineStore(ABC):
    """Rows by key, and checkpoints of them.

    One store has one writer, and the writer is one thread. What it puts is in its own memory until a checkpoint: after a crash the
    store is as it was at some complete checkpoint, with the offsets and blobs of that one, so that a replay from there gives the
    state again. Nothing here reads a clock: equal calls give equal states.
    """

    width: int
    """Bytes of a row: a multiple of 8."""

    @abstractmethod
    def get_many(self, keys: Keys, room: Rows | None = None) -> Found:
        """The rows of `keys` as last put, wherever they are kept. A key may come several times. Changes nothing.

        They are put into the first rows of `room`, uint8[at least len(keys), width], where it is given: memory that was used before
        is several times faster than new memory.

        Raises:
            OnlineStoreError: `keys` has another type than `pa.string()`, or nulls.
        """

    @abstractmethod
    def put_many(self, keys: Keys, rows: Rows, now_us: int) -> None:
        """Give each key its row. Of a key that comes several times the last row counts. `rows` is copied.

        `now_us` is the time of the batch (microseconds since 1970): the rows' last-seen time, for `expire` and for what has to
        leave memory first. It never runs back: an earlier time than one before counts as that one.

        Raises:
            OnlineStoreError: `keys` as in `get_many`, `rows` is not uint8[len(keys), width], or there is no room left to store into,
                or the checkpoint under way, which had to be waited for to make room, failed.
        """

    @abstractmethod
    def checkpoint(self, offsets: Mapping[str, int], blobs: Mapping[str, bytes] | None = None, *, wait: bool = False) -> None:
        """Begin a checkpoint of everything put so far, with the offsets it reflects and the small blobs that belong to it.

        The state is taken before the return; it becomes durable in the background, or, with `wait`, before the return. `offsets`
        and `blobs` are complete: names of earlier checkpoints that are not given again are gone. A checkpoint that is still under
        way is waited for first.

        Raises:
            OnlineStoreError: this checkpoint (with `wait`) or the one before failed; the last complete one stands, what was to be
                in the failed one will be in the next, and the next call tries again.
        """

    @abstractmethod
    def offsets(self) -> dict[str, int]:
        """The offsets of the last complete checkpoint: the log may forget what lies before them. Empty when there is none.

        Raises:
            OnlineStoreError: the checkpoint that was under way failed.
        """

    @abstractmethod
    def blobs(self) -> dict[str, bytes]:
        """The blobs of the last complete checkpoint. Empty when there is none. Raises as `offsets`."""

    @abstractmethod
    def expire(self, older_than_us: int) -> None:
        """Drop every row last put before this time: as if never seen. Part of the next checkpoint, like a put."""

    @abstractmethod
    def erase(self, keys: Keys) -> None:
        """Remove keys from memory, disk and every checkpoint, at once and for good; keys without a row are a no-op.

        Durable on return. The last checkpoint keeps its offsets and loses these rows. Slow (it may rewrite all files): for requests
        of privacy, not for the stream. A key may be put again. Raises `OnlineStoreError` as `get_many` and `checkpoint`.
        """

    @abstractmethod
    def close(self) -> None:
        """Wait for a checkpoint under way and release what is held; further calls are errors. Closing twice is a no-op.

        Does not checkpoint: what was put since the last one is gone.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class OnlineReader(ABC):
    """Reads the rows of a store beside its writer, without a lock. Not thread-safe: one a thread.

    A reader sees each row whole, and as last put when it looks, whether a checkpoint has it or not; what was expired or erased is gone.
    When the writer has closed the store or died, the rows stay as they were until a writer opens the store again: from then on the
    reader sees what that one has, which begins with the last complete checkpoint.
    """

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """The row of `key`, `OnlineStore.width` bytes; None where there is none.

        Raises:
            OnlineStoreError: the writer died while it changed this row, or what finds it, and none has opened the store since; or a file
                is damaged.
        """

    @abstractmethod
    def offsets(self) -> dict[str, int]:
        """The offsets of the last complete checkpoint, which may be older than the rows. Empty when there is none.

        Raises:
            DamagedFileError: they are not as they were written.
            FormatError: a newer release wrote them.
        """

    @abstractmethod
    def close(self) -> None:
        """Release what is held; further calls are errors. Closing twice is a no-op."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class OpenStore(Protocol):
    """Opens a store for its writer."""

    def __call__(self, folder: Path, *, width: int, rows_max: int) -> OnlineStore:
        """Open the store in `folder` as at its last complete checkpoint; make it if it is not there.

        Nothing else may be in `folder`, which may be moved or deleted while nobody has the store open. `width` is bytes of a row, a
        multiple of 8, fixed when the store is made. `rows_max` is how many rows may be in memory where there is another place for them.

        Raises:
            OnlineStoreError: another writer has it open, its rows have another width, or a file is missing or damaged.
            DamagedFileError: the file that names the others is damaged.
            FormatError: a newer release wrote it.
        """


OpenReader: TypeAlias = Callable[[Path], OnlineReader]
"""Opens a reader of the store in a folder. Raises `OnlineStoreError`: no writer has it open, or the last one closed it."""
