"""The metrics of the `api` role."""

from __future__ import annotations

from collections.abc import Callable

from sokuji.service import metrics


class ActMetrics:
    """Metrics of one process. They are only counted on the event loop."""

    def __init__(self) -> None:
        self._answers = metrics.counter("sokuji_act_requests_total", "Requests answered, by status.", ["status"])
        self._delivered = metrics.counter("sokuji_act_delivered_total", "Decisions handed to pages, by way.", ["way"])
        self._checks = metrics.counter("sokuji_act_eligibility_total", "Checks before showing, by result.", ["result"])
        self._ended = metrics.counter("sokuji_act_streams_ended_total", "Streams ended, by reason.", ["reason"])
        self._streams = metrics.gauge("sokuji_act_streams", "Open streams.")
        self._recent = metrics.gauge("sokuji_act_recent_decisions", "Decisions in memory.")
        self._delay = metrics.histogram("sokuji_act_delivery_seconds", "From a decision's time to its stream.")

    def watch(self, streams: Callable[[], float], recent: Callable[[], float]) -> None:
        """Read these gauges whenever the metrics are rendered."""
        self._streams.labels().set_function(streams)
        self._recent.labels().set_function(recent)

    def answered(self, status: int) -> None:
        """Count an answered request."""
        self._answers.labels(str(status)).inc()

    def streamed(self, seconds: float) -> None:
        """Count a decision that went to a stream, `seconds` after it was made."""
        self._delivered.labels("stream").inc()
        self._delay.labels().observe(seconds)

    def pulled(self, count: int) -> None:
        """Count decisions given to a page that pulled."""
        self._delivered.labels("pull").inc(count)

    def checked(self, reason: str | None) -> None:
        """Count a page's question whether to show a decision."""
        self._checks.labels(reason or "eligible").inc()

    def ended(self, reason: str) -> None:
        """Count the end of a stream."""
        self._ended.labels(reason).inc()

    def render(self) -> str:
        """All metrics in Prometheus' text format."""
        return metrics.render([self._answers, self._delivered, self._checks, self._ended, self._streams, self._recent, self._delay])
