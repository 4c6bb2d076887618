"""sokuji's worker: from its log of events to the rows that readers see, with everything it does on the way.

That is micro-batches that survive a crash, duplicates, identities, JSON properties, expressions, the kernel, and a checkpoint. It computes
the features at every event and keeps the last of them; these are the results, read by key as another process would.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from bench.peers._view import FEATURES
from bench.peers.contract import WINDOWS, main
from bench.peers.kernel import rows_of
from sokuji.analyze.worker import Worker
from sokuji.backends import Backends
from sokuji.config import load
from sokuji.events import EVENT_SCHEMA, TIMESTAMP
from sokuji.identity.base import VISITOR
from sokuji.online.shared.reader import SharedReader

_SETTINGS = '[sources.bench]\nwrite_key = "bench"\ndataset = "main"\n'
_APPENDED = 10_000


class Project:
    """A project whose log has the events."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._projects = 0

    def prepare(self, events: Path) -> None:
        """Make it, with the events in its log as the collector writes them."""
        self._projects += 1
        self.path = Path(self._folder.name) / str(self._projects)
        self.path.mkdir()
        (self.path / "features.py").write_text(FEATURES)
        (self.path / "sokuji.toml").write_text(_SETTINGS)
        self.backends = Backends(load(self.path))
        log = self.backends.events_log
        rows = _rows(pq.read_table(events))
        partitions = pc.index_in(rows.column("visitor_id"), pc.unique(rows.column("visitor_id"))).to_numpy() % log.partitions
        for start in range(0, rows.num_rows, _APPENDED):
            part, where = rows.slice(start, _APPENDED), partitions[start : start + _APPENDED]
            log.append_many({number: part.filter(pa.array(where == number)) for number in range(log.partitions)})

    def run(self, _task: str, events: Path, results: Path) -> None:
        """Open the worker, work the log off, save."""
        with self.backends.make_worker(self.path) as worker:
            while worker.run_once():
                pass
            worker.checkpoint(wait=True)
            rows = self.backends.config.data / "analyze" / "main" / worker.stages["main"].state.layout.fingerprint / "rows"
            _read(rows, worker, pq.read_table(events, columns=["visitor", "at"]), results)


def _rows(events: pa.Table) -> pa.RecordBatch:
    count = events.num_rows
    times = pa.array(events.column("at").to_numpy() * 1_000, TIMESTAMP)
    said = events.select(["price", "url", "category"]).to_pylist()
    columns = {
        "message_id": pa.array([f"m{number}" for number in range(count)]),
        "visitor_id": events.column("visitor").combine_chunks(),
        "user_id": pa.nulls(count, pa.string()),
        "historical": pa.array([False] * count),
        "context": pa.array(["{}"] * count),
        "properties": pa.array([json.dumps(each) for each in said]),
        **dict.fromkeys(("event_time", "original_time", "sent_at", "received_at"), times),
        **{name: pa.array([value] * count) for name, value in _SAME.items()},
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in EVENT_SCHEMA.names], schema=EVENT_SCHEMA)


_SAME = {"dataset": "main", "source": "bench", "type": "track", "event_name": "view", "time_rule": "client"}


def _read(folder: Path, worker: Worker, events: pa.Table, results: Path) -> None:
    state = worker.stages["main"].state
    [kernel], [where] = state.kernels, state.layout.views
    last = events.group_by("visitor").aggregate([("at", "max")])
    with SharedReader(folder) as reader:
        served = b"".join(reader.get(VISITOR + visitor) or bytes(state.layout.width) for visitor in last.column("visitor").to_pylist())
    rows = np.frombuffer(served, np.uint8).reshape(last.num_rows, -1)[:, where].copy()
    found = kernel.finalize(rows, 0)
    visitors, at = last.column("visitor").combine_chunks(), last.column("at_max").to_numpy()
    table = pa.concat_tables([rows_of(found, visitors, at, window) for window in WINDOWS["sliding"]])
    pyarrow.csv.write_csv(table, results / "rows.csv", pyarrow.csv.WriteOptions(include_header=False))


if __name__ == "__main__":
    project = Project()
    main(project.run, "sokuji", "numba", prepare=project.prepare)
