"""What a system under measurement is: a module of this folder that runs as a program, in a virtual environment of its own.

    python -m bench.peers.NAME TASK FEW EVENTS RESULTS

It computes TASK from a file of events into CSV files in the folder RESULTS: from FEW events, so that what starts and compiles has done so,
from FEW again, and from EVENTS, and prints the processor time of the last two as JSON. What they differ by is what events cost, without
what a job costs to start. Reading events and writing results is part of it.

The features of a visitor over a window: how many events there were, the sum, mean and maximum of their prices, the last URL and the number
of categories. Only the standard library is imported here: peers share nothing else with each other or with the project.
"""

from __future__ import annotations

import json
import math
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

EVENT_COLUMNS = ("visitor", "at", "price", "url", "category")
"""Of the file of events, in order of `at`: whole milliseconds of event time, no two alike. `price` is a number, the rest are strings."""

RESULT_COLUMNS = ("visitor", "at", "window", "count", "sum", "mean", "max", "last", "distinct")
"""Of the results, CSV without a header: the visitor, the task's time in milliseconds, the window's name, and the features."""

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
"""In milliseconds."""


class Window(NamedTuple):
    """One window, in milliseconds. One begins at each multiple of `hop`; tumbling windows have a hop as long as they are."""

    name: str
    length: int
    hop: int


SLIDING = "sliding"
"""A row an event and window: the visitor's features at the event, itself included; `at` is the event's time."""

WINDOWS = {
    SLIDING: (Window("1h", HOUR, 0), Window("24h", DAY, 0)),
    "tumbling": (Window("1h", HOUR, HOUR), Window("24h", DAY, DAY)),
    "hopping": (Window("1h", HOUR, 15 * MINUTE), Window("24h", DAY, 6 * HOUR)),
}
"""By task. In the others there is a row for each visitor and window that has an event; `at` is when the window begins."""

Run = Callable[[str, Path, Path], None]
"""(task, events, folder of results)"""


def _nothing(_path: Path) -> None:
    pass


def main(run: Run, *packages: str, prepare: Callable[[Path], None] = _nothing, tidy: Callable[[Path], None] = _nothing) -> None:
    """Measure `run` as the command line says.

    Not measured are `prepare`, which brings a file's events where the peer reads them if that is not the file, and `tidy`, which makes
    plain CSV of what the peer writes into the folder of results.
    """
    task, few, events, results = sys.argv[1], *map(Path, sys.argv[2:5])
    with tempfile.TemporaryDirectory() as folder:
        _measure(run, task, few, Path(folder) / "warm", prepare)
        started = _measure(run, task, few, Path(folder) / "few", prepare)
    seconds = _measure(run, task, events, results, prepare)
    tidy(results)
    versions = {package: version(package) for package in packages}
    print(json.dumps({"cpu_seconds_few": started, "cpu_seconds": seconds, "versions": versions}), flush=True)


def _measure(run: Run, task: str, events: Path, results: Path, prepare: Callable[[Path], None]) -> float:
    prepare(events)
    results.mkdir()
    before = cpu_seconds()
    run(task, events, results)
    return cpu_seconds() - before


def cpu_seconds() -> float:
    """The processor time of this process, its threads, and all processes below it, ended or not."""
    ticks: dict[int, tuple[int, float]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
                continue
            ticks[int(folder.name)] = int(fields[1]), sum(map(int, fields[11:15]))
    mine, found = {os.getpid()}, ticks[os.getpid()][1]
    while below := {process for process, (parent, _) in ticks.items() if parent in mine} - mine:
        mine |= below
        found += sum(ticks[process][1] for process in below)
    return found / os.sysconf("SC_CLK_TCK")


Read = Callable[[str], dict[str, Any]]
"""The features of a visitor."""

_READS, _WARM = 5_000, 200


def measure_reads(read: Read, values: Path) -> dict[str, float]:
    """How long reads of one visitor at random take, one after the other, and this process's time for each; how many features are wrong.

    `values` has a JSON object a line: `visitor`, and the features by name.
    """
    expected = {row.pop("visitor"): row for row in map(json.loads, values.read_text().splitlines())}
    keys = random.Random(2).choices(list(expected), k=_WARM + _READS)
    took, processor = [], 0.0
    for number, key in enumerate(keys):
        if number == _WARM:
            processor = time.process_time()
        before = time.perf_counter()
        read(key)
        took.append(time.perf_counter() - before)
    processor = time.process_time() - processor
    mismatches = 0
    for key in set(keys[:1_000]):
        found = read(key)
        mismatches += sum(not _same(found.get(name), value) for name, value in expected[key].items())
    took = sorted(took[_WARM:])
    return {
        "p50_us": took[_READS // 2] * 1e6,
        "p99_us": took[_READS * 99 // 100] * 1e6,
        "cpu_us": processor / _READS * 1e6,
        "reads": _READS,
        "mismatches": mismatches,
    }


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(found, float) and isinstance(wanted, float):
        return math.isclose(found, wanted, rel_tol=1e-9)
    return bool(found == wanted)
