"""The log contract. The log is the source of truth: everything after it is a reader with an offset and can be rebuilt from it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sokuji.closing import Closing

READ_BYTES_MAX = 128 * 1024 * 1024
"""A read ends after the frame that reaches this many bytes, so that a large `limit` cannot take all memory."""


class Read(NamedTuple):
    """Rows of one partition, in their order."""

    batch: pa.RecordBatch
    offsets: npt.NDArray[np.int64]
    """The offset of each row, strictly increasing."""
    next_offset: int
    """The offset to read from next: greater than all of `offsets`, and at most that of the next row."""


class Log(Closing):
    """One durable stream of Arrow rows with one schema, split into partitions. Each partition is strictly ordered.

    A row's offset is greater than that of the row before it in the partition, is not negative, and never changes. There may be gaps between
    offsets, which a backend leaves for its own purposes. So offsets are compared, never subtracted. Count rows as rows, or with `lag`. An
    offset in a gap is valid: a read from there returns the rows after it.

    Several processes may append and read at the same time.
    """

    name: str
    schema: pa.Schema
    partitions: int

    def append(self, partition: int, batch: pa.RecordBatch) -> int:
        """Append `batch` to one partition and return the offset of its first row. The rows are durable (fsynced) on return."""
        return self.append_many({partition: batch})[partition]

    @abstractmethod
    def append_many(self, batches: Mapping[int, pa.RecordBatch]) -> dict[int, int]:
        """Append one batch to each of several partitions in one group commit.

        Returns first offsets by partition; all rows are durable on return.

        An empty batch is a no-op that returns the partition's end. If the call raises, any prefix of the batches may have been stored. A
        caller
        that retries may store rows twice (readers deduplicate by message id).

        Raises:
            LogError: a batch does not have the log's schema, or the partition does not exist.
        """

    @abstractmethod
    def read(self, partition: int, offset: int, limit: int, *, until: int | None = None) -> Read:
        """Up to `limit` rows from `offset` on, all of them before `until`.

        Fewer rows than `limit` come if they reach `READ_BYTES_MAX`, or if there are no more. In the second case, `next_offset` is the
        partition's end, or `until` if that is less, even if a gap lies before it. A read from there returns no row and `offset` itself.

        Raises:
            OffsetTrimmedError: retention removed `offset`.
            CorruptLogError: stored data fails its checksum.
        """

    @abstractmethod
    def start(self, partition: int) -> int:
        """The smallest offset that a kept row may have; equal to `end` if the partition has no rows."""

    @abstractmethod
    def end(self, partition: int) -> int:
        """An offset greater than that of every durable row; the next row gets this offset or a greater one. The end never moves back."""

    @abstractmethod
    def lag(self, offsets: Mapping[int, int]) -> int:
        """How many rows lie at or after these offsets, summed over the partitions named.

        An estimate if offsets have gaps: at least the true number, and 0 if and only if no offset is less than its partition's end.
        """

    @abstractmethod
    def before_end(self, partition: int, rows: int) -> int:
        """An offset after which about the last `rows` rows lie: never more, and fewer if offsets have gaps."""

    @abstractmethod
    def wait(self, offsets: Mapping[int, int], timeout_seconds: float) -> bool:
        """Block until some partition's end is greater than its offset here (True), or the time is up (False)."""

    @abstractmethod
    def commit(self, consumer: str, offsets: Mapping[int, int]) -> None:
        """Store durably, per partition, the offset that `consumer` reads next. Partitions not named keep theirs.

        Raises:
            LogError: an offset lies past the end, a partition does not exist, or `consumer` is not made of letters, digits, `.`, `_`, `-`.
        """

    @abstractmethod
    def committed(self, consumer: str) -> dict[int, int]:
        """The committed offsets of `consumer` by partition. A partition without a commit is absent.

        Raises:
            DamagedFileError: an offset lies past the end: it belongs to another log, or the log is an older copy. A reader that stores its
                own
                offsets must check the same. Otherwise rows would be missing, or new rows would be taken for rows already read.
        """

    @abstractmethod
    def forget(self, consumer: str) -> None:
        """Delete the committed offsets of `consumer`, durably; retention no longer waits for it. A no-op if there is no such consumer."""

    @abstractmethod
    def trim(self, *, max_age_seconds: float | None = None, max_bytes: int | None = None) -> int:
        """Apply retention and return how many bytes it freed.

        Removes rows older than `max_age_seconds`, then the oldest rows until the rest fits into `max_bytes` a partition. A backend may keep
        more, as it frees whole files. Only rows that every consumer has committed past are removed: retention never overtakes a reader. A
        consumer exists from its first commit on, so a new one commits the offset where it will begin.
        """

    @abstractmethod
    def close(self) -> None:
        """Release all resources; further calls are errors. Closing twice is a no-op."""
