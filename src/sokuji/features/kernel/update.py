"""Apply one event to the parts of its profile's row."""

# ruff: noqa: PLR0917 compiled functions are handed numbers and arrays, as they make no objects

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sokuji.compiled import compiled
from sokuji.features.kernel import program as p
from sokuji.features.kernel.program import Ints, Program, Record
from sokuji.features.kernel.rows import Floats, RowMemory, enter
from sokuji.features.kernel.sets import add_to_slot, hash_of, insert_hash, slot_for


@compiled
def update(
    program: Program, state: RowMemory, b: int, time: int, event: int, filters: npt.NDArray[np.uint8], columns: Floats, places: Ints
) -> None:
    """Apply event number `event` of the batch to the row at `b`."""
    opened = enter(program, state, b, time, places)
    for k in range(program.parts.size):
        part = program.parts[k]
        if (part.filter >= 0 and filters[part.filter, event] == 0) or (part.filter == p.SESSION_OPENED and not opened):
            continue
        place = places[part.window]
        value = 0.0 if part.value < 0 else columns[part.value, event]
        # NaN means NULL. Infinities would stay in sums as long as their tile.
        if place < 0 or not np.isfinite(value):
            continue
        if part.code < p.PART_LIST:
            _tile(part, state, b, place, value, time)
        elif part.code == p.PART_LIST:
            append(state, b + part.at + place * (1 + 2 * part.n), part.n, time, value)
        elif part.code == p.PART_DISTINCT:
            insert_hash(part, state, b + part.at, hash_of(value), place, state.words[b + part.head])
        else:
            category = columns[part.by, event]
            if np.isfinite(category):
                slot = slot_for(part, state, b + part.at, category)
                add_to_slot(part, state, b + part.at, slot, place, 1, value)


@compiled
def _tile(part: Record, state: RowMemory, b: int, place: int, value: float, time: int) -> None:
    """Update one tile. Parts are ordered so that counts and sums are still those before the event here."""
    floats, code, at = state.floats, part.code, b + part.at + place
    if code == p.PART_COUNT:
        state.counts[2 * (b + part.at) + place] += 1
        return
    if code == p.PART_SUM:
        floats[at] += value
        return
    before = state.counts[2 * (b + part.count) + place]
    if code == p.PART_MIN:
        if before == 0 or value < floats[at]:
            floats[at] = value
    elif code == p.PART_MAX:
        if before == 0 or value > floats[at]:
            floats[at] = value
    elif code == p.PART_M2:
        if before > 0:
            total = floats[b + part.sum + place]
            floats[at] += (value - total / before) * (value - (total + value) / (before + 1))
    elif code == p.PART_FIRST:
        at += place
        if before == 0 or time < state.words[at]:
            state.words[at] = time
            floats[at + 1] = value


@compiled
def append(state: RowMemory, at: int, n: int, time: int, value: float) -> None:
    """Insert into a list of the last `n`, sorted by time; after entries with the same time, which came earlier."""
    words, floats = state.words, state.floats
    length = words[at]
    place = length
    while place > 0 and words[at + 2 * place - 1] > time:
        place -= 1
    if length == n:
        if place == 0:
            return
        place -= 1
        for i in range(at + 1, at + 1 + 2 * place):
            words[i] = words[i + 2]
    else:
        words[at] = length + 1
        for i in range(at + 2 * length, at + 2 * place, -1):
            words[i + 2] = words[i]
    words[at + 1 + 2 * place] = time
    floats[at + 2 + 2 * place] = value
