"""Limit the memory of large values that DuckDB's own functions make.

DuckDB counts the memory of joins, sorts and aggregates. It does not count the memory of the 2,048 rows that a function works on, and checks
for interrupts only between such chunks. So an expression that makes large values first reports their size. The sizes of all rows of a chunk
are added, and the query ends if they exceed its limit or if its time is up.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sokuji.sql.duckdb.functions.reference import exceeded, over_columns
from sokuji.sql.stop import Stop
from sokuji.types import BOOL, INT64

_FREE_BYTES = 32 * 1024  # per row; 2,048 such rows are 64 MiB
_SHARE = 2  # one in this many bytes of a query's memory may be made at once, because the next step needs as much again


def within(bytes_: str, value: str) -> str:
    """DuckDB text of `value`, which takes `bytes_` bytes in a row and is computed only if there is room for it."""
    name = over_columns("room", _is_refused, (INT64,), BOOL)
    refused = f"CASE WHEN {bytes_} > {_FREE_BYTES} THEN {name}(CAST({bytes_} AS BIGINT)) ELSE false END"
    return f"CASE WHEN {refused} THEN NULL ELSE {value} END"


def _is_refused(stop: Stop, sizes: Any) -> pa.Array:
    stop.check()
    mib = (pc.sum(sizes).as_py() or 0) / 1024**2
    if mib * _SHARE > stop.memory_mib:
        raise exceeded(stop, f"{len(sizes):,} rows at a time, of {mib:,.0f} MiB, need")
    return pa.repeat(pa.scalar(False), len(sizes))
