"""Other systems and sokuji on the same events: features by window, each checked against an oracle, and reads of features by key.

Each runs in a process and a virtual environment of its own: `bench/peers/install` makes them. What is not installed is left out, and named.
The figure is from processor time, of all threads and processes, from the file of events to the file of results: what all events take more
than a tenth of them, so that starting costs nothing. A result that is missing, should not be there or has another value than the oracle's
is a mismatch; with any, the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from bench._report import report
from bench.peers import oracle
from bench.peers.contract import EVENT_COLUMNS, SLIDING, WINDOWS
from bench.peers.events import make, write

_ROOT = Path(__file__).parents[2]
_SECONDS_MAX = 240


class System(NamedTuple):
    """One system: `module` of this folder, run in the virtual environment `venv` of .venv/peers, or in ours."""

    module: str
    venv: str | None
    tasks: tuple[str, ...] = tuple(WINDOWS)
    since: oracle.Since = oracle.exact
    last_only: bool = False  # of each visitor, what it says at the last event


SYSTEMS = {
    "sokuji, kernel": System("kernel", None, since=oracle.hopped),
    "sokuji, worker": System("worker", None, (SLIDING,), oracle.hopped, last_only=True),
    "Bytewax": System("bytewax", "bytewax"),
    "Flink": System("flink", "flink"),
    "Quix Streams": System("quix", "quix"),
    "Pathway": System("pathway", "pathway"),
}
STORES = (System("online", None), System("feast", "feast"))


class FailedError(Exception):
    """A system is not installed, or ended without a result."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="sokuji bench peers", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="(default 100,000)")
    parser.add_argument("--visitors", type=int, default=10_000, help="(default 10,000)")
    parser.add_argument("--task", action="append", choices=[*WINDOWS, "reads"], help="only this one; may be repeated")
    parser.add_argument("--system", action="append", choices=[*SYSTEMS, *(store.module for store in STORES)], help="likewise")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    tasks, wanted = options.task or [*WINDOWS, "reads"], options.system
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = make(options.events, options.visitors)
        files = write(table.slice(0, options.events // 10), folder / "few.parquet"), write(table, folder / "all.parquet")
        for task in (task for task in WINDOWS if task in tasks):
            chosen = {name: system for name, system in SYSTEMS.items() if task in system.tasks and (not wanted or name in wanted)}
            found[task] = {name: compute(system, task, *files, folder / name / task) for name, system in chosen.items()}
        if "reads" in tasks:
            stores = [store for store in STORES if not wanted or store.module in wanted]
            found["reads"] = {name: each for store in stores for name, each in read(store, folder / "values.jsonl").items()}
    if options.json:
        ours = found.get(SLIDING, {}).get("sokuji, kernel", {}).get("events_per_core_second", 0)
        unit = "events/s/core"
        report("features at each event", ours, unit, as_json=True, events=options.events, visitors=options.visitors, results=found)
    else:
        for task, results in found.items():
            print(f"{task}:")
            for name, each in results.items():
                print(f"  {name}: {', '.join(f'{key} {value}' for key, value in each.items() if key != 'versions')}")
    if any(each.get("mismatches") for results in found.values() for each in results.values()):
        sys.exit("some results are wrong: see the mismatches above")


def compute(system: System, task: str, few: Path, events: Path, results: Path) -> dict[str, Any]:
    """What one system did of one task, or why it did not."""
    results.parent.mkdir(exist_ok=True)
    try:
        said = _run(system, task, str(few), str(events), str(results))
    except FailedError as error:
        return {"failed": str(error)}
    columns = [column.to_pylist() for column in pq.read_table(events, columns=list(EVENT_COLUMNS)).columns]
    expected = oracle.wanted(task, map(oracle.Event, *columns), system.since)
    if system.last_only:
        last = {visitor: at for visitor, at, *_ in zip(*columns, strict=True)}
        expected = {key: features for key, features in expected.items() if key[1] == last[key[0]]}
    compared = oracle.compare(oracle.read(results), expected)
    more, seconds = len(columns[0]) - pq.read_metadata(few).num_rows, said["cpu_seconds"] - said["cpu_seconds_few"]
    return {
        "events_per_core_second": round(more / seconds) if seconds > 0 else None,
        "cpu_seconds": round(said["cpu_seconds"], 2),
        "cpu_seconds_few": round(said["cpu_seconds_few"], 2),
        "rows": compared.rows,
        "mismatches": compared.mismatches + compared.missing + compared.extra,
        "versions": said["versions"],
    }


def read(store: System, values: Path) -> dict[str, dict[str, Any]]:
    """How long reads took, by store."""
    try:
        said = _run(store, str(values))
    except FailedError as error:
        return {store.module: {"failed": str(error)}}
    return {
        name: {**{key: round(value, 1) for key, value in each.items()}, "versions": said["versions"]}
        for name, each in said["stores"].items()
    }


def _run(system: System, *arguments: str) -> dict[str, Any]:
    python = Path(sys.executable) if system.venv is None else _ROOT / ".venv" / "peers" / system.venv / "bin" / "python"
    if not python.exists():
        raise FailedError("not installed: run bench/peers/install")
    command = [str(python), "-m", f"bench.peers.{system.module}", *arguments]
    try:
        ended = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=_SECONDS_MAX, check=False)
    except subprocess.TimeoutExpired as error:
        raise FailedError(f"took more than {_SECONDS_MAX} s") from error
    lines = [line for line in ended.stdout.splitlines() if line.startswith("{")]
    if ended.returncode or not lines:
        print(ended.stderr, file=sys.stderr)
        raise FailedError(f"ended with status {ended.returncode}; see above")
    said: dict[str, Any] = json.loads(lines[-1])
    return said
