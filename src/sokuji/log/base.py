"""The log contract. The log is the truth: everything after it is a reader with an offset and can be rebuilt from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

READ_BYTES_MAX = 128 * 1024 * 1024
"""A read ends after the frame that reaches this many bytes, so that a large `limit` cannot take all memory."""


class Read(NamedTuple):
    """Rows of one partition, in their order."""

    batch: pa.RecordBatch
    offsets: npt.NDArray[np.int64]
    """Of each row, strictly increasing."""
    next_offset: int
    """Where to read on: greater than all of `offsets`, and not greater than that of any row that comes after these."""


class Log(ABC):
    """One durable stream of Arrow rows of one schema, split into partitions that are each strictly ordered.

    A row's offset is greater than that of the row before it in the partition, is not negative, and never changes. There may be gaps
    between offsets, which a backend leaves for purposes of its own. So offsets are compared, never subtracted: rows are counted as rows,
    or by `lag`. An offset in a gap is a place, too: to read from there gives the rows after it.

    Several processes may append and read at the same time.
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

        An empty batch is a no-op that returns the partition's end. If the call raises, any prefix of what was given may have been
        stored; a caller that retries may store rows twice (readers remove duplicates by message id).

        Raises:
            LogError: a batch does not have the log's schema, or the partition does not exist.
        """

    @abstractmethod
    def read(self, partition: int, offset: int, limit: int, *, until: int | None = None) -> Read:
        """Up to `limit` rows from `offset` on, none of them at `until` or past it.

        Fewer rows than `limit` come if they reach `READ_BYTES_MAX`, and if there are no more: then `next_offset` is the partition's end,
        or `until` if that is less, even where a gap lies before it. From there on, a read gives no row and `offset` itself.

        Raises:
            OffsetTrimmedError: retention removed `offset`.
            CorruptLogError: what is stored fails its checksum.
        """

    @abstractmethod
    def start(self, partition: int) -> int:
        """No row that is kept lies before this offset; equal to `end` when there is none."""

    @abstractmethod
    def end(self, partition: int) -> int:
        """No durable row lies at this offset or past it, and the next one will. It never goes back."""

    @abstractmethod
    def lag(self, offsets: Mapping[int, int]) -> int:
        """How many rows lie from these offsets on, of all partitions named together.

        An estimate if offsets have gaps: never less than there are, and 0 if and only if no offset is less than its partition's end.
        """

    @abstractmethod
    def before_end(self, partition: int, rows: int) -> int:
        """An offset from which about the last `rows` rows lie: never more of them, fewer if offsets have gaps."""

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
