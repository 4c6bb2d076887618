"""Events excluded from all computations, because they killed the worker: rows of `bad_events` name them, also for a replay."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.errors import NotFoundError
from sokuji.events import EXCLUDED_KEY, STOPPED_WORKER
from sokuji.lake.base import Lake
from sokuji.lake.events import BAD_EVENTS
from sokuji.log.base import Log
from sokuji.meta.objects import Ref
from sokuji.sink import backlog


class Excluded:
    """The excluded events of one dataset."""

    def __init__(self, rows: pa.Table) -> None:
        """Create from `rows` with the columns of EXCLUDED_KEY."""
        self._ids = pc.unique(rows.column("message_id").combine_chunks())
        self._keys = set(zip(*(rows.column(name).to_pylist() for name in EXCLUDED_KEY), strict=True))

    def __len__(self) -> int:
        return len(self._keys)

    def mask(self, events: pa.RecordBatch | pa.Table) -> npt.NDArray[np.bool_]:
        """Which events are excluded."""
        found: npt.NDArray[np.bool_] = pc.is_in(events.column("message_id"), self._ids).to_numpy(zero_copy_only=False).copy()
        for row in np.flatnonzero(found).tolist():
            found[row] = tuple(events.column(name)[row].as_py() for name in EXCLUDED_KEY) in self._keys
        return found


NOBODY = Excluded(pa.table({name: pa.array([], pa.string()) for name in EXCLUDED_KEY}))


def read(dataset: str, log: Log, lake: Lake) -> Excluded:
    """The excluded events of a dataset.

    Rows of the log of bad events that the sink has not committed are read before its table, so that none is missed.
    """
    ends = {partition: log.end(partition) for partition in range(log.partitions)}
    waiting = backlog.read_until(log, backlog.positions(log), ends).get(dataset)
    schema = pa.schema([log.schema.field(name) for name in EXCLUDED_KEY])
    parts = [schema.empty_table()]
    if waiting is not None:
        parts.append(waiting.rows.filter(pc.equal(waiting.rows.column("code"), STOPPED_WORKER)).select(EXCLUDED_KEY))
    with suppress(NotFoundError):
        snapshot = lake.snapshot(Ref(dataset, BAD_EVENTS))
        stopped = lake.scan(snapshot, (*EXCLUDED_KEY, "code"), pc.field("code") == STOPPED_WORKER)
        parts.append(stopped.read_all().select(EXCLUDED_KEY))
    return Excluded(pa.concat_tables([part.cast(schema) for part in parts]))
