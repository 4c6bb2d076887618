"""Queries inside expressions."""

from __future__ import annotations

from typing import Any

from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_ast_enums_pb2 as enums

from sokuji.errors import UnsupportedSqlError
from sokuji.sql.duckdb.emit import inline, structs
from sokuji.sql.duckdb.emit.emitter import Emitter, columns, type_of, unwrap
from sokuji.sql.duckdb.emit.literals import duckdb_type
from sokuji.sql.duckdb.emit.ordering import order_items
from sokuji.sql.duckdb.lets import let
from sokuji.types import Kind

_Kinds = enums.ResolvedSubqueryExprEnums


def subquery(emitter: Emitter, node: Any) -> str:
    """A subquery expression. Correlated references need no qualification, because column ids are unique."""
    kind = node.subquery_type
    if kind in _FORMS:
        return _plain(emitter, node) or _FORMS[kind](emitter, node)
    name = _Kinds.SubqueryType.Name(kind).replace("_", " ")
    raise UnsupportedSqlError(f"{name} with a subquery is not supported")


def _plain(emitter: Emitter, node: Any) -> str | None:
    """The subquery as an expression without a subquery, if possible."""
    kind = node.subquery_type
    if kind == _Kinds.IN:
        return None
    column = columns(unwrap(node.subquery)[1])[0].column_id if kind != _Kinds.EXISTS else 0
    one = inline.row(emitter, node.subquery, column) if kind == _Kinds.SCALAR else None
    source = None if one else inline.elements(emitter, node.subquery)
    if source is None:
        return one
    if kind == _Kinds.SCALAR:
        return inline.scalar(source, column)
    if kind == _Kinds.ARRAY:
        return f"coalesce({source.values(column)}, {_empty(node)})"
    return f"(coalesce(len({source.rows}), 0) > 0)"


def _scalar(emitter: Emitter, node: Any) -> str:
    return f"(SELECT {_only_column(node)} FROM {emitter.source(node.subquery)})"


def _exists(emitter: Emitter, node: Any) -> str:
    return f"EXISTS (SELECT 1 FROM {emitter.source(node.subquery)})"


def _empty(node: Any) -> str:
    return f"CAST([] AS {duckdb_type(type_of(node))})"


def _only_column(node: Any) -> str:
    return f"c{columns(unwrap(node.subquery)[1])[0].column_id}"


def _array(emitter: Emitter, node: Any) -> str:
    """ARRAY(SELECT ...), with the rows in the order of the subquery. A correlated subquery would lose its order."""
    source, order = _ordered(emitter, node.subquery)
    by = f" ORDER BY {', '.join(order)}" if order else ""
    return f"(SELECT coalesce(list({_only_column(node)}{by}), {_empty(node)}) FROM {source})"


def _ordered(emitter: Emitter, scan: Any) -> tuple[str, list[str]]:
    """A source for FROM, and the items to order its rows by."""
    name, node = unwrap(scan)
    if name == "resolved_order_by_scan_node":
        return emitter.source(node.input_scan), order_items(node.order_by_item_list)
    if name != "resolved_limit_offset_scan_node" or unwrap(node.input_scan)[0] != "resolved_order_by_scan_node":
        return emitter.source(scan), []
    whole = type(scan)()
    whole.CopyFrom(scan)
    limit = unwrap(whole)[1]
    order = unwrap(limit.input_scan)[1]
    # The outer query needs the sort keys, so add those that the subquery does not select.
    for item in order.order_by_item_list:
        for column_list in (order.parent.column_list, limit.parent.column_list):
            column_list.append(item.column_ref.column)
    return emitter.source(whole), order_items(order.order_by_item_list)


def _in(emitter: Emitter, node: Any) -> str:
    value, type_, column = emitter.expression(node.in_expr), type_of(node.in_expr), _only_column(node)
    if node.in_collation.collation_name:
        raise UnsupportedSqlError("Collation is not supported")
    source = emitter.source(node.subquery)
    if structs.has_struct(type_):
        equal = structs.equal(value, column, type_)
        return f"(SELECT CASE WHEN bool_or({equal}) THEN TRUE WHEN count(*) = count({equal}) THEN FALSE END FROM {source})"
    if type_.kind is not Kind.FLOAT64:
        return f"({value} IN (SELECT {column} FROM {source}))"
    # NaN equals nothing, not even itself; DuckDB says that NaN equals NaN.
    of_nan = f"(1 IN (SELECT CASE WHEN {column} IS NOT NULL THEN 0 END FROM {emitter.source(node.subquery)}))"
    return let([value], lambda one: f"(CASE WHEN isnan({one}) THEN {of_nan} ELSE {one} IN (SELECT {column} FROM {source}) END)")


_FORMS = {_Kinds.SCALAR: _scalar, _Kinds.EXISTS: _exists, _Kinds.ARRAY: _array, _Kinds.IN: _in}
