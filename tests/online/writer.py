"""A process that writes rows at full speed until it is ended: `writer FOLDER ROWS_MAX KEYS BATCH CHECKPOINTS`.

Batch n gives BATCH random keys, repeated or not, the row whose every word is n. With CHECKPOINTS 1 there is a checkpoint every few
batches. The process prints `ready` once every key has a row.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np

from sokuji.online.shared.store import SharedStore
from tests.online.rows import keys

WIDTH = 16 * 1024  # large, so that reads fall into writes

if __name__ == "__main__":
    folder, rows_max, count, size, checkpoints = Path(sys.argv[1]), *map(int, sys.argv[2:])
    names = keys(f"k{number}" for number in range(count))
    chance = random.Random(1)
    with SharedStore(folder, width=WIDTH, rows_max=rows_max) as store:
        batch = store.offsets().get("batch", 0)
        while True:
            some = names if batch == 0 else names.take([chance.randrange(count) for _ in range(size)])
            store.put_many(some, np.full((len(some), WIDTH // 8), batch, np.uint64).view(np.uint8), batch)
            if batch == 0:
                print("ready", flush=True)
            batch += 1
            if checkpoints and batch % 10 == 0:
                store.checkpoint({"batch": batch})
