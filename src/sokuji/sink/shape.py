"""Convert events of the log to rows of a dataset's `events` table."""

from __future__ import annotations

import heapq
import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import cast

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.arrays import in_one_piece
from sokuji.bots import is_bot
from sokuji.closing import Closing
from sokuji.dedup.runs import Ids
from sokuji.duckdb_text import quote_text
from sokuji.events import EVENT_SCHEMA
from sokuji.lake.base import Kept
from sokuji.lake.events import (
    COLUMNS_AT_ONCE,
    COLUMNS_MAX,
    FIXED_SCHEMA,
    NOTHING_SAID,
    PLACE_COLUMNS,
    TIME_COLUMN,
    Columns,
    column_name,
    may_have,
)
from sokuji.lake.stored import finite

_LOG = logging.getLogger(__name__)
_CHUNK_ROWS = 32_768
_CHUNK_CELLS = 12_000_000  # so chunks of wide tables are shorter: each cell takes some ten bytes, several times


class Shaper(Closing):
    """Converts log rows to lake rows, in DuckDB. For one thread."""

    def __init__(self) -> None:
        self._duck = duckdb.connect(":memory:", config={"threads": 1})

    def close(self) -> None:
        """Close the database."""
        self._duck.close()

    def shape(
        self, rows: pa.Table, columns: Columns, kept: Mapping[str, Kept] = NOTHING_SAID, sightings: Counter[str] | None = None
    ) -> pa.RecordBatchReader:
        """The rows with all of `columns`, and with columns of properties seen for the first time, which are added to `columns`.

        `rows` have the columns of EVENT_SCHEMA and, if their positions are to be stored, `PLACE_COLUMNS`. `kept` is the table's.
        `sightings` counts the earlier rows with each property that has no column; these rows are added.
        """
        chunks = [self._readable(pa.table(batch)) for batch in rows.to_batches(max_chunksize=_CHUNK_ROWS)]
        sightings = Counter() if sightings is None else sightings
        keys = [self._keys(chunk, columns, kept, sightings) for chunk in chunks]
        schema = pa.schema([*FIXED_SCHEMA, *columns.items()])

        def batches() -> Iterator[pa.RecordBatch]:
            rows_max = _CHUNK_CELLS // len(schema)
            for chunk, keys_of_columns in zip(chunks, keys, strict=True):
                for start in range(0, chunk.num_rows, rows_max):
                    part = chunk.slice(start, rows_max)
                    found = self._properties(part, keys_of_columns, columns)
                    values = (found[name] if name in found else pa.nulls(part.num_rows, type_) for name, type_ in columns.items())
                    yield pa.record_batch([*_fixed(part), *values], schema=schema)

        return pa.RecordBatchReader.from_batches(schema, batches())

    def ids(self, rows: pa.Table) -> Ids:
        """The ids of messages, one per row."""
        hashed = "md5_number(concat_ws(chr(31), source, message_id))"
        parts = f"SELECT CAST(h >> 64 AS UBIGINT), CAST(h & 18446744073709551615 AS UBIGINT) FROM (SELECT {hashed} AS h FROM chunk)"
        high, low = self._query(parts, rows).columns
        return Ids(high.to_numpy(), low.to_numpy())

    def _query(self, query: str, chunk: pa.Table) -> pa.Table:
        self._duck.register("chunk", chunk)
        try:
            found: pa.Table = self._duck.sql(query).to_arrow_table()
            return found
        finally:
            self._duck.unregister("chunk")

    def _readable(self, chunk: pa.Table) -> pa.Table:
        """The chunk with JSON that DuckDB can read: text that DuckDB thinks is invalid (1e999) becomes a JSON string."""
        valid = "SELECT coalesce(bool_and(json_valid(properties)), true), coalesce(bool_and(json_valid(context)), true) FROM chunk"
        for name, fine in zip(("properties", "context"), self._query(valid, chunk).columns, strict=True):
            if not fine[0].as_py():
                fixed = self._query(f"SELECT CASE WHEN json_valid({name}) THEN {name} ELSE to_json({name}) END AS fixed FROM chunk", chunk)
                chunk = chunk.set_column(chunk.schema.get_field_index(name), name, fixed.column(0).cast(pa.string()))
        return chunk

    def reread(self, rows: pa.Table, columns: Columns) -> dict[str, pa.Array]:
        """Read these property columns from the JSON of rows that have the columns of an events table."""
        chunk = self._readable(rows.select(["properties", "context"]))
        named = {name: keys for name, keys in self._named(self._found(chunk), columns).items() if name in columns}
        found = self._properties(chunk, named, columns)
        return {name: found[name] if name in found else pa.nulls(rows.num_rows, type_) for name, type_ in columns.items()}

    def _found(self, chunk: pa.Table) -> list[str]:
        """The existing properties, in alphabetical order."""
        keys = "SELECT unnest(json_keys(properties)) AS key FROM chunk"
        found: list[str] = self._query(f"SELECT DISTINCT key FROM ({keys}) ORDER BY key", chunk).column(0).to_pylist()
        return found

    def _counts(self, chunk: pa.Table) -> dict[str, int]:
        """The number of rows with each property. Takes twice as long as `_found`."""
        keys = "SELECT unnest(list_distinct(json_keys(properties))) AS key FROM chunk"
        found = self._query(f"SELECT key, count(*) FROM ({keys}) GROUP BY key ORDER BY key", chunk)
        return dict(zip(*(column.to_pylist() for column in found.columns), strict=True))

    @staticmethod
    def _named(keys: Iterable[str], columns: Columns) -> dict[str, list[str]]:
        """Group properties by the column that they have or would get."""
        spelling = {name.lower(): name for name in columns}
        named: dict[str, list[str]] = {}
        for key in keys:
            name = column_name(key)
            if name is not None:
                named.setdefault(spelling.setdefault(name.lower(), name), []).append(key)
        return named

    def _keys(self, chunk: pa.Table, columns: Columns, kept: Mapping[str, Kept], sightings: Counter[str]) -> dict[str, list[str]]:
        """The properties of a chunk by their column. A property without a column gets one in `columns` if it was seen often enough."""
        named = self._named(self._found(chunk), columns)
        new = [name for name in named.keys() - columns.keys() if may_have(name, kept)]
        counts: Mapping[str, int] = {}
        # otherwise one event is enough, and properties that are always arrays or null stay new for ever
        if len(columns) + len(new) > COLUMNS_AT_ONCE:
            counts = self._counts(chunk)
        # The maximum, not the sum: one event may have any number of names that differ only in case.
        sightings.update({name.lower(): max(counts.get(key, 1) for key in named[name]) for name in new})
        wanted = [name for name in new if sightings[name.lower()] >= _needed(name, len(columns), kept)]
        if wanted:
            # Consider at most this many, because each chunk could have any number of names.
            frequent = heapq.nlargest(COLUMNS_MAX, wanted, lambda name: (name.lower() in kept, sightings[name.lower()], name))
            types = self._types(chunk, {name: named[name] for name in frequent})
            types |= {name: kept[name.lower()].type for name in types if name.lower() in kept}
            given: Columns = {}
            for name, type_ in types.items():
                if sightings[name.lower()] >= _needed(name, len(columns) + len(given), kept):
                    given[name] = type_
                    del sightings[name.lower()]
            columns |= sorted(given.items())
            if len(columns) == COLUMNS_MAX:
                _LOG.warning("properties may be without a column: the table has as many as it can", extra={"limit": COLUMNS_MAX})
        return {name: keys for name, keys in named.items() if name in columns}

    def _types(self, chunk: pa.Table, named: Mapping[str, list[str]]) -> Columns:
        """The column types for properties without a column, by their first values; none for properties without a scalar value."""
        if not named:
            return {}
        places, raw = _raw_values(named)
        # Not by aggregates, because DuckDB takes seconds to plan a thousand of them.
        table = self._query(
            f"SELECT {', '.join(f'{place}[1] AS {place}' for group in places.values() for place in group)} FROM ({raw})", chunk
        )
        found: Columns = {}
        for name, group in places.items():
            firsts = (_first_scalar(table.column(place)) for place in group)
            character = next((first for first in firsts if first is not None), None)
            if character is not None:
                found[name] = _TYPES.get(character, pa.float64())
        return found

    def _properties(self, chunk: pa.Table, named: Mapping[str, list[str]], columns: Columns) -> dict[str, pa.Array]:
        if not named:
            return {}
        places, raw = _raw_values(named)
        values = (_value(group, columns[name]) for name, group in places.items())
        table = self._query(f"SELECT {', '.join(values)} FROM ({raw})", chunk)
        return {name: finite(_one(column, columns[name])) for name, column in zip(named, table.columns, strict=True)}


_TYPES = {'"': pa.string(), "t": pa.bool_(), "f": pa.bool_()}


_NO_SCALARS = pa.array(["{", "[", "n"])


def _first_scalar(characters: pa.ChunkedArray) -> str | None:
    """The first character of the first scalar value, given the first characters of all values. It determines the type."""
    scalars = characters.filter(pc.invert(pc.is_in(characters, _NO_SCALARS))).drop_null()
    return scalars[0].as_py() if len(scalars) else None


def _raw_values(named: Mapping[str, list[str]]) -> tuple[dict[str, list[str]], str]:
    """The query for properties as raw JSON text, and the names of its columns, one per property.

    Properties that share a column cannot be fields of one DuckDB STRUCT, so each is in its own layer.
    """
    layers: dict[str, dict[str, str]] = {}
    places: dict[str, list[str]] = {}
    raws: list[str] = []
    for number, (name, keys) in enumerate(named.items()):
        for depth, key in enumerate(keys):
            layer, place = f"layer{depth}", f"raw{number}_{depth}"
            layers.setdefault(layer, {})[key] = "JSON"
            places.setdefault(name, []).append(place)
            raws.append(f"CAST(struct_extract({layer}, {quote_text(key)}) AS VARCHAR) AS {place}")
    items = (f"json_transform(properties, {quote_text(json.dumps(fields))}) AS {layer}" for layer, fields in layers.items())
    return places, f"SELECT {', '.join(raws)} FROM (SELECT {', '.join(items)} FROM chunk)"


def _value(raws: list[str], type_: pa.DataType) -> str:
    """The DuckDB expression of a column's value."""
    values = [_typed(raw, type_) for raw in raws]
    if len(values) == 1:
        return values[0]
    if type_ == pa.float64():
        values = [f"CASE WHEN isfinite({value}) THEN {value} END" for value in values]
    return f"coalesce({', '.join(values)})"


def _typed(raw: str, type_: pa.DataType) -> str:
    """A raw JSON value as `type_`; NULL if it has another type."""
    if type_ == pa.float64():
        return f"TRY_CAST({raw} AS DOUBLE)"
    if type_ == pa.bool_():
        return f"CASE {raw} WHEN 'true' THEN true WHEN 'false' THEN false END"
    unescaped = f"CASE WHEN contains({raw}, '\\') THEN CAST({raw} AS JSON) ->> '$' ELSE ({raw})[2:-2] END"
    return f"CASE WHEN {raw} LIKE '\"%' THEN {unescaped} END"


def _fixed(chunk: pa.Table) -> list[pa.Array]:
    columns = {field.name: _one(chunk.column(field.name), field.type) for field in EVENT_SCHEMA}
    for name in PLACE_COLUMNS:
        has_place = name in chunk.schema.names
        columns[name] = _one(chunk.column(name), pa.int64()) if has_place else pa.nulls(chunk.num_rows, pa.int64())
    columns["is_bot"] = is_bot(columns["context"])
    ids = list(cast("pa.StructType", FIXED_SCHEMA.field("keys").type))
    columns["keys"] = pa.StructArray.from_arrays([columns["visitor_id"], columns["user_id"]], fields=ids)
    columns[TIME_COLUMN] = columns["event_time"]
    return [columns[name] for name in FIXED_SCHEMA.names]


def _one(column: pa.ChunkedArray, type_: pa.DataType) -> pa.Array:
    array = in_one_piece(column)
    return array if array.type == type_ else pc.cast(array, type_)


def _needed(name: str, columns: int, kept: Mapping[str, Kept]) -> float:
    """The number of events that must have a property before it gets a column, in a table with `columns` property columns."""
    if columns >= COLUMNS_MAX:
        return math.inf
    if columns < COLUMNS_AT_ONCE or name.lower() in kept:
        return 1
    return math.ldexp(10, (columns - COLUMNS_AT_ONCE) // 100)
