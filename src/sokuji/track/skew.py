"""Estimate how wrong the clock is that stamped a request, from the time it shows when the request is sent.

`received - sent` is the clock's offset plus the delay of the network and of the client. Mobile SDKs stamp `sentAt` when they close a
file of events, which may be hours before they send it. A delay is never negative. So:

- A difference of about 0 comes from a right clock, whatever the device showed before. Its times stay as they are.
- A difference below 0 means that the clock is ahead, by at least this much and at most a usual delay more.
- A difference above 0 means one of two things. The clock may be behind. Or the request was delayed, and its clock is another one that the
  device showed lately: a right one, or one that is less far behind. The other clock is assumed, a right one first if it was seen in the
  last day, until the same difference comes again minutes later: delays do not repeat.

Several devices may share one user id, and several servers one address. So a "device" here may have more than one clock. A clock far from
what a request shows is not used for that request.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial

_DEVICES_MAX = 50_000
_CLOCKS_MAX = 4  # per device
_NEAR_US = 60 * 1_000_000  # differences of one clock are at most this far apart, network delays aside
# Files closed offline are sent one after the other within seconds. A difference that repeats for longer than this is the clock's.
_CONFIRMED_US = 300 * 1_000_000
_DELAY_US = 24 * 3600 * 1_000_000  # a clock that is behind explains at most this delay; a right clock explains any


@dataclass(slots=True)
class _Clock:
    first: int  # the difference when the clock was first seen
    minimum: int  # the best estimate of the offset: the smallest difference
    since_us: int
    seen_us: int


class ClockOffsets:
    """The clocks of devices. Memory is bounded: the least recently seen devices are forgotten. Times and differences are microseconds."""

    def __init__(self, threshold_us: int, devices_max: int = _DEVICES_MAX) -> None:
        self._threshold_us, self._devices_max = threshold_us, devices_max
        self._near_us = max(threshold_us, _NEAR_US)
        self._devices: dict[Hashable, list[_Clock]] = {}

    def correction(self, device: Hashable, difference_us: int, now_us: int) -> int:
        """The correction to add to the times of a request with this `received - sent`, received at `now_us`; 0 within the threshold."""
        devices = self._devices
        clocks = devices[device] = devices.pop(device, [])  # moved to the end: seen last
        if len(devices) > self._devices_max:
            del devices[next(iter(devices))]
        is_right = -self._threshold_us <= difference_us <= self._threshold_us
        own = self._clock(clocks, 0 if is_right else difference_us, now_us)
        if is_right:
            return 0
        if difference_us > 0 and now_us - own.since_us < _CONFIRMED_US:
            others = (clock for clock in clocks if self._explains(clock, own, difference_us))
            own = max(others, key=partial(_standing, now_us), default=own)
        return own.minimum

    def _clock(self, clocks: list[_Clock], difference_us: int, now_us: int) -> _Clock:
        """The clock with about this difference; a new one if no clock has it."""
        for clock in clocks:
            if abs(difference_us - clock.first) <= self._near_us and (clock.first == 0) == (difference_us == 0):
                clock.minimum, clock.seen_us = min(clock.minimum, difference_us), now_us
                return clock
        if len(clocks) == _CLOCKS_MAX:
            # Differences of delayed requests do not repeat; those of a clock do.
            clocks.remove(min(clocks, key=partial(_standing, now_us)))
        clocks.append(_Clock(difference_us, difference_us, now_us, now_us))
        return clocks[-1]

    def _explains(self, clock: _Clock, own: _Clock, difference_us: int) -> bool:
        """Whether a delayed request of this clock can show this difference."""
        if clock is own or not 0 <= clock.minimum < difference_us:
            return False
        return clock.first == 0 or difference_us - clock.minimum <= _DELAY_US


def _standing(now_us: int, clock: _Clock) -> tuple[bool, bool, int]:
    """Sort key for clocks. The best is the right clock if it was seen lately, then right and confirmed clocks, then the one seen last.

    Anyone may send under a device's name and repeat a wrong difference until it is confirmed. That cannot replace a right clock.
    """
    is_right = clock.first == 0
    is_confirmed = is_right or clock.seen_us - clock.since_us >= _CONFIRMED_US
    return is_right and now_us - clock.seen_us <= _DELAY_US, is_confirmed, clock.seen_us
