"""The last step of a query: give the values exactly the types and forms of the result."""

from __future__ import annotations

from typing import Any

from sokuji.duckdb_text import quote_text
from sokuji.sql.duckdb.emit import literals
from sokuji.sql.duckdb.lets import let, name_for
from sokuji.sql.front.protos import from_type
from sokuji.types import Kind, Type, field_names


def finished(column: Any, *, stored: bool) -> str:
    """The output expression of a `ResolvedColumnProto`."""
    type_, name = from_type(column.type), f"c{column.column_id}"
    return f"CAST({storable(name, type_) if stored else name} AS {literals.duckdb_type(type_)})"


def storable(value: str, type_: Type) -> str:
    """The value with arrays as BigQuery stores them: a NULL array becomes empty, and a NULL element is an error."""
    if not _has_array(type_):
        return value
    if type_.element is not None:
        return let([value], lambda items: _array(items, type_))
    return let([value], lambda fields: _struct(fields, type_))


def _has_array(type_: Type) -> bool:
    return type_.kind is Kind.ARRAY or any(_has_array(field.type) for field in type_.fields)


def _array(items: str, type_: Type) -> str:
    array, element = literals.duckdb_type(type_), type_.element
    message = quote_text("Array cannot have a null element; error in writing field")
    wanted = items
    if element is not None and _has_array(element):
        name = name_for(items)
        wanted = f"list_transform({items}, lambda {name}: {storable(name, element)})"
    return (
        f"(CASE WHEN {items} IS NULL THEN CAST([] AS {array}) WHEN list_count({items}) = len({items}) THEN {wanted} "
        f"ELSE CAST(error({message}) AS {array}) END)"
    )


def _struct(value: str, type_: Type) -> str:
    pairs = zip(field_names(type_), type_.fields, strict=True)
    fields = [storable(f"struct_extract({value}, {quote_text(name)})", field.type) for name, field in pairs]
    return f"(CASE WHEN {value} IS NOT NULL THEN {literals.struct(type_, fields)} END)"
