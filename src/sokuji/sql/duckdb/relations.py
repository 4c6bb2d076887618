"""A table as DuckDB SQL: its files, then the log's tail, in the catalog's types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from sokuji.arrays import in_one_piece
from sokuji.duckdb_text import quote
from sokuji.lake.base import Lake, Snapshot
from sokuji.lake.delta.physical import ROW_BITS, RowColumn, can_number, from_stored, rows_of
from sokuji.lake.stored import finite, stored_type
from sokuji.meta.objects import Column
from sokuji.sql.duckdb.emit.literals import duckdb_type
from sokuji.sql.duckdb.run import DuckDbQueries
from sokuji.types import FLOAT64, INT64, from_arrow


def relation(
    snapshot: Snapshot, columns: Sequence[Column], run: DuckDbQueries, *, row_column: RowColumn | None = None, of_events: bool = False
) -> str:
    """The text after FROM that reads `columns` of a snapshot, in the catalog's types, whatever types the files have.

    `row_column` is one of the columns, with the position of a row in the files. `of_events` says that the table is fed from a log.
    """
    sources = []
    if snapshot.files:
        numbers = [column.name for column in columns if of_events and column.type == FLOAT64]
        sources.append(rows_of(snapshot.files, [column.name for column in columns], row_column=row_column, numbers=numbers))
    if snapshot.tail is not None and snapshot.tail.num_rows:
        sources.append(run.register(snapshot.tail))
    return f"({' UNION ALL '.join(_select(source, columns) for source in sources) or _nothing(columns)})"


class Numbered:
    """A table's rows with an additional column that identifies each row and its file."""

    def __init__(self, lake: Lake, snapshot: Snapshot, columns: Sequence[Column], *, of_events: bool = False) -> None:
        """Create from a `snapshot`, without its tail, of a table of `lake` with these `columns`."""
        self._files, self._of_events = snapshot.files, of_events
        # No column has this name, because it is longer than every name.
        self.column = Column(max((column.name for column in columns), key=len) + "_", INT64)
        self._place = RowColumn(self.column.name, {file: number for number, file in enumerate(snapshot.files)})
        # Columns of the table hide DuckDB's own columns with the same names. Dropped columns may still be in files.
        is_hidden = not can_number([*snapshot.schema.names, *snapshot.kept])
        self._snapshot = self._in_memory(lake, snapshot) if is_hidden else replace(snapshot, tail=None)

    def file(self, number: str) -> str:
        """DuckDB SQL for the index, in the snapshot's files, of the file with the row of this number."""
        return f"({number} >> {ROW_BITS})"

    def relation(self, columns: Sequence[Column], run: DuckDbQueries, files: Sequence[int] | None = None) -> str:
        """Like `relation`, for all files or for those with these indexes. `column` may be one of the columns."""
        snapshot = self._snapshot if files is None else self._only(files)
        return relation(snapshot, columns, run, row_column=self._place, of_events=self._of_events)

    def _only(self, places: Sequence[int]) -> Snapshot:
        if self._snapshot.tail is None:
            return replace(self._snapshot, files=tuple(self._files[place] for place in places))
        files = pc.shift_right(self._snapshot.tail.column(self.column.name), ROW_BITS)
        return replace(self._snapshot, tail=self._snapshot.tail.filter(pc.is_in(files, pa.array(places, pa.int64()))))

    def _in_memory(self, lake: Lake, snapshot: Snapshot) -> Snapshot:
        schema = snapshot.schema.append(pa.field(self.column.name, pa.int64()))
        tables = [schema.empty_table()]
        for place, file in enumerate(snapshot.files):
            rows = lake.scan(replace(snapshot, files=(file,), tail=None)).read_all()
            columns = [finite(in_one_piece(column)) if self._of_events else column for column in rows.columns]
            first = place << ROW_BITS
            tables.append(pa.table([*columns, pa.array(range(first, first + rows.num_rows), pa.int64())], schema=schema))
        return replace(snapshot, files=(), schema=schema, tail=pa.concat_tables(tables))


def _select(source: str, columns: Sequence[Column]) -> str:
    if not columns:
        return f"SELECT 1 FROM {source}"
    # Files may lack a column, or have it in a narrower type. The union by name with an empty relation of all columns gives every file all
    # columns. DuckDB pushes projections and filters through it.
    padding = (f"CAST(NULL AS {duckdb_type(from_arrow(stored_type(column.type)))}) AS {quote(column.name)}" for column in columns)
    items = (
        f"CAST({from_stored(column.type, quote(column.name))} AS {duckdb_type(column.type)}) AS {quote(column.name)}" for column in columns
    )
    return f"SELECT {', '.join(items)} FROM (FROM {source} UNION ALL BY NAME SELECT {', '.join(padding)} WHERE false)"


def _nothing(columns: Sequence[Column]) -> str:
    items = (f"CAST(NULL AS {duckdb_type(column.type)}) AS {quote(column.name)}" for column in columns)
    return f"SELECT {', '.join(items) or 1} WHERE false"
