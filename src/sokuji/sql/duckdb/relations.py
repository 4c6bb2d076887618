"""A table as DuckDB SQL: its files, then the log's tail, in the catalog's types."""

from __future__ import annotations

from collections.abc import Sequence

from sokuji.lake.base import Snapshot
from sokuji.lake.delta.physical import from_stored, rows_of, stored_type
from sokuji.meta.base import Column
from sokuji.sql.duckdb.emit.literals import duckdb_type
from sokuji.sql.duckdb.run import Run
from sokuji.types import FLOAT64, from_arrow


def quote(name: str) -> str:
    """A name as a DuckDB identifier."""
    return '"' + name.replace('"', '""') + '"'


def relation(snapshot: Snapshot, columns: Sequence[Column], run: Run, *, file_column: str | None = None, of_events: bool = False) -> str:
    """What to write after FROM to read `columns` of a snapshot, in the catalog's types whatever the files hold.

    `file_column` is the name of one that says which file a row is from, and `of_events` that the table is fed from a log.
    """
    sources = []
    if snapshot.files:
        numbers = [column.name for column in columns if of_events and column.type == FLOAT64]
        sources.append(rows_of(snapshot.files, [column.name for column in columns], file_column=file_column, numbers=numbers))
    if snapshot.tail is not None and snapshot.tail.num_rows:
        sources.append(run.register(snapshot.tail))
    return f"({' UNION ALL '.join(_select(source, columns) for source in sources) or _nothing(columns)})"


def _select(source: str, columns: Sequence[Column]) -> str:
    if not columns:
        return f"SELECT 1 FROM {source}"
    # Files may lack a column, or have it in a narrower type: the union by name with no rows of all columns gives every file all of
    # them. DuckDB pushes projections and filters through it.
    padding = (f"CAST(NULL AS {duckdb_type(from_arrow(stored_type(column.type)))}) AS {quote(column.name)}" for column in columns)
    items = (
        f"CAST({from_stored(column.type, quote(column.name))} AS {duckdb_type(column.type)}) AS {quote(column.name)}" for column in columns
    )
    return f"SELECT {', '.join(items)} FROM (FROM {source} UNION ALL BY NAME SELECT {', '.join(padding)} WHERE false)"


def _nothing(columns: Sequence[Column]) -> str:
    items = (f"CAST(NULL AS {duckdb_type(column.type)}) AS {quote(column.name)}" for column in columns)
    return f"SELECT {', '.join(items) or 1} WHERE false"
