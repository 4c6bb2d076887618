"""Sessions for caps: a session ends when the profile has had no event for half an hour.

Sessions of features use event times. These use the times when events were received: caps count what a visitor was shown, and that happens
at these times.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]

GAP_US = 30 * 60_000_000


class SessionTimes(NamedTuple):
    """For each event, when its profile's session began and when the profile was last seen, before and after the event; 0 is never."""

    begun_before_us: Times
    seen_before_us: Times
    begun_us: Times
    seen_us: Times


def begun_at(at_us: int, begun_us: int, seen_us: int) -> int:
    """The begin of the session at `at_us`, for a profile last seen at `seen_us` in a session that began at `begun_us`."""
    return begun_us if at_us - seen_us <= GAP_US else at_us


def find(profile_of_event: NDArray[np.int32], at_us: Times, begun_us: Times, seen_us: Times) -> SessionTimes:
    """The sessions of events, in their order. `begun_us` and `seen_us` are those of the profiles before the events."""
    order = np.argsort(profile_of_event, kind="stable")
    profile, sorted_at = profile_of_event[order], at_us[order]
    first = np.ones(len(order), dtype=np.bool_)
    first[1:] = profile[1:] != profile[:-1]
    group = np.cumsum(first) - 1
    # The latest time so far, computed by one running maximum: each profile's times are shifted above those of the profile before. A
    # last-seen
    # time longer ago than any session can be replaced by one gap before the first event.
    base = int(sorted_at.min()) - GAP_US - 1
    times, known = sorted_at - base, np.maximum(seen_us[profile] - base, 0)
    span = int(max(times.max(), known.max())) + 1
    latest = np.maximum.accumulate(np.where(first, np.maximum(times, known), times) + group * span) - group * span
    before = np.where(first, known, np.roll(latest, 1))
    # The event that began the session, if it is in the batch.
    places = np.arange(len(order))
    start = np.maximum.accumulate(np.where(times - before > GAP_US, places, -1))
    is_here = start >= np.maximum.accumulate(np.where(first, places, 0))
    begun = np.where(is_here, sorted_at[start], begun_us[profile])
    sorted_times = (
        np.where(first, begun_us[profile], np.roll(begun, 1)),
        np.where(first, seen_us[profile], before + base),
        begun,
        latest + base,
    )
    event_times = []
    for each in sorted_times:
        of_event = np.empty(len(order), dtype=np.int64)
        of_event[order] = each
        event_times.append(of_event)
    return SessionTimes(*event_times)


def merge(begun_us: Times, seen_us: Times, other_begun_us: Times, other_seen_us: Times) -> None:
    """Merge the latest sessions of two profiles that become one, in place. Sessions at most the gap apart are joined."""
    later = other_seen_us > seen_us
    newer, older = np.where(later, other_begun_us, begun_us), np.where(later, begun_us, other_begun_us)
    is_one = (newer - np.minimum(seen_us, other_seen_us) <= GAP_US) & (older > 0)
    begun_us[:] = np.where(is_one, np.minimum(newer, older), newer)
    seen_us[:] = np.maximum(seen_us, other_seen_us)
