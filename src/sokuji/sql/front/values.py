"""Convert GoogleSQL values between Arrow columns and ZetaSQL's `ValueProto`, by whole columns.

A value is the simplest Python object that holds all values of its type. DATE is days, and DATETIME, TIME and TIMESTAMP are microseconds, as
int. NUMERIC is a Decimal, INTERVAL (months, days, nanoseconds), JSON its text, ARRAY a list, STRUCT a tuple.
"""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa
from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service

from sokuji.json_text import readable_values
from sokuji.sql.front.analyzer import analyzer_options
from sokuji.sql.front.wasm import Calls
from sokuji.types import Kind, Type
from sokuji.types import to_arrow as arrow_type

_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 DATETIME has no zone
_INTEGERS = {Kind.DATE: pa.int32(), Kind.DATETIME: pa.int64(), Kind.TIME: pa.int64(), Kind.TIMESTAMP: pa.int64()}
_SIMPLE = {
    Kind.INT64: "int64_value",
    Kind.FLOAT64: "double_value",
    Kind.BOOL: "bool_value",
    Kind.STRING: "string_value",
    Kind.BYTES: "bytes_value",
    Kind.JSON: "json_value",
    Kind.DATE: "date_value",
}
_CONTEXT = decimal.Context(prec=80)
_MONTHS_SIGN, _MONTHS_SHIFT, _MONTHS_MASK = 1 << 31, 13, 0x3FFFF


def from_arrow(array: Any, type_: Type) -> list[Any]:
    """The values of an Arrow array of the type `sokuji.types.to_arrow(type_)`."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if type_.element is not None:
        items = from_arrow(array.values, type_.element)
        offsets = array.offsets.to_pylist()
        ranges = zip(offsets, offsets[1:], array.is_valid().to_pylist(), strict=False)
        return [items[start:end] if valid else None for start, end, valid in ranges]
    if type_.kind is Kind.STRUCT:
        columns = [from_arrow(array.field(position), field.type) for position, field in enumerate(type_.fields)]
        return [row if valid else None for row, valid in zip(zip(*columns, strict=True), array.is_valid().to_pylist(), strict=True)]
    if type_.kind in _INTEGERS:
        array = array.cast(_INTEGERS[type_.kind])
    if type_.kind is Kind.JSON:
        array = readable_values(array.cast(pa.string()))  # GoogleSQL's JSON refuses all rows if one has a number beyond FLOAT64
    values: list[Any] = array.to_pylist()
    return values


def to_arrow(values: Sequence[Any], type_: Type) -> pa.Array:
    """The Arrow array of the type `sokuji.types.to_arrow(type_)`, for values of any nesting."""
    target = arrow_type(type_)
    if type_.element is not None:
        offsets: list[int | None] = [0]
        items: list[Any] = []
        for value in values:
            items.extend(value or ())
            offsets.append(len(items))
        mask = pa.array([value is None for value in values], pa.bool_())
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), to_arrow(items, type_.element), mask=mask)
    if type_.kind is Kind.STRUCT:
        columns = [
            to_arrow([None if value is None else value[position] for value in values], field.type)
            for position, field in enumerate(type_.fields)
        ]
        mask = pa.array([value is None for value in values], pa.bool_())
        return pa.StructArray.from_arrays(columns, fields=list(cast("pa.StructType", target)), mask=mask)
    if type_.kind in _INTEGERS:
        return pa.array(values, _INTEGERS[type_.kind]).cast(target)
    return pa.array(values, target)


def fill(proto: Any, value: Any, type_: Type) -> None:
    """Set a `ValueProto`. NULL is the empty message."""
    if value is None:
        return
    if type_.element is not None:
        proto.array_value.SetInParent()
        for item in value:
            fill(proto.array_value.element.add(), item, type_.element)
    elif type_.kind is Kind.STRUCT:
        proto.struct_value.SetInParent()
        for item, field in zip(value, type_.fields, strict=True):
            fill(proto.struct_value.field.add(), item, field.type)
    elif type_.kind in _SIMPLE:
        setattr(proto, _SIMPLE[type_.kind], value)
    else:
        _fill_packed(proto, value, type_.kind)


def _fill_packed(proto: Any, value: Any, kind: Kind) -> None:
    match kind:
        case Kind.NUMERIC | Kind.BIGNUMERIC:
            scaled = int(_CONTEXT.scaleb(value, 9 if kind is Kind.NUMERIC else 38))
            setattr(proto, f"{kind.lower()}_value", scaled.to_bytes(scaled.bit_length() // 8 + 1, "little", signed=True))
        case Kind.TIMESTAMP:
            seconds, micros = divmod(value, 1_000_000)
            proto.timestamp_value.seconds, proto.timestamp_value.nanos = seconds, micros * 1000
        case Kind.DATETIME:
            moment = _EPOCH + dt.timedelta(microseconds=value)
            date = moment.year << 26 | moment.month << 22 | moment.day << 17
            proto.datetime_value.bit_field_datetime_seconds = date | moment.hour << 12 | moment.minute << 6 | moment.second
            proto.datetime_value.nanos = moment.microsecond * 1000
        case Kind.TIME:
            seconds, micros = divmod(value, 1_000_000)
            minutes, second = divmod(seconds, 60)
            hour, minute = divmod(minutes, 60)
            proto.time_value = (hour << 12 | minute << 6 | second) << 30 | micros * 1000
        case Kind.INTERVAL:
            months, days, nanos = value
            micros, rest = divmod(nanos, 1000)
            bits = (_MONTHS_SIGN if months < 0 else 0) | abs(months) << _MONTHS_SHIFT | rest
            proto.interval_value = (
                micros.to_bytes(8, "little", signed=True) + days.to_bytes(4, "little", signed=True) + bits.to_bytes(4, "little")
            )


def read(proto: Any, type_: Type) -> Any:
    """The value of a `ValueProto`."""
    which = proto.WhichOneof("value")
    if which is None:
        return None
    if type_.element is not None:
        return [read(item, type_.element) for item in proto.array_value.element]
    if type_.kind is Kind.STRUCT:
        return tuple(read(item, field.type) for item, field in zip(proto.struct_value.field, type_.fields, strict=True))
    if type_.kind in _SIMPLE:
        return getattr(proto, which)
    return _read_packed(proto, type_.kind)


def _read_packed(proto: Any, kind: Kind) -> Any:
    match kind:
        case Kind.NUMERIC:
            return _CONTEXT.scaleb(decimal.Decimal(int.from_bytes(proto.numeric_value, "little", signed=True)), -9)
        case Kind.BIGNUMERIC:
            return _CONTEXT.scaleb(decimal.Decimal(int.from_bytes(proto.bignumeric_value, "little", signed=True)), -38)
        case Kind.TIMESTAMP:
            return proto.timestamp_value.seconds * 1_000_000 + proto.timestamp_value.nanos // 1000
        case Kind.DATETIME:
            bits = proto.datetime_value.bit_field_datetime_seconds
            days = dt.date(bits >> 26, bits >> 22 & 0xF, bits >> 17 & 0x1F).toordinal() - _EPOCH.toordinal()
            return (days * 86_400 + _seconds(bits & 0x1FFFF)) * 1_000_000 + proto.datetime_value.nanos // 1000
        case Kind.TIME:
            return _seconds(proto.time_value >> 30) * 1_000_000 + (proto.time_value & 0x3FFFFFFF) // 1000
        case _:
            data = proto.interval_value
            bits = int.from_bytes(data[12:], "little")
            months = (bits >> _MONTHS_SHIFT & _MONTHS_MASK) * (-1 if bits & _MONTHS_SIGN else 1)
            micros, days = int.from_bytes(data[:8], "little", signed=True), int.from_bytes(data[8:12], "little", signed=True)
            return (months, days, micros * 1000)


def _seconds(bits: int) -> int:
    return (bits >> 12) * 3600 + (bits >> 6 & 0x3F) * 60 + (bits & 0x3F)


def literal(value: str | float | bytes) -> str:
    """The GoogleSQL text of a constant."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, bytes):
        return "b'" + "".join(f"\\x{byte:02x}" for byte in value) + "'"
    if isinstance(value, str):
        return (
            "'"
            + "".join(f"\\U{ord(character):08x}" if character in "'\\" or ord(character) < 32 else character for character in value)
            + "'"
        )
    if isinstance(value, float):
        return f"CAST('{value!r}' AS FLOAT64)"
    return f"({value})"


@dataclass(frozen=True, slots=True)
class _Known:
    """What an instance keeps for expressions: the options, and a registered catalog that has only GoogleSQL's functions."""

    options: Any
    catalog: int


class _Key:
    """The key for `_Known` in an instance."""


_KEY = _Key()


def _known(calls: Calls) -> _Known:
    if _KEY not in calls.kept:
        options = analyzer_options(calls)
        options.ClearField("enabled_rewrites")
        # Sending the catalog with each request would take four times as long.
        request = service.RegisterCatalogRequest()
        request.simple_catalog.name = "reference"
        request.simple_catalog.builtin_function_options.language_options.CopyFrom(options.language_options)
        calls.kept[_KEY] = _Known(options, int(calls.call("RegisterCatalog", request, service.RegisterResponse).registered_id))
    known: _Known = calls.kept[_KEY]
    return known


def prepare_request(sql: str, calls: Calls) -> Any:
    """A `PrepareRequest` for an expression in BigQuery's dialect, with GoogleSQL's functions and without tables."""
    known = _known(calls)
    return service.PrepareRequest(sql=sql, options=known.options, registered_catalog_id=known.catalog)
