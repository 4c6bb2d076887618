"""The processes that `bench/online.py` starts: `_online write FOLDER ROWS WIDTH`, `_online read FOLDER ROWS SECONDS`.

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
from sokuji.online.base import Keys, OnlineStore, Rows
from sokuji.online.reader import SharedReader

BATCH = 10_000
CHECKPOINT_ROWS = 300_000


def name(number: int) -> str:
    """As long as an anonymous id is: 36 characters."""
    return f"anonymous-{number:026d}"


def keys(numbers: list[int]) -> Keys:
    """The keys of some visitors."""
    return pa.array([name(number) for number in numbers], pa.string())


def state_rows(count: int, width: int) -> Rows:
    """Rows like those of features: many zeros, small counts, some sums."""
    chance = np.random.default_rng(7)
    words = np.zeros((count, width // 8), np.uint64)
    counts, sums = chance.random(words.shape) < 0.3, chance.random(words.shape) < 0.1
    words[counts] = chance.integers(0, 1000, int(counts.sum()))
    words.view(np.float64)[sums] = chance.random(int(sums.sum())) * 1000
    return words.view(np.uint8)


def write(folder: Path, count: int, width: int) -> None:
    """Open, fill if there is nothing, then work until killed."""
    from sokuji.online.shared import SharedStore

    with SharedStore(folder, width=width, rows_max=count) as store:
        found = bool(store.get_many(keys([count - 1])).found[0])
        print(json.dumps({"found": found}), flush=True)
        rows = state_rows(BATCH, width)
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
    """Read random keys one by one, and print how long each took."""
    chance, took = random.Random(2), []
    wanted = [name(chance.randrange(count)) for _ in range(100_000)]
    with SharedReader(folder) as reader:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for key in wanted[:1000]:
                before = time.perf_counter()
                row = reader.get(key)
                took.append(time.perf_counter() - before)
                if row is None:
                    raise SystemExit(f"{key} is missing")
            wanted = wanted[1000:] + wanted[:1000]
    figures = {f"p{part}": quantile(took, part / 100) for part in (50, 90, 99, 99.9)}
    print(json.dumps({"reads": len(took), **figures}))


if __name__ == "__main__":
    role, place, rows_count, last = sys.argv[1:]
    if role == "write":
        write(Path(place), int(rows_count), int(last))
    else:
        read(Path(place), int(rows_count), float(last))
