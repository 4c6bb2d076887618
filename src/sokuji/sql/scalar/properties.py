"""Read properties of events as typed columns, with the same values as the columns of the lake's events table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.compiled import fixed
from sokuji.json_text import decode
from sokuji.lake.events import column_name
from sokuji.sql.scalar import json_scan
from sokuji.types import BOOL, FLOAT64, STRING, Type, to_arrow

_TEXTS = msgspec.json.Decoder(list[str])
_KEYS_MAX = 100_000
_Part = tuple[json_scan.Bytes, json_scan.Places, json_scan.Places]  # the values of one key: kinds, starts, ends
_SCALARS = (str, int, float)  # bool is an int
_KINDS: dict[int, Type | None] = {
    json_scan.NOTHING: None,
    json_scan.TEXT: STRING,
    json_scan.NUMBER: FLOAT64,
    json_scan.TRUE: BOOL,
    json_scan.FALSE: BOOL,
    json_scan.ESCAPED_TEXT: STRING,
    json_scan.LONG_NUMBER: FLOAT64,
    json_scan.OTHER: None,
}


class PropertyReader:
    """Reads some properties. Names match as in the lake: case does not matter, and `_` replaces characters that names cannot have."""

    def __init__(self, wanted: Mapping[str, Type]) -> None:
        """Create a reader. `wanted` has the type of each property's column: STRING, FLOAT64 or BOOL. Values of other types are NULL."""
        self._wanted = dict(wanted)
        self._by_name = {name.lower(): name for name in wanted}
        self._keys: dict[str, list[str]] = {name: [] for name in wanted}  # the keys of each column, sorted
        self._places: dict[str, int] = {}  # key -> the row that a scan fills
        self._known = _KnownKeys()
        self.unfit: Counter[str] = Counter()
        """The number of values of other types, which became NULL, by property, since a caller last reset it."""

    def read(self, properties: pa.Array) -> dict[str, pa.Array]:
        """A column for each wanted property, from JSON objects."""
        if not self._wanted:
            return {}
        texts = _Texts(pc.fill_null(properties.cast(pa.string()), ""))
        members, slow = self._scan(texts)
        rows = np.flatnonzero(slow)
        objects = [_object(text) for text in properties.take(pa.array(rows)).to_pylist()]
        if self._learn(set().union(*objects)):
            members, slow = self._scan(texts)
        columns = {name: self._column(name, members, texts) for name in self._wanted}
        self._count_unfit(members, slow, objects)
        if not len(rows):
            return columns
        mask = pa.array(slow.view(np.bool_))
        return {name: pc.replace_with_mask(column, mask, self._slowly(name, objects)) for name, column in columns.items()}

    def _scan(self, texts: _Texts) -> tuple[json_scan.Members, npt.NDArray[np.uint8]]:
        """The positions of the values of wanted keys, and which objects are unusual."""
        while True:
            shape = (len(self._places), len(texts.offsets) - 1)
            members = json_scan.Members(np.zeros(shape, np.uint8), np.empty(shape, np.int32), np.empty(shape, np.int32))
            slow, unknown = np.zeros(shape[1], np.uint8), np.empty(2 * json_scan.UNKNOWN_MAX, np.int32)
            count = json_scan.scan(texts.offsets, texts.data, self._known.table, members, slow, unknown)
            new = {texts.data[start:end].tobytes().decode() for start, end in unknown[: 2 * count].reshape(-1, 2).tolist()}
            if not self._learn(new):
                return members, slow

    def _learn(self, keys: Iterable[str]) -> bool:
        """Find the keys that belong to a wanted column. Returns whether there are any."""
        found = False
        for key in sorted(set(keys) - self._known.keys):
            name = column_name(key)
            column = None if name is None else self._by_name.get(name.lower())
            if column is not None:
                self._keys[column].append(key)
                self._keys[column].sort()
                self._places[key] = len(self._places)
                found = True
            self._known.add(key, self._places.get(key, -1))
        if len(self._known.keys) > _KEYS_MAX:  # keys that are data; forget them, they are looked up again
            self._known = _KnownKeys()
            for key, place in self._places.items():
                self._known.add(key, place)
        return found

    def _column(self, name: str, members: json_scan.Members, texts: _Texts) -> pa.Array:
        """The column of the values that the scan found."""
        rows, type_ = members.kinds.shape[1], self._wanted[name]
        there = np.zeros(rows, np.bool_)
        places = [self._places[key] for key in self._keys[name]]
        parts = [(members.kinds[at], members.starts[at], members.ends[at]) for at in places]
        if type_ == STRING:
            start, end = np.zeros((2, rows), np.int32)
            escaped = np.zeros(rows, np.bool_)
            for part in parts:
                escaped |= (part[0] == json_scan.ESCAPED_TEXT) & ~there
                json_scan.take_places(*part, start, end, there)
            return _unescaped(texts.strings(start, end, there), escaped)
        if type_ == BOOL:
            truths = np.zeros(rows, np.bool_)
            for kinds, _, _ in parts:
                json_scan.take_bools(kinds, truths, there)
            return pa.array(truths, mask=~there)
        numbers = np.zeros(rows)
        for part in parts:
            json_scan.take_numbers(texts.data, *part, numbers, there)
            _take_long_numbers(texts.data, part, numbers, there)
        return pa.array(numbers, mask=~there)

    def _count_unfit(self, members: json_scan.Members, slow: npt.NDArray[np.uint8], objects: list[dict[str, Any]]) -> None:
        for name, type_ in self._wanted.items():
            convert = _CONVERT[type_]
            for key in self._keys[name]:
                kinds = members.kinds[self._places[key]]
                counts = np.bincount(kinds[slow == 0] if objects else kinds, minlength=len(_KINDS))
                unfit = int(counts[[kind for kind, its in _KINDS.items() if its not in {None, type_}]].sum())
                unfit += sum(isinstance(each.get(key), _SCALARS) and convert(each[key]) is None for each in objects)
                if unfit:
                    self.unfit[name] += unfit

    def _slowly(self, name: str, objects: list[dict[str, Any]]) -> pa.Array:
        type_ = self._wanted[name]
        convert = _CONVERT[type_]
        values: list[Any] = [None] * len(objects)
        for key in self._keys[name]:
            values = [convert(each.get(key)) if old is None else old for old, each in zip(values, objects, strict=True)]
        return pa.array(values, to_arrow(type_))


class _Texts:
    """The memory of an array of strings without NULLs."""

    def __init__(self, array: pa.StringArray) -> None:
        _, offsets, data = array.buffers()
        rows = len(array)
        self.offsets = fixed(np.frombuffer(offsets, np.int32, rows + 1, array.offset * 4) if rows else np.zeros(1, np.int32))
        self.data = fixed(np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8))

    def strings(self, start: npt.NDArray[np.int32], end: npt.NDArray[np.int32], there: npt.NDArray[np.bool_]) -> pa.StringArray:
        """The parts of the text from `start` to `end`; NULL where `there` is false."""
        offsets = np.zeros(len(start) + 1, np.int32)
        np.cumsum(end - start, out=offsets[1:])
        texts = np.empty(int(offsets[-1]), np.uint8)
        json_scan.copy_texts(self.data, start, end, there, offsets, texts)
        bitmap = pa.py_buffer(np.packbits(there, bitorder="little"))
        return pa.StringArray.from_buffers(len(start), pa.py_buffer(offsets), pa.py_buffer(texts), bitmap)


class _KnownKeys:
    """The known keys, as a set and as the table of a scan."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.table = _table(64)

    def add(self, key: str, place: int) -> None:
        """Add a new key; `place` is -1 if the key is not wanted."""
        self.keys.add(key)
        if 2 * len(self.keys) > self.table.hashes.size:
            before, self.table = self.table, _table(4 * self.table.hashes.size)
            for at in np.flatnonzero(before.hashes).tolist():
                json_scan.add_key(self.table, before.hashes[at], int(before.places[at]))
        encoded = np.frombuffer(key.encode(), np.uint8)
        json_scan.add_key(self.table, np.uint64(json_scan.hash_key(encoded, 0, len(encoded))), place)


def _table(size: int) -> json_scan.MetKeys:
    return json_scan.MetKeys(np.zeros(size, np.uint64), np.full(size, -1, np.int32))


def _unescaped(texts: pa.StringArray, escaped: npt.NDArray[np.bool_]) -> pa.StringArray:
    """The texts, with JSON escapes decoded in rows marked by `escaped`."""
    if not escaped.any():
        return texts
    mask = pa.array(escaped)
    quoted = pc.binary_join_element_wise('"', texts.filter(mask), '"', "").to_pylist()
    decoded: pa.StringArray = pc.replace_with_mask(texts, mask, pa.array(_TEXTS.decode(f"[{','.join(quoted)}]"), pa.string()))
    return decoded


def _take_long_numbers(text: json_scan.Bytes, part: _Part, values: npt.NDArray[np.float64], there: npt.NDArray[np.bool_]) -> None:
    """Store the numbers of one key that the scan skipped, in rows that have no value yet, if FLOAT64 holds them."""
    kinds, starts, ends = part
    for row in np.flatnonzero((kinds == json_scan.LONG_NUMBER) & ~there).tolist():
        value = float(text[starts[row] : ends[row]].tobytes())
        values[row], there[row] = value, math.isfinite(value)


def _object(text: str | None) -> dict[str, Any]:
    try:
        found = None if text is None else decode(text)
    except (ValueError, RecursionError):  # the collector does not accept such JSON
        found = None
    return found if isinstance(found, dict) else {}


def _number(value: Any) -> float | None:
    if type(value) is float:
        return value
    return float(value) if type(value) is int else None


def _string(value: Any) -> str | None:
    return value if type(value) is str else None


def _bool(value: Any) -> bool | None:
    return value if type(value) is bool else None


_CONVERT: dict[Type, Callable[[Any], Any]] = {FLOAT64: _number, STRING: _string, BOOL: _bool}
