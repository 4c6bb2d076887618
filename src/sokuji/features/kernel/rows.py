"""The content of a row: how its clock, sessions and rings advance with an event, and which tiles lie in a window.

In all functions, `b` is the first word of a row.
"""

# ruff: noqa: PLR0917 compiled functions are handed numbers and arrays, as they make no objects

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sokuji.compiled import compiled
from sokuji.features.kernel import program as p
from sokuji.features.kernel.program import Ints, Program, Record
from sokuji.features.windows import WindowKind

Floats = npt.NDArray[np.float64]

_ALL, _SLIDING, _TODAY = int(WindowKind.ALL), int(WindowKind.SLIDING), int(WindowKind.TODAY)
_PREVIOUS = int(WindowKind.PREVIOUS_SESSION)
_EARLIEST = np.iinfo(np.int64).min


class RowMemory(NamedTuple):
    """The memory of all rows, viewed as four kinds of numbers."""

    words: Ints
    floats: Floats
    counts: npt.NDArray[np.int32]
    bytes: npt.NDArray[np.uint8]


class Spans(NamedTuple):
    """For each range: the first ring place in it, the number of tiles from there, and the earliest time that counts."""

    place: Ints
    tiles: Ints
    since: Ints


@compiled
def day_of(days: Ints, first: int, count: int, time: int) -> int:
    """The index in `days` of the local day of a time; outside of the known days, the zone's first or last one."""
    low, high = first, first + count
    while high - low > 1:
        middle = (low + high) // 2
        if days[middle] <= time:
            low = middle
        else:
            high = middle
    return low


@compiled
def _join_session(words: Ints, b: int, gap: int, time: int) -> int:
    """Count the event into its session. Returns the session's number, or -1 for a session older than the two that are kept."""
    number = words[b + p.SESSION_NUMBER]
    if number == 0 or time - words[b + p.SESSION_LAST] > gap:
        words[b + p.PREVIOUS_START] = words[b + p.SESSION_START]
        words[b + p.PREVIOUS_LAST] = words[b + p.SESSION_LAST]
        words[b + p.PREVIOUS_EVENTS] = words[b + p.SESSION_EVENTS]
        words[b + p.SESSION_START] = words[b + p.SESSION_LAST] = time
        words[b + p.SESSION_EVENTS] = 1
        words[b + p.SESSION_NUMBER] = number + 1
        return int(number + 1)
    if time >= words[b + p.SESSION_START] - gap:
        words[b + p.SESSION_START] = min(words[b + p.SESSION_START], time)
        words[b + p.SESSION_LAST] = max(words[b + p.SESSION_LAST], time)
        words[b + p.SESSION_EVENTS] += 1
        return int(number)
    if number > 1 and words[b + p.PREVIOUS_START] - gap <= time <= words[b + p.PREVIOUS_LAST] + gap:
        words[b + p.PREVIOUS_START] = min(words[b + p.PREVIOUS_START], time)
        words[b + p.PREVIOUS_LAST] = max(words[b + p.PREVIOUS_LAST], time)
        words[b + p.PREVIOUS_EVENTS] += 1
        return int(number - 1)
    return -1


@compiled
def enter(program: Program, state: RowMemory, b: int, time: int, places: Ints) -> bool:
    """Advance a row to an event. Returns whether the event opened a session.

    `places` gets the event's place in the ring of each window, or -1 if the ring has dropped its tile.
    """
    words = state.words
    fresh = words[b + p.SEEN] == 0
    words[b + p.SEEN] += 1
    if fresh or time > words[b + p.CLOCK]:
        words[b + p.CLOCK] = time
    before = words[b + p.SESSION_NUMBER]
    session = _join_session(words, b, program.settings[0].session_gap, time)
    number = words[b + p.SESSION_NUMBER]
    for w in range(program.windows.size):
        window = program.windows[w]
        if window.kind == _ALL:
            places[w] = 0
            continue
        tile = session
        if window.kind == _SLIDING:
            tile = time // window.hop
        elif window.kind == _TODAY:
            tile = day_of(program.days, window.days, program.settings[0].zone_days, time)
        newest = number if window.kind > _TODAY else tile
        head = words[b + window.head]
        if fresh or newest > head:
            if not fresh:
                forget(program, state, b, w, head, newest)
            words[b + window.head] = head = newest
        places[w] = tile % window.tiles if tile > head - window.tiles else -1
    return bool(number > before)


@compiled
def forget(program: Program, state: RowMemory, b: int, window: int, head: int, newest: int) -> None:
    """Clear the places of a ring that the tiles after `head`, up to `newest`, will use."""
    for k in range(program.parts.size):
        part = program.parts[k]
        if part.window != window:
            continue
        if newest - head >= part.tiles:  # the usual case: a profile that returns
            state.words[b + part.at : b + part.at + part.words] = 0
        else:
            for tile in range(head + 1, newest + 1):
                _clear(part, state, b + part.at, tile % part.tiles)


@compiled
def _clear(part: Record, state: RowMemory, at: int, place: int) -> None:
    if part.code == p.PART_COUNT:
        state.counts[2 * at + place] = 0
    elif part.code <= p.PART_M2:
        state.floats[at + place] = 0.0
    elif part.code == p.PART_LIST:
        state.words[at + place * (1 + 2 * part.n)] = 0
    elif part.code == p.PART_DISTINCT:
        _clear_distinct(state.words, at, place, part.n)
    elif part.code == p.PART_SLOTS:
        _clear_slots(part, state, at, place)


@compiled
def _clear_distinct(words: Ints, at: int, place: int, registers: int) -> None:
    length = words[at]
    if length < 0:
        first = at + 1 + place * registers // 16
        words[first : first + registers // 16] = 0
        return
    kept = 0
    for i in range(length):
        word = words[at + 1 + i]
        if (word & 0xFF) != place:
            words[at + 1 + kept] = word
            kept += 1
    words[at] = kept


@compiled
def _clear_slots(part: Record, state: RowMemory, at: int, place: int) -> None:
    n, tiles = part.n, part.tiles
    totals = 2 * (at + n)
    counts = 2 * (at + n + (n + 1) // 2) + place
    for slot in range(n):
        state.counts[totals + slot] -= state.counts[counts + slot * tiles]
        state.counts[counts + slot * tiles] = 0


@compiled
def look(program: Program, state: RowMemory, b: int, at: int, spans: Spans) -> int:
    """Fill `spans` for a reader at `at`. Returns the time used: `at`, or the row's clock if that is later."""
    words = state.words
    if words[b + p.SEEN] > 0:
        at = max(at, words[b + p.CLOCK])
    for r in range(program.ranges.size):
        kind, window = program.ranges[r].kind, program.windows[program.ranges[r].window]
        low = high = head = words[b + window.head]
        since = _EARLIEST
        if kind == _SLIDING:
            low = (at - window.length) // window.hop
            since = low * window.hop
        elif kind == _TODAY:
            low = day_of(program.days, window.days, program.settings[0].zone_days, at)
            since = program.days[low]
        elif kind > _TODAY:
            low = high = session_at(words, b, program.settings[0].session_gap, at, kind)
        first = max(low, head - window.tiles + 1)
        spans.place[r] = first % window.tiles
        spans.tiles[r] = max(0, min(high, head) - first + 1)
        spans.since[r] = since
    return at


@compiled
def session_at(words: Ints, b: int, gap: int, at: int, kind: int) -> int:
    """The number of the current or the previous session at `at`. The newest one may have ended.

    Numbers of no session: 0, or a future one.
    """
    number = words[b + p.SESSION_NUMBER]
    if at - words[b + p.SESSION_LAST] > gap:
        number += 1
    if kind == _PREVIOUS:
        number -= 1
    # A profile without events is in its session 0, whose tile is empty.
    return int(number)
