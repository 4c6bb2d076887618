"""The one place that asks what time it is, so that a test can say it."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns the time as microseconds since 1970-01-01 UTC: the unit of every timestamp in the log."""


def now_us() -> int:
    """The wall clock, as a `Clock`."""
    return time.time_ns() // 1000


def steady(clock: Clock) -> Clock:
    """A clock that begins with the time that `clock` has now, and goes on evenly: it is not set forward or back as that one may be."""
    ahead_us = clock() - time.monotonic_ns() // 1000
    return lambda: ahead_us + time.monotonic_ns() // 1000
