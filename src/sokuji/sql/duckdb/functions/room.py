"""Room for what DuckDB's own functions make.

DuckDB counts the memory of joins, sorts and aggregates, but not that of the 2,048 rows a function works on, and looks at an interrupt only
between them. So what makes much out of little says how much before it does: the rows that are to be large are added up over all that are
worked on, and the query ends if they are too many for its limit, or if its time is up.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sokuji.sql.duckdb.functions.reference import exceeded, over_columns
from sokuji.sql.stop import Stop
from sokuji.types import BOOL, INT64

_FREE_BYTES = 32 * 1024  # a row; 2,048 such rows are 64 MiB
_SHARE = 2  # of a query's memory may be made at once: what is made of it next takes as much again


def within(bytes_: str, value: str) -> str:
    """DuckDB text of `value`, which takes so many bytes in a row and is made only if there is room for it."""
    name = over_columns("room", _is_refused, (INT64,), BOOL)
    refused = f"CASE WHEN {bytes_} > {_FREE_BYTES} THEN {name}(CAST({bytes_} AS BIGINT)) ELSE false END"
    return f"CASE WHEN {refused} THEN NULL ELSE {value} END"


def _is_refused(stop: Stop, sizes: Any) -> pa.Array:
    stop.check()
    mib = (pc.sum(sizes).as_py() or 0) / 1024**2
    if mib * _SHARE > stop.memory_mib:
        raise exceeded(stop, f"{len(sizes):,} rows at a time, of {mib:,.0f} MiB, need")
    return pa.repeat(pa.scalar(False), len(sizes))
