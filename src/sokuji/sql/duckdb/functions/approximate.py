"""Approximate aggregates. APPROX_* are computed exactly, which GoogleSQL allows; HLL_COUNT uses sketches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sokuji.sql.duckdb.functions import sketch
from sokuji.sql.duckdb.functions.aggregates import aggregate
from sokuji.sql.duckdb.functions.base import SignatureEntry, SqlCall, Support
from sokuji.sql.duckdb.functions.reference import define
from sokuji.sql.duckdb.functions.template import emitted
from sokuji.sql.duckdb.lets import let
from sokuji.sql.duckdb.types import to_duckdb
from sokuji.types import BYTES, INT64, Field, Kind, Type, array, struct


def _quantiles(call: SqlCall) -> str:
    value, number = call.arguments
    where = "" if call.ignore_nulls is False else f"{value} IS NOT NULL"
    items = aggregate(call, "list", value, where=where)

    def body(name: str) -> str:
        last = f"(len({name}) - 1)"
        picked = f"list_transform(range(0, {number} + 1), lambda i: {name}[CAST(round(i * {last} / {number}) AS BIGINT) + 1])"
        return f"CASE WHEN len({name}) > 0 THEN {picked} END"

    return let([let([items], lambda name: f"list_sort({name}, 'ASC', 'NULLS FIRST')")], body)


def _top_count(call: SqlCall) -> str:
    value, number = call.arguments
    first, second = (f'"{field.name}"' for field in call.result.element.fields) if call.result.element else ("", "")
    counts, nulls = aggregate(call, "histogram", value), aggregate(call, "count", f"CASE WHEN {value} IS NULL THEN 1 END", distinct=False)

    def body(found: str, missing: str) -> str:
        entries = f"list_transform(map_entries({found}), lambda e: struct_pack(n := CAST(e.value AS BIGINT), v := e.key))"
        every = (
            f"CASE WHEN {missing} > 0 THEN list_append(coalesce({entries}, []), struct_pack(n := {missing}, v := NULL)) ELSE {entries} END"
        )
        top = f"list_slice(list_reverse_sort({every}), 1, {number})"
        return f"CAST(list_transform({top}, lambda e: struct_pack({first} := e.v, {second} := e.n)) AS {to_duckdb(call.result)})"

    return let([counts, nulls], body)


def _top_sum(call: SqlCall) -> str:
    """A value whose weights are all NULL has the sum NULL, and sorts last."""
    value, weight, number = call.arguments
    items = aggregate(call, "list", f"struct_pack(v := {value}, w := {weight})")
    row = array(struct([Field("v", call.types[0]), Field("w", call.types[1])]))
    name = define("approx_top_sum", "approx_top_sum", (row, INT64), call.result, _heaviest)
    return f"{name}({items}, {number})"


def _heaviest(items: list[tuple[Any, Any]], number: int) -> list[tuple[Any, Any]]:
    sums: dict[Any, Any] = {}
    for value, weight in items:
        known = sums.get(value)
        sums[value] = weight if known is None else known + (weight or 0)
    ordered = sorted(sums.items(), key=lambda item: (item[1] is None, -(item[1] or 0)))
    return ordered[:number]


def _hash(value: str, type_: Type) -> str:
    """63 bits that depend only on the value, in every version of DuckDB."""
    text = f"hex({value})" if type_.kind is Kind.BYTES else f"CAST({value} AS VARCHAR)"
    return f"CAST(md5_number_lower({text}) >> 1 AS BIGINT)"


def _sketch(call: SqlCall) -> str:
    value, *precision = call.arguments
    hashes = aggregate(call, "list", _hash(value, call.types[0]), where=f"{value} IS NOT NULL", distinct=True)
    name = define("hll_count_init", "hll_count_init", (array(INT64), INT64), BYTES, sketch.make)
    return f"{name}({hashes}, {precision[0] if precision else sketch.PRECISION_DEFAULT})"


def _merged(result: Type, finish: Callable[[list[bytes]], Any]) -> Callable[[SqlCall], str]:
    def emit(call: SqlCall) -> str:
        sketches = aggregate(call, "list", call.arguments[0], where=f"{call.arguments[0]} IS NOT NULL")
        name = define(call.name, call.name, (array(BYTES),), result, finish)
        return f"{name}({sketches})" if result is BYTES else f"coalesce({name}({sketches}), 0)"

    return emit


def _extract(call: SqlCall) -> str:
    name = define(call.name, call.name, (BYTES,), INT64, lambda data: sketch.read(data).count())
    return f"coalesce({name}({call.arguments[0]}), 0)"


TABLE: list[SignatureEntry] = [
    *emitted("FN_APPROX_COUNT_DISTINCT", lambda call: aggregate(call, "count", call.arguments[0], distinct=True), Support.NATIVE),
    *emitted("FN_APPROX_QUANTILES", _quantiles),
    *emitted("FN_APPROX_TOP_COUNT", _top_count),
    *emitted("FN_APPROX_TOP_SUM_INT64 FN_APPROX_TOP_SUM_DOUBLE FN_APPROX_TOP_SUM_NUMERIC", _top_sum, Support.UDF),
    *emitted("FN_HLL_COUNT_INIT_INT64 FN_HLL_COUNT_INIT_NUMERIC FN_HLL_COUNT_INIT_STRING FN_HLL_COUNT_INIT_BYTES", _sketch, Support.UDF),
    *emitted("FN_HLL_COUNT_MERGE", _merged(INT64, lambda sketches: sketch.merge(sketches).count()), Support.UDF),
    *emitted("FN_HLL_COUNT_MERGE_PARTIAL", _merged(BYTES, lambda sketches: sketch.merge(sketches).to_bytes()), Support.UDF),
    *emitted("FN_HLL_COUNT_EXTRACT", _extract, Support.UDF),
]
