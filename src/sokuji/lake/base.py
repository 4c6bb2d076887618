"""The lake contract: tables of Parquet files with atomic commits, and the snapshots that queries read."""

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
    """How a property of events is stored, independent of its first value."""

    type: pa.DataType
    has_column: bool = True  # whether the property gets its own column, once an event has it; if not, its values are only in `properties`


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of one table, as a query reads it: the rows of `files`, then the rows of `tail`.

    The files may lack columns that were added later; read these as NULL. `files`, `schema` and `tail` have the types of `lake/stored.py`.
    Only events tables have a `tail`: acknowledged rows of the log that are not committed yet, without duplicates of committed rows, with
    exactly `schema`.
    """

    files: tuple[str, ...]
    schema: pa.Schema
    version: int
    tail: pa.Table | None = None
    transactions: Mapping[str, int] = field(default_factory=dict)  # of the requested applications, at this version
    kept: Mapping[str, Kept] = field(default_factory=dict)  # the settings of `Lake.keep`, by lower-case name


class Lake(ABC):
    """Tables by name. A commit is atomic, and two commits to one table never mix."""

    @abstractmethod
    def create(self, ref: Ref, schema: pa.Schema, *, day_of: str | None = None) -> None:
        """Create an empty table. Raises AlreadyExistsError.

        Columns may have any type of `types.to_arrow`. The metadata of fields is stored with each version. `day_of` names a timestamp
        column; its day (UTC) partitions the files. Readers and writers do not see the partitions.
        """

    @abstractmethod
    def drop(self, ref: Ref) -> None:
        """Remove the table and its files. Raises NotFoundError."""

    @abstractmethod
    def snapshot(self, ref: Ref, *, at: dt.datetime | None = None, applications: Sequence[str] = ()) -> Snapshot:
        """The newest version, or the one that was newest at `at`, without a tail, and with the transactions of `applications`.

        Raises:
            NotFoundError: there is no such table.
            LakeError: `at` is before the table's first version, or older than its retention.
        """

    @abstractmethod
    def scan(self, snapshot: Snapshot, columns: Sequence[str] | None = None, where: pc.Expression | None = None) -> pa.RecordBatchReader:
        """The rows of a snapshot in these columns of its schema, or in all: first those of the files, then those of the tail.

        A column is NULL for a file that is older than the column. `where` filters rows by the read columns; row groups without matching
        rows are not read. One batch is in memory at a time, and one thread works.

        Raises:
            DamagedFileError: a file is damaged.
        """

    @abstractmethod
    def append(
        self, ref: Ref, rows: pa.RecordBatchReader, *, transactions: Mapping[str, int] | None = None, expected: pa.Schema | None = None
    ) -> int:
        """Append rows in one commit and return the new version.

        Columns that the table lacks are added, as NULL in older rows. `transactions` (application id -> number, such as a log offset) is
        stored in the same commit. `expected` is the schema of the snapshot for which the caller made the rows.

        Raises:
            NotFoundError: there is no such table.
            ConflictError: the table's schema is not `expected`. Nothing was committed.
            LakeError: a column's type does not match the table's, or another writer changed the table's columns or committed for the same
                application. Nothing was committed.
        """

    @abstractmethod
    def add_columns(self, ref: Ref, columns: pa.Schema, *, expected: pa.Schema) -> int:
        """Add columns, as NULL in all rows, in one commit. Returns the new version.

        Raises:
            ConflictError: the table's schema is not `expected`, the schema of a snapshot. Nothing was committed.
        """

    @abstractmethod
    def replace(self, ref: Ref, rows: pa.RecordBatchReader, *, read_version: int | None = None) -> int:
        """Replace all rows by `rows`, whose schema becomes the table's, in one commit. Returns the new version.

        Raises:
            ConflictError: `read_version` is given and the table has changed since then, so `rows` is outdated. Retry.
        """

    @abstractmethod
    def rewrite(self, ref: Ref, files: Sequence[str], rows: pa.RecordBatchReader, *, read_version: int | None = None) -> int:
        """Replace the rows of `files`, which are files of a snapshot, by `rows` in one commit. Returns the new version.

        Other files stay unchanged.

        Raises:
            ConflictError: one of the files was replaced since, or `read_version` is given and the table has changed since then.
            LakeError: a column's type does not match the table's.
        """

    @abstractmethod
    def keep(self, ref: Ref, properties: Mapping[str, Kept]) -> None:
        """Set how properties of an events table are stored. The settings of other properties stay unchanged.

        The existing column of a property keeps its type. A column that a property must no longer have disappears from the schema
        immediately. It comes back unchanged when the property gets a column again; then `remake` it.

        Raises:
            NotFoundError: there is no such table.
        """

    @abstractmethod
    def remake(self, ref: Ref, columns: Mapping[str, pa.DataType], values: Callable[[pa.Table], Mapping[str, pa.Array]]) -> int:
        """Give all rows new values in some columns, existing or new, in one commit. Returns the new version.

        `values` computes the columns from rows as they are stored. Rows that others append in the meantime also get new values.

        Raises:
            LakeError: others change the table too fast.
        """

    @abstractmethod
    def maintain(self, refs: Iterable[Ref]) -> None:
        """Join small files. Delete files that no version within retention needs."""
