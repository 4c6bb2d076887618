"""Approximate aggregates. All but APPROX_COUNT_DISTINCT are computed exactly here, which their contract allows."""

from __future__ import annotations

from sokuji.sql.functions.aggregates import aggregate
from sokuji.sql.functions.base import Call, Function, Support
from sokuji.sql.functions.template import emitted, let, unsupported
from sokuji.types import to_duckdb


def _quantiles(call: Call) -> str:
    value, number = call.arguments
    where = "" if call.ignore_nulls is False else f"{value} IS NOT NULL"
    items = aggregate(call, "list", value, where=where)

    def body(name: str) -> str:
        last = f"(len({name}) - 1)"
        picked = f"list_transform(range(0, {number} + 1), lambda i: {name}[CAST(round(i * {last} / {number}) AS BIGINT) + 1])"
        return f"CASE WHEN len({name}) > 0 THEN {picked} END"

    return let([let([items], lambda name: f"list_sort({name}, 'ASC', 'NULLS FIRST')")], body)


def _top(call: Call, entries: str, number: str) -> str:
    fields = [field.name for field in call.result.element.fields] if call.result.element else []
    first, second = (f'"{name}"' for name in fields)
    shaped = (
        f"list_transform(list_slice(list_reverse_sort({entries}), 1, {number}), lambda e: struct_pack({first} := e.v, {second} := e.n))"
    )
    return f"CAST({shaped} AS {to_duckdb(call.result)})"


def _top_count(call: Call) -> str:
    value, number = call.arguments
    counts = aggregate(call, "list", value)

    def body(items: str) -> str:
        distinct = f"list_distinct(list_filter({items}, lambda x: x IS NOT NULL))"
        entries = f"list_transform({distinct}, lambda d: struct_pack(n := len(list_filter({items}, lambda x: x = d)), v := d))"
        nulls = f"len(list_filter({items}, lambda x: x IS NULL))"
        every = f"CASE WHEN {nulls} > 0 THEN list_append({entries}, struct_pack(n := {nulls}, v := NULL)) ELSE {entries} END"
        return f"CASE WHEN {items} IS NOT NULL THEN {_top(call, every, number)} END"

    return let([counts], body)


TABLE: list[Function] = [
    *emitted("FN_APPROX_COUNT_DISTINCT", lambda call: aggregate(call, "count", call.arguments[0], distinct=True), Support.NATIVE),
    *emitted("FN_APPROX_QUANTILES", _quantiles),
    *emitted("FN_APPROX_TOP_COUNT", _top_count),
    *unsupported(
        "FN_APPROX_TOP_SUM_INT64 FN_APPROX_TOP_SUM_DOUBLE FN_APPROX_TOP_SUM_NUMERIC",
        "not written yet; GROUP BY, ORDER BY and LIMIT give it exactly",
    ),
    *unsupported(
        "FN_HLL_COUNT_MERGE FN_HLL_COUNT_EXTRACT FN_HLL_COUNT_INIT_INT64 FN_HLL_COUNT_INIT_NUMERIC FN_HLL_COUNT_INIT_STRING "
        "FN_HLL_COUNT_INIT_BYTES FN_HLL_COUNT_MERGE_PARTIAL",
        "sketches are not supported; COUNT(DISTINCT ...) is exact",
    ),
]
