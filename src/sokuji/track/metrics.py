"""The collector's metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from sokuji.service import metrics
from sokuji.track.request import Request


class TrackMetrics:
    """The collector's metrics. They are only counted on the event loop."""

    def __init__(self) -> None:
        self._answers = metrics.counter("sokuji_track_requests_total", "Requests answered, by status.", ["status"])
        self._events = metrics.counter("sokuji_track_events_total", "Events made durable, by source.", ["source"])
        self._refused = metrics.counter("sokuji_track_refused_total", "Events and requests refused, by code.", ["code"])
        self._bytes = metrics.counter("sokuji_track_body_bytes_total", "Bytes of bodies, decompressed.")
        self._queue = metrics.gauge("sokuji_track_queue_events", "Events accepted and not yet durable.")
        self._held = metrics.gauge("sokuji_track_held_bytes", "Bytes of bodies in memory.")
        self._acks = metrics.histogram("sokuji_track_ack_seconds", "From a request's headers to its answer, accepted requests.")
        self._body_bytes, self._ack_seconds = self._bytes.labels(), self._acks.labels()
        self._by_status: dict[int, metrics.CounterValue] = {}
        self._flushes = metrics.histogram("sokuji_track_flush_seconds", "One group commit.")
        self._failures = metrics.counter("sokuji_track_flush_failures_total", "Group commits that could not be written.")

    def watch(self, queue_events: Callable[[], float], held_bytes: Callable[[], float]) -> None:
        """Read these gauges whenever the metrics are rendered."""
        self._queue.labels().set_function(queue_events)
        self._held.labels().set_function(held_bytes)

    def answered(self, status: int) -> None:
        """Count an answered request."""
        value = self._by_status.get(status)
        if value is None:
            value = self._by_status[status] = self._answers.labels(str(status))
        value.inc()

    def acknowledged(self, body_bytes: int, seconds: float) -> None:
        """Count a request that was accepted and answered."""
        self._body_bytes.inc(body_bytes)
        self._ack_seconds.observe(seconds)

    def refused(self, code: str) -> None:
        """Count a refused event or request."""
        self._refused.labels(code).inc()

    def flushed(self, requests: Sequence[Request], seconds: float) -> None:
        """Count a group commit that made `requests` durable."""
        self._flushes.labels().observe(seconds)
        stored: Counter[str] = Counter()
        for request in requests:
            stored[request.source.name] += request.stored
            for refused in request.refused:
                self.refused(refused.refusal.code)
        for source, count in stored.items():
            self._events.labels(source).inc(count)

    def failed(self) -> None:
        """Count a group commit that could not be written."""
        self._failures.labels().inc()

    def render(self) -> str:
        """All metrics in Prometheus' text format."""
        return metrics.render(
            [
                self._answers,
                self._events,
                self._refused,
                self._bytes,
                self._queue,
                self._held,
                self._acks,
                self._flushes,
                self._failures,
            ]
        )
