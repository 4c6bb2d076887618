"""INSERT, UPDATE and DELETE for the reference implementation, as queries, because the wheel's own evaluation fails an internal check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_ast_enums_pb2 as enums
from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_ast_pb2

from sokuji.errors import SqlError, UnsupportedSqlError
from sokuji.meta.objects import Column
from sokuji.sql.base import RowChanges
from sokuji.sql.front.protos import UNUSED_ID, leaf, to_type
from sokuji.sql.front.table_functions import ResolvedCall
from sokuji.sql.query import StatementNames, StoredRows, TableRows, computed, of_columns, single_row
from sokuji.sql.reference.evaluation import Evaluation
from sokuji.sql.reference.rows import ValueRows, of_stored, storable
from sokuji.sql.stop import Stop
from sokuji.types import INT64, Field

_ROW = "row_"


def changes_of(node: Any, target: StoredRows, names: StatementNames, stop: Stop) -> RowChanges:
    """Compute what an INSERT, UPDATE or DELETE changes in a table. If one row changes, all files are replaced."""
    match node.DESCRIPTOR.name:
        case "ResolvedInsertStmtProto":
            rows = [_complete(row, target.columns) for row in _inserted(node, names, stop)]
            return RowChanges(len(rows), (), _rows(rows, target.columns).reader())
        case "ResolvedUpdateStmtProto" | "ResolvedDeleteStmtProto":
            return _changed(node, replace(target, snapshot=replace(target.snapshot, tail=None)), names, stop)
        case _:
            raise UnsupportedSqlError("MERGE is not supported by GoogleSQL's reference implementation")


def _inserted(node: Any, names: StatementNames, stop: Stop) -> list[dict[str, Any]]:
    if node.insert_mode != enums.ResolvedInsertStmtEnums.OR_ERROR:
        raise UnsupportedSqlError("INSERT OR IGNORE, OR REPLACE and OR UPDATE are not supported")
    into = [column.name.lower() for column in node.insert_column_list]
    if node.HasField("query"):
        found = Evaluation(names, stop).rows(of_columns(node.query, node.query_output_column_list, names))
        return [dict(zip(into, row, strict=True)) for row in found.rows]
    rows = []
    for written in node.row_list:
        given = {name: value.value for name, value in zip(into, written.value_list, strict=True) if not _is_default(value.value)}
        [row] = Evaluation(names, stop).rows(computed(single_row(), (), given.values(), names)).rows
        rows.append(dict(zip(given, row, strict=True)))
    return rows


def _is_default(expression: Any) -> bool:
    # Columns have no defaults here, so DEFAULT is NULL.
    return leaf(expression)[0] == "resolved_dmldefault_node"


def _changed(node: Any, target: StoredRows, names: StatementNames, stop: Stop) -> RowChanges:
    before = of_stored(target)
    new = _new_values(node)
    numbered = _Numbered(before, names)
    scan, row = _target(node.table_scan)
    if node.DESCRIPTOR.name == "ResolvedUpdateStmtProto" and node.HasField("from_scan"):
        scan = _joined(scan, node.from_scan)
    found = Evaluation(numbered, stop).rows(computed(_filtered(scan, node.where_expr), [row], new.values(), numbered))
    changed = {number: dict(zip(new, values, strict=True)) for number, *values in found.rows}
    if len(changed) < len(found.rows):
        raise SqlError("UPDATE/MERGE must match at most one source row for each target row")
    rows = []
    columns = [column.name.lower() for column in target.columns]
    for number, values in enumerate(before.rows):
        if number not in changed:
            rows.append(values)
        elif new:
            rows.append(_complete(dict(zip(columns, values, strict=True)) | changed[number], target.columns))
    return RowChanges(len(changed), target.snapshot.files if changed else (), _rows(rows, target.columns).reader())


def _new_values(node: Any) -> dict[str, Any]:
    """The expressions of SET by lower-case column; empty for DELETE."""
    if node.DESCRIPTOR.name == "ResolvedDeleteStmtProto":
        return {}
    new = {}
    for item in node.update_item_list:
        kind, target = leaf(item.target)
        if kind != "resolved_column_ref_node" or not item.HasField("set_value"):
            raise UnsupportedSqlError("UPDATE of a part of a column is not supported by GoogleSQL's reference implementation")
        expression = item.set_value.value
        if _is_default(expression):
            expression = resolved_ast_pb2.AnyResolvedExprProto()
            expression.resolved_literal_node.parent.type.CopyFrom(target.column.type)
            expression.resolved_literal_node.value.type.CopyFrom(target.column.type)
            expression.resolved_literal_node.value.value.SetInParent()
        new[target.column.name.lower()] = expression
    return new


class _Numbered:
    """The statement's names, where the changed table is read with the numbers of its rows."""

    def __init__(self, rows: ValueRows, names: StatementNames) -> None:
        self._rows = ValueRows((*rows.fields, Field(_ROW, INT64)), [(*row, number) for number, row in enumerate(rows.rows)])
        self._names, self.parameters, self.variables = names, names.parameters, names.variables

    def table(self, scan: Any) -> TableRows:
        """See `StatementNames.table`."""
        if any(column.name == _ROW for column in scan.parent.column_list):
            return self._rows.reader().read_all()
        return self._names.table(scan)

    def call(self, scan: Any) -> ResolvedCall:
        """See `StatementNames.call`."""
        return self._names.call(scan)


def _target(table_scan: Any) -> tuple[Any, Any]:
    """The scan of the changed table with a column of row numbers, and that column."""
    scan = resolved_ast_pb2.AnyResolvedScanProto()
    scan.resolved_table_scan_node.CopyFrom(table_scan)
    row = scan.resolved_table_scan_node.parent.column_list.add(
        column_id=UNUSED_ID, name=_ROW, table_name=table_scan.table.name, type=to_type(INT64)
    )
    return scan, row


def _columns(scan: Any) -> Any:
    return leaf(scan)[1].parent.column_list


def _joined(left: Any, right: Any) -> Any:
    scan = resolved_ast_pb2.AnyResolvedScanProto()
    join = scan.resolved_join_scan_node
    join.left_scan.CopyFrom(left)
    join.right_scan.CopyFrom(right)
    join.parent.column_list.extend([*_columns(left), *_columns(right)])
    return scan


def _filtered(rows: Any, condition: Any) -> Any:
    scan = resolved_ast_pb2.AnyResolvedScanProto()
    filter_ = scan.resolved_filter_scan_node
    filter_.input_scan.CopyFrom(rows)
    filter_.filter_expr.CopyFrom(condition)
    filter_.parent.column_list.extend(_columns(rows))
    return scan


def _complete(row: Mapping[str, Any], columns: Sequence[Column]) -> tuple[Any, ...]:
    """A row in the order of the table's columns, as it is stored."""
    for column in columns:
        if column.not_null and row.get(column.name.lower()) is None:
            raise SqlError(f"Required field {column.name} cannot be null")
    return tuple(storable(row.get(column.name.lower()), column.type) for column in columns)


def _rows(rows: list[tuple[Any, ...]], columns: Sequence[Column]) -> ValueRows:
    return ValueRows(tuple(column.field for column in columns), rows)
