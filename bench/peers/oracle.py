"""The results of each task, computed the slow way in plain Python, and how results are compared with them."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench.peers.contract import SLIDING, WINDOWS, Window

Key = tuple[str, int, str]
"""(visitor, at, window)"""


class Event(NamedTuple):
    """One event, as `EVENT_COLUMNS`."""

    visitor: str
    at: int
    price: float
    url: str
    category: str


Features = tuple[int, float, float, float, str, int]
"""(count, sum, mean, max, last, distinct)"""


class Comparison(NamedTuple):
    """`missing` rows should be there, `extra` ones should not; `mismatches` are rows with another value."""

    rows: int
    mismatches: int
    missing: int
    extra: int


Since = Callable[[int, Window], int]
"""The time of the oldest event that a window ending at a time covers."""


def exact(at: int, window: Window) -> int:
    """A window is as long as it is called."""
    return at - window.length


def hopped(at: int, window: Window) -> int:
    """sokuji's windows: up to one hop, a twelfth of their length, too long at the old end."""
    hop = window.length // 12
    return (at - window.length) // hop * hop


def wanted(task: str, events: Iterable[Event], since: Since = exact) -> dict[Key, Features]:
    """The results of `task`; `since` matters for sliding windows only."""
    of_visitor: dict[str, list[Event]] = {}
    for event in events:
        of_visitor.setdefault(event.visitor, []).append(event)
    found: dict[Key, Features] = {}
    for visitor, theirs in of_visitor.items():
        for window in WINDOWS[task]:
            for at, inside in _sliding(theirs, window, since) if task == SLIDING else _hopping(theirs, window):
                found[visitor, at, window.name] = _features(inside)
    return found


def _sliding(events: list[Event], window: Window, since: Since) -> Iterator[tuple[int, list[Event]]]:
    for place, event in enumerate(events):
        oldest = since(event.at, window)
        yield event.at, [other for other in events[: place + 1] if other.at >= oldest]


def _hopping(events: list[Event], window: Window) -> Iterator[tuple[int, list[Event]]]:
    latest = [event.at // window.hop * window.hop for event in events]
    for start in sorted({start - back for start in latest for back in range(0, window.length, window.hop)}):
        inside = [event for event in events if start <= event.at < start + window.length]
        if inside:
            yield start, inside


def _features(events: list[Event]) -> Features:
    prices = [event.price for event in events]
    total, categories = math.fsum(prices), {event.category for event in events}
    return len(events), total, total / len(events), max(prices), events[-1].url, len(categories)


def read(results: Path) -> dict[Key, Features]:
    """What a system wrote. The same row twice is an error of the system: `ValueError`."""
    found: dict[Key, Features] = {}
    for path in sorted(path for path in results.rglob("*") if path.is_file() and not path.name.startswith((".", "_"))):
        with path.open(newline="") as file:
            for visitor, at, window, count, total, mean, largest, last, distinct in csv.reader(file):
                key = visitor, int(at), window
                if key in found:
                    raise ValueError(f"{path.name} has two rows of {key}")
                found[key] = int(count), float(total), float(mean), float(largest), last, int(distinct)
    return found


def compare(found: dict[Key, Features], expected: dict[Key, Features]) -> Comparison:
    """Compare; numbers may differ in their last digits, as sums do that are added in another order."""
    both = found.keys() & expected.keys()
    mismatches = sum(not all(map(_same, found[key], expected[key])) for key in both)
    return Comparison(len(found), mismatches, len(expected) - len(both), len(found) - len(both))


def _same(found: Any, expected: Any) -> bool:
    return math.isclose(found, expected, rel_tol=1e-9) if isinstance(expected, float) else bool(found == expected)
