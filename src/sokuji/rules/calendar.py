"""Schedules and hours of the day, in time zones and across clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ALL_DAYS = frozenset(range(7))
_ZONE_LENGTH_MAX = 64  # the longest existing name has 32


@lru_cache(4096)  # events may name any number of zones
def zone_named(name: str) -> ZoneInfo | None:
    """The IANA time zone with this name, or None."""
    if len(name) > _ZONE_LENGTH_MAX:
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not found; not a name at all, such as "../x"; a folder, such as "Asia"
        return None


def local(at_us: int, zone: str) -> datetime:
    """The wall-clock time in `zone`, which must exist."""
    return (_EPOCH + timedelta(microseconds=at_us)).astimezone(zone_named(zone))


def to_us(at: datetime) -> int:
    """Microseconds since 1970-01-01 UTC of an aware datetime."""
    return (at - _EPOCH) // timedelta(microseconds=1)


class Hours(Struct, frozen=True):
    """Hours of the local day as minutes since midnight; `end` is excluded. With `end` <= `start`, the hours pass midnight."""

    start: int
    end: int

    def contains(self, minute: int) -> bool:
        """Whether `minute` of the local day lies in the hours."""
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end


class Schedule(Struct, frozen=True):
    """The times when a rule is on: from `since_us` until before `until_us`, on `days` (0: Monday), in `hours` of the local day in `zone`.

    Hours that pass midnight belong to the day on which they begin: Friday 22:00-02:00 ends on Saturday at 02:00. Clock changes need no
    special case: an instant is in the hours if the local wall clock shows a time in them. So an hour that a clock change repeats counts
    twice, and an hour that it skips never comes.
    """

    zone: str
    since_us: int | None = None
    until_us: int | None = None
    days: frozenset[int] = ALL_DAYS
    hours: Hours | None = None

    def contains(self, at_us: int) -> bool:
        """Whether the rule is on at `at_us`."""
        if self.since_us is not None and at_us < self.since_us:
            return False
        if self.until_us is not None and at_us >= self.until_us:
            return False
        return self._is_day_and_hour(local(at_us, self.zone))

    def contains_each(self, at_us: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Call `contains` for every element. The result is constant within a minute, so each minute is computed once."""
        on = np.ones(len(at_us), dtype=np.bool_)
        if self.since_us is not None:
            on &= at_us >= self.since_us
        if self.until_us is not None:
            on &= at_us < self.until_us
        if self.hours is None and self.days == ALL_DAYS:
            return on
        minutes, which = np.unique(at_us // 60_000_000, return_inverse=True)
        days_and_hours = [self._is_day_and_hour(local(int(minute) * 60_000_000, self.zone)) for minute in minutes]
        return on & np.array(days_and_hours, dtype=np.bool_)[which]

    def _is_day_and_hour(self, at: datetime) -> bool:
        day, minute = at.weekday(), at.hour * 60 + at.minute
        if self.hours is None:
            return day in self.days
        if self.hours.end <= self.hours.start and minute < self.hours.end:
            day = (day - 1) % 7
        return self.hours.contains(minute) and day in self.days
