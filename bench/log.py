"""The log alone: how many events a second become durable and are read back, and how long an append takes.

One process appends batches over all partitions for some seconds, then reads them all, on the disk of the folder it runs in.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from bench._report import quantile, report
from sokuji.clock import now_us
from sokuji.events import EVENT_SCHEMA, EVENTS_LOG
from sokuji.log.base import Log
from sokuji.log.local.log import LocalLog


def events(count: int, seed: int = 7) -> pa.RecordBatch:
    """Events as a shop's web site sends them, about 440 bytes each."""
    chance = random.Random(seed)
    now = now_us()
    rows = []
    for number in range(count):
        path = f"/item/{chance.randrange(5000)}"
        page = {"url": f"https://shop.example{path}?ref={number}", "path": path, "referrer": "https://search.example/"}
        rows.append(
            {
                "dataset": "shop",
                "source": "web",
                "message_id": f"ajs-{chance.getrandbits(128):032x}",
                "type": "track",
                "event_name": chance.choice(["view", "add_to_cart", "buy"]),
                "visitor_id": f"{chance.getrandbits(64):016x}",
                "event_time": now,
                "original_time": now,
                "sent_at": now,
                "received_at": now,
                "time_rule": "client",
                "historical": False,
                "context": json.dumps({"library": {"name": "analytics.js", "version": "2.1.0"}, "page": page}),
                "properties": json.dumps({"sku": f"s-{chance.randrange(5000)}", "price": chance.randrange(9000) / 100, "quantity": 1}),
            }
        )
    return pa.RecordBatch.from_pylist(rows, schema=EVENT_SCHEMA)


def append_for(log: Log, seconds: float, batch: pa.RecordBatch) -> list[float]:
    """Append `batch`, spread over the partitions, again and again; how long each took, in seconds."""
    share = batch.num_rows // log.partitions
    parts = {partition: batch.slice(partition * share, share) for partition in range(log.partitions)} if share else {0: batch}
    took: list[float] = []
    end = time.perf_counter() + seconds
    while (before := time.perf_counter()) < end:
        log.append_many(parts)
        took.append(time.perf_counter() - before)
    return took


def read_all(log: Log, limit: int = 50_000) -> tuple[int, float]:
    """How many rows there are, and how many seconds reading them took."""
    before = time.perf_counter()
    count = 0
    for partition in range(log.partitions):
        offset = 0
        while offset < log.end(partition):
            batch, _, offset = log.read(partition, offset, limit)
            count += batch.num_rows
    return count, time.perf_counter() - before


def main(argv: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="sokuji bench log", description=__doc__)
    parser.add_argument("--batch", type=int, default=2000, help="events an append (default 2000)")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    batch = events(options.batch)
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-log-") as folder:
        with LocalLog(folder, EVENT_SCHEMA, name=EVENTS_LOG, partitions=options.partitions) as log:
            append_for(log, 0.2, batch)
            cpu, wall = time.process_time(), time.perf_counter()
            took = append_for(log, options.seconds, batch)
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            count, read_seconds = read_all(log)
        stored = sum(path.stat().st_size for path in Path(folder).rglob("*.segment"))
    appended = len(took) * (options.batch // options.partitions * options.partitions or options.batch)
    report(
        f"log --batch {options.batch}",
        appended / wall,
        "durable events/s",
        as_json=options.json,
        packages=("pyarrow",),
        append_p50_ms=round(quantile(took, 0.5) * 1e3, 3),
        append_p99_ms=round(quantile(took, 0.99) * 1e3, 3),
        append_cpu_us_per_event=round(cpu / appended * 1e6, 3),
        read_events_per_s=round(count / read_seconds),
        bytes_per_event=round(stored / count, 1),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
