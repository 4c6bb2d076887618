"""Merge two rows into one: the row of a profile that had the events of both.

Tiles of the same time merge part by part; tiles that a ring has dropped are skipped. Sessions of the two that are at most the gap apart
become one. The session number is the sum of both numbers, minus the joined sessions. Where the order of arrival matters, the events of
the row merged into came first. The result is built in a third row, `made`, and then replaces the first row.
"""

# ruff: noqa: PLR0917 compiled functions are handed numbers and arrays, as they make no objects

from __future__ import annotations

import numpy as np

from sokuji.compiled import compiled
from sokuji.features.kernel import program as p
from sokuji.features.kernel.program import Ints, Program, Record
from sokuji.features.kernel.rows import Floats, RowMemory
from sokuji.features.kernel.sets import add_to_slot, insert_hash, largest, raise_register, register_of, slot_value
from sokuji.features.kernel.update import append
from sokuji.features.windows import WindowKind

_SESSION = int(WindowKind.SESSION)
_NEVER = np.iinfo(np.int64).min
_HASH = -0x100


@compiled
def merge_all(program: Program, into: RowMemory, into_stride: int, other: RowMemory, other_stride: int, made: RowMemory, rows: int) -> None:
    """Merge each row of `other` into the row of `into` at the same place."""
    width = program.settings[0].width
    slots = 1
    for part in program.parts:
        slots = max(slots, part.n)
    keys, counts, ranked = np.zeros(2 * slots), np.zeros(2 * slots, np.int64), np.zeros(slots, np.int64)
    for row in range(rows):
        a, b = row * into_stride, row * other_stride
        if other.words[b + p.SEEN] == 0:
            continue
        if into.words[a + p.SEEN] == 0:
            into.words[a : a + width] = other.words[b : b + width]
            continue
        made.words[:] = 0
        sessions = _join_sessions(program.settings[0].session_gap, into.words, a, other.words, b, made.words)
        _heads(program, into.words, a, other.words, b, made.words)
        for part in program.parts:
            if part.code == p.PART_DISTINCT and min(into.words[a + part.at], other.words[b + part.at]) < 0:
                made.words[part.at] = -1
        _absorb(program, into, a, sessions[0], made)
        _absorb(program, other, b, sessions[1], made)
        for part in program.parts:
            if part.code == p.PART_SLOTS:
                _merge_slots(program, part, into, a, other, b, sessions, made, keys, counts, ranked)
        into.words[a : a + width] = made.words


@compiled
def _join_sessions(gap: int, a_words: Ints, a: int, b_words: Ints, b: int, made: Ints) -> Ints:
    """Join the sessions into `made`.

    Returns, for each of the two rows, the new numbers of its last and its previous session; 0 for none.
    """
    spans = np.zeros((4, 3), np.int64)
    number = np.zeros(2, np.int64)
    for side in range(2):
        words, at = (a_words, a) if side == 0 else (b_words, b)
        number[side] = words[at + p.SESSION_NUMBER]
        for i in range(3):
            spans[2 * side, i] = words[at + p.SESSION_START + i]
            spans[2 * side + 1, i] = words[at + p.PREVIOUS_START + i]
    # The previous session exists from the second session on.
    order = np.argsort(spans[:, 0], kind="mergesort")
    group, groups, last, joined = np.zeros(4, np.int64), 0, _NEVER, 0
    for i in order:
        if spans[i, 2] == 0:
            continue
        if groups == 0 or spans[i, 0] - last > gap:
            groups += 1
            made[p.PREVIOUS_START : p.PREVIOUS_EVENTS + 1] = made[p.SESSION_START : p.SESSION_EVENTS + 1]
            made[p.SESSION_START], made[p.SESSION_EVENTS] = spans[i, 0], 0
            last = spans[i, 1]
        else:
            joined += 1
        group[i] = groups
        last = max(last, spans[i, 1])
        made[p.SESSION_LAST] = last
        made[p.SESSION_EVENTS] += spans[i, 2]
    made[p.SESSION_NUMBER] = number[0] + number[1] - joined
    # Session numbers, counted back from the last group.
    for i in range(4):
        group[i] = made[p.SESSION_NUMBER] - groups + group[i] if group[i] > 0 else 0
    return group.reshape(2, 2)


@compiled
def _heads(program: Program, a_words: Ints, a: int, b_words: Ints, b: int, made: Ints) -> None:
    made[p.CLOCK] = max(a_words[a + p.CLOCK], b_words[b + p.CLOCK])
    made[p.SEEN] = a_words[a + p.SEEN] + b_words[b + p.SEEN]
    for window in program.windows:
        made[window.head] = max(a_words[a + window.head], b_words[b + window.head])
        if window.kind == _SESSION:
            made[window.head] = made[p.SESSION_NUMBER]


@compiled
def _target(window: Record, tile: int, head: int, made_head: int, sessions: Ints) -> int:
    """The place of a tile after the merge; -1 if the ring has dropped it."""
    if window.kind == _SESSION:
        tile = sessions[head - tile]
        if tile == 0:
            return -1
    return int(tile % window.tiles) if tile > made_head - window.tiles else -1


@compiled
def _absorb(program: Program, source: RowMemory, b: int, sessions: Ints, made: RowMemory) -> None:
    # Tile by tile, with all parts of one tile before the next: merging a part needs the counts and sums merged so far.
    for w in range(program.windows.size):
        window = program.windows[w]
        head, made_head = source.words[b + window.head], made.words[window.head]
        for tile in range(head - window.tiles + 1, head + 1):
            place = tile % window.tiles
            target = _target(window, tile, head, made_head, sessions)
            if target < 0:
                continue
            for part in program.parts:
                if part.window != w or part.code == p.PART_SLOTS:
                    continue
                if part.code == p.PART_LIST:
                    first = b + part.at + place * (1 + 2 * part.n)
                    for i in range(source.words[first]):
                        time, value = source.words[first + 1 + 2 * i], source.floats[first + 2 + 2 * i]
                        append(made, part.at + target * (1 + 2 * part.n), part.n, time, value)
                elif part.code == p.PART_DISTINCT:
                    _absorb_distinct(part, source, b + part.at, place, made, target, made_head)
                else:
                    _absorb_tile(part, source, b, place, made, target)


@compiled
def _absorb_tile(part: Record, source: RowMemory, b: int, place: int, made: RowMemory, target: int) -> None:
    code, at, to = part.code, b + part.at + place, part.at + target
    if code == p.PART_COUNT:
        made.counts[2 * part.at + target] += source.counts[2 * (b + part.at) + place]
        return
    value = source.floats[at]
    if code == p.PART_SUM:
        made.floats[to] += value
        return
    here, before = source.counts[2 * (b + part.count) + place], made.counts[2 * part.count + target]
    if here == 0:
        return
    if code == p.PART_MIN:
        made.floats[to] = value if before == 0 else min(value, made.floats[to])
    elif code == p.PART_MAX:
        made.floats[to] = value if before == 0 else max(value, made.floats[to])
    elif code == p.PART_M2:
        made.floats[to] += value
        if before > 0:
            difference = source.floats[b + part.sum + place] / here - made.floats[part.sum + target] / before
            made.floats[to] += difference * difference * (here * before / (here + before))
    elif before == 0 or source.words[at + place] < made.words[to + target]:
        made.words[to + target] = source.words[at + place]
        made.floats[to + target + 1] = source.floats[at + place + 1]


@compiled
def _absorb_distinct(part: Record, source: RowMemory, at: int, place: int, made: RowMemory, target: int, head: int) -> None:
    if source.words[at] < 0:
        for index in range(part.n):
            raise_register(made, part.at, part.n, target, index, register_of(source, at, part.n, place, index))
        return
    for i in range(source.words[at]):
        word = source.words[at + 1 + i]
        if word & 0xFF == place:
            insert_hash(part, made, part.at, word & _HASH, target, head)


@compiled
def _merge_slots(
    program: Program,
    part: Record,
    a_state: RowMemory,
    a: int,
    b_state: RowMemory,
    b: int,
    sessions: Ints,
    made: RowMemory,
    keys: Floats,
    counts: Ints,
    ranked: Ints,
) -> None:
    """Merge the categories of both rows. If there are more than slots, those with the most events are kept."""
    n, window = part.n, program.windows[part.window]
    found = 0
    for side in range(2):
        state, at = (a_state, a + part.at) if side == 0 else (b_state, b + part.at)
        for slot in range(n):
            if state.counts[2 * (at + n) + slot] == 0:
                continue
            place = 0
            while place < found and keys[place] != state.floats[at + slot]:
                place += 1
            if place == found:
                keys[place], counts[place] = state.floats[at + slot], 0
                found += 1
            counts[place] += state.counts[2 * (at + n) + slot]
    kept = largest(counts[:found], keys, ranked, n)
    for to in range(kept):
        made.floats[part.at + to] = keys[ranked[to]]
        for side in range(2):
            state, row = (a_state, a) if side == 0 else (b_state, b)
            at, head = row + part.at, state.words[row + part.head]
            for slot in range(n):
                if state.counts[2 * (at + n) + slot] == 0 or state.floats[at + slot] != keys[ranked[to]]:
                    continue
                for tile in range(head - part.tiles + 1, head + 1):
                    target = _target(window, tile, head, made.words[part.head], sessions[side])
                    events, value = slot_value(part, state, at, slot, tile % part.tiles, 1)
                    if target >= 0 and events > 0:
                        add_to_slot(part, made, part.at, to, target, events, value)
