"""From the log to the committed lake: events per second and core, and the peak memory of the process that does it.

    python -m bench.sink [--events 2000000] [--json]

The log is written first, by this process, and is not measured. A process of its own then opens it as `sokuji sink` does, commits all of
it in rounds of 500,000 rows, and reports the processor time it took, of all its threads, and its peak memory.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from bench._report import report
from sokuji.config import LakeSettings, LogSettings
from sokuji.dedup.rule import RepeatRule
from sokuji.events import BAD_EVENT_SCHEMA, EVENT_SCHEMA
from sokuji.lake.delta.tables import DeltaLake
from sokuji.log.local.log import LocalLog
from sokuji.meta.objects import Ref
from sokuji.meta.store import SqlCatalog
from sokuji.sink.sink import Sink

PARTITIONS = LogSettings().partitions
RULE = RepeatRule(LogSettings().deduplication_rows, PARTITIONS)
BATCH_ROWS = 5_000
START_US = 1_767_225_600_000_000
CONTEXT = json.dumps(
    {
        "library": {"name": "analytics.js", "version": "2.11.1"},
        "ip": "203.0.113.7",
        "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36",
        "page": {"url": "https://shop.example/products/17", "path": "/products/17", "referrer": "https://search.example/"},
        "locale": "ja-JP",
    }
)


def properties(number: int) -> dict[str, Any]:
    """Of a purchase, a page view and a product view in turn: 8, 5 and 6 of them."""
    page = f"https://shop.example/products/{number % 500}"
    match number % 3:
        case 0:
            return {
                "revenue": round(random.uniform(1, 200), 2),
                "order_id": f"o-{number}",
                "currency": "JPY",
                "quantity": number % 5,
                "url": page,
                "coupon": None,
                "first": number % 7 == 0,
                "items": [{"sku": f"s-{number % 300}", "count": 1}],
            }
        case 1:
            return {
                "url": page,
                "title": f"Product {number % 500}",
                "referrer": "https://search.example/",
                "path": "/products",
                "search": "",
            }
        case _:
            return {
                "product_id": f"p-{number % 1000}",
                "price": number % 1000,
                "category": "shoes",
                "brand": "x",
                "position": number % 10,
                "list": "home",
            }


def batch(first: int, template: pa.RecordBatch) -> pa.RecordBatch:
    """The template's rows as other messages of a second of their own."""
    times = pa.array([START_US + first + place for place in range(template.num_rows)], pa.timestamp("us", tz="UTC"))
    columns = dict(zip(EVENT_SCHEMA.names, template.columns, strict=True))
    columns["message_id"] = pa.array([str(uuid.UUID(int=random.getrandbits(128))) for _ in range(template.num_rows)])
    columns |= dict.fromkeys(("event_time", "original_time", "sent_at", "received_at"), times)
    return pa.record_batch(list(columns.values()), schema=EVENT_SCHEMA)


def write_log(folder: Path, events: int) -> None:
    """Fill the log with `events` events of one dataset."""
    random.seed(7)
    common = {"dataset": "karte", "source": "web", "message_id": "", "type": "track", "time_rule": "client", "historical": False}
    common |= {"event_time": START_US, "received_at": START_US, "context": CONTEXT}
    template = pa.RecordBatch.from_pylist(
        [
            {
                **common,
                "event_name": ("buy", "page", "view")[number % 3],
                "visitor_id": f"v-{random.randrange(100_000)}",
                "properties": json.dumps(properties(number), separators=(",", ":")),
            }
            for number in range(BATCH_ROWS)
        ],
        schema=EVENT_SCHEMA,
    )
    with LocalLog(folder / "log", EVENT_SCHEMA, name="events", partitions=PARTITIONS) as log:
        for number, first in enumerate(range(0, events, BATCH_ROWS)):
            log.append(number % PARTITIONS, batch(first, template.slice(0, min(BATCH_ROWS, events - first))))


def run_sink(folder: Path) -> dict[str, float]:
    """Commit the log in `folder`; to be called in a process of its own."""
    with (
        LocalLog(folder / "log", EVENT_SCHEMA, name="events", partitions=PARTITIONS) as events,
        LocalLog(folder / "log", BAD_EVENT_SCHEMA, name="bad_events", partitions=1) as bad_events,
        SqlCatalog(f"sqlite:///{folder / 'meta.db'}") as catalog,
        Sink(events, bad_events, DeltaLake(folder / "lake"), catalog, folder=folder / "sink", settings=LakeSettings(), rule=RULE) as sink,
    ):
        started, used = time.perf_counter(), time.process_time()
        sink.drain()
        return {
            "wall_seconds": time.perf_counter() - started,
            "core_seconds": time.process_time() - used,
            "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


def committed(folder: Path) -> tuple[int, int]:
    """How many rows, and bytes, the table has."""
    files = DeltaLake(folder / "lake").snapshot(Ref("karte", "events")).files
    with duckdb.connect() as connection:
        rows = connection.execute("SELECT count(*) FROM read_parquet($files)", {"files": list(files)}).fetchall()[0][0]
    return rows, sum(Path(file).stat().st_size for file in files)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(prog="bench.sink", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # of the log, in the process that is measured
    arguments = parser.parse_args(argv)
    if arguments.folder:
        print(json.dumps(run_sink(arguments.folder)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_log(folder, arguments.events)
        command = [sys.executable, "-m", "bench.sink", "--folder", name]
        measured = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rows, size = committed(folder)
    if rows != arguments.events:
        raise SystemExit(f"{arguments.events} events went in, {rows} are in the lake")
    report(
        "sink",
        round(rows / measured["core_seconds"]),
        "events/s/core",
        as_json=arguments.json,
        packages=("duckdb", "deltalake", "pyarrow"),
        peak_memory_mib=round(measured["peak_memory_mib"]),
        events_per_second=round(rows / measured["wall_seconds"]),
        events=rows,
        lake_bytes_per_event=round(size / rows, 1),
    )


if __name__ == "__main__":
    main()
