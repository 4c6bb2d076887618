"""What the kernel runs: tables of numbers that say where state lies in a row and what is done with it.

One compiled function interprets them, so that no declaration needs a compilation of its own. A row is counted in words of 8 bytes:

    clock | events seen | session: number, start, last, events | previous session: start, last, events | one head a window | parts

All of a row is zero for a profile never seen. A **part** is the state of one function for one filter, value and window; features share
parts: a mean over a window is the sum and the count that other features may also use. A part over a window has a tile for each hop, in
a ring: the tile number t lies at `t % tiles`; the head of the window says which tile is the newest.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

# Words of a row.
CLOCK, SEEN, SESSION_NUMBER, SESSION_START, SESSION_LAST, SESSION_EVENTS, PREVIOUS_START, PREVIOUS_LAST, PREVIOUS_EVENTS, HEADS = range(10)

# Codes of parts.
PART_COUNT = 0  # int32 a tile
PART_SUM = 1  # float64 a tile
PART_MIN = 2  # float64 a tile; the count tells an empty tile
PART_MAX = 3
PART_M2 = 4  # float64 a tile: the sum of squared differences from the tile's mean
PART_FIRST = 5  # time and value a tile
PART_LIST = 6  # a tile: length, then `n` pairs of time and value, the oldest first
PART_DISTINCT = 7  # number of values or -1, then words of values (hash << 8 | ring place) or, after -1, registers of 4 bits
PART_SLOTS = 8  # `n` categories: keys, totals, counts a tile, and, if there is an `other`, float64 a tile

# Filters that are no column.
ALWAYS, SESSION_OPENED = -1, -2


def _record(*fields: str) -> np.dtype[np.void]:
    return np.dtype([(field, np.int64) for field in fields])


WINDOW = _record(
    "kind",  # a WindowKind
    "length",  # us
    "hop",  # us
    "tiles",
    "days",  # of TODAY: where its zone begins in `Program.days`
    "head",  # the word of a row that has the newest tile
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
    "n",  # of LIST: its length; of SLOTS: its categories; of DISTINCT: its registers a tile
    "count",  # the first word of the part that counts the same events; -1 for none
    "sum",  # the first word of the part that sums the same values; -1 for none
    "other",  # of SLOTS: the code of what is kept beside the counts, -1 for none; of DISTINCT: 1 if values are kept for each tile
)
"""Parts come in the order they are updated: whatever needs the count or sum before an event comes before these."""
OUTPUT = _record(
    "function",  # a place in FUNCTIONS
    "part",
    "range",
    "to",  # its first column in the result
    "n",  # of lists and maps: how many
)
SETTINGS = _record(
    "width",  # words of a row
    "session_gap",  # us
    "zone_days",  # days of each zone
    "columns",  # of the result
)

# The compiled functions see these as records: `part.code`. Passing one costs a pointer, where a tuple of tables would cost its whole length
# in every call.
Records = npt.NDArray[np.void]
Record = Any


class Program(NamedTuple):
    """Everything the compiled functions are told of a view."""

    windows: Records  # the rings
    ranges: Records  # what features look at: a ring, and as which WindowKind
    parts: Records
    outputs: Records
    days: Ints  # when local days begin, us, one zone after another
    settings: Records  # one


FUNCTIONS = (
    "count", "sum", "mean", "min", "max", "variance", "stddev", "first", "last", "last_n", "distinct", "top_k", "since_first", "since_last",
    "session_number", "session_events", "session_duration", "by_count", "by_sum", "by_mean", "by_min", "by_max",
)  # fmt: skip
"""What an output computes. Those called `by_` give `n` categories, then `n` values."""
