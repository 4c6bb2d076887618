"""Convert GoogleSQL types and values between ZetaSQL's protobuf messages, `sokuji.types` and Python."""

from __future__ import annotations

import datetime as dt
import decimal
import struct as struct_module
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.message import Message
from zetasql.wasi._pb2.zetasql.public import type_pb2, value_pb2

from sokuji.errors import UnsupportedSqlError
from sokuji.types import (
    Field,
    Kind,
    Type,
    array,
    field_names,
    struct,
)

_KINDS = {
    type_pb2.TYPE_INT64: Kind.INT64,
    type_pb2.TYPE_DOUBLE: Kind.FLOAT64,
    type_pb2.TYPE_NUMERIC: Kind.NUMERIC,
    type_pb2.TYPE_BIGNUMERIC: Kind.BIGNUMERIC,
    type_pb2.TYPE_BOOL: Kind.BOOL,
    type_pb2.TYPE_STRING: Kind.STRING,
    type_pb2.TYPE_BYTES: Kind.BYTES,
    type_pb2.TYPE_DATE: Kind.DATE,
    type_pb2.TYPE_DATETIME: Kind.DATETIME,
    type_pb2.TYPE_TIME: Kind.TIME,
    type_pb2.TYPE_TIMESTAMP: Kind.TIMESTAMP,
    type_pb2.TYPE_INTERVAL: Kind.INTERVAL,
    type_pb2.TYPE_JSON: Kind.JSON,
}
_NUMBERS = {kind: number for number, kind in _KINDS.items()}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
UNUSED_ID = 1_000_000_000
"""Larger than any column id of an analysed statement."""

_DIGITS = decimal.Context(prec=38)  # Python's own rounds NUMERIC to 28


def from_type(proto: Any) -> Type:
    """The type of a `TypeProto`.

    Raises:
        UnsupportedSqlError: the engine has no values of this type (GEOGRAPHY, RANGE, ...), or DuckDB cannot name a field.
    """
    if proto.type_kind == type_pb2.TYPE_ARRAY:
        return array(from_type(proto.array_type.element_type))
    if proto.type_kind == type_pb2.TYPE_STRUCT:
        if any("\0" in field.field_name for field in proto.struct_type.field):
            raise UnsupportedSqlError("A STRUCT field with a zero byte in its name is not supported")
        return struct(Field(field.field_name, from_type(field.field_type)) for field in proto.struct_type.field)
    if proto.type_kind not in _KINDS:
        name = type_pb2.TypeKind.Name(proto.type_kind).removeprefix("TYPE_")
        raise UnsupportedSqlError(f"Values of type {name} are not supported")
    return Type(_KINDS[proto.type_kind])


def to_type(type_: Type) -> Any:
    """The `TypeProto` of a type."""
    proto = type_pb2.TypeProto()
    if type_.element is not None:
        proto.type_kind = type_pb2.TYPE_ARRAY
        proto.array_type.element_type.CopyFrom(to_type(type_.element))
    elif type_.kind is Kind.STRUCT:
        proto.type_kind = type_pb2.TYPE_STRUCT
        proto.struct_type.SetInParent()
        for field in type_.fields:
            proto.struct_type.field.add(field_name=field.name, field_type=to_type(field.type))
    else:
        proto.type_kind = _NUMBERS[type_.kind]
    return proto


def to_value(value: Any, type_: Type) -> Any:
    """The `ValueProto` of a Python value of exactly this type. NULL is the empty message.

    Raises:
        UnsupportedSqlError: the type is INTERVAL or JSON; their values have no plain Python form.
    """
    proto = value_pb2.ValueProto()
    if value is None:
        return proto
    if type_.element is not None:
        proto.array_value.element.extend(to_value(item, type_.element) for item in value)
        proto.array_value.SetInParent()
    elif type_.kind is Kind.STRUCT:
        proto.struct_value.field.extend(to_value(item, field.type) for item, field in zip(value.values(), type_.fields, strict=True))
        proto.struct_value.SetInParent()
    else:
        _set_scalar(proto, value, type_.kind)
    return proto


def _set_scalar(proto: Any, value: Any, kind: Kind) -> None:
    match kind:
        case Kind.INT64 | Kind.BOOL | Kind.STRING | Kind.BYTES:
            setattr(proto, f"{kind.lower()}_value", value)
        case Kind.FLOAT64:
            proto.double_value = value
        case Kind.NUMERIC:
            scaled = int(_DIGITS.scaleb(decimal.Decimal(value), 9))
            size = (scaled.bit_length() // 8) + 1
            proto.numeric_value = scaled.to_bytes(size, "little", signed=True)
        case Kind.DATE:
            proto.date_value = (value - _EPOCH.date()).days
        case Kind.TIMESTAMP:
            proto.timestamp_value.FromDatetime(value)
        case Kind.DATETIME:
            proto.datetime_value.bit_field_datetime_seconds = _packed_date(value) << 17 | _packed_time(value)
            proto.datetime_value.nanos = value.microsecond * 1000
        case Kind.TIME:
            proto.time_value = _packed_time(value) << 30 | value.microsecond * 1000
        case _:
            raise UnsupportedSqlError(f"A constant of type {kind} is not supported here")


def _packed_date(value: dt.date) -> int:
    return value.year << 9 | value.month << 5 | value.day


def _packed_time(value: dt.datetime | dt.time) -> int:
    return value.hour << 12 | value.minute << 6 | value.second


def from_value(proto: Any, type_: Type) -> Any:
    """The Python value of a `ValueProto`.

    ARRAY is a list, STRUCT a dict, JSON its text, TIMESTAMP an aware datetime, INTERVAL (months, days, nanoseconds).

    Raises:
        UnsupportedSqlError: BIGNUMERIC.
    """
    which = proto.WhichOneof("value")
    if which is None:
        return None
    if type_.element is not None:
        return [from_value(item, type_.element) for item in proto.array_value.element]
    if type_.kind is Kind.STRUCT:
        items = zip(field_names(type_), type_.fields, proto.struct_value.field, strict=True)
        return {name: from_value(item, field.type) for name, field, item in items}
    return _scalar(getattr(proto, which), type_.kind)


def _scalar(value: Any, kind: Kind) -> Any:
    if kind in _UNCHANGED:
        return value
    if kind not in _READERS:
        raise UnsupportedSqlError(f"A constant of type {kind} is not supported here")
    return _READERS[kind](value)


def _datetime(value: Any) -> dt.datetime:
    seconds = value.bit_field_datetime_seconds
    return dt.datetime.combine(_unpacked_date(seconds >> 17), _unpacked_time(seconds & 0x1FFFF, value.nanos))


def _unpacked_date(bits: int) -> dt.date:
    return dt.date(bits >> 9, bits >> 5 & 0xF, bits & 0x1F)


def _unpacked_time(bits: int, nanos: int) -> dt.time:
    return dt.time(bits >> 12, bits >> 6 & 0x3F, bits & 0x3F, nanos // 1000)


def _interval(data: bytes) -> tuple[int, int, int]:
    # Microseconds, days, then one word: bit 31 is the sign of the months, 13 to 30 the months, the rest nanoseconds below a microsecond.
    micros, days, bits = struct_module.unpack("<qiI", data)
    months = bits >> 13 & 0x3FFFF
    return -months if bits >> 31 else months, days, micros * 1000 + (bits & 0x3FF)


_UNCHANGED = {Kind.INT64, Kind.FLOAT64, Kind.BOOL, Kind.STRING, Kind.BYTES, Kind.JSON}
_READERS: dict[Kind, Callable[[Any], Any]] = {
    Kind.NUMERIC: lambda value: _DIGITS.scaleb(decimal.Decimal(int.from_bytes(value, "little", signed=True)), -9),
    Kind.DATE: lambda value: _EPOCH.date() + dt.timedelta(days=value),
    Kind.TIMESTAMP: lambda value: value.ToDatetime(tzinfo=dt.UTC),
    Kind.DATETIME: _datetime,
    Kind.TIME: lambda value: _unpacked_time(value >> 30, value & 0x3FFFFFFF),
    Kind.INTERVAL: _interval,
}


def leaf(message: Any) -> tuple[str, Any]:
    """The name and message of the node inside an `Any...Proto`, through all nested messages for base classes."""
    name = message.WhichOneof("node")
    inner = getattr(message, name)
    return leaf(inner) if "node" in inner.DESCRIPTOR.oneofs_by_name else (name, inner)


def type_of(expression: Any) -> Any:
    """The `TypeProto` of an expression; it is in the innermost of its base classes, under `parent`."""
    _, node = leaf(expression)
    while "type" not in node.DESCRIPTOR.fields_by_name:
        node = node.parent
    return node.type


def span(message: Any) -> tuple[int, int]:
    """The start and end of a node in bytes. The location is in the innermost base class, under `parent`."""
    node = message
    while "parse_location_range" not in node.DESCRIPTOR.fields_by_name:
        node = node.parent if "parent" in node.DESCRIPTOR.fields_by_name else getattr(node, node.WhichOneof("node"))
    return node.parse_location_range.start, node.parse_location_range.end


def nodes(message: Message, name: str) -> Iterator[Any]:
    """Every message of type `name` in the tree of `message`, including `message` itself, in the order of the text."""
    if message.DESCRIPTOR.name == name:
        yield message
    for child in children(message):
        yield from nodes(child, name)


def children(message: Message) -> Iterator[Message]:
    """The messages directly inside a message."""
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            yield from value if descriptor.is_repeated else (value,)
