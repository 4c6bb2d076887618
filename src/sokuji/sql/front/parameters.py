"""Values of query parameters and their GoogleSQL types. A parameter's type is one that holds all its values unchanged."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa

from sokuji.errors import SqlError
from sokuji.types import BOOL, BYTES, DATE, DATETIME, FLOAT64, INT64, NUMERIC, STRING, TIME, TIMESTAMP, Field, Kind, Type, array, struct

Parameters = Mapping[str, Any] | Sequence[Any]
"""Values for `@name` (a mapping) or for `?` (a sequence)."""


Orders = dict[frozenset[str], Sequence[str]]
"""The order of a STRUCT's fields, by the set of their names."""


class Parameter(NamedTuple):
    """A type, and a value of exactly this type: ARRAY is a list, STRUCT a dict with the type's fields in their order."""

    value: Any
    type: Type


@dataclass(frozen=True, slots=True)
class Bound:
    """The parameters of a query, by lower-case name, or by position from "1"."""

    values: Mapping[str, Parameter] = field(default_factory=dict)
    is_positional: bool = False

    @property
    def untyped(self) -> Collection[str]:
        """The parameters whose values do not determine a type: NULL, and arrays that are empty or have only NULLs."""
        return {name for name, parameter in self.values.items() if _is_untyped(parameter.value)}

    def with_types(self, types: Mapping[str, Type]) -> Self:
        """The same values. Untyped parameters get the type that the query expects."""
        fitting = {
            name: Parameter(self.values[name].value, types[name])
            for name in self.untyped & types.keys()
            if self.values[name].value is None or types[name].kind is Kind.ARRAY
        }
        return type(self)({**self.values, **fitting}, self.is_positional)

    @property
    def structs(self) -> Collection[str]:
        """The parameters with STRUCT fields. The order of these fields has no meaning."""
        return {name for name, parameter in self.values.items() if _has_fields(parameter.type)}

    def in_order(self, types: Mapping[str, Type], columns: Iterable[Type]) -> Self:
        """The same values, with STRUCT fields in the order that the query expects.

        The order is that of the expected type, else that of a table column whose fields have the same names.
        """
        orders: Orders = {}
        for column in columns:
            _aligned(column, orders)
        ordered = {name: _aligned(self.values[name].type, orders) for name in self.structs}
        ordered |= {name: _in_order(ordered[name], types[name]) for name in ordered.keys() & types.keys()}
        fitted = {name: Parameter(_fitted(name, self.values[name].value, type_), type_) for name, type_ in ordered.items()}
        return type(self)({**self.values, **fitted}, self.is_positional)

    def by_name(self) -> Self:
        """The same values. Positional parameters get names such as `_1`."""
        values = {f"_{name}": parameter for name, parameter in self.values.items()} if self.is_positional else self.values
        return type(self)(values)


def bind(parameters: Parameters | Bound | None) -> Bound:
    """Determine the types of the parameters.

    Raises:
        SqlError: no GoogleSQL type holds all values of a parameter. The message has its name.
    """
    if isinstance(parameters, Bound):
        return parameters
    if parameters is None:
        return Bound()
    orders: Orders = {}
    if isinstance(parameters, Mapping):
        values: dict[str, Parameter] = {}
        for name, value in parameters.items():
            if not isinstance(name, str):
                raise SqlError(f"Query parameter {name!r}: names are str; pass a list for positional parameters")
            if name.lower() in values:
                raise SqlError(f"Query parameter {name!r} is given twice; case does not matter in names")
            values[name.lower()] = _parameter(f"@{name}", value, orders)
        return Bound(values)
    if isinstance(parameters, Sequence) and not isinstance(parameters, str | bytes | bytearray):
        return Bound({str(at): _parameter(f"?{at}", value, orders) for at, value in enumerate(parameters, start=1)}, is_positional=True)
    raise SqlError(f"Query parameters are a mapping of names or a list for positions, not {type(parameters).__name__}")


def _aligned(type_: Type, orders: Orders) -> Type:
    """The type where STRUCTs with the same field names have one order, the first met. GoogleSQL compares fields by position."""
    if type_.element is not None:
        return array(_aligned(type_.element, orders))
    fields = {field.name.lower(): field for field in type_.fields}
    order = orders.setdefault(frozenset(fields), list(fields))
    return struct(Field(fields[name].name, _aligned(fields[name].type, orders)) for name in order) if fields else type_


def _has_fields(type_: Type) -> bool:
    return len((type_.element or type_).fields) > 1 or any(_has_fields(field.type) for field in (type_.element or type_).fields)


def _in_order(type_: Type, wanted: Type) -> Type:
    """The type with STRUCT fields in the order of `wanted`, where both have the same field names."""
    if type_.element is not None and wanted.element is not None:
        return array(_in_order(type_.element, wanted.element))
    fields = {field.name.lower(): field for field in type_.fields}
    names = [field.name.lower() for field in wanted.fields]
    if not fields or len(names) != len(fields) or fields.keys() != set(names):
        return type_
    types = zip((fields[name] for name in names), wanted.fields, strict=True)
    return struct(Field(field.name, _in_order(field.type, other.type)) for field, other in types)


def _is_untyped(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(item is None for item in value))


def _parameter(name: str, value: Any, orders: Orders) -> Parameter:
    try:
        plain = _plain(name, value)
        type_ = _aligned(_type_of(name, [plain]), orders)
        return Parameter(_fitted(name, plain, type_), type_)
    except RecursionError as error:
        raise SqlError(f"Query parameter {name} is nested too deeply, or holds itself") from error


def _plain(name: str, value: Any) -> Any:
    """The value in Python's own types: None, a scalar, a list, or a dict with str keys."""
    if isinstance(value, bytearray) or (isinstance(value, memoryview) and value.format in {"B", "b", "c"}):
        return bytes(value)
    value = _unwrapped(name, value)
    if isinstance(value, Mapping):
        return _fields(name, value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(f"{name}[]", item) for item in value]
    return None if type(value).__name__ in _MISSING else value


_MISSING = {"NAType", "NaTType"}  # NULLs of pandas


def _unwrapped(name: str, value: Any) -> Any:
    """The value in Python's own type, for values of NumPy, pandas or Arrow."""
    kind = value.dtype.kind if isinstance(value, np.ndarray | np.generic) else None
    if kind == "M":
        return _times(name, value)
    if isinstance(value, pa.Scalar | pa.Array | pa.ChunkedArray):
        try:
            return value.as_py() if isinstance(value, pa.Scalar) else value.to_pylist()
        except ValueError as error:
            raise SqlError(f"Query parameter {name}: {error}") from error
    # NumPy's arrays and scalars, and pandas' Series. NumPy would turn durations into whole numbers.
    return value.tolist() if hasattr(value, "tolist") and kind != "m" else value


def _times(name: str, value: Any) -> Any:
    """Convert NumPy's times to Python's."""
    unit = "D" if np.datetime_data(value.dtype)[0] in {"Y", "M", "W", "D"} else "us"
    rounded = value.astype(f"datetime64[{unit}]")
    found = rounded.tolist()
    is_held = np.array_equal(rounded.astype(value.dtype), value, equal_nan=True)
    if not is_held or any(isinstance(item, int) for item in (found if isinstance(found, list) else [found])):
        raise SqlError(f"Query parameter {name}: GoogleSQL's times are from year 1 to 9999 and to the microsecond; not so {value}")
    return found


def _fields(name: str, value: Mapping[Any, Any]) -> dict[str, Any]:
    found = {str(key): _plain(f"{name}.{key}", item) for key, item in value.items()}
    if len({key.lower() for key in found}) < len(value):
        raise SqlError(f"Query parameter {name} has two fields of one name; case does not matter in names: {', '.join(map(str, value))}")
    return found


def _type_of(name: str, values: Sequence[Any]) -> Type:
    """The type that holds all of these values; INT64 if all are NULL."""
    known = [value for value in values if value is not None]
    if not known:
        return INT64
    if any(isinstance(value, dict | list) for value in known):
        kinds = {dict if isinstance(value, dict) else list if isinstance(value, list) else None for value in known}
        if len(kinds) > 1:
            raise _mixed(name, known)
        return _struct_type(name, known) if dict in kinds else _array_type(name, known)
    types = {_scalar_type(name, value) for value in known}
    for group in _COERCIONS:
        if types <= set(group):
            return max(types, key=group.index)
    raise _mixed(name, known)


_COERCIONS = (
    (INT64, NUMERIC, FLOAT64),
    (DATE, DATETIME),
    *((type_,) for type_ in (BOOL, STRING, BYTES, TIME, TIMESTAMP)),
)
"""Groups of types. GoogleSQL coerces each type to the later types of its group."""


def _struct_type(name: str, values: Sequence[dict[str, Any]]) -> Type:
    """The STRUCT type of dicts. Fields are matched by name; fields that a value does not have are NULL."""
    names: dict[str, str] = {}
    for value in values:
        for key in value:
            names.setdefault(key.lower(), key)
    lowered = [{key.lower(): item for key, item in value.items()} for value in values]
    return struct(Field(key, _type_of(f"{name}.{key}", [value.get(low) for value in lowered])) for low, key in names.items())


def _array_type(name: str, values: Sequence[list[Any]]) -> Type:
    items = [item for value in values for item in value]
    if any(isinstance(item, list) for item in items):
        raise SqlError(f"Query parameter {name} is a list of lists; GoogleSQL has no ARRAY of ARRAY: make it a list of dicts of lists")
    return array(_type_of(f"{name}[]", items))


def _scalar_type(name: str, value: Any) -> Type:
    for class_, type_ in _PYTHON:
        if isinstance(value, class_):
            return type_(name, value) if callable(type_) else type_
    raise SqlError(
        f"Query parameter {name}: {type(value).__name__} has no GoogleSQL type; use str, int, float, Decimal, date, list, dict, ..."
    )


def _datetime_type(_name: str, value: dt.datetime) -> Type:
    return DATETIME if value.tzinfo is None else TIMESTAMP


def _integer_type(name: str, value: int) -> Type:
    if -(2**63) <= value < 2**63:
        return INT64
    if abs(value) < 10**29:
        return NUMERIC
    raise SqlError(f"Query parameter {name}: {value} is beyond INT64 and NUMERIC; pass a float, if its nearest FLOAT64 is meant")


def _decimal_type(name: str, value: decimal.Decimal) -> Type:
    if value.is_finite() and value == _EXACT.quantize(value, _NUMERIC_STEP) and abs(value) < 10**29:
        return NUMERIC
    raise SqlError(f"Query parameter {name}: {value} is not a NUMERIC (29 digits before the point, 9 after it); round it, or pass a float")


_NUMERIC_STEP = decimal.Decimal("1e-9")
_EXACT = decimal.Context(prec=2000, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)
_PYTHON: tuple[tuple[type, Type | Callable[[str, Any], Type]], ...] = (
    (bool, BOOL),  # before int, because bool is a subclass of int
    (int, _integer_type),
    (float, FLOAT64),
    (str, STRING),
    (bytes, BYTES),
    (decimal.Decimal, _decimal_type),
    (dt.datetime, _datetime_type),  # before date, because datetime is a subclass of date
    (dt.date, DATE),
    (dt.time, TIME),
)


def _mixed(name: str, values: Sequence[Any]) -> SqlError:
    shown: dict[str, Any] = {}
    for value in values:
        kind = "STRUCT" if isinstance(value, dict) else "ARRAY" if isinstance(value, list) else str(_scalar_type(name, value))
        shown.setdefault(kind, value)
    kinds = " and ".join(f"{kind} ({str(value)[:40]!r})" for kind, value in shown.items())
    return SqlError(f"Query parameter {name} mixes {kinds}; no GoogleSQL type holds both")


def _fitted(name: str, value: Any, type_: Type) -> Any:
    """Convert the value to the type."""
    if value is None:
        return None
    if type_.element is not None:
        return [_fitted(f"{name}[]", item, type_.element) for item in value]
    if type_.kind is Kind.STRUCT:
        lowered = {key.lower(): item for key, item in value.items()}
        return {each.name: _fitted(f"{name}.{each.name}", lowered.get(each.name.lower()), each.type) for each in type_.fields}
    return _SCALARS[type_.kind](name, value) if type_.kind in _SCALARS else value


def _float(name: str, value: Any) -> float:
    if isinstance(value, int) and abs(value) > 2**53 and int(float(value)) != value:
        raise SqlError(
            f"Query parameter {name} mixes floats and {value}, which FLOAT64 does not hold exactly; pass Decimals, or a float for it"
        )
    return float(value)


def _text(name: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise SqlError(f"Query parameter {name} is not valid Unicode: {error.reason} at character {error.start}") from error
    return str(value)


def _instant(name: str, value: dt.datetime) -> dt.datetime:
    try:
        return _whole(name, value).astimezone(dt.UTC)
    except OverflowError as error:
        raise SqlError(f"Query parameter {name}: {value} is before the year 1 or after 9999 in UTC") from error


def _civil(name: str, value: dt.date) -> dt.datetime:
    return _whole(name, value) if isinstance(value, dt.datetime) else dt.datetime.combine(value, dt.time())


def _whole(name: str, value: dt.datetime) -> dt.datetime:
    if getattr(value, "nanosecond", 0):  # pandas' Timestamp has nanoseconds
        raise SqlError(f"Query parameter {name}: {value} has nanoseconds, which GoogleSQL's times do not hold")
    return value


def _clock(name: str, value: dt.time) -> dt.time:
    if value.tzinfo is not None:
        raise SqlError(f"Query parameter {name}: {value} has a zone, which TIME has not; use replace(tzinfo=None)")
    return value


_SCALARS: dict[Kind, Callable[[str, Any], Any]] = {
    Kind.INT64: lambda _name, value: int(value),
    Kind.FLOAT64: _float,
    Kind.NUMERIC: lambda _name, value: decimal.Decimal(value),
    Kind.STRING: _text,
    Kind.TIMESTAMP: _instant,
    Kind.DATETIME: _civil,
    Kind.TIME: _clock,
}
