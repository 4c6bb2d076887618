"""The event behind a decision: read from the batch, or held in the profile's row until a timer is due."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import Struct
from numpy.typing import NDArray

from sokuji.json_text import decode
from sokuji.rules.calendar import zone_named

HELD_BYTES = 192  # bytes for ids and zone of the event that armed a timer
HELD_FIELD_BYTES = 96  # bytes for each template field; a longer value counts as missing
_JSON_COLUMNS = ("properties", "context")
_IDS = ("dataset", "source", "message_id", "visitor_id", "user_id")


class Trigger(Struct, frozen=True, array_like=True):
    """The parts of a triggering event that a decision needs."""

    dataset: str
    source: str
    message_id: str
    visitor_id: str | None
    user_id: str | None
    zone: str | None  # the visitor's time zone, if the event's context names an existing one
    values: dict[str, Any]  # the values of the template fields, as JSON values


class TriggerReader:
    """Reads triggers from one batch of events."""

    def __init__(self, events: pa.RecordBatch, rows: Sequence[int]) -> None:
        """Prepare to read events in `rows`."""
        self._columns = {name: events.column(index) for index, name in enumerate(events.schema.names)}
        self._place = dict(zip(rows, range(len(rows)), strict=True))
        row_numbers = pa.array(rows, pa.int64())
        # All at once: one by one, a value takes ten times as long.
        self._texts = {name: self._columns[name].take(row_numbers).to_pylist() for name in (*_IDS, *_JSON_COLUMNS)}
        self._last: tuple[tuple[int, tuple[str, ...]], Trigger] | None = None
        self._objects: dict[tuple[str, int], Any] = {}

    def read(self, row: int, fields: tuple[str, ...]) -> Trigger:
        """The event in `row` with the values of `fields`."""
        if self._last is None or self._last[0] != (row, fields):  # several rules in a row may read the same event
            self._last = (row, fields), self._read(row, fields)
        return self._last[1]

    def _read(self, row: int, fields: tuple[str, ...]) -> Trigger:
        index = self._place[row]
        dataset, source, message_id, visitor_id, user_id = (self._texts[name][index] for name in _IDS)
        zone = _member(self._object("context", row), "timezone") if '"timezone"' in (self._texts["context"][index] or "") else None
        values = {field: _plain(self._value(field, row)) for field in fields}
        return Trigger(
            dataset,
            source,
            message_id,
            visitor_id,
            user_id,
            zone if isinstance(zone, str) and zone_named(zone) is not None else None,
            values,
        )

    def _value(self, field: str, row: int) -> Any:
        head, _, rest = field.partition(".")
        if field in self._columns:
            return self._columns[field][row].as_py()
        if head in _JSON_COLUMNS:
            return _path(self._object(head, row), rest)
        if head in self._columns:
            return _path(self._columns[head][row].as_py(), rest)
        properties = self._object("properties", row)
        whole = _member(properties, field)
        return _path(properties, field) if whole is None else whole

    def _object(self, column: str, row: int) -> Any:
        key = (column, row)
        if key not in self._objects:
            self._objects[key] = _decoded(self._texts[column][self._place[row]])
        return self._objects[key]


def hold(trigger: Trigger, into: NDArray[np.uint8]) -> int:
    """Write the trigger to `into` and return its length in bytes; 0 if its ids alone do not fit.

    A field value longer than `HELD_FIELD_BYTES` is left out, as if the event did not have it.
    """
    if not all(_fits(field, value) for field, value in trigger.values.items()):
        trigger = msgspec.structs.replace(trigger, values={field: value for field, value in trigger.values.items() if _fits(field, value)})
    encoded = msgspec.json.encode(trigger)
    if len(encoded) > len(into):
        return 0
    into[: len(encoded)] = np.frombuffer(encoded, dtype=np.uint8)
    into[len(encoded) :] = 0  # erase the trigger before
    return len(encoded)


def _fits(field: str, value: Any) -> bool:
    # JSON takes at most six bytes per character. So short texts, the most common, need not be encoded to know that they fit.
    if isinstance(value, str) and 6 * (len(field) + len(value) + 2) <= HELD_FIELD_BYTES:
        return True
    return len(msgspec.json.encode({field: value})) <= HELD_FIELD_BYTES


def held(from_: NDArray[np.uint8], length: int) -> Trigger:
    """The trigger that `hold` wrote."""
    return msgspec.json.decode(from_[:length].tobytes(), type=Trigger)


def _path(value: Any, path: str) -> Any:
    for name in path.split(".") if path else ():
        value = _member(value, name)
    return value


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _decoded(text: str | None) -> Any:
    try:
        return None if text is None else decode(text)
    except (ValueError, RecursionError):  # it is not readable, so it has none of the fields
        return None


def _plain(value: Any) -> Any:
    """The value as JSON. A value that JSON does not have, such as NaN, becomes NULL."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    return msgspec.to_builtins(value)
