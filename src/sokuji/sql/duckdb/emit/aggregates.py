"""GROUP BY."""

from __future__ import annotations

import dataclasses
from itertools import product
from typing import Any

from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_ast_enums_pb2 as enums

from sokuji.errors import UnsupportedSqlError
from sokuji.sql.duckdb.emit.calls import emit_call, function_call
from sokuji.sql.duckdb.emit.emitter import Emitter, columns, select, type_of, unwrap
from sokuji.sql.duckdb.emit.ordering import order_items
from sokuji.sql.duckdb.functions.base import SqlCall
from sokuji.types import Kind

_MODIFIERS = enums.ResolvedNonScalarFunctionCallBaseEnums
_IGNORE_NULLS = {_MODIFIERS.DEFAULT_NULL_HANDLING: None, _MODIFIERS.IGNORE_NULLS: True, _MODIFIERS.RESPECT_NULLS: False}


def aggregate_scan(emitter: Emitter, node: Any) -> str:
    """GROUP BY, also with grouping sets, and aggregation without keys. An inner SELECT computes the keys and arguments."""
    base = node.parent
    source = emitter.source(base.input_scan)
    keys = [f"{emitter.expression(item.expr)} AS c{item.column.column_id}" for item in base.group_by_list]
    marks: list[str] = []
    with emitter.lifting() as lifted:
        computed = {
            item.column.column_id: _aggregate(emitter, item.expr, base, marks) for item in map(computed_column, base.aggregate_list)
        }
    for further in ([*keys, *lifted.values()], marks):
        if further:
            source = f"({select(['*', *further], f'FROM {source}')}) AS {emitter.name()}"
    for call in base.grouping_call_list:
        computed[call.output_column.column_id] = f"CAST(GROUPING(c{call.group_by_column.column.column_id}) AS BIGINT)"
    items = [f"{computed[id_]} AS c{id_}" if id_ in computed else f"c{id_}" for id_ in (column.column_id for column in columns(node))]
    if not base.group_by_list and not base.grouping_set_list:
        # Without a key there is one group, even if no aggregate is computed.
        return select(items or ["count(*) AS c0"], f"FROM {source}")
    # Without input rows, GoogleSQL has no group for the empty grouping set, but DuckDB has one.
    rows_only = " HAVING count(*) > 0" if base.grouping_set_list or base.rollup_column_list else ""
    return select(items, f"FROM {source} GROUP BY {_grouping(base)}{rows_only}")


def computed_column(item: Any) -> Any:
    """The `ResolvedComputedColumnProto` of an aggregate or window function.

    Raises:
        UnsupportedSqlError: the errors of the function are deferred until its value is used.
    """
    name, inner = unwrap(item)
    if name != "resolved_computed_column_node":
        raise UnsupportedSqlError("Deferred evaluation of aggregates is not supported")
    return inner


def _aggregate(emitter: Emitter, expression: Any, base: Any, marks: list[str]) -> str:
    """One aggregate. `marks` collects columns about rows of its group that an inner SELECT must compute."""
    _, node = unwrap(expression)
    if node.group_by_list:
        raise UnsupportedSqlError("Multi-level aggregation is not supported")
    call = dataclasses.replace(
        with_modifiers(emitter, node),
        order_by=tuple(order_items(node.order_by_item_list)),
        limit=emitter.expression(node.limit) if node.HasField("limit") else None,
    )
    if node.HasField("having_modifier"):
        modifier = node.having_modifier
        kind = enums.ResolvedAggregateHavingModifierEnums.HavingModifierKind.Name(modifier.kind)
        if call.name == "any_value":
            call = dataclasses.replace(call, having=(kind, emitter.expression(modifier.having_expr)))
        else:
            mark = f"h{len(marks)}_"
            marks.append(f"{_mark(emitter, kind, modifier.having_expr, call.filter, base)} AS {mark}")
            call = dataclasses.replace(call, filter=mark)
    return emit_call(node, call)


def _mark(emitter: Emitter, kind: str, expression: Any, where: str | None, base: Any) -> str:
    """Whether a row has the greatest or smallest value of its group."""
    if base.grouping_set_list or base.rollup_column_list:
        raise UnsupportedSqlError(f"HAVING {kind} inside an aggregate is not supported with several grouping sets")
    value, type_ = emitter.expression(expression), type_of(expression)
    value = value if where is None else f"CASE WHEN {where} THEN {value} END"
    keys = ", ".join(f"c{item.column.column_id}" for item in base.group_by_list)
    over = f"OVER (PARTITION BY {keys})" if keys else "OVER ()"
    mark = f"({value}) = {kind.lower()}({value}) {over}"
    if type_.kind is Kind.FLOAT64:
        # If one value is NaN, the greatest and the smallest value are NaN, which equals nothing.
        mark = f"NOT bool_or(isnan({value})) {over} AND {mark}"
    return mark


def with_modifiers(emitter: Emitter, node: Any) -> SqlCall:
    """The common parts of aggregate and window function calls."""
    modifiers = node.parent
    return dataclasses.replace(
        function_call(emitter, node),
        distinct=modifiers.distinct,
        ignore_nulls=_IGNORE_NULLS[modifiers.null_handling_modifier],
        filter=emitter.expression(modifiers.where_expr) if modifiers.HasField("where_expr") else None,
    )


def _grouping(base: Any) -> str:
    if base.grouping_set_list:
        sets = [keys for item in base.grouping_set_list for keys in _sets(item)]
    elif base.rollup_column_list:
        keys = [[column.column.column_id] for column in base.rollup_column_list]
        sets = _rollup(keys)
    else:
        return ", ".join(f"c{item.column.column_id}" for item in base.group_by_list)
    return f"GROUPING SETS ({', '.join(_set(keys) for keys in sets)})"


def _set(keys: list[int]) -> str:
    return f"({', '.join(f'c{id_}' for id_ in dict.fromkeys(keys))})"


def _sets(item: Any) -> list[list[int]]:
    """The grouping sets of one item, as lists of column ids."""
    name, node = unwrap(item)
    match name:
        case "resolved_grouping_set_node":
            return [[column.column.column_id for column in node.group_by_column_list]]
        case "resolved_rollup_node":
            return _rollup([_ids(multi) for multi in node.rollup_column_list])
        case "resolved_cube_node":
            keys = [_ids(multi) for multi in node.cube_column_list]
            return [
                [id_ for key, taken in zip(keys, choice, strict=True) if taken for id_ in key]
                for choice in product([True, False], repeat=len(keys))
            ]
        case "resolved_grouping_set_list_node":
            return [keys for element in node.elem_list for keys in _sets(element)]
        case _:
            inputs = [_sets(element) for element in node.input_list]
            return [[id_ for keys in choice for id_ in keys] for choice in product(*inputs)]


def _ids(multi: Any) -> list[int]:
    return [column.column.column_id for column in multi.column_list]


def _rollup(keys: list[list[int]]) -> list[list[int]]:
    return [[id_ for key in keys[:length] for id_ in key] for length in range(len(keys), -1, -1)]
