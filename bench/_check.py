"""Whether what the pipeline made of a run is right: nothing lost, nothing twice, and features that the log says."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench._load import is_known, user, visitor
from sokuji.analyze.identity import USER, VISITOR
from sokuji.analyze.project import Declared, compile_for
from sokuji.analyze.rows import RowLayout
from sokuji.backends import Backends
from sokuji.features.vocabulary import Vocabulary
from sokuji.lake.events import EVENTS
from sokuji.log.base import Log
from sokuji.meta.base import Ref
from sokuji.online.reader import SharedReader

_READ_ROWS = 100_000
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


def mismatches(backends: Backends, project: Path, dataset: str, *, visitors: int, sample: int) -> tuple[int, int]:
    """How many features of how many compared differ between the rows that the worker serves and the log's events, computed again.

    Of `sample` visitors, a part of them known users.
    """
    chance = random.Random(1)
    numbers = sorted({chance.randrange(visitors) for _ in range(sample)})
    keys = [USER + user(number) if is_known(number, visitors) else VISITOR + visitor(number) for number in numbers]
    folder = backends.config.data / "analyze" / dataset
    vocabulary = Vocabulary.beside(folder / "strings.jsonl")
    compiled = compile_for(dataset, Declared.load(project), backends.catalog, backends.models, vocabulary)
    [kernel], layout = compiled.kernels, RowLayout.of(compiled.kernels, compiled.rules)
    with SharedReader(folder / layout.fingerprint / "rows") as reader:
        served = b"".join(reader.get(key) or bytes(layout.width) for key in keys)
    rows = np.frombuffer(served, np.uint8).reshape(len(keys), layout.width)[:, layout.views[0]].copy()
    again = np.zeros_like(rows)
    last_us = 0
    for batch in _events_of(backends.events_log, [visitor(number) for number in numbers]):
        profiles = pc.index_in(batch.column("visitor_id"), pa.array([visitor(number) for number in numbers])).to_numpy().astype(np.int32)
        times = batch.column("event_time").cast(pa.int64()).to_numpy()
        last_us = max(last_us, int(times.max()))
        kernel.update(again, profiles, times, kernel.columns(compiled.expressions.evaluate(batch).values), want_values=False)
    found, wanted = kernel.finalize(rows, last_us).to_pylist(), kernel.finalize(again, last_us).to_pylist()
    differ = sum(not _same(left[name], right[name]) for left, right in zip(found, wanted, strict=True) for name in left)
    return differ, len(keys) * len(kernel.fields)


def _events_of(log: Log, visitors: Sequence[str]) -> list[pa.RecordBatch]:
    """The events of some visitors, those of each in their order."""
    wanted, found = pa.array(visitors), []
    for partition in range(log.partitions):
        at = log.start(partition)
        while at < log.end(partition):
            batch, at = log.read(partition, at, _READ_ROWS)
            own = batch.filter(pc.is_in(batch.column("visitor_id"), wanted))
            if own.num_rows:
                found.append(own)
    return found


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(found, float) and isinstance(wanted, float):
        return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-9)
    return bool(found == wanted)
