"""The events that are compared on: a shop's, in visits of six events, some visitors far more often than others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from bench.peers.contract import DAY, EVENT_COLUMNS

_START = 1_767_225_600_000  # 2026-01-01
_DAYS = 3
_VISIT = 6


def make(events: int, visitors: int, seed: int = 5) -> pa.Table:
    """`events` events in order, over three days. The most frequent visitor has about `visitors ** (-2 / 3)` of them."""
    chance = np.random.default_rng(seed)
    visits = -(-events // _VISIT)
    visit = np.repeat(np.arange(visits), _VISIT)[:events]
    starts = np.sort(chance.integers(0, _DAYS * DAY, visits))
    at = starts[visit] + np.arange(events) % _VISIT * 60_000 + chance.integers(0, 50_000, events)
    order = np.argsort(at, kind="stable")
    rising = np.maximum.accumulate(at[order] - np.arange(events)) + np.arange(events)  # at least 1 ms apart
    who = (visitors * chance.random(visits) ** 1.5).astype(int)[visit][order]
    items = chance.integers(0, 5_000, events)
    columns = [
        pa.array([f"v{number}" for number in who]),
        pa.array(_START + rising, pa.int64()),
        pa.array(chance.integers(100, 10_000, events) / 100),
        pa.array([f"https://shop.example/item/{item}" for item in items]),
        pa.array([f"shelf {item % 24}" for item in items]),
    ]
    return pa.table(columns, names=list(EVENT_COLUMNS))


def write(table: pa.Table, path: Path) -> Path:
    """As Parquet; beside it as CSV, with a header and, called `.rows.csv`, without one, for what does not read Parquet."""
    pq.write_table(table, path)
    for suffix, header in {".csv": True, ".rows.csv": False}.items():
        pyarrow.csv.write_csv(table, path.with_suffix(suffix), pyarrow.csv.WriteOptions(include_header=header))
    return path
