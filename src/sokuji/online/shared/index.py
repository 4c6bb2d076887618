"""The index from digests to slots, vectorized over a batch: open addressing, linear probing, at most half full.

The order of stores matters: readers in other processes walk the same words at the same time (see `table`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sokuji.compiled import compiled, inlined
from sokuji.online.hashing import Digests
from sokuji.online.shared.ordered import release_fence, store_release

Words = npt.NDArray[np.uint64]
"""The index: u64[buckets]."""
Slots = npt.NDArray[np.uint64]
"""The slots: u64[slots, 3 + width / 8]."""
SlotNumbers = npt.NDArray[np.int32]

_WORD = np.uint64
_ABSENT = -1
_REMOVED_AT_A_TIME = 256  # a reader that misses while entries move must retry, so this takes only about 50 us


@inlined
def _slot_of(entry: np.uint64) -> int:
    return np.int64(entry & _WORD(0xFFFFFFFF)) - 1  # type: ignore[return-value]  # an int64 is what a kernel calls int


@compiled
def find(index: Words, slots: Slots, high: np.uint64, low: np.uint64) -> int:
    """The slot of a digest, or -1. The whole digest decides; the 32 bits in an entry only save comparing most other slots."""
    mask = _WORD(len(index) - 1)
    bucket = high & mask
    while index[bucket] != _WORD(0):
        entry = index[bucket]
        if entry >> _WORD(32) == low >> _WORD(32):
            slot = _slot_of(entry)
            if slots[slot, 1] == high and slots[slot, 2] == low:
                return slot
        bucket = (bucket + _WORD(1)) & mask
    return _ABSENT


@compiled
def find_all(index: Words, slots: Slots, digests: Digests, result: SlotNumbers) -> None:
    """Call `find` for each digest."""
    for number in range(len(digests)):
        result[number] = find(index, slots, digests[number, 0], digests[number, 1])


@compiled
def add(index: Words, high: np.uint64, low: np.uint64, slot: int) -> None:
    """Add a digest that is not in the index and whose slot is already filled."""
    mask = _WORD(len(index) - 1)
    bucket = high & mask
    while index[bucket] != _WORD(0):
        bucket = (bucket + _WORD(1)) & mask
    store_release(index, bucket, (low >> _WORD(32)) << _WORD(32) | _WORD(slot + 1))


@compiled
def add_all(index: Words, slots: Slots, count: int) -> None:
    """Add the digests of the first `count` slots."""
    for slot in range(count):
        add(index, slots[slot, 1], slots[slot, 2], slot)


@compiled
def remove_all(index: Words, slots: Slots, version: Words, victims: SlotNumbers) -> None:
    """Remove the entries of these slots. `version`, u64[1], is odd while entries move."""
    for start in range(0, len(victims), _REMOVED_AT_A_TIME):
        store_release(version, 0, version[0] + _WORD(1))
        release_fence()
        for number in range(start, min(start + _REMOVED_AT_A_TIME, len(victims))):
            _remove(index, slots, victims[number])
        store_release(version, 0, version[0] + _WORD(1))


@compiled
def _remove(index: Words, slots: Slots, slot: int) -> None:
    mask = _WORD(len(index) - 1)
    hole = slots[slot, 1] & mask
    while _slot_of(index[hole]) != slot:
        hole = (hole + _WORD(1)) & mask
    # Move up each entry that may stand in the hole. A mark in the hole instead would lengthen every later probe.
    bucket = (hole + _WORD(1)) & mask
    while index[bucket] != _WORD(0):
        home = slots[_slot_of(index[bucket]), 1] & mask
        if (bucket - home) & mask >= (bucket - hole) & mask:
            store_release(index, hole, index[bucket])
            hole = bucket
        bucket = (bucket + _WORD(1)) & mask
    store_release(index, hole, _WORD(0))
