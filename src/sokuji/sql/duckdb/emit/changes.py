"""INSERT, UPDATE, DELETE and MERGE as queries: the rows to append, or all rows of the target as they will be, with what happened to each.

Of the latter, the last column is `action`: 0 untouched, 1 updated, 2 deleted (the row as it was), 3 inserted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_ast_enums_pb2 as enums

from sokuji.errors import UnsupportedSqlError
from sokuji.meta.base import Column
from sokuji.sql.duckdb.emit import literals
from sokuji.sql.duckdb.emit.emitter import Emitter, select, type_of, unwrap
from sokuji.sql.duckdb.emit.output import storable
from sokuji.sql.duckdb.emit.scans import table_scan
from sokuji.sql.front.protos import to_type
from sokuji.types import Type, field_names

UNTOUCHED, UPDATED, DELETED, INSERTED = range(4)

_ROW, _SOURCE_ROW = "row_", "source_row_"
_UNUSED_ID = 1_000_000_000  # where no column id of an analysed statement is
_TOO_MANY = "UPDATE/MERGE must match at most one source row for each target row"


def inserted(emitter: Emitter, node: Any, columns: Sequence[Column]) -> str:
    """The rows an INSERT appends, as `o1`, `o2`, ... in the order of the table's columns."""
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
    # No column here has a default, and then DEFAULT is NULL.
    return "NULL" if unwrap(expression)[0] == "resolved_dmldefault_node" else emitter.expression(expression)


def _row(values: Mapping[str, str], columns: Sequence[Column]) -> list[str]:
    """A written row in the order of the table's columns, in exactly their types."""
    by_name = {name.lower(): value for name, value in values.items()}
    return [f"{_stored(by_name.get(column.name.lower(), 'NULL'), column)} AS o{place}" for place, column in enumerate(columns, start=1)]


def _stored(value: str, column: Column) -> str:
    value = storable(f"CAST({value} AS {literals.duckdb_type(column.type)})", column.type)
    if column.not_null:
        missing = literals.text(f"Required field {column.name} cannot be null")
        value = f"coalesce({value}, CAST(error({missing}) AS {literals.duckdb_type(column.type)}))"
    return value


class Target:
    """The table that is changed, with all its columns and a number for each row."""

    def __init__(self, emitter: Emitter, scan: Any, columns: Sequence[Column]) -> None:
        whole = type(scan)()
        whole.CopyFrom(scan)
        known = {column.name.lower(): column.column_id for column in scan.parent.column_list}
        self.columns = columns
        self.ids = [known.get(column.name.lower(), _UNUSED_ID + place) for place, column in enumerate(columns)]
        for id_, column in zip(self.ids, columns, strict=True):
            if id_ >= _UNUSED_ID:
                whole.parent.column_list.add(column_id=id_, name=column.name, type=to_type(column.type))
        self.rows = table_scan(emitter, whole)

    @property
    def names(self) -> list[str]:
        """The columns as SQL names, in the table's order."""
        return [f"c{id_}" for id_ in self.ids]

    def row(self, values: Mapping[int, str]) -> list[str]:
        """The row after an update of the columns with these ids, in its own names."""
        pairs = zip(self.ids, self.columns, strict=True)
        return [f"{_stored(values[id_], column) if id_ in values else f'c{id_}'} AS n{id_}" for id_, column in pairs]


def deleted(emitter: Emitter, node: Any, columns: Sequence[Column]) -> str:
    """All rows, with what DELETE does to them."""
    target = Target(emitter, node.table_scan, columns)
    items = [f"{name} AS o{place}" for place, name in enumerate(target.names, start=1)]
    condition = emitter.expression(node.where_expr)
    return select([*items, f"CASE WHEN {condition} THEN {DELETED} ELSE {UNTOUCHED} END AS action"], f"FROM ({target.rows}) AS t")


def updated(emitter: Emitter, node: Any, columns: Sequence[Column]) -> str:
    """All rows, with what UPDATE does to them."""
    target = Target(emitter, node.table_scan, columns)
    values = _new_values(emitter, node.update_item_list)
    condition = emitter.expression(node.where_expr)
    if not node.HasField("from_scan"):
        pairs = zip(target.ids, columns, strict=True)
        new = [
            f"CASE WHEN hit_ THEN {_stored(values[id_], column)} ELSE c{id_} END" if id_ in values else f"c{id_}" for id_, column in pairs
        ]
        items = [f"{value} AS o{place}" for place, value in enumerate(new, start=1)]
        # The condition is evaluated once: it may draw random numbers.
        source = select(["*", f"({condition}) AS hit_"], f"FROM ({target.rows}) AS t")
        return select([*items, f"CASE WHEN hit_ THEN {UPDATED} ELSE {UNTOUCHED} END AS action"], f"FROM ({source}) AS h")
    found = select([_ROW, f"{UPDATED} AS action", *target.row(values)], f"FROM target_, {emitter.source(node.from_scan)} WHERE {condition}")
    return f"WITH {_numbered(target)} {_applied(target, [found])}"


def _numbered(target: Target) -> str:
    return f"target_ AS MATERIALIZED ({select(['*', f'row_number() OVER () AS {_ROW}'], f'FROM ({target.rows}) AS t')})"


def _applied(target: Target, changes: Sequence[str]) -> str:
    """All rows of the target, with the changes, each row of which says for which row of the target it is."""
    check = f"CASE WHEN count(*) OVER (PARTITION BY {_ROW}) > 1 THEN error({literals.text(_TOO_MANY)}) END"
    changed = select(["*", f"{check} AS check_"], f"FROM ({' UNION ALL '.join(changes)}) AS u")
    hit = "changes_.action IS NOT NULL AND changes_.check_ IS NULL"
    items = [f"CASE WHEN {hit} THEN changes_.n{id_} ELSE target_.c{id_} END AS o{place}" for place, id_ in enumerate(target.ids, start=1)]
    action = f"CASE WHEN {hit} THEN changes_.action ELSE {UNTOUCHED} END AS action"
    return select([*items, action], f"FROM target_ LEFT JOIN ({changed}) AS changes_ USING ({_ROW})")


def _new_values(emitter: Emitter, items: Any) -> dict[int, str]:
    """What SET makes of each column it names; several fields of one column are set one after another."""
    values: dict[int, str] = {}
    for item in items:
        if item.delete_list or item.update_list or item.insert_list or item.update_item_element_list:
            raise UnsupportedSqlError("UPDATE of the elements of an ARRAY is not supported; SET the whole ARRAY")
        column, path = _path(item.target)
        values[column.column_id] = _set(values.get(column.column_id, f"c{column.column_id}"), path, _value(emitter, item.set_value.value))
    return values


def _path(target: Any) -> tuple[Any, list[tuple[Type, int]]]:
    """The column a SET names, and the fields inside it, as STRUCT type and position."""
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
    fields = [f"struct_extract({struct}, {literals.text(name)})" for name in field_names(type_)]
    fields[position] = _set(fields[position], path[1:], value)
    return literals.struct(type_, fields)


_Match = _Action = enums.ResolvedMergeWhenEnums


def merged(emitter: Emitter, node: Any, columns: Sequence[Column]) -> str:
    """All rows of the target, then the inserted ones, with what MERGE does to them."""
    target = Target(emitter, node.table_scan, columns)
    source = select(["*", f"row_number() OVER () AS {_SOURCE_ROW}"], f"FROM {emitter.source(node.from_scan)}")
    pairs = select([_ROW, _SOURCE_ROW], f"FROM target_, source_ WHERE {emitter.expression(node.merge_expr)}")
    with_ = f"WITH {_numbered(target)}, source_ AS MATERIALIZED ({source}), pairs_ AS MATERIALIZED ({pairs})"
    clauses = {kind: [clause for clause in node.when_clause_list if clause.match_type == kind] for kind in range(3)}
    joined = f"pairs_ JOIN target_ USING ({_ROW}) JOIN source_ USING ({_SOURCE_ROW})"
    unmatched = f"target_ WHERE {_ROW} NOT IN (SELECT {_ROW} FROM pairs_)"
    changes = [
        _changes(emitter, target, clauses[_Match.MATCHED], joined),
        _changes(emitter, target, clauses[_Match.NOT_MATCHED_BY_SOURCE], unmatched),
    ]
    rows = [_applied(target, changes)]
    if clauses[_Match.NOT_MATCHED_BY_TARGET]:
        rows.append(_insertions(emitter, columns, clauses[_Match.NOT_MATCHED_BY_TARGET]))
    return f"{with_} {' UNION ALL '.join(rows)}"


def _choice(emitter: Emitter, clauses: Sequence[Any]) -> str:
    """The place of the first clause whose condition holds; NULL if none does."""
    conditions = (emitter.expression(clause.match_expr) if clause.HasField("match_expr") else "TRUE" for clause in clauses)
    branches = " ".join(f"WHEN {condition} THEN {place}" for place, condition in enumerate(conditions))
    return f"CASE {branches} END" if branches else "NULL"


def _changes(emitter: Emitter, target: Target, clauses: Sequence[Any], rows: str) -> str:
    """The updates and deletions of one kind of match, for `_applied`."""
    sets = [_new_values(emitter, clause.update_item_list) for clause in clauses]
    actions = [UPDATED if clause.action_type == _Action.UPDATE else DELETED for clause in clauses]
    values = {}
    for id_, column in zip(target.ids, target.columns, strict=True):
        branches = " ".join(f"WHEN {place} THEN {_stored(new[id_], column)}" for place, new in enumerate(sets) if id_ in new)
        values[id_] = f"CASE clause_ {branches} ELSE c{id_} END" if branches else f"c{id_}"
    action = " ".join(f"WHEN {place} THEN {action}" for place, action in enumerate(actions))
    items = [
        _ROW,
        f"CASE clause_ {action} END AS action" if action else "NULL AS action",
        *(f"{value} AS n{id_}" for id_, value in values.items()),
    ]
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
    return select([*items, f"{INSERTED} AS action"], f"FROM ({chosen}) AS m WHERE clause_ IS NOT NULL")
