"""The only place that reads the clock, so that tests can replace it."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns the time as microseconds since 1970-01-01 UTC: the unit of every timestamp in the log."""


def now_us() -> int:
    """The wall clock, as a `Clock`."""
    return time.time_ns() // 1000


def steady(clock: Clock) -> Clock:
    """A monotonic clock that starts at the current time of `clock`. Later changes of that clock do not affect it."""
    ahead_us = clock() - time.monotonic_ns() // 1000
    return lambda: ahead_us + time.monotonic_ns() // 1000
