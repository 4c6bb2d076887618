"""The kernel's program: tables of numbers that say where state lies in a row and how to update and read it.

One compiled function interprets the tables, so a declaration needs no compilation of its own. A row consists of words of 8 bytes:

    clock | events seen | session: number, start, last, events | previous session: start, last, events | one head a window | parts

For a profile never seen, all of the row is zero. A **part** is the state of one function for one filter, value and window. Features share
parts: a mean over a window uses the sum and the count that other features may use too. A part over a window has a tile for each hop, in a
ring: tile number t lies at `t % tiles`, and the head of the window has the number of the newest tile.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

# Words of a row.
CLOCK, SEEN, SESSION_NUMBER, SESSION_START, SESSION_LAST, SESSION_EVENTS, PREVIOUS_START, PREVIOUS_LAST, PREVIOUS_EVENTS, HEADS = range(10)

# Codes of parts.
PART_COUNT = 0  # int32 per tile
PART_SUM = 1  # float64 per tile
PART_MIN = 2  # float64 per tile; the count tells whether a tile is empty
PART_MAX = 3
PART_M2 = 4  # float64 per tile: the sum of squared differences from the tile's mean
PART_FIRST = 5  # time and value per tile
PART_LIST = 6  # per tile: length, then `n` pairs of time and value, the oldest first
PART_DISTINCT = 7  # number of values or -1; then words of values (hash << 8 | ring place) or, after -1, registers of 4 bits
PART_SLOTS = 8  # `n` categories: keys, totals, counts per tile and, if `other` is set, float64 per tile

# Filters that are not a column.
ALWAYS, SESSION_OPENED = -1, -2


def _record(*fields: str) -> np.dtype[np.void]:
    return np.dtype([(field, np.int64) for field in fields])


WINDOW = _record(
    "kind",  # a WindowKind
    "length",  # us
    "hop",  # us
    "tiles",
    "days",  # for TODAY: the start of its zone in `Program.days`
    "head",  # the word of a row with the number of the newest tile
)
RANGE = _record("window", "kind")
PART = _record(
    "code",
    "filter",  # a column of booleans, ALWAYS or SESSION_OPENED
    "value",  # a column of numbers; -1 for none
    "by",  # a column of categories; -1 for none
    "window",
    "head",  # the word with the newest tile of its window
    "at",  # the first word
    "words",
    "tiles",
    "n",  # for LIST: its length; for SLOTS: its categories; for DISTINCT: its registers per tile
    "count",  # the first word of the part that counts the same events; -1 for none
    "sum",  # the first word of the part that sums the same values; -1 for none
    "other",  # for SLOTS: code of the value beside the counts, -1 for none; for DISTINCT: 1 if values are kept per tile
)
"""Parts are in the order of their updates: parts that need a count or sum before the event come before that count or sum."""
OUTPUT = _record(
    "function",  # an index in FUNCTIONS
    "part",
    "range",
    "to",  # its first column in the result
    "n",  # for lists and maps: their length
)
SETTINGS = _record(
    "width",  # words of a row
    "session_gap",  # us
    "zone_days",  # days of each zone
    "columns",  # of the result
)

# Compiled functions see these as records: `part.code`. Passing a record costs one pointer. A tuple of tables would cost its whole length
# in every call.
Records = npt.NDArray[np.void]
Record = Any


class Program(NamedTuple):
    """The whole program of a view."""

    windows: Records  # the rings
    ranges: Records  # the spans that features read: a ring, and as which WindowKind
    parts: Records
    outputs: Records
    days: Ints  # the starts of local days in us, one zone after another
    settings: Records  # one record


FUNCTIONS = (
    "count", "sum", "mean", "min", "max", "variance", "stddev", "first", "last", "last_n", "distinct", "top_k", "since_first", "since_last",
    "session_number", "session_events", "session_duration", "by_count", "by_sum", "by_mean", "by_min", "by_max",
)  # fmt: skip
"""The functions of outputs. Those named `by_` give `n` categories, then `n` values."""
