"""GoogleSQL's types, as the catalog, the SQL engine and results name them, and how each is carried in Arrow."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

import pyarrow as pa

from sokuji.errors import SokujiError


class Kind(enum.StrEnum):
    """The type names of https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types."""

    INT64 = "INT64"
    FLOAT64 = "FLOAT64"
    NUMERIC = "NUMERIC"
    BIGNUMERIC = "BIGNUMERIC"
    BOOL = "BOOL"
    STRING = "STRING"
    BYTES = "BYTES"
    DATE = "DATE"
    DATETIME = "DATETIME"
    TIME = "TIME"
    TIMESTAMP = "TIMESTAMP"
    INTERVAL = "INTERVAL"
    JSON = "JSON"
    ARRAY = "ARRAY"
    STRUCT = "STRUCT"


@dataclass(frozen=True, slots=True)
class Field:
    """A name and a type: a column of a table or a result, or a field of a STRUCT (whose name may be empty)."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class Type:
    """A GoogleSQL type. `element` is set for ARRAY only, `fields` for STRUCT only. `str()` gives its SQL text."""

    kind: Kind
    element: Type | None = None
    fields: tuple[Field, ...] = ()

    def __str__(self) -> str:
        if self.element is not None:
            return f"ARRAY<{self.element}>"
        if self.kind is Kind.STRUCT:
            return f"STRUCT<{', '.join(f'{field.name} {field.type}'.strip() for field in self.fields)}>"
        return self.kind.value


INT64 = Type(Kind.INT64)
FLOAT64 = Type(Kind.FLOAT64)
NUMERIC = Type(Kind.NUMERIC)
BIGNUMERIC = Type(Kind.BIGNUMERIC)
BOOL = Type(Kind.BOOL)
STRING = Type(Kind.STRING)
BYTES = Type(Kind.BYTES)
DATE = Type(Kind.DATE)
DATETIME = Type(Kind.DATETIME)
TIME = Type(Kind.TIME)
TIMESTAMP = Type(Kind.TIMESTAMP)
INTERVAL = Type(Kind.INTERVAL)
JSON = Type(Kind.JSON)


def array(element: Type) -> Type:
    """ARRAY<element>."""
    return Type(Kind.ARRAY, element=element)


def struct(fields: Iterable[Field]) -> Type:
    """STRUCT<fields>."""
    return Type(Kind.STRUCT, fields=tuple(fields))


_ARROW = {
    Kind.INT64: pa.int64(),
    Kind.FLOAT64: pa.float64(),
    Kind.NUMERIC: pa.decimal128(38, 9),
    Kind.BIGNUMERIC: pa.decimal256(76, 38),
    Kind.BOOL: pa.bool_(),
    Kind.STRING: pa.string(),
    Kind.BYTES: pa.binary(),
    Kind.DATE: pa.date32(),
    Kind.DATETIME: pa.timestamp("us"),
    Kind.TIME: pa.time64("us"),
    Kind.TIMESTAMP: pa.timestamp("us", tz="UTC"),
    Kind.INTERVAL: pa.month_day_nano_interval(),
    Kind.JSON: pa.string(),
}


def to_arrow(type_: Type) -> pa.DataType:
    """The Arrow type for values of `type_`. The fields of a STRUCT have the names of `field_names`."""
    if type_.element is not None:
        return pa.list_(to_arrow(type_.element))
    if type_.kind is Kind.STRUCT:
        names = field_names(type_)
        return pa.struct([pa.field(name, to_arrow(field.type)) for name, field in zip(names, type_.fields, strict=True)])
    return _ARROW[type_.kind]


def arrow_schema(fields: Iterable[Field]) -> pa.Schema:
    """The Arrow schema of `fields`."""
    return pa.schema([pa.field(field.name, to_arrow(field.type)) for field in fields])


def field_names(type_: Type) -> tuple[str, ...]:
    """The field names of a STRUCT in Arrow and in engines, where names must be unique, ignoring case.

    A field without a name, or with the name of an earlier field, is called `_field_<position from 1>`.
    """
    names: list[str] = []
    for position, field in enumerate(type_.fields, start=1):
        taken = field.name.lower() in {name.lower() for name in names}
        names.append(f"_field_{position}" if taken or not field.name else field.name)
    return tuple(names)


def from_arrow(data_type: pa.DataType) -> Type:
    """The GoogleSQL type for an Arrow column, from a file or a data frame.

    Raises:
        SokujiError: there is none (maps, unions, durations).
    """
    if pa.types.is_list(data_type) or pa.types.is_large_list(data_type) or pa.types.is_fixed_size_list(data_type):
        return array(from_arrow(data_type.value_type))
    if pa.types.is_struct(data_type):
        return struct(Field(field.name, from_arrow(field.type)) for field in data_type)
    if pa.types.is_dictionary(data_type):
        return from_arrow(data_type.value_type)
    if pa.types.is_timestamp(data_type):
        return DATETIME if data_type.tz is None else TIMESTAMP
    if pa.types.is_decimal(data_type):
        return NUMERIC if data_type.scale <= 9 and data_type.precision - data_type.scale <= 29 else BIGNUMERIC
    for matches, type_ in _FROM_ARROW:
        if matches(data_type):
            return type_
    raise SokujiError(f"no GoogleSQL type corresponds to the Arrow type {data_type}")


_FROM_ARROW = (
    (pa.types.is_boolean, BOOL),
    (pa.types.is_integer, INT64),
    (pa.types.is_floating, FLOAT64),
    (pa.types.is_string, STRING),
    (pa.types.is_large_string, STRING),
    (pa.types.is_string_view, STRING),
    (pa.types.is_binary, BYTES),
    (pa.types.is_large_binary, BYTES),
    (pa.types.is_fixed_size_binary, BYTES),
    (pa.types.is_binary_view, BYTES),
    (pa.types.is_date, DATE),
    (pa.types.is_time, TIME),
    (pa.types.is_interval, INTERVAL),
    (pa.types.is_null, INT64),  # GoogleSQL types an untyped NULL as INT64
)

_TOKEN = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*|`[^`]+`|[<>,])")


def parse(text: str) -> Type:
    """The type from the text of `str(type)`.

    Raises:
        SokujiError: `text` is not a type.
    """
    tokens = [match.group(1) for match in _TOKEN.finditer(text)]
    parser = _TypeParser(text, tokens)
    type_ = parser.type()
    if parser.tokens:
        parser.fail()
    return type_


class _TypeParser:
    def __init__(self, text: str, tokens: list[str]) -> None:
        self.text, self.tokens = text, tokens

    def fail(self) -> NoReturn:
        raise SokujiError(f"{self.text!r} is not a GoogleSQL type such as INT64 or ARRAY<STRUCT<name STRING, value FLOAT64>>")

    def take(self, expected: str | None = None) -> str:
        if not self.tokens or (expected is not None and self.tokens[0] != expected):
            self.fail()
        return self.tokens.pop(0)

    def type(self) -> Type:
        name = self.take().upper()
        if name not in Kind.__members__:
            self.fail()
        kind = Kind(name)
        if kind is Kind.ARRAY:
            self.take("<")
            element = self.type()
            self.take(">")
            return array(element)
        if kind is Kind.STRUCT:
            return struct(self.fields())
        return Type(kind)

    def fields(self) -> list[Field]:
        self.take("<")
        fields: list[Field] = []
        while self.tokens and self.tokens[0] != ">":
            # A field is `name TYPE`, or `TYPE` alone. A name is followed by the start of a type; a type by `,`, `<` or `>`.
            named = len(self.tokens) > 1 and self.tokens[1] not in {",", "<", ">"}
            name = self.take().strip("`") if named else ""
            fields.append(Field(name, self.type()))
            if self.tokens and self.tokens[0] == ",":
                self.take()
        self.take(">")
        return fields
