"""Comparisons by GoogleSQL's rules: NaN equals nothing, not even itself; STRUCTs and ARRAYs can contain NULLs."""

from __future__ import annotations

import re
from collections.abc import Callable

from sokuji.sql.duckdb.functions.base import SignatureEntry, SqlCall, Support
from sokuji.sql.duckdb.functions.template import emitted, macro, native
from sokuji.sql.duckdb.lets import let
from sokuji.types import Kind, Type

_NUMBER = re.compile(r"\(?-?\d+(\.\d*)?(e[-+]?\d+)?\)?")


def equal(left: str, right: str, type_: Type) -> str:
    """DuckDB text of `left = right`. The text repeats both, so bind them first."""
    if type_.element is not None:
        element = type_.element
        pairs = f"list_transform(list_zip({left}, {right}), lambda p: {equal('p[1]', 'p[2]', element)})"
        return f"(CASE WHEN {left} IS NULL OR {right} IS NULL THEN NULL WHEN len({left}) <> len({right}) THEN false ELSE {_all(pairs)} END)"
    if type_.kind is Kind.STRUCT:
        fields = [
            equal(f"struct_extract_at({left}, {position})", f"struct_extract_at({right}, {position})", field.type)
            for position, field in enumerate(type_.fields, start=1)
        ]
        return f"({' AND '.join(fields)})" if fields else "true"
    if type_.kind is Kind.FLOAT64 and not (_NUMBER.fullmatch(left) or _NUMBER.fullmatch(right)):
        return f"({left} = {right} AND NOT (isnan({left}) AND {right} IS NOT NULL))"
    return f"({left} = {right})"


def _all(conditions: str) -> str:
    # bool_and ignores NULLs. Here false wins over NULL, and NULL over true.
    return let(
        [conditions],
        lambda items: (
            f"CASE WHEN list_contains({items}, false) THEN false WHEN len(list_filter({items}, lambda b: b IS NULL)) > 0 "
            "THEN NULL ELSE true END"
        ),
    )


def less(left: str, right: str, type_: Type, operator: str = "<") -> str:
    """DuckDB text of `left < right` (or `<=`). In DuckDB, NaN is the greatest number."""
    if type_.kind is Kind.FLOAT64 and not _NUMBER.fullmatch(right):
        known = "" if _NUMBER.fullmatch(left) else f" AND {left} IS NOT NULL"
        return f"({left} {operator} {right} AND NOT (isnan({right}){known}))"
    return f"({left} {operator} {right})"


def _binary(compare: Callable[[str, str, Type], str]) -> Callable[[SqlCall], str]:
    def emit(call: SqlCall) -> str:
        type_ = call.types[0]
        if type_.kind not in {Kind.FLOAT64, Kind.STRUCT, Kind.ARRAY}:
            return compare(call.arguments[0], call.arguments[1], type_)
        if type_.kind is Kind.FLOAT64 and any(_NUMBER.fullmatch(argument) for argument in call.arguments):
            return compare(call.arguments[0], call.arguments[1], type_)
        return let(call.arguments, lambda left, right: compare(left, right, type_))

    return emit


def _between(call: SqlCall) -> str:
    type_ = call.types[0]
    if type_.kind is not Kind.FLOAT64:
        return f"({call.arguments[0]} BETWEEN {call.arguments[1]} AND {call.arguments[2]})"
    return let(call.arguments, lambda value, low, high: f"({less(low, value, type_, '<=')} AND {less(value, high, type_, '<=')})")


def _in(call: SqlCall) -> str:
    value, *items = call.arguments
    type_ = call.types[0]
    if type_.kind in {Kind.FLOAT64, Kind.STRUCT, Kind.ARRAY}:
        return let(call.arguments, lambda value, *items: f"({' OR '.join(equal(value, item, type_) for item in items)})")
    return f"({value} IN ({', '.join(items)}))"


def _in_array(call: SqlCall) -> str:
    type_ = call.types[0]
    if type_.kind not in {Kind.FLOAT64, Kind.STRUCT, Kind.ARRAY}:
        # Use DuckDB's own search: comparing all elements first would build a list for each row.
        return let(
            call.arguments,
            lambda value, items: (
                f"CASE WHEN {items} IS NULL OR len({items}) = 0 THEN false WHEN {value} IS NULL THEN NULL "
                f"WHEN list_contains({items}, {value}) THEN true WHEN list_count({items}) < len({items}) THEN NULL ELSE false END"
            ),
        )

    def body(value: str, items: str) -> str:
        matches = f"list_transform({items}, lambda e: {equal(value, 'e', type_)})"
        return let(
            [matches],
            lambda found: (
                f"CASE WHEN {items} IS NULL OR len({found}) = 0 THEN false WHEN list_contains({found}, true) THEN true "
                f"WHEN len(list_filter({found}, lambda b: b IS NULL)) > 0 THEN NULL ELSE false END"
            ),
        )

    return let(call.arguments, body)


def _extreme(name: str) -> Callable[[SqlCall], str]:
    def emit(call: SqlCall) -> str:
        if len(call.arguments) == 1:
            return call.arguments[0]

        def body(*items: str) -> str:
            nulls = " OR ".join(f"{item} IS NULL" for item in items)
            nan = (
                f"WHEN {' OR '.join(f'isnan({item})' for item in items)} THEN CAST('nan' AS DOUBLE) "
                if call.result.kind is Kind.FLOAT64
                else ""
            )
            return f"CASE WHEN {nulls} THEN NULL {nan}ELSE {name}({', '.join(items)}) END"

        return let(call.arguments, body)

    return emit


TABLE: list[SignatureEntry] = [
    *emitted("FN_EQUAL", _binary(equal), Support.NATIVE),
    *emitted("FN_NOT_EQUAL", _binary(lambda left, right, type_: f"(NOT {equal(left, right, type_)})"), Support.NATIVE),
    *emitted("FN_LESS", _binary(less), Support.NATIVE),
    *emitted("FN_GREATER", _binary(lambda left, right, type_: less(right, left, type_)), Support.NATIVE),
    *emitted("FN_LESS_OR_EQUAL", _binary(lambda left, right, type_: less(left, right, type_, "<=")), Support.NATIVE),
    *emitted("FN_GREATER_OR_EQUAL", _binary(lambda left, right, type_: less(right, left, type_, "<=")), Support.NATIVE),
    *native("FN_DISTINCT", "{0} IS DISTINCT FROM {1}"),
    *native("FN_NOT_DISTINCT", "{0} IS NOT DISTINCT FROM {1}"),
    *emitted("FN_BETWEEN", _between, Support.NATIVE),
    *emitted("FN_IN", _in, Support.NATIVE),
    *emitted("FN_IN_ARRAY", _in_array),
    *emitted("FN_GREATEST", _extreme("greatest")),
    *emitted("FN_LEAST", _extreme("least")),
    *native("FN_IS_NULL", "{0} IS NULL"),
    *native("FN_IS_TRUE", "{0} IS TRUE"),
    *native("FN_IS_FALSE", "{0} IS FALSE"),
    *macro("FN_NOT", "NOT {0}"),
]
