"""Pathway: `windowby` for tumbling and hopping windows (its "sliding"), an `interval_join` of
the events with those before for the features at each event.

The CSV file is read in static mode, which is one commit: results come once and are never taken back.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pathway as pw  # type: ignore[import-not-found]

from bench.peers.contract import RESULT_COLUMNS, SLIDING, WINDOWS, Window, main


class _Event(pw.Schema):  # type: ignore[misc]
    visitor: str
    at: int
    price: float
    url: str
    category: str


def _windows(events: pw.Table, window: Window) -> pw.Table:
    kind = pw.temporal.sliding(hop=window.hop, duration=window.length)
    if window.hop == window.length:
        kind = pw.temporal.tumbling(duration=window.length)
    grouped = pw.temporal.windowby(events, events.at, window=kind, instance=events.visitor)
    return grouped.reduce(visitor=pw.this["_pw_instance"], at=pw.this["_pw_window_start"], **_features(window))


def _sliding(events: pw.Table, window: Window) -> pw.Table:
    now, before = events, events.copy()
    joined = now.interval_join(before, now.at, before.at, pw.temporal.interval(-window.length, 0), now.visitor == before.visitor).select(
        now=now.at, visitor=now.visitor, at=before.at, price=before.price, url=before.url, category=before.category
    )
    return joined.groupby(pw.this.visitor, pw.this.now).reduce(pw.this.visitor, at=pw.this.now, **_features(window))


def _features(window: Window) -> dict[str, Any]:
    return {
        "window": window.name,
        "count": pw.reducers.count(),
        "sum": pw.reducers.sum(pw.this.price),
        "mean": pw.reducers.avg(pw.this.price),
        "max": pw.reducers.max(pw.this.price),
        "last": pw.reducers.max(pw.make_tuple(pw.this.at, pw.this.url)).get(1),
        "distinct": pw.reducers.count_distinct(pw.this.category),
    }


def run(task: str, events: Path, results: Path) -> None:
    """One worker, which is what `pw.run` has unless it is told otherwise."""
    pw.internals.parse_graph.G.clear()
    happened = pw.io.csv.read(str(events.with_suffix(".csv")), schema=_Event, mode="static")
    first, *others = ((_sliding if task == SLIDING else _windows)(happened, window) for window in WINDOWS[task])
    pw.io.csv.write(first.concat_reindex(*others), str(results / "rows.csv"))
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)


def tidy(results: Path) -> None:
    """Leave out its header and its columns of times and of changes, all of which are additions."""
    path = results / "rows.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if any(row["diff"] != "1" for row in rows):
        raise ValueError(f"{path.name} takes rows back: it was not one commit")
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([row[name] for name in RESULT_COLUMNS] for row in rows)


if __name__ == "__main__":
    main(run, "pathway", tidy=tidy)
