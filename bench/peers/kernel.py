"""sokuji's kernel alone: columns of events into features at each event; tumbling and hopping windows are read when they end."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from bench.peers._view import FEATURES
from bench.peers.contract import SLIDING, WINDOWS, Window, main
from sokuji.features.kernel.kernel import Kernel
from sokuji.features.kernel.strings import Vocabulary
from sokuji.features.load import load
from sokuji.types import FLOAT64, STRING

_BATCH = 20_000
_NAMES = ("count", "sum", "mean", "max", "last", "distinct")


def kernel() -> Kernel:
    """Of the view that is compared."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.py"
        path.write_text(FEATURES)
        [view] = load(path)
    return Kernel(view, {"price": FLOAT64, "url": STRING, "category": STRING}, Vocabulary())


def rows_of(features: pa.RecordBatch, visitors: pa.Array, at: Any, window: Window) -> pa.Table:
    """Rows of results from the kernel's features."""
    columns = {name: features.column(f"{name}_{window.name}") for name in _NAMES}
    return pa.table({"visitor": visitors, "at": pa.array(at, pa.int64()), "window": pa.repeat(window.name, len(visitors)), **columns})


def run(task: str, events: Path, results: Path) -> None:
    """The file at once, as all of it is there; the kernel takes it in batches."""
    table = pq.read_table(events).combine_chunks()
    visitors = pc.dictionary_encode(table.column("visitor")).combine_chunks()
    options = pyarrow.csv.WriteOptions(include_header=False)
    made = kernel()
    schema = rows_of(made.finalize(np.zeros((0, made.width), np.uint8), 0), pa.array([], pa.string()), [], WINDOWS[task][0]).schema
    with pyarrow.csv.CSVWriter(results / "rows.csv", schema, write_options=options) as writer:
        for rows in (_sliding if task == SLIDING else _windows)(made, task, table, visitors):
            writer.write_table(rows)


def _sliding(made: Kernel, task: str, table: pa.Table, visitors: pa.DictionaryArray) -> Iterator[pa.Table]:
    state = np.zeros((len(visitors.dictionary), made.width), np.uint8)
    for batch, who, at in _batches(table, visitors, range(0, len(table), _BATCH)):
        found = made.update(state, who, at * 1_000, made.columns(batch)).batch()
        for window in WINDOWS[task]:
            yield rows_of(found, batch.column("visitor"), at, window)


def _windows(made: Kernel, task: str, table: pa.Table, visitors: pa.DictionaryArray) -> Iterator[pa.Table]:
    state = np.zeros((len(visitors.dictionary), made.width), np.uint8)
    latest = np.zeros(len(state), np.int64)
    times = table.column("at").to_numpy()
    step = min(window.hop for window in WINDOWS[task])
    ends = np.arange(times[0] // step * step, times[-1] + max(window.length for window in WINDOWS[task]), step) + step
    starts = np.searchsorted(times, ends)
    for end, (batch, who, at) in zip(ends, _batches(table, visitors, [0, *starts[:-1]]), strict=True):
        made.update(state, who, at * 1_000, made.columns(batch), want_values=False)
        latest[who] = at
        for window in WINDOWS[task]:
            if end % window.hop == 0:
                active = np.flatnonzero(latest >= end - window.length)
                found = made.finalize(state[active], int(end) * 1_000)
                yield rows_of(found, visitors.dictionary.take(pa.array(active)), np.full(len(active), end - window.length), window)


def _batches(table: pa.Table, visitors: pa.DictionaryArray, starts: Any) -> Iterator[tuple[pa.RecordBatch, Any, Any]]:
    """The events from each start to the next; the rows of state they belong to, and when they were, in milliseconds."""
    whole = table.to_batches()[0]
    for start, end in zip(starts, [*starts[1:], len(table)], strict=True):
        part = whole.slice(start, end - start)
        yield part, visitors.indices.slice(start, end - start).to_numpy(), part.column("at").to_numpy()


if __name__ == "__main__":
    main(run, "sokuji", "numba")
