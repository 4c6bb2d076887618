"""128-bit hashes of strings in Arrow columns, 60 ns each.

MurmurHash3's finalizer over 8-byte words, two lanes with different constants. It tells apart the messages of a site, but does not
withstand an attacker who searches for collisions. Collisions would only make the attacker's own events count once.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sokuji.compiled import compiled, fixed, inlined

Words = npt.NDArray[np.uint64]


def hash_messages(messages: pa.RecordBatch) -> Words:
    """A hash of `source` and `message_id` for each message, shape [n, 2]."""
    return hash_pairs(cast("pa.StringArray", messages.column("source")), cast("pa.StringArray", messages.column("message_id")))


def hash_pairs(first: pa.StringArray, second: pa.StringArray) -> Words:
    """Hashes of pairs of strings without NULLs, shape [n, 2]."""
    result = np.empty((len(first), 2), np.uint64)
    result[:, 0], result[:, 1] = 0x9AE16A3B2F90404F, 0xC949C7DEFD3F2B17
    for column in (first, second):
        _mix(*_buffers(column), result)
    return result


def _buffers(column: pa.StringArray) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    _, offsets, data = column.buffers()
    if len(column) == 0 or data is None:
        return fixed(np.zeros(len(column) + 1, np.int32)), fixed(np.zeros(0, np.uint8))
    places = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    return fixed(places), fixed(np.frombuffer(data, np.uint8))


@inlined
def _scramble(value: np.uint64, factor: np.uint64) -> np.uint64:
    value ^= value >> np.uint64(33)
    value *= factor
    value ^= value >> np.uint64(29)
    value *= np.uint64(0x9E3779B97F4A7C15)
    return value ^ (value >> np.uint64(32))


@compiled
def _mix(offsets: npt.NDArray[np.int32], data: npt.NDArray[np.uint8], result: Words) -> None:
    for row in range(len(result)):
        a, b = result[row]
        start, end = offsets[row], offsets[row + 1]
        at = start
        while at < end:
            word = np.uint64(0)
            for place in range(min(8, end - at)):
                word |= np.uint64(data[at + place]) << np.uint64(8 * place)
            a = _scramble(a ^ word, np.uint64(0xFF51AFD7ED558CCD))
            b = _scramble(b + word, np.uint64(0xC4CEB9FE1A85EC53))
            at += 8
        length = np.uint64(end - start)  # the length tells "a" + "bc" from "ab" + "c"
        result[row, 0] = _scramble(a ^ length, np.uint64(0xC4CEB9FE1A85EC53))
        result[row, 1] = _scramble(b + length, np.uint64(0xFF51AFD7ED558CCD))
