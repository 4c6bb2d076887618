"""Counters, gauges and histograms of one process, rendered in the Prometheus text format.

A metric is created once, with its label names. `labels(...)` returns the child that is updated, so that a hot path can keep it. Updates
are plain additions without a lock: use one thread per metric, or values where a lost update does not matter. A metric that several
threads would add to must be updated by one of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Seconds, from a quick fsync to a client's timeout.
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class CounterValue:
    """A total that only grows."""

    __slots__ = ("value",)
    kind = "counter"

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        """Add `amount`, which must not be negative."""
        self.value += amount

    def samples(self) -> Iterator[tuple[str, str, float]]:
        """(name suffix, extra label, value) of every line that this value renders to."""
        yield "", "", self.value


class GaugeValue:
    """A level that goes up and down: set, or read from a function when it is rendered."""

    __slots__ = ("_read", "value")
    kind = "gauge"

    def __init__(self) -> None:
        self.value = 0.0
        self._read: Callable[[], float] | None = None

    def set(self, value: float) -> None:
        """Set the level."""
        self.value = value

    def set_function(self, read: Callable[[], float]) -> None:
        """Call `read` for the level at every rendering."""
        self._read = read

    def samples(self) -> Iterator[tuple[str, str, float]]:
        """See `CounterValue.samples`."""
        yield "", "", self.value if self._read is None else self._read()


class HistogramValue:
    """Counts of observations up to each bound, and their sum."""

    __slots__ = ("bounds", "counts", "sum")
    kind = "histogram"

    def __init__(self, bounds: Sequence[float] = LATENCY_BUCKETS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count `value`, `times` times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def samples(self) -> Iterator[tuple[str, str, float]]:
        """See `CounterValue.samples`."""
        total = 0
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            total += count
            yield "_bucket", f'le="{bound}"', total
        yield "_sum", "", self.sum
        yield "_count", "", total


Value = TypeVar("Value", CounterValue, GaugeValue, HistogramValue)


class Metric(Generic[Value]):
    """A named family of values, one per combination of label values.

    `name` follows the Prometheus naming rules: base units, `_total` for counters.
    """

    def __init__(self, make: Callable[[], Value], name: str, help_text: str, labels: Sequence[str] = ()) -> None:
        self.name, self.help, self.label_names = name, help_text, tuple(labels)
        self.kind = make().kind
        self._make: Callable[[], Value] = make
        self._values: dict[tuple[str, ...], Value] = {}
        if not labels:
            self.labels()

    def labels(self, *values: str) -> Value:
        """The value for these label values, in the order of the label names; created at the first call.

        Raises:
            ValueError: the number of values differs from the number of labels.
        """
        if len(values) != len(self.label_names):
            raise ValueError(f"{self.name} has the labels {self.label_names}, got the values {values}")
        value = self._values.get(values)
        if value is None:
            value = self._values[values] = self._make()
        return value

    def lines(self) -> Iterator[str]:
        """The family in the text format, without line ends."""
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} {self.kind}"
        # list(): another thread may add a label combination while this one renders.
        for values, value in list(self._values.items()):
            pairs: list[str] = [f'{name}="{_escape(text)}"' for name, text in zip(self.label_names, values, strict=True)]
            for suffix, extra, number in value.samples():
                labels = ",".join([*pairs, extra] if extra else pairs)
                yield f"{self.name}{suffix}{{{labels}}} {number:.17g}" if labels else f"{self.name}{suffix} {number:.17g}"


def counter(name: str, help_text: str, labels: Sequence[str] = ()) -> Metric[CounterValue]:
    """A family of counters."""
    return Metric(CounterValue, name, help_text, labels)


def gauge(name: str, help_text: str, labels: Sequence[str] = ()) -> Metric[GaugeValue]:
    """A family of gauges."""
    return Metric(GaugeValue, name, help_text, labels)


def histogram(name: str, help_text: str, labels: Sequence[str] = (), buckets: Sequence[float] = LATENCY_BUCKETS) -> Metric[HistogramValue]:
    """A family of histograms with the upper bounds `buckets`, ascending."""
    return Metric(lambda: HistogramValue(buckets), name, help_text, labels)


def render(metrics: Iterable[Metric[CounterValue] | Metric[GaugeValue] | Metric[HistogramValue]]) -> str:
    """The metrics as one page, to be served with `CONTENT_TYPE`."""
    return "".join(f"{line}\n" for metric in metrics for line in metric.lines())


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
