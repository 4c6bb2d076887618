"""A worker's operations on a store, batch by batch, each derived from its number alone; and the process that a crash test kills.

`batches FOLDER` opens the store, prints `open`, continues from the offset of its last checkpoint until it is killed, and prints the offset
of each complete checkpoint.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from sokuji.online.shared.store import SharedStore
from tests.online.rows import WIDTH, put

NAMES = [f"k{number}" for number in range(150)]

State = dict[str, tuple[int, int]]
"""(number of the row, time of its batch) by key."""


def open_store(folder: Path) -> SharedStore:
    """So few rows in memory that all kinds of files are being written at any time."""
    return SharedStore(folder, width=WIDTH, rows_max=60)


def puts(batch: int) -> dict[str, int]:
    """What the batch puts."""
    chance = random.Random(batch)
    return {chance.choice(NAMES): batch * 1000 + number for number in range(chance.choice([1, 5, 40]))}


def expired_before(batch: int) -> int | None:
    """What the batch expires before it puts."""
    return batch - 30 if batch % 7 == 0 else None


def apply(state: State, batch: int) -> State:
    """The state after the batch."""
    oldest = expired_before(batch)
    if oldest is not None:
        state = {name: value for name, value in state.items() if value[1] >= oldest}
    return state | {name: (number, batch) for name, number in puts(batch).items()}


def main() -> None:
    with open_store(Path(sys.argv[1])) as store:
        print("open", flush=True)
        batch = complete = store.offsets().get("batch", 0)
        while True:
            oldest = expired_before(batch)
            if oldest is not None:
                store.expire(oldest)
            put(store, puts(batch), now_us=batch)
            batch += 1
            if batch % 3 == 0:
                store.checkpoint({"batch": batch}, {"batch": str(batch).encode() * 100}, wait=batch % 5 == 0)
            if (newest := store.offsets().get("batch", 0)) != complete:
                complete = newest
                print(complete, flush=True)


if __name__ == "__main__":
    main()
