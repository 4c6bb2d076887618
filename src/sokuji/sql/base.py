"""The contract of what runs queries: resolved statements in, streams of Arrow batches out.

What a backend runs a query with is its own: text of another dialect, or a plan. `sql/query.py` has what it is given.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa

from sokuji.closing import Closing
from sokuji.lake.acknowledged import Acknowledged
from sokuji.lake.base import Lake
from sokuji.meta.base import Catalog
from sokuji.sql.query import Query, StatementNames, StoredRows
from sokuji.sql.stop import Stop

T = TypeVar("T")


class Home(NamedTuple):
    """Where a table is known and kept."""

    catalog: Catalog
    lake: Lake
    acknowledged: Acknowledged


@dataclass(frozen=True, slots=True)
class RowChanges:
    """What INSERT, UPDATE, DELETE or MERGE makes of a table."""

    count: int  # of the rows that are added, changed or deleted
    files: Sequence[str]  # those of the snapshot whose rows are replaced
    rows: pa.RecordBatchReader  # to take their place, in the catalog's types


class QueryRun(Closing):
    """One statement while it runs, or one script: to be closed when its last rows are read. Any thread may cancel it."""

    stop: Stop

    @property
    @abstractmethod
    def temporary(self) -> Home:
        """Where temporary tables are stored for later statements of the script; made when first asked for, gone with the run."""

    @property
    @abstractmethod
    def temporary_catalog(self) -> Catalog | None:
        """That of `temporary`, if it was asked for."""

    @abstractmethod
    def stream(self, query: Query | StoredRows) -> pa.RecordBatchReader:
        """The rows in the catalog's types, with arrays as BigQuery stores them: NULL as [], and a NULL element is an error.

        Raises:
            SqlError: the query fails at once; what fails later is raised by the stream.
            UnsupportedSqlError: something in the query does not run here; the message names it.
            QueryCancelledError: the run was cancelled, or its time is up; by the stream, too.
        """

    @abstractmethod
    def change(self, node: Any, target: StoredRows, names: StatementNames) -> RowChanges:
        """What a resolved INSERT, UPDATE, DELETE or MERGE makes of the rows of `target`, without its tail; it writes nothing.

        Raises:
            As `stream`.
        """

    @abstractmethod
    def explain(self, query: Query) -> str:
        """How the query would run, as text for people. Raises UnsupportedSqlError."""

    @abstractmethod
    def forget(self) -> None:
        """Release what was made for queries whose rows are read."""

    @abstractmethod
    def cancel(self, reason: str) -> None:
        """Stop as soon as possible; whoever reads rows gets QueryCancelledError with `reason`."""

    @abstractmethod
    def close(self) -> None:
        """Release everything. Streams not read to the end are cut off. Closing twice is a no-op."""

    def check(self) -> None:
        """Raises QueryCancelledError if the run was cancelled, or its time is up."""
        self.stop.check()

    def aside(self, function: Callable[[], T]) -> T:
        """Call `function`; return or raise what it does. A backend may let the caller leave at the end of the run, if that comes first."""
        return function()


class Backend(Closing):
    """Runs queries, any number at the same time, each within the limits of `[sql]`."""

    @abstractmethod
    def run(self) -> QueryRun:
        """A run, whose time begins now. Raises SqlError if too many queries are still ending."""

    @abstractmethod
    def close(self) -> None:
        """Release everything; runs under way fail."""
