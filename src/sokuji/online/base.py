"""The online store contract: the state of every profile, one fixed-width row each.

One writer reads and writes rows by key in batches (`OnlineStore`). Others read rows one by one beside the writer (`OnlineReader`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sokuji.closing import Closing

Rows: TypeAlias = npt.NDArray[np.uint8]
"""Rows of equal width: uint8[n, width]."""

Keys: TypeAlias = pa.StringArray
"""Keys of a batch: `pa.string()` without nulls, also as a slice. Any text is a key, also the empty one."""


class Found(NamedTuple):
    """The result of a batch lookup, in the order of the keys."""

    rows: Rows
    """uint8[n, width], owned by the caller. A key without a row has zero bytes, which is the state of a profile never seen."""
    found: npt.NDArray[np.bool_]
    """bool[n]: which keys have a row."""


class OnlineStore(Closing):
    """Rows by key, with checkpoints.

    A store has one writer, which is one thread. Rows that are put stay in the writer's memory until a checkpoint. After a crash, the store
    is as it was at a complete checkpoint, with the offsets and blobs of that checkpoint, so a replay from there restores the state. No
    method reads a clock: equal calls give equal states.
    """

    width: int
    """Bytes of a row: a multiple of 8."""

    @abstractmethod
    def get_many(self, keys: Keys, room: Rows | None = None) -> Found:
        """The rows of `keys` as last put. A key may come several times. Changes nothing.

        With `room`, uint8[at least len(keys), width], the rows go into its first rows: reused memory is several times faster than new
        memory.

        Raises:
            OnlineStoreError: `keys` has another type than `pa.string()`, or nulls.
        """

    @abstractmethod
    def put_many(self, keys: Keys, rows: Rows, now_us: int) -> None:
        """Store a row for each key. For a repeated key, the last row wins. `rows` is copied.

        `now_us` is the time of the batch (microseconds since 1970). It becomes the rows' last-seen time, which decides what `expire` drops
        and
        which rows leave memory first. The time never runs backwards: a time earlier than the last one counts as the last one.

        Raises:
            OnlineStoreError: `keys` is invalid (see `get_many`), `rows` is not uint8[len(keys), width], there is no room left, or the
                running
                checkpoint failed, which had to finish to make room.
        """

    @abstractmethod
    def checkpoint(self, offsets: Mapping[str, int], blobs: Mapping[str, bytes] | None = None, *, wait: bool = False) -> None:
        """Begin a checkpoint of everything put so far, with the offsets that it reflects and the small blobs that belong to it.

        The state is captured before the call returns. It becomes durable in the background, or, with `wait`, before the return. `offsets`
        and
        `blobs` replace those of earlier checkpoints completely. If a checkpoint is still running, the call waits for it first.

        Raises:
            OnlineStoreError: this checkpoint (with `wait`) or the one before failed. The last complete one stays valid, the next one
                includes
                the rows of the failed one, and the next call tries again.
        """

    @abstractmethod
    def offsets(self) -> dict[str, int]:
        """The offsets of the last complete checkpoint; empty if there is none. The log may drop the rows before them.

        Raises:
            OnlineStoreError: the running checkpoint failed.
        """

    @abstractmethod
    def blobs(self) -> dict[str, bytes]:
        """The blobs of the last complete checkpoint; empty if there is none. Raises like `offsets`."""

    @abstractmethod
    def expire(self, older_than_us: int) -> None:
        """Drop every row last put before this time, as if it was never seen. Part of the next checkpoint, like a put."""

    @abstractmethod
    def erase(self, keys: Keys) -> None:
        """Remove keys from memory, disk and every checkpoint, at once and for good. Keys without a row are a no-op.

        The removal is durable on return. The last checkpoint keeps its offsets and loses these rows. Erasing is slow (it may rewrite all
        files): use it for privacy requests, not for the stream. A key may be put again. Raises `OnlineStoreError` like `get_many` and
        `checkpoint`.
        """

    @abstractmethod
    def close(self) -> None:
        """Wait for a running checkpoint and release all resources; further calls are errors. Closing twice is a no-op.

        Does not checkpoint: rows put since the last checkpoint are lost.
        """


class OnlineReader(Closing):
    """Reads the rows of a store beside its writer, without a lock. Not thread-safe: use one reader per thread.

    A reader sees each row complete, as it was last put, checkpointed or not. It does not see expired or erased rows. When the writer has
    closed the store or died, the rows stay as they were until a writer opens the store again. From then on, the reader sees that writer's
    rows, which begin with the last complete checkpoint.
    """

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """The row of `key`, `OnlineStore.width` bytes; None if there is none.

        Raises:
            OnlineStoreError: the writer died while it changed this row or the index entry of it, and no writer has opened the store since;
                or a
                file is damaged.
        """

    @abstractmethod
    def offsets(self) -> dict[str, int]:
        """The offsets of the last complete checkpoint, which may be older than the rows; empty if there is none.

        Raises:
            DamagedFileError: the stored offsets are damaged.
            FormatError: a newer release wrote them.
        """

    @abstractmethod
    def close(self) -> None:
        """Release all resources; further calls are errors. Closing twice is a no-op."""


class OpenStore(Protocol):
    """Opens a store for its writer."""

    def __call__(self, folder: Path, *, width: int, rows_max: int) -> OnlineStore:
        """Open the store in `folder` at its last complete checkpoint; create it if it does not exist.

        `folder` is for this store only. It may be moved or deleted while nobody has the store open. `width` is bytes of a row, a multiple
        of 8,
        fixed when the store is created. `rows_max` limits the rows in memory, if the backend can keep rows elsewhere too.

        Raises:
            OnlineStoreError: another writer has it open, its rows have another width, or a file is missing or damaged.
            DamagedFileError: the manifest is damaged.
            FormatError: a newer release wrote it.
        """


OpenReader: TypeAlias = Callable[[Path], OnlineReader]
"""Opens a reader of the store in a folder. Raises `OnlineStoreError`: no writer has it open, or the last one closed it."""
