"""Write GoogleSQL values as exact DuckDB literals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Self

from sokuji.duckdb_text import quote_text
from sokuji.errors import UnsupportedSqlError
from sokuji.sql.duckdb.types import to_duckdb
from sokuji.sql.front.protos import from_value
from sokuji.types import Kind, Type, field_names


class Constant(str):
    """The text of a literal together with its value, as for a query parameter."""

    __slots__ = ("value",)
    value: Any

    def __new__(cls, value: Any, type_: Type) -> Self:
        """Make the literal of a value, as `literal` accepts it."""
        text = super().__new__(cls, literal(value, type_))
        text.value = value
        return text


def literal(value: Any, type_: Type) -> str:
    """A Python value (as `protos.from_value` returns it) as an expression of exactly the DuckDB type of `type_`.

    Raises:
        UnsupportedSqlError: DuckDB has no such type.
    """
    if value is None:
        return f"CAST(NULL AS {duckdb_type(type_)})"
    if type_.element is not None:
        items = ", ".join(literal(item, type_.element) for item in value)
        return f"[{items}]" if value else f"CAST([] AS {duckdb_type(type_)})"
    if type_.kind is Kind.STRUCT:
        values = list(value.values()) if isinstance(value, Mapping) else list(value)
        return struct(type_, [literal(item, field.type) for item, field in zip(values, type_.fields, strict=True)])
    if type_.kind not in _SCALARS:
        raise UnsupportedSqlError(f"A constant of type {type_} is not supported")
    return _SCALARS[type_.kind](value)


def from_proto(proto: Any, type_: Type) -> str:
    """A `ValueProto` as an expression of exactly the DuckDB type of `type_`.

    Raises:
        UnsupportedSqlError: DuckDB has no such type.
    """
    which = proto.WhichOneof("value")
    if which is None:
        return literal(None, type_)
    if type_.element is not None:
        element = type_.element
        items = [from_proto(item, element) for item in proto.array_value.element]
        return f"[{', '.join(items)}]" if items else literal([], type_)
    if type_.kind is Kind.STRUCT:
        fields = zip(proto.struct_value.field, type_.fields, strict=True)
        return struct(type_, [from_proto(item, field.type) for item, field in fields])
    return literal(from_value(proto, type_), type_)


def struct(type_: Type, values: list[str]) -> str:
    """The expression of a STRUCT, given the expressions of its fields.

    Raises:
        UnsupportedSqlError: the STRUCT has no fields; DuckDB has no such type.
    """
    if not values:
        raise UnsupportedSqlError("A STRUCT without fields is not supported")
    items = (f"{quote_text(name)}: {value}" for name, value in zip(field_names(type_), values, strict=True))
    return "{" + ", ".join(items) + "}"


def duckdb_type(type_: Type) -> str:
    """The name of the DuckDB type for `type_`.

    Raises:
        UnsupportedSqlError: there is no such type.
    """
    if type_.kind is Kind.BIGNUMERIC:
        raise UnsupportedSqlError("BIGNUMERIC is not supported; use NUMERIC (38 digits, 9 after the point) or FLOAT64")
    return to_duckdb(type_)


def _float(value: float) -> str:
    if math.isfinite(value):
        # DuckDB reads a number with an exponent as DOUBLE, without one as DECIMAL.
        digits = repr(value)
        digits = digits if "e" in digits else f"{digits}e0"
        return f"({digits})" if digits.startswith("-") else digits
    return f"CAST('{value}' AS DOUBLE)"


def _interval(value: Any) -> str:
    months, days, nanoseconds = value
    return f"(to_months({months}) + to_days({days}) + to_microseconds(CAST({nanoseconds // 1000} AS BIGINT)))"


_SCALARS: dict[Kind, Callable[[Any], str]] = {
    Kind.INT64: lambda value: f"CAST({value} AS BIGINT)",
    Kind.FLOAT64: _float,
    Kind.NUMERIC: lambda value: f"CAST('{value:f}' AS DECIMAL(38, 9))",
    Kind.BOOL: lambda value: "TRUE" if value else "FALSE",
    Kind.STRING: quote_text,
    Kind.BYTES: lambda value: f"unhex('{value.hex()}')",
    Kind.DATE: lambda value: f"CAST('{value.isoformat()}' AS DATE)",
    Kind.DATETIME: lambda value: f"CAST('{value.isoformat(' ')}' AS TIMESTAMP)",
    Kind.TIME: lambda value: f"CAST('{value.isoformat()}' AS TIME)",
    Kind.TIMESTAMP: lambda value: f"CAST('{value.isoformat(' ')}' AS TIMESTAMPTZ)",
    Kind.INTERVAL: _interval,
    Kind.JSON: lambda value: f"CAST({quote_text(value)} AS JSON)",
}
