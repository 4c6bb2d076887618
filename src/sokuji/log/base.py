"""The log contract. The log is the truth: everything after it is a reader with an offset and can be rebuilt from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import NamedTuple, Self

import pyarrow as pa

READ_BYTES_MAX = 128 * 1024 * 1024
"""A read ends after the frame that reaches this many bytes, so that a large `limit` cannot take all memory."""


class Read(NamedTuple):
    """What a read gave: rows `[offset, next_offset)` of one partition."""

    batch: pa.RecordBatch
    next_offset: int


class Log(ABC):
    """One durable stream of Arrow rows of one schema, split into partitions that are each strictly ordered.

    Offsets count rows: the first row ever appended to a partition has offset 0, and the offset of a row never changes. Several
    processes may append and read at the same time.
    """

    name: str
    schema: pa.Schema
    partitions: int

    def append(self, partition: int, batch: pa.RecordBatch) -> int:
        """Append `batch` to one partition and return the offset of its first row; durable (fsynced) on return."""
        return self.append_many({partition: batch})[partition]

    @abstractmethod
    def append_many(self, batches: Mapping[int, pa.RecordBatch]) -> dict[int, int]:
        """Append one batch to each of several partitions in one group commit; first offsets by partition, all durable on return.

        Rows of a batch get consecutive offsets. An empty batch is a no-op that returns the partition's end. If the call raises,
        any prefix of what was given may have been stored; a caller that retries may store rows twice (readers remove duplicates
        by message id).

        Raises:
            LogError: a batch does not have the log's schema, or the partition does not exist.
        """

    @abstractmethod
    def read(self, partition: int, offset: int, limit: int) -> Read:
        """Up to `limit` rows from `offset` on; an empty batch and `offset` itself when nothing is there yet.

        Fewer rows come only at the end, or when they reach `READ_BYTES_MAX`: at the end means `next_offset == end(partition)`.

        Raises:
            OffsetTrimmedError: retention removed `offset`.
            CorruptLogError: a whole frame fails its checksum.
        """

    @abstractmethod
    def start(self, partition: int) -> int:
        """The offset of the oldest row that is kept; equal to `end` when there is none."""

    @abstractmethod
    def end(self, partition: int) -> int:
        """The offset the next row will get. A row is counted here only once it is durable."""

    @abstractmethod
    def wait(self, offsets: Mapping[int, int], timeout_seconds: float) -> bool:
        """Block until some partition's end is past its offset here (True), or the time is up (False)."""

    @abstractmethod
    def commit(self, consumer: str, offsets: Mapping[int, int]) -> None:
        """Remember durably, per partition, the next offset `consumer` wants to read. Partitions not named keep theirs.

        Raises:
            LogError: an offset lies past the end, a partition does not exist, or `consumer` is not made of letters, digits, `.`, `_`, `-`.
        """

    @abstractmethod
    def committed(self, consumer: str) -> dict[int, int]:
        """The offsets `consumer` committed; partitions it never committed are absent.

        Raises:
            DamagedFileError: one lies past the end: it is of another log, or the log is an older copy. Whoever remembers offsets by
                itself does the same, as rows would be missing, or others be taken for those that were read.
        """

    @abstractmethod
    def forget(self, consumer: str) -> None:
        """Drop what `consumer` committed, durably: retention does not wait for it any more. Without such a consumer it is a no-op."""

    @abstractmethod
    def trim(self, *, max_age_seconds: float | None = None, max_bytes: int | None = None) -> int:
        """Apply retention and return how many bytes it freed.

        Rows go when they are older than `max_age_seconds`, and the oldest go until what is left fits into `max_bytes` a partition;
        a backend may keep more, as it frees whole files. Only what every consumer has committed past is removed: retention never
        outruns a reader. A consumer exists from its first commit on, so one that has read nothing yet commits where it will begin.
        """

    @abstractmethod
    def close(self) -> None:
        """Release what is held; further calls are errors. Closing twice is a no-op."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
