"""Parts that tell values apart: distinct values (exact, then HyperLogLog), and categories in space-saving counters."""

# ruff: noqa: PLR0917 compiled functions are handed numbers and arrays, as they make no objects

from __future__ import annotations

import numpy as np

from sokuji.compiled import compiled
from sokuji.features.kernel import program as p
from sokuji.features.kernel.program import Ints, Record
from sokuji.features.kernel.rows import Floats, RowMemory

_RANK_MAX = 15  # the maximum of 4 bits: enough for 64 * 2^14 different values
_HASH = -0x100  # all bits except those of the place


@compiled
def hash_of(value: float) -> int:
    """64 mixed bits of a number (the finalizer of splitmix64); the low 8 bits are 0."""
    bits = np.float64(value + 0.0).view(np.uint64)  # + 0.0: the two zeros are one value
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return int(np.int64(bits ^ (bits >> np.uint64(31))) & _HASH)


@compiled
def insert_hash(part: Record, state: RowMemory, at: int, hashed: int, place: int, head: int) -> None:
    """Record that a value with this hash was seen in the tile at `place`. `head` is the newest tile's number."""
    words, tiles, n, apart = state.words, part.tiles, part.n, part.other
    length = words[at]
    if length < 0:
        _register(state, at, n, place, hashed)
        return
    for i in range(length):
        word = words[at + 1 + i]
        if word & _HASH == hashed and (apart == 0 or word & 0xFF == place):
            # Windows reach from some time until now, so the last time a value was seen is enough.
            if (head - place) % tiles < (head - (word & 0xFF)) % tiles:
                words[at + 1 + i] = hashed | place
            return
    if length < tiles * n // 16:
        words[at + 1 + length] = hashed | place
        words[at] = length + 1
        return
    exact = words[at + 1 : at + 1 + length].copy()
    words[at + 1 : at + 1 + tiles * n // 16] = 0
    words[at] = -1
    for word in exact:
        _register(state, at, n, word & 0xFF, word & _HASH)
    _register(state, at, n, place, hashed)


@compiled
def _register(state: RowMemory, at: int, n: int, place: int, hashed: int) -> None:
    bits = hashed >> 8
    index = bits & (n - 1)
    rest = (bits & 0xFFFFFFFFFFFFFF) // n
    rank = 1
    while rest & 1 == 0 and rank < _RANK_MAX:
        rest >>= 1
        rank += 1
    raise_register(state, at, n, place, index, rank)


@compiled
def raise_register(state: RowMemory, at: int, n: int, place: int, index: int, rank: int) -> None:
    """Raise a register to at least `rank`."""
    byte = 8 * (at + 1) + (place * n + index) // 2
    shift = 4 * (index & 1)
    both = np.int64(state.bytes[byte])
    if (both >> shift) & 15 < rank:
        state.bytes[byte] = (both & ~(15 << shift)) | (rank << shift)


@compiled
def register_of(state: RowMemory, at: int, n: int, place: int, index: int) -> int:
    """The rank of a register."""
    return (int(state.bytes[8 * (at + 1) + (place * n + index) // 2]) >> (4 * (index & 1))) & 15


@compiled
def count_distinct(part: Record, state: RowMemory, at: int, place: int, tiles: int) -> float:
    """The number of different values in `tiles` tiles from `place` on."""
    ring, n, length = part.tiles, part.n, state.words[at]
    if length >= 0:
        found = 0
        for i in range(length):
            found += ((state.words[at + 1 + i] & 0xFF) - place) % ring < tiles
        return float(found)
    total, empty = 0.0, 0
    for index in range(n):
        rank = 0
        for tile in range(tiles):
            rank = max(rank, register_of(state, at, n, (place + tile) % ring, index))
        total += 2.0**-rank
        empty += rank == 0
    estimate = 0.7213 / (1 + 1.079 / n) * n * n / total if n > 64 else 0.709 * n * n / total
    if estimate <= 2.5 * n and empty > 0:
        estimate = n * np.log(n / empty)  # linear counting, which is more accurate while many registers are empty
    return float(np.round(estimate))


@compiled
def slot_for(part: Record, state: RowMemory, at: int, category: float) -> int:
    """The slot of a category: its own, a free one, or the one with the fewest events, which is replaced."""
    n, tiles = part.n, part.tiles
    totals = 2 * (at + n)
    fewest = 0
    for slot in range(n):
        if state.counts[totals + slot] > 0 and state.floats[at + slot] == category:
            return slot
        if state.counts[totals + slot] < state.counts[totals + fewest]:
            fewest = slot
    state.floats[at + fewest] = category
    # Space-saving: the new category takes over the counts, so counts are never too small. Sums are reset: they belong to the old category.
    if part.other >= 0:
        counts = 2 * (at + n + (n + 1) // 2) + fewest * tiles
        state.counts[counts : counts + tiles] = 0
        state.counts[totals + fewest] = 0
    return fewest


@compiled
def add_to_slot(part: Record, state: RowMemory, at: int, slot: int, place: int, events: int, value: float) -> None:
    """Add `events` events, whose sum, minimum or maximum is `value`, to a tile of a slot."""
    n, tiles, code = part.n, part.tiles, part.other
    count = 2 * (at + n + (n + 1) // 2) + slot * tiles + place
    before = state.counts[count]
    state.counts[count] += events
    state.counts[2 * (at + n) + slot] += events
    if code < 0:
        return
    other = at + n + (n + 1) // 2 + (n * tiles + 1) // 2 + slot * tiles + place
    held = state.floats[other]
    if before == 0:
        state.floats[other] = value
    elif code == p.PART_SUM:
        state.floats[other] = held + value
    elif code == p.PART_MIN:
        state.floats[other] = min(held, value)
    else:
        state.floats[other] = max(held, value)


@compiled
def slot_value(part: Record, state: RowMemory, at: int, slot: int, place: int, tiles: int) -> tuple[int, float]:
    """The number of events of a slot in `tiles` tiles from `place` on, and their sum, minimum or maximum."""
    n, ring = part.n, part.tiles
    counts = 2 * (at + n + (n + 1) // 2) + slot * ring
    others = at + n + (n + 1) // 2 + (n * ring + 1) // 2 + slot * ring
    events, value, code = 0, 0.0, part.other
    for _ in range(tiles):
        here = state.counts[counts + place]
        if here > 0 and code >= 0:
            held = state.floats[others + place]
            if events == 0:
                value = held
            elif code == p.PART_SUM:
                value += held
            elif code == p.PART_MIN:
                value = min(value, held)
            else:
                value = max(value, held)
        events += here
        place = place + 1 if place + 1 < ring else 0
    return events, value


@compiled
def largest(counts: Ints, keys: Floats, ranked: Ints, n: int) -> int:
    """Write the places of the `n` largest counts above 0 into `ranked`, ties by the smaller key. Returns how many there are."""
    found = 0
    for place in range(counts.size):
        if counts[place] <= 0:
            continue
        at = min(found, n)
        while at > 0 and (
            counts[ranked[at - 1]] < counts[place] or (counts[ranked[at - 1]] == counts[place] and keys[ranked[at - 1]] > keys[place])
        ):
            if at < n:
                ranked[at] = ranked[at - 1]
            at -= 1
        if at < n:
            ranked[at] = place
            found = min(found + 1, n)
    return found
