"""Window functions."""

from __future__ import annotations

import dataclasses
from typing import Any

from zetasql.wasi._pb2.zetasql.public import type_pb2
from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_ast_enums_pb2 as enums

from sokuji.errors import UnsupportedSqlError
from sokuji.sql.duckdb.emit.aggregates import computed_column, with_modifiers
from sokuji.sql.duckdb.emit.calls import emit_call
from sokuji.sql.duckdb.emit.emitter import Emitter, columns, select, unwrap
from sokuji.sql.duckdb.emit.ordering import order_items


def analytic_scan(emitter: Emitter, node: Any) -> str:
    """Window functions. Their arguments, partitions and order are columns of the input."""
    computed = {}
    checked: dict[int, str] = {}
    for group in node.function_group_list:
        for item in map(computed_column, group.analytic_function_list):
            call = unwrap(item.expr)[1]
            over = _window(emitter, group, call, checked)
            computed[item.column.column_id] = emit_call(call, dataclasses.replace(with_modifiers(emitter, call), over=over))
    source = emitter.source(node.input_scan)
    if checked:
        source = f"({select(['*', *checked.values()], f'FROM {source}')}) AS {emitter.name()}"
    items = [f"{computed[id_]} AS c{id_}" if id_ in computed else f"c{id_}" for id_ in (column.column_id for column in columns(node))]
    return select(items, f"FROM {source}")


def _window(emitter: Emitter, group: Any, node: Any, checked: dict[int, str]) -> str:
    """The text inside OVER (...). `checked` collects the order keys that must not be NaN."""
    if any(collation.collation_name for collation in group.partition_by.collation_list):
        raise UnsupportedSqlError("Collation is not supported")
    parts = []
    if group.partition_by.partition_by_list:
        parts.append("PARTITION BY " + ", ".join(f"c{column.column.column_id}" for column in group.partition_by.partition_by_list))
    order = list(group.order_by.order_by_item_list)
    frame = node.window_frame if node.HasField("window_frame") else None
    if order:
        parts.append("ORDER BY " + ", ".join(_range_key(order[0], frame, checked) if _has_range_offset(frame) else order_items(order)))
    if frame is not None:
        parts.append(_frame(emitter, frame))
    return " ".join(parts)


_FRAMES = enums.ResolvedWindowFrameEnums
_BOUNDS = enums.ResolvedWindowFrameExprEnums
_BOUND_WORDS = {
    _BOUNDS.UNBOUNDED_PRECEDING: "UNBOUNDED PRECEDING",
    _BOUNDS.OFFSET_PRECEDING: "{} PRECEDING",
    _BOUNDS.CURRENT_ROW: "CURRENT ROW",
    _BOUNDS.OFFSET_FOLLOWING: "{} FOLLOWING",
    _BOUNDS.UNBOUNDED_FOLLOWING: "UNBOUNDED FOLLOWING",
}


def _frame(emitter: Emitter, frame: Any) -> str:
    unit = "ROWS" if frame.frame_unit == _FRAMES.ROWS else "RANGE"
    return f"{unit} BETWEEN {_bound(emitter, frame.start_expr)} AND {_bound(emitter, frame.end_expr)}"


def _bound(emitter: Emitter, bound: Any) -> str:
    offset = emitter.expression(bound.expression) if bound.HasField("expression") else ""
    return _BOUND_WORDS[bound.boundary_type].format(offset)


def _has_range_offset(frame: Any) -> bool:
    offsets = {_BOUNDS.OFFSET_PRECEDING, _BOUNDS.OFFSET_FOLLOWING}
    return (
        frame is not None
        and frame.frame_unit == _FRAMES.RANGE
        and bool({frame.start_expr.boundary_type, frame.end_expr.boundary_type} & offsets)
    )


def _range_key(item: Any, frame: Any, checked: dict[int, str]) -> list[str]:
    """The single order key of a RANGE with an offset.

    The position of NaN among the keys matters only if a frame is unbounded on one side.
    """
    key, id_ = order_items([item])[-1], item.column_ref.column.column_id
    ends = {frame.start_expr.boundary_type, frame.end_expr.boundary_type}
    if item.column_ref.column.type.type_kind != type_pb2.TYPE_DOUBLE or not ends & {
        _BOUNDS.UNBOUNDED_PRECEDING,
        _BOUNDS.UNBOUNDED_FOLLOWING,
    }:
        return [key]
    # DuckDB sorts NaN to the other end, and a second key that would correct this is not allowed here.
    nan = "CAST(error('A RANGE with an offset and an open end over NaN is not supported') AS DOUBLE)"
    checked[id_] = f"CASE WHEN isnan(c{id_}) THEN {nan} ELSE c{id_} END AS k{id_}"
    return [key.replace(f"c{id_}", f"k{id_}", 1)]
