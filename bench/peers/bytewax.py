"""Bytewax: windows by `fold_window`, which gives them when they close. It has no sliding windows: those are `stateful_map` over a deque."""

from __future__ import annotations

import csv
import datetime as dt
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bytewax.operators as op  # type: ignore[import-not-found]
import bytewax.operators.windowing as win  # type: ignore[import-not-found]
import pyarrow.parquet as pq
from bytewax.dataflow import Dataflow  # type: ignore[import-not-found]
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition  # type: ignore[import-not-found]
from bytewax.outputs import DynamicSink, StatelessSinkPartition  # type: ignore[import-not-found]
from bytewax.testing import run_main  # type: ignore[import-not-found]

from bench.peers.contract import EVENT_COLUMNS, SLIDING, WINDOWS, Window, main

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_BATCH = 1_000  # what its own documentation's sources use, in order of magnitude; one event at a time is several times slower

Event = tuple[int, float, str, str]
"""(at, price, url, category)"""


class _Events(StatefulSourcePartition):  # type: ignore[misc]
    def __init__(self, path: Path) -> None:
        self._batches = pq.ParquetFile(path).iter_batches(_BATCH, columns=list(EVENT_COLUMNS))

    def next_batch(self) -> list[tuple[str, Event]]:
        columns = [column.to_pylist() for column in next(self._batches).columns]
        return list(zip(columns[0], zip(*columns[1:], strict=True), strict=True))

    def snapshot(self) -> None:
        """Nothing is recovered here."""


class _Source(FixedPartitionedSource):  # type: ignore[misc]
    def __init__(self, path: Path) -> None:
        self._path = path

    def list_parts(self) -> list[str]:
        return ["events"]

    def build_part(self, _step: str, _part: str, _resume: None) -> _Events:
        return _Events(self._path)


class _Rows(StatelessSinkPartition):  # type: ignore[misc]
    def __init__(self, path: Path) -> None:
        self._file = path.open("w", newline="")
        self._writer = csv.writer(self._file)

    def write_batch(self, items: list[Any]) -> None:
        self._writer.writerows(items)

    def close(self) -> None:
        self._file.close()


class _Sink(DynamicSink):  # type: ignore[misc]
    def __init__(self, path: Path) -> None:
        self._path = path

    def build(self, _step: str, _worker: int, _workers: int) -> _Rows:
        return _Rows(self._path)


class _Accumulator:
    """Sums as they go."""

    __slots__ = ("categories", "count", "last", "max", "sum")

    def __init__(self) -> None:
        self.count, self.sum, self.max, self.last = 0, 0.0, float("-inf"), ""
        self.categories: set[str] = set()

    def add(self, event: Event) -> _Accumulator:
        _, price, self.last, category = event
        self.count += 1
        self.sum += price
        self.max = max(self.max, price)
        self.categories.add(category)
        return self

    def merge(self, other: _Accumulator) -> _Accumulator:
        raise NotImplementedError("only windows of sessions merge")

    def features(self) -> tuple[Any, ...]:
        return self.count, self.sum, self.sum / self.count, self.max, self.last, len(self.categories)


def _sliding(window: Window) -> Callable[[deque[Event] | None, Event], tuple[deque[Event], tuple[Any, ...]]]:
    def at_event(kept: deque[Event] | None, event: Event) -> tuple[deque[Event], tuple[Any, ...]]:
        events = deque() if kept is None else kept
        events.append(event)
        while events[0][0] < event[0] - window.length:
            events.popleft()
        prices = [price for _, price, _, _ in events]
        count, total = len(prices), sum(prices)
        distinct = len({category for _, _, _, category in events})
        return events, (event[0], window.name, count, total, total / count, max(prices), event[2], distinct)

    return at_event


def _windows(events: Any, window: Window) -> Any:
    clock = win.EventClock(ts_getter=_time, wait_for_system_duration=dt.timedelta(0), to_system_utc=lambda _: None)
    length, hop = dt.timedelta(milliseconds=window.length), dt.timedelta(milliseconds=window.hop)
    windower = win.SlidingWindower(length=length, offset=hop, align_to=_EPOCH)
    if window.length == window.hop:
        windower = win.TumblingWindower(length=length, align_to=_EPOCH)
    folded = win.fold_window(f"fold_{window.name}", events, clock, windower, _Accumulator, _Accumulator.add, _Accumulator.merge)

    def row(item: tuple[str, tuple[int, _Accumulator]]) -> tuple[Any, ...]:
        visitor, (number, accumulator) = item
        return (visitor, number * window.hop, window.name, *accumulator.features())

    return op.map(f"row_{window.name}", folded.down, row)


def _time(event: Event) -> dt.datetime:
    return _EPOCH + dt.timedelta(milliseconds=event[0])


def run(task: str, events: Path, results: Path) -> None:
    """One worker, in this thread."""
    flow = Dataflow("features")
    happened = op.input("events", flow, _Source(events))
    rows: list[Any] = []
    for window in WINDOWS[task]:
        if task == SLIDING:
            found = op.stateful_map(f"state_{window.name}", happened, _sliding(window))
            rows.append(op.map(f"row_{window.name}", found, lambda item: (item[0], *item[1])))
        else:
            rows.append(_windows(happened, window))
    op.output("results", op.merge("all", *rows), _Sink(results / "rows.csv"))
    run_main(flow)


if __name__ == "__main__":
    main(run, "bytewax")
