"""The contract of a backend that runs queries: resolved statements in, streams of Arrow batches out.

Each backend has its own form of a query: text of another dialect, or a plan. `sql/query.py` defines the input.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa

from sokuji.closing import Closing
from sokuji.lake.acknowledged import Acknowledged, OnlyCommitted
from sokuji.lake.base import Lake
from sokuji.meta.base import Catalog
from sokuji.meta.memory import MemoryCatalog
from sokuji.sql.front.lookup import SESSION
from sokuji.sql.query import Query, StatementNames, StoredRows
from sokuji.sql.stop import Stop

T = TypeVar("T")


class Home(NamedTuple):
    """The catalog and the lake of a table."""

    catalog: Catalog
    lake: Lake
    acknowledged: Acknowledged


def temporary_home(lake: Lake) -> Home:
    """A home for temporary tables in `lake`, with an empty catalog in memory."""
    home = Home(MemoryCatalog(), lake, OnlyCommitted(lake))
    home.catalog.create_dataset(SESSION)
    return home


@dataclass(frozen=True, slots=True)
class RowChanges:
    """The changes that INSERT, UPDATE, DELETE or MERGE makes to a table."""

    count: int  # the number of added, changed or deleted rows
    files: Sequence[str]  # files of the snapshot whose rows are replaced
    rows: pa.RecordBatchReader  # the rows that replace them, in the catalog's types


class QueryRun(Closing):
    """One running statement or script. Close it when its last rows are read. Any thread may cancel it."""

    stop: Stop

    @property
    @abstractmethod
    def temporary(self) -> Home:
        """The catalog and the lake of temporary tables for later statements of the script. Created on first use, deleted with the run."""

    @property
    @abstractmethod
    def temporary_catalog(self) -> Catalog | None:
        """The catalog of `temporary`, or None if it was never used."""

    @abstractmethod
    def stream(self, query: Query | StoredRows) -> pa.RecordBatchReader:
        """The rows in the catalog's types, with arrays as BigQuery stores them: NULL becomes [], and a NULL element is an error.

        Raises:
            SqlError: the query fails immediately; the stream raises later errors.
            UnsupportedSqlError: a part of the query is not supported; the message names it.
            QueryCancelledError: the run was cancelled, or its time limit is reached. The stream also raises this error.
        """

    @abstractmethod
    def change(self, node: Any, target: StoredRows, names: StatementNames) -> RowChanges:
        """Compute the changes of a resolved INSERT, UPDATE, DELETE or MERGE to `target`, without its tail. Writes nothing.

        Raises:
            SqlError, UnsupportedSqlError, QueryCancelledError: see `stream`.
        """

    @abstractmethod
    def explain(self, query: Query) -> str:
        """A description, for people, of how the query would run. Raises UnsupportedSqlError."""

    @abstractmethod
    def forget(self) -> None:
        """Drop the objects that were created for queries whose rows are read."""

    @abstractmethod
    def cancel(self, reason: str) -> None:
        """Stop as soon as possible. Readers of rows get QueryCancelledError with `reason`."""

    @abstractmethod
    def close(self) -> None:
        """Close everything. Streams that are not read to the end are aborted. Closing twice has no effect."""

    def check(self) -> None:
        """Raise QueryCancelledError if the run was cancelled, or its time limit is reached."""
        self.stop.check()

    def aside(self, function: Callable[[], T]) -> T:
        """Call `function`; return or raise what it does. A backend may let the caller leave at the end of the run, if that comes first."""
        return function()


class Backend(Closing):
    """Runs queries, any number at the same time, each within the limits of `[sql]`."""

    @abstractmethod
    def run(self) -> QueryRun:
        """Begin a run. Its time limit starts now. Raises SqlError if too many queries are still ending."""

    @abstractmethod
    def close(self) -> None:
        """Close everything. Running queries fail."""
