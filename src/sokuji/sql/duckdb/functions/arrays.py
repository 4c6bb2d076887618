"""Functions on ARRAYs, and functions that make ARRAYs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from sokuji.sql.duckdb.functions import parts, room
from sokuji.sql.duckdb.functions.base import SignatureEntry, SqlCall, Support
from sokuji.sql.duckdb.functions.reference import evaluate, reference
from sokuji.sql.duckdb.functions.template import emitted, native, unsupported
from sokuji.sql.duckdb.lets import let
from sokuji.sql.duckdb.types import to_duckdb


def _at(base: int, *, safe: bool) -> Callable[[SqlCall], str]:
    def emit(call: SqlCall) -> str:
        def body(items: str, index: str) -> str:
            # DuckDB counts from 1, and negative indexes from the end.
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


def _make_array(call: SqlCall) -> str:
    items = ", ".join(call.arguments)
    return f"[{items}]" if call.arguments else f"CAST([] AS {to_duckdb(call.result)})"


def _concat(call: SqlCall) -> str:
    # list_concat skips NULLs; in GoogleSQL a NULL array makes the result NULL.
    def body(*arrays: str) -> str:
        return f"CASE WHEN {' OR '.join(f'{item} IS NULL' for item in arrays)} THEN NULL ELSE list_concat({', '.join(arrays)}) END"

    return let(call.arguments, body) if len(call.arguments) > 1 else call.arguments[0]


_ELEMENTS_MAX = 1_048_575  # BigQuery's limit; the reference implementation stops at 16,000
_ELEMENT_BYTES = 8
_SURE = 1 << 60  # up to this size, no step can leave INT64


def _series(start: str, end: str, step: str, item: str = "x") -> str:
    """The numbers from `start` to `end` as a list, each converted to `item`. The text repeats the arguments."""
    numbers = f"generate_series({start}, {end}, {step})"
    listed = numbers if item == "x" else f"list_transform({numbers}, lambda x: {item})"
    return (
        f"CASE WHEN {step} = 0 THEN error('Sequence step cannot be 0.') WHEN ({end} - {start}) // {step} >= {_ELEMENTS_MAX} "
        f"THEN error('Cannot generate arrays with more than {_ELEMENTS_MAX} elements.') "
        f"ELSE {room.within(f'(({end} - {start}) // {step} + 1) * {_ELEMENT_BYTES}', listed)} END"
    )


def _int_array(call: SqlCall) -> str:
    if _is_constant_series(call):
        # Return only this call: inside a CASE or a lambda, DuckDB would build the list again for each of 2,048 rows.
        return f"generate_series({', '.join(call.arguments)})"

    def body(*bounds: str) -> str:
        start, end, step = (*bounds, "1")[:3]
        sure = " AND ".join(f"abs({bound} // 2) < {_SURE // 2}" for bound in (start, end, step))
        exact = evaluate(dataclasses.replace(call, arguments=bounds, constants=()))
        nulls = " OR ".join(f"{bound} IS NULL" for bound in bounds)
        return f"CASE WHEN {nulls} THEN NULL WHEN {sure} THEN {_series(start, end, step)} ELSE {exact} END"

    return evaluate(call) if call.safe else let(call.arguments, body)


def _is_constant_series(call: SqlCall) -> bool:
    """Whether all arguments are constants and make an array."""
    if not call.constants or not all(isinstance(bound, int) and abs(bound) < _SURE for bound in call.constants):
        return False
    start, end, step = (*call.constants, 1)[:3]
    return step != 0 and bool((end - start) // step < _ELEMENTS_MAX)


def _timestamp_array(call: SqlCall) -> str:
    part = parts.constant(call, 3)
    if part not in parts.MICROSECONDS or call.safe:
        return evaluate(call, "GENERATE_TIMESTAMP_ARRAY({0}, {1}, INTERVAL {2} {3})")
    unit = parts.MICROSECONDS[part]

    def body(start: str, end: str, count: str) -> str:
        exact = evaluate(
            dataclasses.replace(call, arguments=(start, end, count, call.arguments[3]), constants=(None, None, None, call.constants[3])),
            "GENERATE_TIMESTAMP_ARRAY({0}, {1}, INTERVAL {2} {3})",
        )
        series = _series(f"epoch_us({start})", f"epoch_us({end})", f"({count} * {unit})", "make_timestamptz(x)")
        nulls = " OR ".join(f"{value} IS NULL" for value in (start, end, count))
        return f"CASE WHEN {nulls} THEN NULL WHEN abs({count} // 2) < {_SURE // 2 // unit} THEN {series} ELSE {exact} END"

    return let(call.arguments[:3], body)


def _date_array(call: SqlCall) -> str:
    step = ", INTERVAL {2} {3}" if len(call.arguments) > 2 else ""
    return evaluate(call, f"GENERATE_DATE_ARRAY({{0}}, {{1}}{step})")


def _to_string(call: SqlCall) -> str:
    items, separator, *default = call.arguments
    if parts.constant(call, 1) is None:
        return evaluate(call)  # DuckDB accepts only a constant separator
    if not default:
        return f"array_to_string({items}, {separator})"

    def body(items: str, text: str) -> str:
        known = f"list_transform({items}, lambda e: COALESCE(e, {text}))"
        return f"CASE WHEN {text} IS NOT NULL THEN array_to_string({known}, {separator}) END"

    return let([items, *default], body)


TABLE: list[SignatureEntry] = [
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
    *emitted("FN_GENERATE_ARRAY_INT64", _int_array),
    *reference("FN_GENERATE_ARRAY_NUMERIC FN_GENERATE_ARRAY_DOUBLE"),
    *emitted("FN_GENERATE_DATE_ARRAY", _date_array, Support.UDF),
    *emitted("FN_GENERATE_TIMESTAMP_ARRAY", _timestamp_array),
    *unsupported("FN_FLATTEN", "arrays of arrays do not exist in BigQuery"),
]
