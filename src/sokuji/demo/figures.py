"""The measurements of the live demo, made by several threads at once."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence

import numpy as np

from sokuji.rules.decision import Decision

_RECENT_SECONDS = 30.0
_TRIGGER_SECONDS = 120.0  # how long to wait for a decision on an event
_KEPT = 200_000  # latencies for the percentiles of the whole run; if there are more, the newest are kept


class Figures:
    """Counts and latencies. A latency lasts from just before a request was sent until a reader of the decisions had the decision."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._sent: dict[str, float] = {}  # by message id, in the order sent
        self._acknowledged: deque[tuple[float, int]] = deque()
        self.events = self.repeats = 0
        self._decisions: Counter[tuple[str, str]] = Counter()  # by rule and outcome
        self.newest: deque[Decision] = deque(maxlen=5)
        self._latencies: deque[float] = deque(maxlen=_KEPT)
        self._acknowledgements: deque[float] = deque(maxlen=_KEPT)

    def sending(self, messages: Iterable[str]) -> float:
        """Record that these messages are about to be sent; returns the current time."""
        now = time.monotonic()
        with self._lock:
            for message in messages:
                self._sent.setdefault(message, now)
            while self._sent and now - next(iter(self._sent.values())) > _TRIGGER_SECONDS:
                del self._sent[next(iter(self._sent))]
        return now

    def acknowledged(self, events: int, repeats: int, sent: float) -> None:
        """Record the answer 200 to a request sent at `sent`. `repeats` of its events were sent before."""
        now = time.monotonic()
        with self._lock:
            self.events += events
            self.repeats += repeats
            self._acknowledged.append((now, events))
            self._acknowledgements.append(now - sent)

    def decided(self, decisions: Iterable[Decision]) -> None:
        """Record that these decisions were read."""
        now = time.monotonic()
        with self._lock:
            for decision in decisions:
                self._decisions[decision.rule, _outcome(decision)] += 1
                sent = self._sent.get(decision.trigger_id)
                if sent is not None and decision.reason != "timer":
                    self._latencies.append(now - sent)
                if decision.action is not None:
                    self.newest.append(decision)

    def rate(self) -> float:
        """Acknowledged events per second, recently."""
        now = time.monotonic()
        with self._lock:
            while self._acknowledged and now - self._acknowledged[0][0] > _RECENT_SECONDS:
                self._acknowledged.popleft()
            return sum(events for _, events in self._acknowledged) / max(min(now - self._started, _RECENT_SECONDS), 1e-9)

    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def decision_ms(self) -> dict[str, float]:
        """Percentiles of the time from an event to the decision on it."""
        with self._lock:
            return _percentiles(list(self._latencies))

    def acknowledgement_ms(self) -> dict[str, float]:
        """Percentiles of the time from a request to its answer."""
        with self._lock:
            return _percentiles(list(self._acknowledgements))

    def by_rule(self) -> dict[str, dict[str, int]]:
        """The number of decisions by rule and outcome."""
        outcomes: dict[str, dict[str, int]] = {}
        with self._lock:
            for (rule, outcome), count in sorted(self._decisions.items()):
                outcomes.setdefault(rule, {})[outcome] = count
        return outcomes


def _outcome(decision: Decision) -> str:
    if decision.suppressed:
        return "held back"
    return "control" if decision.control or decision.holdout else "acted"


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {}
    milliseconds = np.percentile(np.array(seconds) * 1000, [50, 90, 99])
    return {name: round(float(value), 1) for name, value in zip(("p50", "p90", "p99"), milliseconds, strict=True)}
