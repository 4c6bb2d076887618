"""INSERT, UPDATE, DELETE and MERGE as queries: the rows to append, or the changed rows of the target.

The columns of changed rows are `row_`, which identifies the row in the target (NULL if the row is inserted), and `action`. Except for
DELETE, they also have the new row, `o1`, `o2`, ... in the order of the table's columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_ast_enums_pb2 as enums

from sokuji.duckdb_text import quote_text
from sokuji.errors import UnsupportedSqlError
from sokuji.meta.objects import Column
from sokuji.sql.duckdb.emit import literals
from sokuji.sql.duckdb.emit.emitter import Emitter, select, type_of, unwrap
from sokuji.sql.duckdb.emit.output import storable
from sokuji.sql.duckdb.emit.scans import table_scan
from sokuji.sql.front.protos import UNUSED_ID, to_type
from sokuji.types import Type, field_names

UPDATED, DELETED, INSERTED = range(3)

_ROW, _SOURCE_ROW = "row_", "source_row_"
_TOO_MANY = "UPDATE/MERGE must match at most one source row for each target row"


def inserted(emitter: Emitter, node: Any, columns: Sequence[Column]) -> str:
    """The rows that an INSERT appends, as `o1`, `o2`, ... in the order of the table's columns."""
    if node.insert_mode != enums.ResolvedInsertStmtEnums.OR_ERROR:
        raise UnsupportedSqlError("INSERT OR IGNORE, OR REPLACE and OR UPDATE are not supported")
    names = [column.name for column in node.insert_column_list]
    if node.HasField("query"):
        ids = (column.column_id for column in node.query_output_column_list)
        values = dict(zip(names, (f"c{id_}" for id_ in ids), strict=True))
        return select(_row(values, columns), f"FROM {emitter.source(node.query)}")
    rows = (dict(zip(names, _row_values(emitter, row), strict=True)) for row in node.row_list)
    return " UNION ALL ".join(f"({select(_row(values, columns), '')})" for values in rows)


def _row_values(emitter: Emitter, row: Any) -> list[str]:
    return [_value(emitter, value.value) for value in row.value_list]


def _value(emitter: Emitter, expression: Any) -> str:
    # Columns have no defaults here, so DEFAULT is NULL.
    return "NULL" if unwrap(expression)[0] == "resolved_dmldefault_node" else emitter.expression(expression)


def _row(values: Mapping[str, str], columns: Sequence[Column]) -> list[str]:
    """A new row in the order of the table's columns, with exactly their types."""
    by_name = {name.lower(): value for name, value in values.items()}
    return [f"{_stored(by_name.get(column.name.lower(), 'NULL'), column)} AS o{place}" for place, column in enumerate(columns, start=1)]


def _stored(value: str, column: Column) -> str:
    value = storable(f"CAST({value} AS {literals.duckdb_type(column.type)})", column.type)
    if column.not_null:
        missing = quote_text(f"Required field {column.name} cannot be null")
        value = f"coalesce({value}, CAST(error({missing}) AS {literals.duckdb_type(column.type)}))"
    return value


class ChangedTable:
    """The changed table: the given columns, and `row`, which identifies its rows."""

    def __init__(self, emitter: Emitter, scan: Any, columns: Sequence[Column], row: Column) -> None:
        whole = type(scan)()
        whole.CopyFrom(scan)
        known = {column.name.lower(): column.column_id for column in scan.parent.column_list}
        wanted = [*columns, row]
        ids = [known.get(column.name.lower(), UNUSED_ID + place) for place, column in enumerate(wanted)]
        for id_, column in zip(ids, wanted, strict=True):
            if id_ >= UNUSED_ID:
                whole.parent.column_list.add(column_id=id_, name=column.name, type=to_type(column.type))
        self.columns, self.ids, self._row = columns, ids[:-1], f"c{ids[-1]}"
        self.rows = select(["*", f"{self._row} AS {_ROW}"], f"FROM ({table_scan(emitter, whole)}) AS t")

    def row(self, values: Mapping[int, str]) -> list[str]:
        """The row after an update of the columns with these ids."""
        pairs = enumerate(zip(self.ids, self.columns, strict=True), start=1)
        return [f"{_stored(values[id_], column) if id_ in values else f'c{id_}'} AS o{place}" for place, (id_, column) in pairs]


def deleted(emitter: Emitter, node: Any, row: Column) -> str:
    """The rows that DELETE removes."""
    target = ChangedTable(emitter, node.table_scan, (), row)
    condition = emitter.expression(node.where_expr)
    return select([_ROW, f"{DELETED} AS action"], f"FROM ({target.rows}) AS t WHERE {condition}")


def updated(emitter: Emitter, node: Any, columns: Sequence[Column], row: Column) -> str:
    """The new versions of the rows that UPDATE changes."""
    target = ChangedTable(emitter, node.table_scan, columns, row)
    values = _new_values(emitter, node.update_item_list)
    items = [_ROW, f"{UPDATED} AS action", *target.row(values)]
    condition = emitter.expression(node.where_expr)
    if not node.HasField("from_scan"):
        return select(items, f"FROM ({target.rows}) AS t WHERE {condition}")
    return _once(select(items, f"FROM ({target.rows}) AS t, {emitter.source(node.from_scan)} WHERE {condition}"))


def _once(changes: str) -> str:
    """The same changes, with an error if two of them change the same row."""
    check = f"CASE WHEN count(*) OVER (PARTITION BY {_ROW}) > 1 THEN error({quote_text(_TOO_MANY)}) END"
    return select(
        ["* EXCLUDE (check_)"], f"FROM ({select(['*', f'{check} AS check_'], f'FROM ({changes}) AS u')}) AS v WHERE check_ IS NULL"
    )


def _new_values(emitter: Emitter, items: Any) -> dict[int, str]:
    """The new value of each column that SET names. Several fields of one column are set one after another."""
    values: dict[int, str] = {}
    for item in items:
        if item.delete_list or item.update_list or item.insert_list or item.update_item_element_list:
            raise UnsupportedSqlError("UPDATE of the elements of an ARRAY is not supported; SET the whole ARRAY")
        column, path = _path(item.target)
        values[column.column_id] = _set(values.get(column.column_id, f"c{column.column_id}"), path, _value(emitter, item.set_value.value))
    return values


def _path(target: Any) -> tuple[Any, list[tuple[Type, int]]]:
    """The column that a SET names, and the fields inside it, as STRUCT type and position."""
    name, node = unwrap(target)
    if name == "resolved_column_ref_node":
        return node.column, []
    if name != "resolved_get_struct_field_node":
        raise UnsupportedSqlError("UPDATE can SET columns and fields of STRUCT columns only")
    column, path = _path(node.expr)
    return column, [*path, (type_of(node.expr), node.field_idx)]


def _set(struct: str, path: Sequence[tuple[Type, int]], value: str) -> str:
    if not path:
        return value
    type_, position = path[0]
    fields = [f"struct_extract({struct}, {quote_text(name)})" for name in field_names(type_)]
    fields[position] = _set(fields[position], path[1:], value)
    return literals.struct(type_, fields)


_Match = _Action = enums.ResolvedMergeWhenEnums


def merged(emitter: Emitter, node: Any, columns: Sequence[Column], row: Column) -> str:
    """The rows that MERGE updates or inserts, in their new versions, and the rows that it deletes, in their old."""
    target = ChangedTable(emitter, node.table_scan, columns, row)
    source = select(["*", f"row_number() OVER () AS {_SOURCE_ROW}"], f"FROM {emitter.source(node.from_scan)}")
    pairs = select([_ROW, _SOURCE_ROW], f"FROM target_, source_ WHERE {emitter.expression(node.merge_expr)}")
    # The target is not kept in memory: every read of its files gives the same rows, and reads only the needed columns.
    with_ = f"WITH target_ AS NOT MATERIALIZED ({target.rows}), source_ AS MATERIALIZED ({source}), pairs_ AS MATERIALIZED ({pairs})"
    clauses = {kind: [clause for clause in node.when_clause_list if clause.match_type == kind] for kind in range(3)}
    joined = f"pairs_ JOIN target_ USING ({_ROW}) JOIN source_ USING ({_SOURCE_ROW})"
    unmatched = f"target_ WHERE {_ROW} NOT IN (SELECT {_ROW} FROM pairs_)"
    rows = []
    if clauses[_Match.MATCHED]:
        rows.append(f"({_once(_changes(emitter, target, clauses[_Match.MATCHED], joined))})")
    if clauses[_Match.NOT_MATCHED_BY_SOURCE]:
        rows.append(_changes(emitter, target, clauses[_Match.NOT_MATCHED_BY_SOURCE], unmatched))
    if clauses[_Match.NOT_MATCHED_BY_TARGET]:
        rows.append(_insertions(emitter, columns, clauses[_Match.NOT_MATCHED_BY_TARGET]))
    return f"{with_} {' UNION ALL '.join(rows)}"


def _choice(emitter: Emitter, clauses: Sequence[Any]) -> str:
    """The index of the first clause whose condition holds; NULL if none holds."""
    conditions = (emitter.expression(clause.match_expr) if clause.HasField("match_expr") else "TRUE" for clause in clauses)
    return f"CASE {' '.join(f'WHEN {condition} THEN {place}' for place, condition in enumerate(conditions))} END"


def _changes(emitter: Emitter, target: ChangedTable, clauses: Sequence[Any], rows: str) -> str:
    """The updates and deletions for one kind of match."""
    sets = [_new_values(emitter, clause.update_item_list) for clause in clauses]
    actions = [UPDATED if clause.action_type == _Action.UPDATE else DELETED for clause in clauses]
    items = [_ROW, f"CASE clause_ {' '.join(f'WHEN {place} THEN {action}' for place, action in enumerate(actions))} END AS action"]
    for at, (id_, column) in enumerate(zip(target.ids, target.columns, strict=True), start=1):
        branches = " ".join(f"WHEN {place} THEN {_stored(new[id_], column)}" for place, new in enumerate(sets) if id_ in new)
        items.append(f"{f'CASE clause_ {branches} ELSE c{id_} END' if branches else f'c{id_}'} AS o{at}")
    chosen = select(["*", f"{_choice(emitter, clauses)} AS clause_"], f"FROM {rows}")
    return f"({select(items, f'FROM ({chosen}) AS m WHERE clause_ IS NOT NULL')})"


def _insertions(emitter: Emitter, columns: Sequence[Column], clauses: Sequence[Any]) -> str:
    rows = []
    for clause in clauses:
        names = [column.name.lower() for column in clause.insert_column_list]
        rows.append(dict(zip(names, _row_values(emitter, clause.insert_row), strict=True)))
    items = []
    for place, column in enumerate(columns, start=1):
        branches = " ".join(
            f"WHEN {clause} THEN {_stored(row.get(column.name.lower(), 'NULL'), column)}" for clause, row in enumerate(rows)
        )
        items.append(f"CASE clause_ {branches} END AS o{place}")
    chosen = select(
        ["*", f"{_choice(emitter, clauses)} AS clause_"], f"FROM source_ WHERE {_SOURCE_ROW} NOT IN (SELECT {_SOURCE_ROW} FROM pairs_)"
    )
    new = [f"CAST(NULL AS BIGINT) AS {_ROW}", f"{INSERTED} AS action"]
    return select([*new, *items], f"FROM ({chosen}) AS m WHERE clause_ IS NOT NULL")
