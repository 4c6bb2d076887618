"""The feature kernel alone: events a second on one core, with 24 features computed at every event.

Batches of 20,000 events of visitors drawn at random, expressions evaluated already, the rows of all visitors in memory. The figure is
from processor time, with the features as numbers; `columns_us` is what making Arrow columns of them takes for an event. `hot` is
the same with a tenth of all events from one visitor. `update_only` is without values, as in backfill.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from bench._report import report
from bench._shopper import BUY, PAGE, TYPES, shopper
from sokuji.features.kernel.columns import EventColumns
from sokuji.features.kernel.kernel import Kernel
from sokuji.features.kernel.strings import Vocabulary

_START_US = 1_767_225_600_000_000
_BATCH = 20_000


def main(argv: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--visitors", type=int, default=100_000)
    parser.add_argument("--batches", type=int, default=50)
    parser.add_argument("--rate", type=int, default=2_000, help="events a second of event time")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)

    kernel = Kernel(shopper(), TYPES, Vocabulary())
    chance = np.random.default_rng(5)
    said = [kernel.columns(_events(chance)) for _ in range(4)]
    rows = np.zeros((arguments.visitors, kernel.width), np.uint8)
    clock = _START_US

    def batches(*, hot: float = 0.0, want_values: bool = True) -> list[float]:
        nonlocal clock
        seconds = []
        for number in range(arguments.batches):
            visitors = chance.integers(0, arguments.visitors, _BATCH).astype(np.int32)
            visitors[chance.random(_BATCH) < hot] = 7
            times = clock + np.arange(_BATCH) * (1_000_000 // arguments.rate)
            clock = int(times[-1]) + 1
            columns: EventColumns = said[number % len(said)]
            seconds.append(_cpu(lambda: kernel.update(rows, visitors, times, columns, want_values=want_values)))  # noqa: B023
        return seconds

    batches()  # compiles, and fills rows
    plain, hot, only = batches(), batches(hot=0.1), batches(want_values=False)
    some = kernel.update(rows, np.arange(_BATCH, dtype=np.int32) % arguments.visitors, np.full(_BATCH, clock), said[0])
    columns_us = statistics.median(_cpu(some.batch) for _ in range(5)) / _BATCH * 1e6
    report(
        "feature kernel",
        _BATCH / statistics.median(plain),
        "events/s/core",
        as_json=arguments.json,
        packages=("numba", "numpy"),
        features=len(kernel.fields),
        bytes_a_visitor=kernel.width,
        visitors=arguments.visitors,
        hot=round(_BATCH / statistics.median(hot)),
        update_only=round(_BATCH / statistics.median(only)),
        columns_us=round(columns_us, 2),
    )


def _events(chance: np.random.Generator) -> pa.RecordBatch:
    buys = chance.random(_BATCH) < 0.1
    return pa.record_batch(
        {
            BUY: pa.array(buys),
            PAGE: pa.array(~buys),
            "revenue": pa.array(np.where(buys, chance.random(_BATCH) * 100, np.nan), from_pandas=True),
            "url": [f"https://shop.example/item/{item}" for item in chance.integers(0, 5_000, _BATCH)],
            "category": [f"shelf {shelf}" for shelf in chance.integers(0, 30, _BATCH)],
        }
    )


def _cpu(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
