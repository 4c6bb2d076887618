"""The lake contract: tables of Parquet files with atomic commits, and what a query reads of them."""

from __future__ import annotations

import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from sokuji.meta.objects import Ref


class Kept(NamedTuple):
    """How a property of events is kept, whatever its first value is."""

    type: pa.DataType
    has_column: bool = True  # of its own, once an event has it; if not, its values are in `properties` only


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of one table, as a query reads it: the rows of `files`, then the rows of `tail`.

    The files may lack columns that were added later (read them as NULL). They hold the types of `lake/stored.py`, and so do `schema`
    and `tail`. `tail` is for events tables: acknowledged rows of the log that are not committed yet, duplicates of committed
    rows removed, with exactly `schema`.
    """

    files: tuple[str, ...]
    schema: pa.Schema
    version: int
    tail: pa.Table | None = None
    transactions: Mapping[str, int] = field(default_factory=dict)  # of the applications asked for, as of this version
    kept: Mapping[str, Kept] = field(default_factory=dict)  # what `Lake.keep` was told, by lower-cased name


class Lake(ABC):
    """Tables by name. A commit is atomic; two commits to one table never mix."""

    @abstractmethod
    def create(self, ref: Ref, schema: pa.Schema, *, day_of: str | None = None) -> None:
        """Make an empty table. Raises AlreadyExistsError.

        Columns may have any type of `types.to_arrow`; what a field has as metadata is kept with each version. `day_of` names a timestamp
        column by whose day (UTC) the files are partitioned; readers and writers do not see that.
        """

    @abstractmethod
    def drop(self, ref: Ref) -> None:
        """Remove the table and its files. Raises NotFoundError."""

    @abstractmethod
    def snapshot(self, ref: Ref, *, at: dt.datetime | None = None, applications: Sequence[str] = ()) -> Snapshot:
        """The newest version, or the one that was newest at `at`, without a tail, and with the transactions of `applications`.

        Raises:
            NotFoundError: there is no such table.
            LakeError: `at` lies before the table's first version, or past its retention.
        """

    @abstractmethod
    def scan(self, snapshot: Snapshot, columns: Sequence[str] | None = None, where: pc.Expression | None = None) -> pa.RecordBatchReader:
        """The rows of a snapshot in these columns of its schema, or all: those of the files, then those of the tail, in the types of both.

        NULL where a file is from before a column was there. `where`, over the columns that are read, leaves rows out; row groups that
        cannot have others are not read. One batch is in memory at a time, and one thread works.

        Raises:
            DamagedFileError: a file is not as it was written.
        """

    @abstractmethod
    def append(
        self, ref: Ref, rows: pa.RecordBatchReader, *, transactions: Mapping[str, int] | None = None, expected: pa.Schema | None = None
    ) -> int:
        """Append rows in one commit and return the new version.

        Columns the table does not have are added to it (NULL in older rows). `transactions` (application id -> number, such as
        a log offset) is stored in the same commit. `expected` is the schema of the snapshot that the caller made the rows for.

        Raises:
            NotFoundError: there is no such table.
            ConflictError: the table's schema is not the one expected. Nothing was committed.
            LakeError: a column's type does not fit the table's, or someone else changed the table's columns or committed for the same
                application meanwhile. Nothing was committed.
        """

    @abstractmethod
    def add_columns(self, ref: Ref, columns: pa.Schema, *, expected: pa.Schema) -> int:
        """Add columns, NULL in all rows, in one commit and return the new version.

        Raises:
            ConflictError: the table's schema is not `expected`, that of a snapshot. Nothing was committed.
        """

    @abstractmethod
    def replace(self, ref: Ref, rows: pa.RecordBatchReader, *, read_version: int | None = None) -> int:
        """Put `rows` (whose schema becomes the table's) in place of all rows, in one commit; return the new version.

        Raises:
            ConflictError: `read_version` is given and the table has changed since (the caller computed from what is gone: retry).
        """

    @abstractmethod
    def rewrite(self, ref: Ref, files: Sequence[str], rows: pa.RecordBatchReader, *, read_version: int | None = None) -> int:
        """Put `rows` in place of the rows of `files`, which are some of a snapshot's, in one commit; return the new version.

        What is in other files stays.

        Raises:
            ConflictError: one of the files has been replaced since, or `read_version` is given and the table has changed since.
            LakeError: a column's type does not fit the table's.
        """

    @abstractmethod
    def keep(self, ref: Ref, properties: Mapping[str, Kept]) -> None:
        """Say how properties of an events table are kept; what was said of others stays.

        A column that a property has already keeps its type; one that it is to have no more is gone from the schema at once, and comes
        back as it is when the property is to have one again (`remake` it).

        Raises:
            NotFoundError: there is no such table.
        """

    @abstractmethod
    def remake(self, ref: Ref, columns: Mapping[str, pa.DataType], values: Callable[[pa.Table], Mapping[str, pa.Array]]) -> int:
        """Give all rows new values in some columns, which they may have or not, in one commit; return the new version.

        `values` is given some rows as they are stored, and gives the columns. Rows that others append meanwhile get them, too.

        Raises:
            LakeError: others change the table faster than this can follow.
        """

    @abstractmethod
    def maintain(self, refs: Iterable[Ref]) -> None:
        """Join small files; delete those that no version within retention needs."""
