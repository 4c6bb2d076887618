"""The embedded backend: DuckDB in this process."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from sokuji.config import SqlSettings
from sokuji.sql.base import Backend, QueryRun, RowChanges
from sokuji.sql.duckdb.names import query_text
from sokuji.sql.duckdb.relations import relation
from sokuji.sql.duckdb.rewriting import changes_of
from sokuji.sql.duckdb.run import Database, DuckDbQueries
from sokuji.sql.query import Query, StatementNames, StoredRows
from sokuji.types import STRING, Field


class DuckDb(Backend):
    """A database in memory, started on first use, that reads files below `folders`. It spills to `temporary` when memory is full."""

    def __init__(self, folders: Sequence[Path], temporary: Path, settings: SqlSettings | None = None) -> None:
        self._folders, self._temporary, self._settings = folders, temporary, settings or SqlSettings()

    @functools.cached_property
    def _database(self) -> Database:
        return Database(self._folders, self._temporary, self._settings)

    def run(self) -> DuckDbRun:
        """See `Backend.run`."""
        self._database.calls.check()
        return DuckDbRun(self._database)

    def close(self) -> None:
        """See `Backend.close`."""
        if "_database" in self.__dict__:
            self._database.close()


class DuckDbRun(DuckDbQueries, QueryRun):
    """The run of statements as DuckDB SQL."""

    def stream(self, query: Query | StoredRows) -> pa.RecordBatchReader:
        """See `QueryRun.stream`."""
        if isinstance(query, Query):
            return self.select(query_text(self, query), query.schema)
        rows = relation(query.snapshot, query.columns, self, of_events=query.of_events)
        return self.select(f"FROM {rows}", [column.field for column in query.columns])

    def change(self, node: Any, target: StoredRows, names: StatementNames) -> RowChanges:
        """See `QueryRun.change`."""
        return changes_of(self, node, target, names)

    def explain(self, query: Query) -> str:
        """See `QueryRun.explain`."""
        plans = self.select(f"EXPLAIN {query_text(self, query)}", [Field("kind", STRING), Field("plan", STRING)]).read_all()
        return "\n".join(plans.column("plan").to_pylist())
