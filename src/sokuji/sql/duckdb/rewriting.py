"""Compute what INSERT, UPDATE, DELETE or MERGE changes in a table: the files with changed rows, and the rows that replace theirs.

Every part of the statement is evaluated once, over all files. The changes are stored, each with the position of its row. Then the files
with changed rows are read again for their unchanged rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from sokuji.duckdb_text import quote
from sokuji.meta.objects import Column
from sokuji.sql.base import RowChanges
from sokuji.sql.duckdb.emit import Emitter, changes, emitter
from sokuji.sql.duckdb.names import DuckDbNames
from sokuji.sql.duckdb.relations import Numbered
from sokuji.sql.duckdb.run import DuckDbQueries
from sokuji.sql.query import StatementNames, StoredRows
from sokuji.types import INT64, Field, arrow_schema

_Emit = Callable[[Emitter, Any, Sequence[Column], Column], str]


def _deleted(emitter: Emitter, node: Any, _columns: Sequence[Column], row: Column) -> str:
    return changes.deleted(emitter, node, row)


_DELETE = "ResolvedDeleteStmtProto"
_EMITS: Mapping[str, _Emit] = {
    "ResolvedUpdateStmtProto": changes.updated,
    _DELETE: _deleted,
    "ResolvedMergeStmtProto": changes.merged,
}


def changes_of(run: DuckDbQueries, node: Any, target: StoredRows, names: StatementNames) -> RowChanges:
    """Compute what a statement changes in `target`, without its tail. All columns of the snapshot are written."""
    if node.DESCRIPTOR.name == "ResolvedInsertStmtProto":
        return _inserted(run, node, target.columns, DuckDbNames(run, names))
    new_rows, columns, snapshot = node.DESCRIPTOR.name != _DELETE, target.columns, target.snapshot
    rows = Numbered(target.lake, snapshot, columns, of_events=target.of_events)
    relations = _TargetFirst(run, names, rows, columns)
    query = _EMITS[node.DESCRIPTOR.name](emitter(relations, relations.parameters), node, columns, rows.column)
    values = _places(columns) if new_rows else []
    stored = run.store(run.select(query, [Field("row_", INT64), Field("action", INT64), *values]))
    [count], [standing] = _numbers(f"SELECT count(*) FROM {stored}", run), _numbers(f"SELECT count(row_) FROM {stored}", run)
    changed = _numbers(f"SELECT DISTINCT {rows.file('row_')} FROM {stored} WHERE row_ IS NOT NULL ORDER BY 1", run)
    written = [column for column in columns if column.name in snapshot.schema.names]
    fields = [column.field for column in written]
    parts = []
    if new_rows:
        new = ", ".join(field.name for field in values)
        parts.append(run.select(f"SELECT {new} FROM {stored} WHERE action <> {changes.DELETED}", fields))
    if changed and _numbers(f"SELECT count(*) FROM {rows.relation([], run, changed)}", run) != [standing]:
        kept = ", ".join(quote(column.name) for column in written)
        source = rows.relation([*written, rows.column], run, changed)
        stay = f"SELECT {kept} FROM {source} AS t ANTI JOIN {stored} AS changes_ ON t.{quote(rows.column.name)} = changes_.row_"
        parts.append(run.select(stay, fields))
    reader = pa.RecordBatchReader.from_batches(arrow_schema(fields), itertools.chain.from_iterable(parts))
    return RowChanges(count, [snapshot.files[place] for place in changed], reader)


def _inserted(run: DuckDbQueries, node: Any, columns: Sequence[Column], names: DuckDbNames) -> RowChanges:
    query = changes.inserted(emitter(names, names.parameters), node, columns)
    stored = run.store(run.select(query, _places(columns)))
    [count] = _numbers(f"SELECT count(*) FROM {stored}", run)
    return RowChanges(count, (), run.select(f"FROM {stored}", [column.field for column in columns]))


def _places(columns: Sequence[Column]) -> list[Field]:
    return [Field(f"o{place}", column.type) for place, column in enumerate(columns, start=1)]


def _numbers(query: str, run: DuckDbQueries) -> list[int]:
    rows: pa.Table = run.select(query, [Field("number", INT64)]).read_all()
    found: list[int] = rows.column(0).to_pylist()
    return found


class _TargetFirst(DuckDbNames):
    """The statement's names, where the first table that is asked for is the target."""

    def __init__(self, run: DuckDbQueries, names: StatementNames, rows: Numbered, columns: Sequence[Column]) -> None:
        super().__init__(run, names)
        self._rows, self._columns, self._is_asked = rows, columns, False

    def table(self, scan: Any) -> str:
        """The relation of a scan."""
        if self._is_asked:
            return super().table(scan)
        self._is_asked = True
        wanted = {column.name for column in scan.parent.column_list}
        return self._rows.relation([column for column in (*self._columns, self._rows.column) if column.name in wanted], self.run)
