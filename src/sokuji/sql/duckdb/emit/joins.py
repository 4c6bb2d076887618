"""Joins of two scans, and of a scan with the elements of its arrays."""

from __future__ import annotations

from typing import Any

from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_ast_enums_pb2 as enums

from sokuji.duckdb_text import quote_text
from sokuji.sql.duckdb.emit.emitter import Emitter, columns, select

_JOINS = {
    enums.ResolvedJoinScanEnums.INNER: "INNER JOIN",
    enums.ResolvedJoinScanEnums.LEFT: "LEFT JOIN",
    enums.ResolvedJoinScanEnums.RIGHT: "RIGHT JOIN",
    enums.ResolvedJoinScanEnums.FULL: "FULL JOIN",
}


def join_scan(emitter: Emitter, node: Any) -> str:
    """`FROM a JOIN b ON ...`. The analyzer turns USING into ON and a projection."""
    left, right = emitter.source(node.left_scan), emitter.source(node.right_scan)
    lateral = "LATERAL " if node.is_lateral else ""
    condition = emitter.expression(node.join_expr) if node.HasField("join_expr") else "TRUE"
    items = [f"c{column.column_id}" for column in columns(node)]
    return select(items, f"FROM {left} {_JOINS[node.join_type]} {lateral}{right} ON {condition}")


def array_scan(emitter: Emitter, node: Any) -> str:
    """`FROM UNNEST(a, b) WITH OFFSET`, alone or joined to a scan whose columns the arrays may use."""
    if node.HasField("join_expr"):
        return _conditional(emitter, node)
    source = f"FROM {emitter.source(node.input_scan)}" if node.HasField("input_scan") else ""
    return _unnest(emitter, node, source, outer=node.is_outer)


def _unnest(emitter: Emitter, node: Any, rest: str, *, outer: bool) -> str:
    """A SELECT that unnests arrays side by side, over a SELECT that computes them. Shorter arrays are padded with NULL."""
    arrays = [f"a{column.column_id}" for column in node.element_column_list]
    computed = [f"{emitter.expression(array)} AS {name}" for array, name in zip(node.array_expr_list, arrays, strict=True)]
    if len(arrays) > 1:
        length = _length(arrays, emitter.expression(node.array_zip_mode) if node.HasField("array_zip_mode") else "'PAD'")
        items = [f"list_resize({name}, {length}) AS {name}" for name in arrays]
        inner = f"SELECT * REPLACE ({', '.join(items)}) FROM ({select(['*'] * bool(rest) + computed, rest)}) AS {emitter.name()}"
    else:
        inner = select(["*"] * bool(rest) + computed, rest)
    position = f"range(len({arrays[0]}))"
    if outer:
        # A row whose array is empty or NULL appears once, with NULL for the element and the offset.
        empty = f"coalesce(len({arrays[0]}), 0) = 0"
        arrays = [f"(CASE WHEN {empty} THEN [NULL] ELSE {name} END)" for name in arrays]
        position = f"(CASE WHEN {empty} THEN [NULL] ELSE {position} END)"
    unnested = {
        column.column_id: f"unnest({array}) AS c{column.column_id}" for column, array in zip(node.element_column_list, arrays, strict=True)
    }
    if node.HasField("array_offset_column"):
        offset = node.array_offset_column.column.column_id
        unnested[offset] = f"unnest({position}) AS c{offset}"
    kept = [f"c{column.column_id}" for column in columns(node) if rest and column.column_id not in unnested]
    items = [*kept, *unnested.values()]
    return select(items, f"FROM ({inner}) AS {emitter.name()}")


def _length(arrays: list[str], mode: str) -> str:
    """The number of rows of arrays side by side. `mode` is an expression."""
    lengths = [f"coalesce(len({name}), 0)" for name in arrays]
    longest, shortest = f"greatest({', '.join(lengths)})", f"least({', '.join(lengths)})"
    unequal = f"CAST(error({quote_text('Unnested arrays under STRICT mode must have equal lengths')}) AS BIGINT)"
    unknown = f"CAST(error({quote_text('UNNEST does not allow NULL mode argument')}) AS BIGINT)"
    return (
        f"(CASE {mode} WHEN 'PAD' THEN {longest} WHEN 'TRUNCATE' THEN {shortest} "
        f"WHEN 'STRICT' THEN CASE WHEN {longest} = {shortest} THEN {longest} ELSE {unequal} END ELSE {unknown} END)"
    )


def _conditional(emitter: Emitter, node: Any) -> str:
    """`JOIN UNNEST(a) ON condition`: the condition filters the elements of a row before a LEFT JOIN checks whether any are left."""
    source = emitter.source(node.input_scan)
    elements = _unnest(emitter, node, "", outer=False)
    condition = emitter.expression(node.join_expr)
    join = "LEFT JOIN" if node.is_outer else "INNER JOIN"
    items = [f"c{column.column_id}" for column in columns(node)]
    filtered = select(["*"], f"FROM ({elements}) AS {emitter.name()} WHERE {condition}")
    return select(items, f"FROM {source} {join} LATERAL ({filtered}) AS {emitter.name()} ON TRUE")
