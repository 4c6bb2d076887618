"""Functions on ARRAYs, and the ones that make them."""

from __future__ import annotations

from collections.abc import Callable

from sokuji.sql.functions import parts
from sokuji.sql.functions.base import Call, Function, Support
from sokuji.sql.functions.reference import evaluate, reference
from sokuji.sql.functions.template import emitted, let, native, unsupported
from sokuji.types import to_duckdb


def _at(base: int, *, safe: bool) -> Callable[[Call], str]:
    def emit(call: Call) -> str:
        def body(items: str, index: str) -> str:
            # DuckDB counts from 1, and a negative index from the end.
            inside = f"{index} >= {base} AND {index} < len({items}) + {base}"
            value = f"{items}[{index} + {1 - base}]"
            if safe or call.safe:
                return f"CASE WHEN {inside} THEN {value} END"
            return (
                f"CASE WHEN {inside} THEN {value} WHEN {items} IS NULL OR {index} IS NULL THEN NULL "
                f"ELSE error('Array index ' || {index} || ' is out of bounds') END"
            )

        return let(call.arguments, body)

    return emit


def _make_array(call: Call) -> str:
    items = ", ".join(call.arguments)
    return f"[{items}]" if call.arguments else f"CAST([] AS {to_duckdb(call.result)})"


def _concat(call: Call) -> str:
    # list_concat skips NULLs; in GoogleSQL a NULL array makes the result NULL.
    def body(*arrays: str) -> str:
        return f"CASE WHEN {' OR '.join(f'{item} IS NULL' for item in arrays)} THEN NULL ELSE list_concat({', '.join(arrays)}) END"

    return let(call.arguments, body) if len(call.arguments) > 1 else call.arguments[0]


def _date_array(call: Call) -> str:
    step = ", INTERVAL {2} {3}" if len(call.arguments) > 2 else ""
    return evaluate(call, f"GENERATE_DATE_ARRAY({{0}}, {{1}}{step})")


def _to_string(call: Call) -> str:
    items, separator, *default = call.arguments
    if parts.constant(call, 1) is None:
        return evaluate(call)  # DuckDB joins by a constant only
    if not default:
        return f"array_to_string({items}, {separator})"

    def body(items: str, text: str) -> str:
        known = f"list_transform({items}, lambda e: COALESCE(e, {text}))"
        return f"CASE WHEN {text} IS NOT NULL THEN array_to_string({known}, {separator}) END"

    return let([items, *default], body)


TABLE: list[Function] = [
    *emitted("FN_ARRAY_AT_OFFSET", _at(0, safe=False)),
    *emitted("FN_ARRAY_AT_ORDINAL", _at(1, safe=False)),
    *emitted("FN_SAFE_ARRAY_AT_OFFSET", _at(0, safe=True)),
    *emitted("FN_SAFE_ARRAY_AT_ORDINAL", _at(1, safe=True)),
    *emitted("FN_MAKE_ARRAY", _make_array, Support.NATIVE),
    *emitted("FN_ARRAY_CONCAT", _concat),
    *native("FN_ARRAY_LENGTH", "len({0})"),
    *native("FN_ARRAY_REVERSE", "list_reverse({0})"),
    *emitted("FN_ARRAY_TO_STRING", _to_string),
    *reference("FN_ARRAY_TO_BYTES FN_ARRAY_IS_DISTINCT"),
    *reference("FN_GENERATE_ARRAY_INT64 FN_GENERATE_ARRAY_NUMERIC FN_GENERATE_ARRAY_DOUBLE"),
    *emitted("FN_GENERATE_DATE_ARRAY", _date_array, Support.UDF),
    *reference("FN_GENERATE_TIMESTAMP_ARRAY", "GENERATE_TIMESTAMP_ARRAY({0}, {1}, INTERVAL {2} {3})"),
    *unsupported("FN_FLATTEN", "arrays of arrays do not exist in BigQuery"),
]
