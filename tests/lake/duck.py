"""The files of a snapshot as a query engine sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb

from sokuji.lake.base import Snapshot


def select(snapshot: Snapshot, columns: Sequence[str], *, order: str = "1") -> list[tuple[Any, ...]]:
    """The rows of the files, without the tail."""
    if not snapshot.files:
        return []
    query = f"SELECT {', '.join(columns)} FROM read_parquet($files, union_by_name = true) ORDER BY {order}"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        table = connection.sql(query, params={"files": list(snapshot.files)}).to_arrow_table()
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))
