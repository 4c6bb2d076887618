"""Properties of events as typed columns: the values that the lake's events table has in the columns of their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
import pyarrow as pa

from sokuji.lake.events import column_name
from sokuji.types import BOOL, FLOAT64, STRING, Type, to_arrow

_DECODER = msgspec.json.Decoder(dict[str, Any])


class PropertyReader:
    """Reads some properties. Names are matched as the lake does it: in any case, and what no name can have stands as `_`."""

    def __init__(self, wanted: Mapping[str, Type]) -> None:
        """`wanted` has the type of each property's column: STRING, FLOAT64 or BOOL. Values of other types are NULL."""
        self._wanted = dict(wanted)
        self._columns: dict[str, str | None] = {}  # by key as it came: the wanted column, if any
        self._by_name = {name.lower(): name for name in wanted}
        self._keys: dict[str, list[str]] = {name: [] for name in wanted}

    def read(self, properties: pa.Array) -> dict[str, pa.Array]:
        """A column for each wanted property, from JSON objects."""
        objects = [_object(text) for text in properties.to_pylist()]
        self._learn(objects)
        return {name: self._column(name, objects) for name in self._wanted}

    def _learn(self, objects: Iterable[dict[str, Any]]) -> None:
        """Find the keys that belong to a wanted column."""
        new = set().union(*objects) - self._columns.keys()
        for key in sorted(new):
            name = column_name(key)
            column = None if name is None else self._by_name.get(name.lower())
            self._columns[key] = column
            if column is not None:
                self._keys[column].append(key)
                self._keys[column].sort()
        if len(self._columns) > _KEYS_MAX:  # keys that are data: they are looked at again
            self._columns = {key: column for key, column in self._columns.items() if column is not None}

    def _column(self, name: str, objects: list[dict[str, Any]]) -> pa.Array:
        type_ = self._wanted[name]
        convert = _CONVERT[type_]
        values: list[Any] = [None] * len(objects)
        for number, key in enumerate(self._keys[name]):
            found = [convert(each.get(key)) for each in objects]
            values = found if number == 0 else [new if old is None else old for old, new in zip(values, found, strict=True)]
        return pa.array(values, to_arrow(type_))


_KEYS_MAX = 100_000


def _object(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        return _DECODER.decode(text)
    except (msgspec.DecodeError, RecursionError):  # 1e999: valid JSON that is no number here. The lake has no columns of it either.
        return {}


def _number(value: Any) -> float | None:
    if type(value) is float:
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            return None
    return None


def _string(value: Any) -> str | None:
    return value if type(value) is str else None


def _bool(value: Any) -> bool | None:
    return value if type(value) is bool else None


_CONVERT: dict[Type, Callable[[Any], Any]] = {FLOAT64: _number, STRING: _string, BOOL: _bool}
