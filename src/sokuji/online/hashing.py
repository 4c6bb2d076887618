"""Digests of a batch of keys: BLAKE2b (RFC 7693) in machine code, 0.13 us per key, with the same result as `digest.digest`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sokuji.compiled import compiled, fixed, inlined
from sokuji.online.base import Keys
from sokuji.online.checks import check_keys
from sokuji.online.digest import SALT_BYTES

Digests = npt.NDArray[np.uint64]
"""u64[n, 2]: (high, low) of each key."""

_WORD = np.uint64
_BLOCK_BYTES = 128
_IV = np.array(
    [
        0x6A09E667F3BCC908,
        0xBB67AE8584CAA73B,
        0x3C6EF372FE94F82B,
        0xA54FF53A5F1D36F1,
        0x510E527FADE682D1,
        0x9B05688C2B3E6C1F,
        0x1F83D9ABFB41BD6B,
        0x5BE0CD19137E2179,
    ],
    np.uint64,
)
_SIGMA = np.array(
    [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
        [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
        [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
        [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
        [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
        [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
        [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
        [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
        [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    ],
    np.uint8,
)


class Hasher:
    """Hashes keys with the salt of one store."""

    def __init__(self, salt: bytes) -> None:
        parameters = np.zeros(64, np.uint8)  # RFC 7693, 2.8: digest length, key length, fanout, depth, ..., salt
        parameters[[0, 2, 3]] = 16, 1, 1
        parameters[32 : 32 + SALT_BYTES] = np.frombuffer(salt, np.uint8)
        self._start = _IV ^ parameters.view(np.uint64)
        self._last: tuple[Keys, Digests] | None = None

    def digests(self, keys: Keys) -> Digests:
        """One digest per key. The digests of the last array are cached, because rows that were read are often written under the same keys.

        Raises:
            OnlineStoreError: `keys` is not an array of `pa.string()`, or has nulls.
        """
        check_keys(keys)
        if self._last is not None and self._last[0] is keys:
            return self._last[1]
        result = np.empty((len(keys), 2), np.uint64)
        _, offsets, data = keys.buffers()
        if len(keys):
            places = fixed(np.frombuffer(offsets, np.int32)[keys.offset : keys.offset + len(keys) + 1])
            _hash_all(places, fixed(np.frombuffer(data or b"", np.uint8)), self._start, result)
        self._last = keys, result
        return result


@inlined
def _mix(  # noqa: PLR0917  -- inlined code
    a: np.uint64, b: np.uint64, c: np.uint64, d: np.uint64, x: np.uint64, y: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    a = a + b + x
    d = ((d ^ a) >> _WORD(32)) | ((d ^ a) << _WORD(32))
    c = c + d
    b = ((b ^ c) >> _WORD(24)) | ((b ^ c) << _WORD(40))
    a = a + b + y
    d = ((d ^ a) >> _WORD(16)) | ((d ^ a) << _WORD(48))
    c = c + d
    b = ((b ^ c) >> _WORD(63)) | ((b ^ c) << _WORD(1))
    return a, b, c, d


@compiled
def _compress(h: npt.NDArray[np.uint64], m: npt.NDArray[np.uint64], count: np.uint64, last: np.uint64) -> None:
    # Scalars instead of an array, so that they stay in registers: four times as fast.
    v0, v1, v2, v3, v4, v5, v6, v7 = h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]
    v8, v9, v10, v11 = _IV[0], _IV[1], _IV[2], _IV[3]
    v12, v13, v14, v15 = _IV[4] ^ count, _IV[5], _IV[6] ^ last, _IV[7]
    for turn in range(12):
        s = _SIGMA[turn]
        v0, v4, v8, v12 = _mix(v0, v4, v8, v12, m[s[0]], m[s[1]])
        v1, v5, v9, v13 = _mix(v1, v5, v9, v13, m[s[2]], m[s[3]])
        v2, v6, v10, v14 = _mix(v2, v6, v10, v14, m[s[4]], m[s[5]])
        v3, v7, v11, v15 = _mix(v3, v7, v11, v15, m[s[6]], m[s[7]])
        v0, v5, v10, v15 = _mix(v0, v5, v10, v15, m[s[8]], m[s[9]])
        v1, v6, v11, v12 = _mix(v1, v6, v11, v12, m[s[10]], m[s[11]])
        v2, v7, v8, v13 = _mix(v2, v7, v8, v13, m[s[12]], m[s[13]])
        v3, v4, v9, v14 = _mix(v3, v4, v9, v14, m[s[14]], m[s[15]])
    h[0] ^= v0 ^ v8
    h[1] ^= v1 ^ v9
    h[2] ^= v2 ^ v10
    h[3] ^= v3 ^ v11
    h[4] ^= v4 ^ v12
    h[5] ^= v5 ^ v13
    h[6] ^= v6 ^ v14
    h[7] ^= v7 ^ v15


@compiled
def _hash_all(offsets: npt.NDArray[np.int32], data: npt.NDArray[np.uint8], start: npt.NDArray[np.uint64], result: Digests) -> None:
    h, m = np.empty(8, np.uint64), np.empty(16, np.uint64)
    block = m.view(np.uint8)
    for number in range(len(result)):
        first, end = offsets[number], offsets[number + 1]
        at = first
        h[:] = start
        while end - at > _BLOCK_BYTES:
            block[:] = data[at : at + _BLOCK_BYTES]
            at += _BLOCK_BYTES
            _compress(h, m, _WORD(at - first), _WORD(0))
        m[:] = 0
        for place in range(at, end):
            block[place - at] = data[place]
        _compress(h, m, _WORD(end - first), ~_WORD(0))
        result[number, 0], result[number, 1] = h[0], h[1]
