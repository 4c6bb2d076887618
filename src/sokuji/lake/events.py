"""Convert rows of the `events` log to rows of a dataset's `events` table.

Every scalar property gets its own column. The whole `properties` are also stored as JSON.

- Numbers are FLOAT64, whether or not the first number has a decimal point, so that sums are right. `true` and `false` are BOOL. Text is
  STRING, even if it looks like a time. The first value that is not null decides the type. A value of another type is NULL in the column
  and stays in `properties`, like arrays and objects. A number with more digits than FLOAT64 holds is rounded in the column only.
- The settings of `Lake.keep` take precedence: the type of a property, and whether it has a column. A column that ALTER TABLE dropped
  does not come back by itself.
- A property with the name of a fixed column gets a column with this name plus `_prop`.
- `_` replaces characters that a column's name cannot have. Properties whose names are then equal, in any case, share one column, because
  SQL could not distinguish them. If one event has several of them, the first in alphabetical order counts.
- A table has at most `COLUMNS_MAX` property columns. The first `COLUMNS_AT_ONCE` go to the first properties. After that, a property needs
  10 events, and twice as many for each further hundred columns, so that no single event can take all columns. A property that a
  declaration names gets its column immediately. Other properties are in `properties` only, as are those with names longer than
  `NAME_LENGTH_MAX`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

import pyarrow as pa

from sokuji import types as t
from sokuji.clock import now_us
from sokuji.events import BAD_EVENT_SCHEMA, IDENTITY_SCHEMA, TIMESTAMP
from sokuji.lake.base import Kept
from sokuji.meta.objects import Column, Ref, Table, TableKind

COLUMNS_MAX = 1000
COLUMNS_AT_ONCE = 300
"""This many columns go to the first properties. Each further property must occur in more events."""

NAME_LENGTH_MAX = 128
EVENTS = "events"
BAD_EVENTS = "bad_events"
IDENTITIES = "identities"
FED = (EVENTS, BAD_EVENTS, IDENTITIES)
"""The tables that are fed from logs. Every dataset has them, even before the first row."""
TIME_COLUMN = "_date"

_KEYS = pa.struct([("visitor_id", pa.string()), ("user_id", pa.string())])
FIXED_SCHEMA = pa.schema(
    [
        ("event_name", pa.string()),
        ("keys", _KEYS),
        (TIME_COLUMN, TIMESTAMP),
        ("message_id", pa.string()),
        ("type", pa.string()),
        ("source", pa.string()),
        ("received_at", TIMESTAMP),
        ("original_time", TIMESTAMP),
        ("sent_at", TIMESTAMP),
        ("time_rule", pa.string()),
        ("historical", pa.bool_()),
        ("is_bot", pa.bool_()),
        ("log_partition", pa.int64()),
        ("log_offset", pa.int64()),
        ("context", pa.string()),
        ("properties", pa.string()),
    ]
)
"""The columns that every events table has, before those of its properties.

A `log_partition` has all events of a visitor; `log_offset` is their order of arrival in it. Both are NULL in the platform's own events,
which are not in this log. A column is NULL in rows that are older than the column.
"""

PROPERTY_TYPES = {str(type_): type_ for type_ in (t.STRING, t.FLOAT64, t.BOOL)}
"""The types that the column of a property may have, by name."""

PLACE_COLUMNS = ("log_partition", "log_offset")

BAD_EVENTS_SCHEMA = BAD_EVENT_SCHEMA.remove(BAD_EVENT_SCHEMA.get_field_index("dataset"))
"""The columns of a dataset's table of refused events."""

IDENTITIES_SCHEMA = IDENTITY_SCHEMA.remove(IDENTITY_SCHEMA.get_field_index("dataset"))
"""The columns of a dataset's table of identities: which visitor became known as which user."""

JSON_COLUMNS = {"context", "properties"}
_RESERVED = {name.lower() for name in FIXED_SCHEMA.names} | {"_day"}
_NOT_IN_NAMES = re.compile(r"\W")

NOTHING_SAID: Mapping[str, Kept] = MappingProxyType({})
Columns = dict[str, pa.DataType]
"""The property columns of a table in their order: float64, bool or string."""


def property_columns(schema: pa.Schema) -> Columns:
    """The property columns in the schema of an events table."""
    return {field.name: field.type for field in schema if field.name not in FIXED_SCHEMA.names}


def table_definition(ref: Ref, schema: pa.Schema, known: Table | None, kept: Mapping[str, Kept] = NOTHING_SAID) -> Table:
    """The catalog's definition of an events table with at least the columns of `schema`.

    Columns that only `known`, the current definition, has are kept unless they were dropped: they belong to events that are not in the lake
    yet.
    """
    columns = [Column(field.name, t.JSON if field.name in JSON_COLUMNS else t.from_arrow(field.type)) for field in schema]
    names = {column.name for column in columns}
    columns += [column for column in (known.columns if known else ()) if column.name not in names and may_have(column.name, kept)]
    if known is not None and set(known.columns) == set(columns):
        return known
    created = now_us() if known is None else known.created_at_us
    return Table(ref, TableKind.EVENTS, tuple(columns), created_at_us=created)


def may_have(name: str, kept: Mapping[str, Kept]) -> bool:
    """Whether a property may have a column; false if the column was dropped."""
    said = kept.get(name.lower())
    return said is None or said.has_column


def column_name(key: str) -> str | None:
    """The column of the property `key`, before its case is matched with the table's; None if the property gets no column."""
    name = _NOT_IN_NAMES.sub("_", key)
    if not name or len(name) > NAME_LENGTH_MAX or "\0" in key:
        return None
    if name[0].isdecimal():
        name = f"_{name}"
    return f"{name}_prop" if name.lower() in _RESERVED else name
