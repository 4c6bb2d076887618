"""How far the clock is off that stamped a request, from what it says it is when the request is sent.

`received - sent` is the clock's offset plus the delay of the network, and of the client: mobile SDKs stamp `sentAt` when they close a
file of events, which may lie hours before it is sent. A delay is never negative. So:

- A difference of about 0 is that of a right clock, whatever the device showed before: its times stand.
- Below 0, the clock is ahead by as much at least, and by no more than that and a usual delay.
- Above 0, the clock is behind, or it is another one that the device has shown lately and the request was delayed: a right one, or one
  that is less far behind. The other one it is taken for, the right one first if it was seen in the last day, until the same difference
  comes again minutes later: delays do not repeat.

Several devices may have one user id, and several servers one address, so more than one clock is remembered of what is called a device
here. One that is far from what a request shows does not date it.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial

_DEVICES_MAX = 50_000
_CLOCKS_MAX = 4  # of one device
_NEAR_US = 60 * 1_000_000  # differences of one clock lie as close together, delays of the network apart
# Files that were closed offline are sent one after the other within seconds; what repeats for longer than this is the clock.
_CONFIRMED_US = 300 * 1_000_000
_DELAY_US = 24 * 3600 * 1_000_000  # more than this, a clock that is behind does not explain; a right clock explains any delay


@dataclass(slots=True)
class _Clock:
    first: int  # the difference it was known by first
    minimum: int  # the offset, as far as one can tell: the smallest difference
    since_us: int
    seen_us: int


class ClockOffsets:
    """The least recently seen devices are forgotten: memory is bounded. Times and differences are microseconds."""

    def __init__(self, threshold_us: int, devices_max: int = _DEVICES_MAX) -> None:
        self._threshold_us, self._devices_max = threshold_us, devices_max
        self._near_us = max(threshold_us, _NEAR_US)
        self._devices: dict[Hashable, list[_Clock]] = {}

    def correction(self, device: Hashable, difference_us: int, now_us: int) -> int:
        """What to add to the times of a request with this `received - sent`, received at `now_us`; 0 within the threshold."""
        devices = self._devices
        clocks = devices[device] = devices.pop(device, [])  # at the end: seen last
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
        """The clock with about this difference, which is made if none has it."""
        for clock in clocks:
            if abs(difference_us - clock.first) <= self._near_us and (clock.first == 0) == (difference_us == 0):
                clock.minimum, clock.seen_us = min(clock.minimum, difference_us), now_us
                return clock
        if len(clocks) == _CLOCKS_MAX:
            # Differences of delayed requests come and go; a clock comes again.
            clocks.remove(min(clocks, key=partial(_standing, now_us)))
        clocks.append(_Clock(difference_us, difference_us, now_us, now_us))
        return clocks[-1]

    def _explains(self, clock: _Clock, own: _Clock, difference_us: int) -> bool:
        """Whether a delayed request of this clock shows such a difference."""
        if clock is own or not 0 <= clock.minimum < difference_us:
            return False
        return clock.first == 0 or difference_us - clock.minimum <= _DELAY_US


def _standing(now_us: int, clock: _Clock) -> tuple[bool, bool, int]:
    """Orders clocks: last the right one if it was seen lately, then right and confirmed ones; of those, the ones seen last.

    Anyone may send in a device's name, and repeat a wrong difference for as long as confirms it. That takes no right clock's place.
    """
    is_right = clock.first == 0
    is_confirmed = is_right or clock.seen_us - clock.since_us >= _CONFIRMED_US
    return is_right and now_us - clock.seen_us <= _DELAY_US, is_confirmed, clock.seen_us
