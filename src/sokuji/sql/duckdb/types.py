"""GoogleSQL's types as DuckDB types."""

from __future__ import annotations

from sokuji.duckdb_text import quote
from sokuji.errors import SokujiError
from sokuji.types import Kind, Type, field_names

# BIGNUMERIC has no entry: DuckDB's widest decimal has 38 digits, BIGNUMERIC 76.
_NAMES = {
    Kind.INT64: "BIGINT",
    Kind.FLOAT64: "DOUBLE",
    Kind.NUMERIC: "DECIMAL(38, 9)",
    Kind.BOOL: "BOOLEAN",
    Kind.STRING: "VARCHAR",
    Kind.BYTES: "BLOB",
    Kind.DATE: "DATE",
    Kind.DATETIME: "TIMESTAMP",
    Kind.TIME: "TIME",
    Kind.TIMESTAMP: "TIMESTAMPTZ",
    Kind.INTERVAL: "INTERVAL",
    Kind.JSON: "JSON",
}


def to_duckdb(type_: Type) -> str:
    """The DuckDB type for values of `type_`, as DDL text.

    Raises:
        SokujiError: the type is BIGNUMERIC, for which DuckDB has no type.
    """
    if type_.element is not None:
        return f"{to_duckdb(type_.element)}[]"
    if type_.kind is Kind.STRUCT:
        fields = (f"{quote(name)} {to_duckdb(field.type)}" for name, field in zip(field_names(type_), type_.fields, strict=True))
        return f"STRUCT({', '.join(fields)})"
    if type_.kind not in _NAMES:
        raise SokujiError(f"{type_} values cannot be computed with here; use NUMERIC (38 digits, 9 after the point) or FLOAT64")
    return _NAMES[type_.kind]
