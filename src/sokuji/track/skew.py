"""How far a device's clock is off, estimated from what it says it is when it sends.

`received - sent` is the clock's offset plus the delay of the network, and of the client: mobile SDKs stamp `sentAt` when they close a
file of events, which may lie hours before it is sent. A delay is never negative, so the smallest recent difference of a device is the
best estimate of its offset.
"""

from __future__ import annotations

from collections.abc import Hashable

_DEVICES_MAX = 50_000
# A device's differences are kept in two buckets, so the minimum reaches back one to two of them. Long enough that an offline file of
# yesterday is not taken for a wrong clock; short enough that a clock which was put right is believed after a few requests.
_BUCKET_REQUESTS = 8
_BUCKET_US = 24 * 3600 * 1_000_000


class ClockOffsets:
    """The least recently seen devices are forgotten: memory is bounded. Times and differences are microseconds."""

    def __init__(self, threshold_us: int, devices_max: int = _DEVICES_MAX) -> None:
        self._threshold_us, self._devices_max = threshold_us, devices_max
        # device: minimum of the bucket before, of this one, how many are in it, and when it began
        self._devices: dict[Hashable, tuple[int | None, int, int, int]] = {}

    def correction(self, device: Hashable, difference_us: int, now_us: int) -> int:
        """What to add to the device's times, 0 within the threshold, after a request with this `received - sent`."""
        devices = self._devices
        before, minimum, count, began = devices.pop(device, (None, difference_us, 0, now_us))
        if count == _BUCKET_REQUESTS or now_us - began > _BUCKET_US:
            before, minimum, count, began = minimum, difference_us, 0, now_us
        minimum = min(minimum, difference_us)
        devices[device] = (before, minimum, count + 1, began)
        if len(devices) > self._devices_max:
            del devices[next(iter(devices))]
        offset = minimum if before is None else min(before, minimum)
        return offset if abs(offset) > self._threshold_us else 0
