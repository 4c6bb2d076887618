"""The demo from start to end: a platform, the purchases, the models, the report."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from sokuji.config import SETTINGS_FILE, load
from sokuji.demo import cdnow, report, statements
from sokuji.demo.project import MARK, free_ports, make
from sokuji.demo.segments import CustomerSegment, named
from sokuji.demo.send import send
from sokuji.errors import SokujiError
from sokuji.platform import Platform
from sokuji.roles.up import running

PROJECT = """\
{mark}
data = "data"

[track]
port = {ports[track.port]}
health_port = {ports[track.health_port]}

[lake]
health_port = {ports[lake.health_port]}

[sources.shop]
write_key = "demo"
dataset = "karte"
"""
LAKE_TIMEOUT_SECONDS = 300.0
# Customers that readers can look up in the data: the first one, one who returned, and one of the best.
VISITORS = ["cdnow-00001", "cdnow-00003", "cdnow-07592"]
NEXT = """
Still serving. In another terminal:

  sokuji sql -p {folder} "SELECT COUNT(*) FROM karte.events"
  curl localhost:{port}/v1/track -u demo: -d '{{"event": "buy", "anonymousId": "me", "properties": {{"revenue": 30}}}}'
  sokuji sql -p {folder} "SELECT * FROM karte.events WHERE keys.visitor_id = 'me'"

Ctrl-C ends it."""


def run(folder: Path, *, serve: bool, print_json: bool) -> None:
    """Run the demo in `folder`. With `serve`, keep the platform up until Ctrl-C. Writes `rfm.png` and `rfm.html` to the current folder.

    Raises:
        SokujiError: the folder is not the demo's own, or a step failed; the message says which.
    """
    console = Console(stderr=print_json)
    started = time.monotonic()
    make(folder, {SETTINGS_FILE: PROJECT.format(mark=MARK, ports=free_ports())})
    settings = load(folder)
    with running(folder) as supervisor, Platform.open(folder) as platform:
        console.print(f"The platform runs in [bold]{folder}[/], its collector on port {settings.track.port}.\n")
        purchases = list(cdnow.purchases())
        with _progress(console) as progress:
            acknowledged = _send(progress, settings.track.port, purchases)
            _wait_for_lake(progress, platform, acknowledged)
            _train(progress, platform)
        result = _report(console, platform)
        result |= {"events_sent": len(purchases), "events_acked": acknowledged, "seconds": round(time.monotonic() - started, 2)}
        console.print(f"\nDone in {result['seconds']} s. The picture is in rfm.html and rfm.png.")
        if print_json:
            print(json.dumps(result), flush=True)  # noqa: T201 - the command's answer
        if serve:
            console.print(NEXT.format(folder=folder, port=settings.track.port), highlight=False)
            supervisor.wait()


def _progress(console: Console) -> Progress:
    return Progress(TextColumn("{task.description:34}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console)


def _send(progress: Progress, port: int, purchases: list[cdnow.Purchase]) -> int:
    task = progress.add_task("sending purchases over HTTP", total=len(purchases))
    return send("127.0.0.1", port, "demo", purchases, lambda count: progress.advance(task, count))


def _wait_for_lake(progress: Progress, platform: Platform, expected: int) -> None:
    """Wait until the sink has committed everything. Queries do not need this: they read the log's tail too."""
    task = progress.add_task("committing them to the lake", total=expected)
    deadline = time.monotonic() + LAKE_TIMEOUT_SECONDS
    while left := platform.uncommitted_events():
        if time.monotonic() > deadline:
            raise SokujiError(f"{left:,} events are not in the lake after {LAKE_TIMEOUT_SECONDS:.0f} s; see the sink's log above")
        progress.update(task, completed=max(0, expected - left))
        time.sleep(0.2)
    progress.update(task, completed=expected)


def _train(progress: Progress, platform: Platform) -> None:
    steps = (statements.RFM, statements.CUSTOMERS, statements.SEGMENTS_MODEL)
    task = progress.add_task("training two models in SQL", total=len(steps))
    for statement in steps:
        platform.sql(statement)
        progress.advance(task)


def _report(console: Console, platform: Platform) -> dict[str, Any]:
    segments = named(platform.sql(statements.SEGMENTS).rows())
    names = {segment.centroid_id: segment.name for segment in segments}
    (events, buyers, revenue) = platform.sql(statements.TOTALS).rows()[0]
    (index, distance) = platform.sql(statements.EVALUATION).rows()[0]
    console.print()
    console.print(report.table(segments))
    console.print(_customers(platform, names))
    picture = Path("rfm.png")
    report.write_picture(picture, segments, platform.sql(statements.SAMPLE).rows())
    report.write_page(Path("rfm.html"), picture, segments, index, statements.SEGMENTS_MODEL)
    return {
        "events_sent": 0,
        "events_acked": 0,
        "events_in_lake": events,
        "buyers": buyers,
        "revenue": revenue,
        "segments": [_as_json(segment) for segment in sorted(segments, key=lambda segment: segment.centroid_id)],
        "davies_bouldin_index": index,
        "mean_squared_distance": distance,
        "seconds": 0.0,
    }


def _as_json(segment: CustomerSegment) -> dict[str, Any]:
    return {name: getattr(segment, name) for name in CustomerSegment.__slots__}


def _customers(platform: Platform, names: dict[int, str]) -> Table:
    shown = Table("customer", "last order", "orders", "dollars", "segment", title="Single customers", title_justify="left")
    for visitor, recency, orders, dollars, centroid, _ in platform.sql(statements.ONE_CUSTOMER, {"visitors": VISITORS}).rows():
        shown.add_row(visitor, f"{recency} days ago", str(orders), f"{dollars:,.2f}", names[centroid])
    return shown
