"""Logical operators, CASE and its short forms."""

from __future__ import annotations

from sokuji.sql.duckdb.functions.base import SignatureEntry, SqlCall, Support
from sokuji.sql.duckdb.functions.comparison import equal
from sokuji.sql.duckdb.functions.template import emitted, native
from sokuji.sql.duckdb.lets import let
from sokuji.sql.duckdb.types import to_duckdb


def _joined(operator: str) -> list[SignatureEntry]:
    return emitted(f"FN_{operator}", lambda call: f"({f' {operator} '.join(call.arguments)})", Support.NATIVE)


def _case(arguments: tuple[str, ...]) -> str:
    pairs = list(zip(arguments[:-1:2], arguments[1::2], strict=False))
    branches = " ".join(f"WHEN {condition} THEN {result}" for condition, result in pairs)
    return f"(CASE {branches} ELSE {arguments[-1]} END)" if pairs else arguments[-1]


def _case_with_value(call: SqlCall) -> str:
    value, *rest = call.arguments
    # Bind only the value: results of branches that are not taken must not be computed.
    type_ = call.types[0]
    bound = let([value], lambda name: name)
    if bound == f"({value})":
        comparisons = [
            equal(value, item, type_) if position % 2 == 0 and position < len(rest) - 1 else item for position, item in enumerate(rest)
        ]
        return _case(tuple(comparisons))
    branches = " ".join(f"WHEN {item} THEN {position}" for position, item in enumerate(rest[:-1:2]))
    index = f"CASE {value} {branches} ELSE -1 END"
    results = " ".join(f"WHEN {position} THEN {item}" for position, item in enumerate(rest[1::2]))
    return f"(CASE {index} {results} ELSE {rest[-1]} END)"


def _nullif(call: SqlCall) -> str:
    return let(
        call.arguments,
        lambda left, right: f"CASE WHEN {equal(left, right, call.types[0])} THEN CAST(NULL AS {to_duckdb(call.result)}) ELSE {left} END",
    )


def _error(call: SqlCall) -> str:
    value = "NULL" if call.safe else f"error(COALESCE({call.arguments[0]}, ''))"
    return f"CAST({value} AS {to_duckdb(call.result)})"


TABLE: list[SignatureEntry] = [
    *_joined("AND"),
    *_joined("OR"),
    *emitted("FN_CASE_NO_VALUE", lambda call: _case(call.arguments), Support.NATIVE),
    *emitted("FN_CASE_WITH_VALUE", _case_with_value),
    *native("FN_IF", "CASE WHEN {0} THEN {1} ELSE {2} END"),
    *emitted("FN_COALESCE", lambda call: f"COALESCE({', '.join(call.arguments)})", Support.NATIVE),
    *native("FN_IFNULL", "COALESCE({0}, {1})"),
    *emitted("FN_NULLIF", _nullif, Support.MACRO),
    *emitted("FN_ERROR", _error, Support.NATIVE),
]
