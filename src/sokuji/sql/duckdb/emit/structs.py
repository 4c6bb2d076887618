"""Casts and comparisons of STRUCTs and ARRAYs, part by part, with GoogleSQL's rules for NULL."""

from __future__ import annotations

from zetasql.wasi._pb2.zetasql.public.builtin_function_pb2 import FunctionSignatureId

from sokuji.duckdb_text import quote_text
from sokuji.errors import UnsupportedSqlError
from sokuji.sql.duckdb import functions
from sokuji.sql.duckdb.emit import literals
from sokuji.sql.duckdb.functions.base import Cast, SqlCall
from sokuji.sql.duckdb.lets import let, name_for
from sokuji.types import BOOL, Kind, Type, field_names


def has_struct(type_: Type) -> bool:
    """Whether values of the type are compared field by field."""
    return type_.kind is Kind.STRUCT or (type_.element is not None and has_struct(type_.element))


def cast(value: str, source: Type, target: Type, *, safe: bool = False, format_: str | None = None, time_zone: str | None = None) -> str:
    """A cast between any types. Fields match by position, as in GoogleSQL; DuckDB would match them by name."""
    if source.element is not None and target.element is not None:
        return _cast_array(value, source.element, target.element, safe=safe)
    if source.kind is Kind.STRUCT and target.kind is Kind.STRUCT:
        return _cast_struct(value, source, target, safe=safe)
    return functions.cast(Cast(value, source, target, safe, format_, time_zone))


def _cast_array(value: str, source: Type, target: Type, *, safe: bool) -> str:
    if source == target:
        return value
    name = name_for(value)
    return f"list_transform({value}, lambda {name}: {cast(name, source, target, safe=safe)})"


def _cast_struct(value: str, source: Type, target: Type, *, safe: bool) -> str:
    if source == target:
        return value
    if len(source.fields) != len(target.fields):
        raise UnsupportedSqlError(f"A cast from {source} to {target} is not supported")

    def fields(struct: str) -> str:
        casts = [
            cast(f"struct_extract({struct}, {quote_text(name)})", old.type, new.type, safe=safe)
            for name, old, new in zip(field_names(source), source.fields, target.fields, strict=True)
        ]
        return f"(CASE WHEN {struct} IS NOT NULL THEN {literals.struct(target, casts)} END)"

    return let([value], fields)


def equal(left: str, right: str, type_: Type) -> str:
    """`left = right` for two values of one type; NULL if a NULL inside makes the result unknown.

    Raises:
        UnsupportedSqlError: the type has an ARRAY, which GoogleSQL cannot compare.
    """
    if type_.element is not None:
        raise UnsupportedSqlError(f"Equality is not defined for arguments of type {type_}")
    if type_.kind is not Kind.STRUCT:
        function = functions.lookup(FunctionSignatureId.Value("FN_EQUAL"), "$equal")
        if function.emit is None:
            raise UnsupportedSqlError(f"Equality is not supported for arguments of type {type_}")
        return function.emit(SqlCall("$equal", (left, right), (type_, type_), BOOL))

    def fields(one: str, other: str) -> str:
        pairs = zip(field_names(type_), type_.fields, strict=True)
        equals = (
            equal(f"struct_extract({one}, {quote_text(name)})", f"struct_extract({other}, {quote_text(name)})", field.type)
            for name, field in pairs
        )
        # The fields of a NULL struct are NULL, like the fields of a struct of NULLs. Both make the result NULL.
        return f"({' AND '.join(equals)})"

    return let([left], lambda one: let([right], lambda other: fields(one, other)))


def compare(call: SqlCall) -> str:
    """A comparison of STRUCTs."""
    first, *others = call.arguments
    type_ = call.types[0]
    match call.name:
        case "$equal":
            return equal(first, others[0], type_)
        case "$not_equal":
            return f"(NOT {equal(first, others[0], type_)})"
        case "$in":
            return let([first], lambda one: f"({' OR '.join(equal(one, other, type_) for other in others)})")
        case "$in_array":
            return let([first], lambda one: _in_array(one, others[0], type_))
    raise UnsupportedSqlError(f"{call.name.removeprefix('$').replace('_', ' ').upper()} is not supported for arguments of type {type_}")


def _in_array(value: str, items: str, type_: Type) -> str:
    name = name_for(value + items)
    matches = f"list_transform({items}, lambda {name}: {equal(value, name, type_)})"
    return let(
        [matches], lambda all_: f"(CASE WHEN list_contains({all_}, TRUE) THEN TRUE WHEN list_count({all_}) = len({all_}) THEN FALSE END)"
    )
