"""Whether all that was sent is in the lake, and once."""

from __future__ import annotations

from typing import NamedTuple

import duckdb

from sokuji.backends import Backends
from sokuji.lake.events import EVENTS
from sokuji.meta.objects import Ref

SOURCE = "bench"


class Lake(NamedTuple):
    """What the lake has of the events that were sent."""

    events: int
    distinct: int


def lake_events(backends: Backends, dataset: str) -> Lake:
    """The events of `SOURCE` in the lake."""
    files = backends.tables.snapshot(Ref(dataset, EVENTS)).files
    query = "SELECT COUNT(*), COUNT(DISTINCT message_id) FROM read_parquet($files, union_by_name = true) WHERE source = $source"
    with duckdb.connect() as connection:
        found = connection.execute(query, {"files": list(files), "source": SOURCE}).fetchone()
    return Lake(*(found or (0, 0)))
