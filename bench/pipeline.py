"""The whole pipeline on one machine: events over HTTP, acknowledged when durable, analysed, decided on and sunk into the lake.

Collector, worker and sink run as their own processes on a project with 24 features over 13 functions and 5 windows, 20 rules and a model
that is scored in the stream; the load generator is a process on the same cores. It sends batches of 100 at an even rate, whether or not
answers come. An acknowledgement's latency counts from when the request was due; a decision's from the `received_at` of its event to
the decision being in the decisions log. The first seconds warm up: their events count, their latencies do not.

`lag_end_ms` is how long after the last acknowledgement everything was analysed and in the lake. `mismatches` is what `sokuji features
verify` finds in the features that were served to one visitor of a hundred, at each of their events; `verified` is all it says.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

import sokuji
from bench._check import SOURCE, lake_events
from bench._load import BATCH, Load, generate
from bench._report import quantile, report
from bench._roles import Running, free_port, running
from bench._shopper import PROJECT
from sokuji.backends import Backends
from sokuji.clock import now_us
from sokuji.config import load
from sokuji.log.base import Log
from sokuji.sink.backlog import CONSUMER

DATASET = "main"
ROLES = ("track", "analyze", "sink")
_CONNECTIONS = 64
_DRAIN_SECONDS = 120.0
_MODEL = """
CREATE MODEL main.buyer OPTIONS(model_type = 'logistic_reg', input_label_cols = ['label']) AS
SELECT CAST(MOD(n, 7) AS INT64) AS views_session, MOD(n, 11) * 10.0 AS spend_7d, MOD(n, 13) * 1.0 AS visit_events_session,
    IF(MOD(n, 7) + MOD(n, 11) + MOD(n, 5) > 10, 1, 0) AS label
FROM UNNEST(GENERATE_ARRAY(1, 2000)) AS n
"""


def prepare(folder: Path) -> None:
    """Make the project, with its model trained."""
    shutil.copytree(PROJECT, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    settings: dict[str, dict[str, Any]] = {
        "track": {"port": free_port(), "health_port": free_port()},
        "lake": {"health_port": free_port()},
        "analyze": {"health_port": free_port()},
        f"sources.{SOURCE}": {"write_key": SOURCE, "dataset": DATASET},
    }
    lines = [
        f"[{section}]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in each.items()) for section, each in settings.items()
    ]
    (folder / "sokuji.toml").write_text("\n".join(lines))
    with sokuji.open(folder) as platform:
        platform.sql(f"CREATE SCHEMA IF NOT EXISTS {DATASET}")
        platform.sql(_MODEL)


@dataclass
class Watch:
    """Sees when rows of a log become readable, and how far its readers are behind, until told to stop."""

    decisions: Log
    seen: list[tuple[int, int]] = field(default_factory=list)  # end of the log, when it was seen (us)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Watch; for a thread."""
        end = self.decisions.end(0)
        while not self.stop.is_set():
            if self.decisions.wait({0: end}, 0.05):
                end = self.decisions.end(0)
                self.seen.append((end, now_us()))

    def latencies_ms(self, since_us: int) -> list[float]:
        """From the event to the decision, of those decisions on events received from `since_us` on that no timer led to."""
        found: list[float] = []
        at = 0
        for end, seen_us in self.seen:
            rows, _, at = self.decisions.read(0, at, end - at)
            events = pc.cast(rows.column("event_time"), pa.int64()).to_pylist()
            for received_us, properties in zip(events, rows.column("properties").to_pylist(), strict=True):
                if received_us >= since_us and '"reason":"timer"' not in properties:
                    found.append((seen_us - received_us) / 1000)
        return found


@dataclass(frozen=True)
class Run:
    """What a run showed, before it was looked at whether it is right."""

    warm: Load
    load: Load
    since_us: int
    lags_ms: dict[str, float]
    cpu_seconds: dict[str, float]
    memory_mib: dict[str, float]


def drive(backends: Backends, alive: Running, options: argparse.Namespace) -> Run:
    """Send, then wait until all is analysed and sunk."""
    context = multiprocessing.get_context("spawn")
    pipe, other = context.Pipe()
    bodies = (options.visitors, SOURCE, 2026, options.hot)
    generator = context.Process(target=generate, args=(backends.config.track.port, bodies, _CONNECTIONS, other), daemon=True)
    generator.start()
    pipe.recv()
    pipe.send((options.warm_up, options.rate / BATCH))
    warm = _answer(pipe, alive)
    since_us, before = now_us(), alive.cpu_seconds()
    pipe.send((options.seconds, options.rate / BATCH))
    measured = _answer(pipe, alive)
    acknowledged_at = time.perf_counter()
    pipe.send(None)
    lags = dict.fromkeys(("analyze", "sink"), 0.0)
    ends = {partition: backends.events_log.end(partition) for partition in range(backends.events_log.partitions)}
    while not all(lags.values()):
        alive.check()
        for name, at in (("analyze", backends.progress.read()), ("sink", backends.events_log.committed(CONSUMER))):
            if not lags[name] and all(at.get(partition, 0) >= end for partition, end in ends.items()):
                lags[name] = (time.perf_counter() - acknowledged_at) * 1000
        if time.perf_counter() - acknowledged_at > _DRAIN_SECONDS:
            raise SystemExit(f"not worked off after {_DRAIN_SECONDS:.0f} s: {lags}")
        time.sleep(0.001)
    after = alive.cpu_seconds()
    generator.join()
    return Run(warm, measured, since_us, lags, {name: after[name] - before[name] for name in after}, alive.memory_mib())


def _answer(pipe: Any, alive: Running) -> Load:
    while not pipe.poll(1):
        alive.check()
    found: Load = pipe.recv()
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="sokuji bench pipeline", description=__doc__)
    parser.add_argument("--rate", type=float, default=65_000, help="events a second")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--warm-up", type=float, default=5, help="seconds at the same rate before, without latencies")
    parser.add_argument("--visitors", type=int, default=1_000_000)
    parser.add_argument("--hot", type=float, default=0.0, help="share of all events that one visitor sends")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=".", prefix=".bench-pipeline-") as name:
        folder = Path(name).resolve()
        prepare(folder)
        backends = Backends(load(folder))
        with running(folder, ROLES) as alive:
            watch = Watch(backends.decisions_log)
            thread = threading.Thread(target=watch.run)
            thread.start()
            try:
                run = drive(backends, alive, options)
            finally:
                watch.stop.set()
                thread.join()
        with sokuji.open(folder) as platform:
            verified = platform.verify_features().json()
        _report(options, run, watch, backends, verified)
        backends.close()


def _report(options: argparse.Namespace, run: Run, watch: Watch, backends: Backends, verified: Mapping[str, int]) -> None:
    events = run.load.requests * BATCH
    sent = events + run.warm.requests * BATCH
    lake = lake_events(backends, DATASET)
    decided = watch.latencies_ms(run.since_us) or [0.0]
    decisions = backends.decisions_log.read(0, 0, backends.decisions_log.end(0)).batch.column("message_id")
    report(
        f"pipeline_{options.rate:.0f}",
        events / (run.load.seconds + run.lags_ms["analyze"] / 1000),
        "events/s",
        as_json=options.json,
        packages=("duckdb", "msgspec", "numba", "numpy", "pyarrow", "uvloop"),
        ack_p50_ms=round(quantile(run.load.latencies_ms, 0.5), 2),
        ack_p99_ms=round(quantile(run.load.latencies_ms, 0.99), 2),
        decision_p50_ms=round(quantile(decided, 0.5), 2),
        decision_p99_ms=round(quantile(decided, 0.99), 2),
        missing=sent - lake.distinct,
        duplicates=lake.events - lake.distinct + len(decisions) - len(pc.unique(decisions)),
        mismatches=verified["mismatches"] + verified["missing"] + verified["extra"],
        verified=verified,
        lag_end_ms=round(max(run.lags_ms.values()), 1),
        lags_end_ms={name: round(lag, 1) for name, lag in run.lags_ms.items()},
        memory_mib=round(sum(run.memory_mib.values())),
        memory_mib_by_role={name: round(memory) for name, memory in run.memory_mib.items()},
        cpu_us_per_event={
            **{name: round(cpu / events * 1e6, 2) for name, cpu in run.cpu_seconds.items()},
            "generator": round(run.load.cpu_seconds / events * 1e6, 2),
        },
        events=sent,
        decisions=len(decisions),
        visitors=options.visitors,
    )


if __name__ == "__main__":
    main()
