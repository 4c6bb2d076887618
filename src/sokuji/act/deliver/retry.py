"""When to retry a delivery: the pause after a failed attempt, and the circuit breaker of an endpoint."""

from __future__ import annotations

import math
import random

from sokuji.config import WebhookSettings

_RETRY_AFTER_SECONDS_MAX = 24 * 3600.0


def pause_seconds(attempts: int, after_seconds: float, settings: WebhookSettings) -> float:
    """The wait after attempt number `attempts` failed: doubled each time; a random half of it is jitter.

    Without jitter, all deliveries that failed in one outage would be retried at the same moment. A receiver's Retry-After is the minimum.
    """
    pause = min(math.ldexp(settings.first_retry_seconds, min(attempts - 1, 64)), settings.last_retry_seconds)
    pause *= 0.5 + random.random() / 2  # noqa: S311 - not for secrets
    return max(pause, min(after_seconds, _RETRY_AFTER_SECONDS_MAX))


def pause_seconds_max(settings: WebhookSettings) -> float:
    """The longest possible pause."""
    return max(settings.last_retry_seconds, _RETRY_AFTER_SECONDS_MAX)


class Breaker:
    """A circuit breaker for one endpoint. After some failures in a row it rests; then a single attempt shows whether the endpoint is back.

    Times are seconds of any one monotonic clock.
    """

    def __init__(self, failures_max: int, rest_seconds: float) -> None:
        self._failures_max, self._rest_seconds = failures_max, rest_seconds
        self._failures = 0
        self.rests_until = 0.0

    def limit(self, concurrency: int, now: float) -> int:
        """How many attempts may run at `now`: 0, 1 or `concurrency`."""
        if self._failures < self._failures_max:
            return concurrency
        return 1 if now >= self.rests_until else 0

    def record(self, *, is_up: bool, now: float) -> None:
        """Record the end of an attempt."""
        self._failures = 0 if is_up else self._failures + 1
        if self._failures >= self._failures_max:
            self.rests_until = now + self._rest_seconds
