"""Compute the features of a profile from its row. NaN means NULL; in a list it marks the end."""

# ruff: noqa: PLR0917 compiled functions are handed numbers and arrays, as they make no objects

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sokuji.compiled import compiled
from sokuji.features.kernel import program as p
from sokuji.features.kernel.program import Ints, Program, Record
from sokuji.features.kernel.rows import Floats, RowMemory, Spans, session_at
from sokuji.features.kernel.sets import count_distinct, largest, slot_value
from sokuji.features.windows import WindowKind

(
    _COUNT, _SUM, _MEAN, _MIN, _MAX, _VARIANCE, _STDDEV, _FIRST, _LAST, _LAST_N, _DISTINCT, _TOP_K, _SINCE_FIRST, _SINCE_LAST,
    _SESSION_NUMBER, _SESSION_EVENTS, _SESSION_DURATION, _BY_COUNT, _BY_SUM, _BY_MEAN, _BY_MIN, _BY_MAX,
) = range(len(p.FUNCTIONS))  # fmt: skip
_PREVIOUS = int(WindowKind.PREVIOUS_SESSION)


class Ranking(NamedTuple):
    """Buffers for ranking the categories of one part, as large as the largest part's number of slots."""

    counts: Ints
    values: Floats
    keys: Floats
    ranked: Ints


@compiled
def evaluate(program: Program, state: RowMemory, b: int, at: int, spans: Spans, ranking: Ranking, out: Floats) -> None:
    """Compute all features for a reader at time `at` and write them into the columns of `out`. `look` must have filled `spans`."""
    for o in range(program.outputs.size):
        output = program.outputs[o]
        part, function, to = program.parts[output.part], output.function, output.to
        place, tiles, since = spans.place[output.range], spans.tiles[output.range], spans.since[output.range]
        if function == _COUNT:
            out[to] = _count(state.counts, 2 * (b + part.at), part.tiles, place, tiles)
        elif function == _SUM:
            out[to] = _sum(state.floats, b + part.at, part.tiles, place, tiles)
        elif function <= _STDDEV:
            out[to] = _number(function, part, state, b, place, tiles)
        elif function in (_FIRST, _SINCE_FIRST):
            out[to] = _first(function, part, state, b, at, place, tiles)
        elif function in (_LAST, _SINCE_LAST, _LAST_N):
            _lasts(output, part, state, b + part.at, at, place, tiles, since, out)
        elif function == _DISTINCT:
            out[to] = count_distinct(part, state, b + part.at, place, tiles)
        elif function == _TOP_K or function >= _BY_COUNT:
            _categories(output, part, state, b + part.at, place, tiles, ranking, out)
        else:
            out[to] = _session(function, state.words, b, program.settings[0].session_gap, at, program.ranges[output.range].kind)


@compiled
def _count(counts: npt.NDArray[np.int32], first: int, ring: int, place: int, tiles: int) -> int:
    found = 0
    for _ in range(tiles):
        found += counts[first + place]
        place = place + 1 if place + 1 < ring else 0
    return found


@compiled
def _sum(floats: Floats, first: int, ring: int, place: int, tiles: int) -> float:
    found = 0.0
    for _ in range(tiles):
        found += floats[first + place]
        place = place + 1 if place + 1 < ring else 0
    return found


@compiled
def _number(function: int, part: Record, state: RowMemory, b: int, place: int, tiles: int) -> float:
    """Mean, minimum, maximum, variance and standard deviation, tile by tile; tiles without events are skipped."""
    first, counts, sums = b + part.at, 2 * (b + part.count), b + part.sum
    if function == _MEAN:
        events = _count(state.counts, counts, part.tiles, place, tiles)
        return _sum(state.floats, first, part.tiles, place, tiles) / events if events > 0 else np.nan
    events, found, mean = 0, np.nan, 0.0
    for _ in range(tiles):
        here = state.counts[counts + place]
        if here > 0:
            value = state.floats[first + place]
            if function == _MIN:
                found = value if events == 0 else min(found, value)
            elif function == _MAX:
                found = value if events == 0 else max(found, value)
            else:  # Chan, Golub and LeVeque: avoids the difference of large sums
                difference = state.floats[sums + place] / here - mean
                found = value if events == 0 else found + value + difference * difference * (events * here / (events + here))
                mean += difference * here / (events + here)
            events += here
        place = place + 1 if place + 1 < part.tiles else 0
    if function in (_MIN, _MAX):
        return found
    if events < 2:
        return np.nan
    return found / (events - 1) if function == _VARIANCE else np.sqrt(found / (events - 1))


@compiled
def _first(function: int, part: Record, state: RowMemory, b: int, at: int, place: int, tiles: int) -> float:
    first, counts = b + part.at, 2 * (b + part.count)
    for _ in range(tiles):
        if state.counts[counts + place] > 0:  # tiles are in time order, so the first one with events has the value
            pair = first + 2 * place
            return float((at - state.words[pair]) / 1e6 if function == _SINCE_FIRST else state.floats[pair + 1])
        place = place + 1 if place + 1 < part.tiles else 0
    return np.nan


@compiled
def _lasts(output: Record, part: Record, state: RowMemory, first: int, at: int, place: int, tiles: int, since: int, out: Floats) -> None:
    """The newest values of a list, at most as many as the output has columns, and only those inside the window."""
    to, n = output.to, max(output.n, 1)
    length = 0
    if part.tiles == 1:
        length = state.words[first]
    elif tiles > 0:
        first += place * (1 + 2 * part.n)
        length = state.words[first]
    for i in range(n):
        pair = first + 2 * (length - i) - 1
        if i >= length or state.words[pair] < since:
            out[to + i : to + n] = np.nan
            return
        out[to + i] = (at - state.words[pair]) / 1e6 if output.function == _SINCE_LAST else state.floats[pair + 1]


@compiled
def _categories(output: Record, part: Record, state: RowMemory, first: int, place: int, tiles: int, ranking: Ranking, out: Floats) -> None:
    function, to, n = output.function, output.to, output.n
    for slot in range(part.n):
        ranking.keys[slot] = state.floats[first + slot]
        found = slot_value(part, state, first, slot, place, tiles)
        ranking.counts[slot], ranking.values[slot] = found
    length = largest(ranking.counts[: part.n], ranking.keys, ranking.ranked, n)
    for i in range(n):
        slot = ranking.ranked[i]
        out[to + i] = ranking.keys[slot] if i < length else np.nan
        if function >= _BY_COUNT:
            value = np.float64(ranking.counts[slot]) if function == _BY_COUNT else ranking.values[slot]
            if function == _BY_MEAN:
                value /= ranking.counts[slot]
            out[to + n + i] = value if i < length else np.nan


@compiled
def _session(function: int, words: Ints, b: int, gap: int, at: int, kind: int) -> float:
    number = words[b + p.SESSION_NUMBER]
    if function == _SESSION_NUMBER:
        return np.float64(number)
    wanted = session_at(words, b, gap, at, kind)
    start, last, events = words[b + p.SESSION_START], words[b + p.SESSION_LAST], words[b + p.SESSION_EVENTS]
    if wanted == number - 1:
        start, last, events = words[b + p.PREVIOUS_START], words[b + p.PREVIOUS_LAST], words[b + p.PREVIOUS_EVENTS]
    elif wanted != number:
        events = 0
    if function == _SESSION_EVENTS:
        return np.float64(events)
    return (last - start) / 1e6 if events > 0 else np.nan
