"""The meaning of features, computed the slow way: from the list of a profile's events, again for every question.

The oracle is written from the semantics alone and shares no code with the kernel.
"""

from __future__ import annotations

import datetime as dt
import math
import statistics
import zoneinfo
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sokuji.features.spec import Aggregate, Derived, Expression, FixedNumber, ViewSpec

US = 1_000_000
UNITS = {"s": US, "m": 60 * US, "h": 3600 * US, "d": 86_400 * US}
ROUNDS = {"s": [1, 2, 5, 10, 15, 30], "m": [1, 2, 5, 10, 15, 30], "h": [1, 2, 3, 4, 6, 12], "d": [1, 2, 7]}
ROUND_HOPS = [number * UNITS[unit] for unit, numbers in ROUNDS.items() for number in numbers]


@dataclass(frozen=True)
class Event:
    """An event as features see it: what its expressions are, by their text."""

    time: int
    says: dict[str, Any]


@dataclass
class Session:
    """One visit, with the places of its events in the order of arrival."""

    start: int
    last: int
    events: list[int]


class Oracle:
    """The events of one profile in the order they arrived."""

    def __init__(self, view: ViewSpec, events: Sequence[Event] = ()) -> None:
        self.view = view
        self.events: list[Event] = []
        self.sessions: list[Session] = []
        self.opened: set[int] = set()
        for event in events:
            self.add(event)

    def add(self, event: Event) -> None:
        place, gap = len(self.events), self.view.session_gap_us
        self.events.append(event)
        if not self.sessions or event.time - self.sessions[-1].last > gap:
            self.sessions.append(Session(event.time, event.time, [place]))
            self.opened.add(place)
            return
        for session in reversed(self.sessions[-2:]):
            if session.start - gap <= event.time <= session.last + gap:
                session.start, session.last = min(session.start, event.time), max(session.last, event.time)
                session.events.append(place)
                return

    def read(self, at: int) -> dict[str, Any]:
        """The features for a reader at `at`."""
        at = max([at, *(event.time for event in self.events)])
        return {feature.name: self.value(feature.expression, at) for feature in self.view.features}

    def value(self, expression: Expression, at: int) -> Any:
        if isinstance(expression, FixedNumber):
            return expression.value
        if isinstance(expression, Derived):
            left, right = self.value(expression.left, at), self.value(expression.right, at)
            if left is None or right is None or (expression.operator == "/" and right == 0):
                return None
            return {"+": left + right, "-": left - right, "*": left * right, "/": left / (right or 1)}[expression.operator]
        assert isinstance(expression, Aggregate)
        found = self.aggregate(expression, at)
        return expression.default if found is None else found

    def aggregate(self, aggregate: Aggregate, at: int) -> Any:
        function = str(aggregate.function)
        if function.startswith("session_") and function != "session_count":
            return self.session(function, aggregate.window.text, at)
        wanted = self.inside(aggregate.window.text, at)
        if function == "session_count":
            return len(wanted & self.opened)
        rows = [(self.events[place].time, place) for place in sorted(wanted) if self.counts(aggregate, self.events[place])]
        rows.sort()  # by event time, those of one time in the order they came
        items = [self.events[place] for _, place in rows]
        if aggregate.by is not None:
            return self.by(aggregate, function, items)
        values = [None if aggregate.value is None else event.says[aggregate.value] for event in items]
        return FUNCTIONS[function](values, [event.time for event in items], at, aggregate.n)

    def counts(self, aggregate: Aggregate, event: Event) -> bool:
        if aggregate.filter is not None and event.says[aggregate.filter] is not True:
            return False
        return all(known(event.says[text]) for text in (aggregate.value, aggregate.by) if text is not None)

    def by(self, aggregate: Aggregate, function: str, items: list[Event]) -> list[dict[str, Any]]:
        groups: dict[Any, list[Event]] = {}
        for event in items:
            groups.setdefault(event.says[aggregate.by or ""], []).append(event)
        ranked = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))[: aggregate.n]
        return [
            {"category": category, "value": FUNCTIONS[function]([event.says.get(aggregate.value or "") for event in group], [], 0, 0)}
            for category, group in ranked
        ]

    def inside(self, window: str, at: int) -> set[int]:
        """The places of the events in a window."""
        if window in {"session", "previous session"}:
            session = self.session_at(window, at)
            return set(session.events) if session else set()
        if window == "all":
            return set(range(len(self.events)))
        if window.startswith("today"):
            zone = zoneinfo.ZoneInfo(window.partition(" in ")[2] or "UTC")
            return {place for place, event in enumerate(self.events) if day(event.time, zone) == day(at, zone)}
        length = int(window[:-1]) * UNITS[window[-1]]
        hop = max([hop for hop in ROUND_HOPS if hop <= length / 12], default=US)
        since = math.floor((at - length) / hop) * hop
        return {place for place, event in enumerate(self.events) if event.time >= since}

    def session_at(self, window: str, at: int) -> Session | None:
        ended = bool(self.sessions) and at - self.sessions[-1].last > self.view.session_gap_us
        back = (0 if ended else 1) + (window == "previous session")
        return self.sessions[-back] if 0 < back <= len(self.sessions) else None

    def session(self, function: str, window: str, at: int) -> Any:
        if function == "session_number":
            return len(self.sessions)
        session = self.session_at(window, at)
        if function == "session_events":
            return len(session.events) if session else 0
        return (session.last - session.start) / US if session else None


def known(value: Any) -> bool:
    """Neither NULL nor a number that is none."""
    return value is not None and (not isinstance(value, float) or math.isfinite(value))


def day(time: int, zone: zoneinfo.ZoneInfo) -> dt.date:
    return dt.datetime.fromtimestamp(time / US, zone).date()


def top(values: list[Any], n: int) -> list[Any]:
    return sorted(set(values), key=lambda value: (-values.count(value), value))[:n]


FUNCTIONS: dict[str, Callable[[list[Any], list[int], int, int], Any]] = {
    "count": lambda values, _times, _at, _n: len(values),
    "sum": lambda values, _times, _at, _n: math.fsum(values),
    "mean": lambda values, _times, _at, _n: statistics.fmean(values) if values else None,
    "min": lambda values, _times, _at, _n: min(values, default=None),
    "max": lambda values, _times, _at, _n: max(values, default=None),
    "variance": lambda values, _times, _at, _n: statistics.variance(values) if len(values) > 1 else None,
    "stddev": lambda values, _times, _at, _n: statistics.stdev(values) if len(values) > 1 else None,
    "first": lambda values, _times, _at, _n: values[0] if values else None,
    "last": lambda values, _times, _at, _n: values[-1] if values else None,
    "last_n": lambda values, _times, _at, n: values[::-1][:n],
    "distinct": lambda values, _times, _at, _n: len(set(values)),
    "top_k": lambda values, _times, _at, n: top(values, n),
    "since_first": lambda _values, times, at, _n: (at - times[0]) / US if times else None,
    "since_last": lambda _values, times, at, _n: (at - times[-1]) / US if times else None,
}
