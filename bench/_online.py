"""The processes that `bench/online.py` starts: `_online write FOLDER ROWS`, `_online read FOLDER ROWS SECONDS`.

`write` opens the store and prints how it is; without rows it fills it and checkpoints. Then it gets and puts batches of random keys, with
a checkpoint whenever 300,000 rows were put and the last one is complete, until it is killed. For every line on its input it prints how
long its calls took since the last.
"""

from __future__ import annotations

import json
import random
import select
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench._report import quantile
from bench._shopper import TYPES, profiles, shopper
from bench.peers.events import make
from sokuji.features.kernel.kernel import Kernel
from sokuji.features.kernel.reader import FeatureReader
from sokuji.features.kernel.strings import STRINGS_FILE, Strings, Vocabulary
from sokuji.online.base import Keys, OnlineStore, Rows
from sokuji.online.shared.reader import SharedReader

BATCH = 10_000
CHECKPOINT_ROWS = 300_000


def name(number: int) -> str:
    """As long as an anonymous id is: 36 characters."""
    return f"anonymous-{number:026d}"


def keys(numbers: list[int]) -> Keys:
    """The keys of some visitors."""
    return pa.array([name(number) for number in numbers], pa.string())


def some_rows(folder: Path) -> Rows:
    """Rows of visitors of a shop, `BATCH` of them."""
    with Vocabulary(folder / STRINGS_FILE) as vocabulary:
        rows = profiles(make(10 * BATCH, 2 * BATCH), vocabulary).rows
    return np.ascontiguousarray(rows[:BATCH])


def write(folder: Path, count: int) -> None:
    """Open, fill if there is nothing, then work until killed."""
    from sokuji.online.shared.store import SharedStore

    with SharedStore(folder, width=Kernel(shopper(), TYPES, Vocabulary()).width, rows_max=count) as store:
        found = bool(store.get_many(keys([count - 1])).found[0])
        print(json.dumps({"found": found}), flush=True)
        rows = some_rows(folder)
        if not found:
            for first in range(0, count, BATCH):
                store.put_many(keys(list(range(first, first + BATCH))), rows, 1)
            store.checkpoint({"events": 0}, wait=True)
        print(json.dumps({"filled": True}), flush=True)
        _work(store, count, rows)


def _work(store: OnlineStore, count: int, rows: Rows) -> None:
    chance = random.Random(1)
    batches = [keys([chance.randrange(count) for _ in range(BATCH)]) for _ in range(300)]
    took: dict[str, list[float]] = {"get": [], "put": [], "checkpoint": []}
    put = checkpoints = 0
    while True:
        for batch in batches:
            before = time.perf_counter()
            store.get_many(batch)
            between = time.perf_counter()
            store.put_many(batch, rows, 2)
            took["get"].append(between - before)
            took["put"].append(time.perf_counter() - between)
            put += BATCH
            if put >= CHECKPOINT_ROWS and store.offsets()["events"] == checkpoints:
                before = time.perf_counter()
                put, checkpoints = 0, checkpoints + 1
                store.checkpoint({"events": checkpoints})
                took["checkpoint"].append(time.perf_counter() - before)
            if select.select([sys.stdin], [], [], 0)[0] and sys.stdin.readline():
                print(json.dumps(took), flush=True)
                took = {kind: [] for kind in took}


def read(folder: Path, count: int, seconds: float) -> None:
    """Read random keys one by one, and print how long each took: its row, and its features as Python values."""
    chance, rows, took = random.Random(2), [], []
    features = FeatureReader(Kernel(shopper(), TYPES, Vocabulary()), Strings(folder / STRINGS_FILE))
    at_us = time.time_ns() // 1000
    wanted = [name(chance.randrange(count)) for _ in range(100_000)]
    with SharedReader(folder) as reader:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for key in wanted[:1000]:
                before = time.perf_counter()
                row = reader.get(key)
                between = time.perf_counter()
                if row is None:
                    raise SystemExit(f"{key} is missing")
                features.read(row, at_us)
                took.append(time.perf_counter() - before)
                rows.append(between - before)
            wanted = wanted[1000:] + wanted[:1000]
    figures = {f"p{part}": quantile(took, part / 100) for part in (50, 90, 99, 99.9)}
    print(json.dumps({"reads": len(took), **figures, "row_p50": quantile(rows, 0.5), "row_p99": quantile(rows, 0.99)}))


if __name__ == "__main__":
    role, place, rows_count, *rest = sys.argv[1:]
    if role == "write":
        write(Path(place), int(rows_count))
    else:
        read(Path(place), int(rows_count), float(rest[0]))
