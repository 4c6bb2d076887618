"""The digest that represents a key in a store: BLAKE2b of its UTF-8 bytes, 128 bits, with a salt that only the store knows.

Keys themselves are not stored. Two of 10 billion keys share a digest with a probability of 1.5e-19. Without the salt, nobody can search
for such a pair, or for keys that collide in the index.
"""

from __future__ import annotations

import hashlib
import struct

SALT_BYTES = 16
_WORDS = struct.Struct("<QQ")


def digest(key: str, salt: bytes) -> tuple[int, int]:
    """The digest of one key as two 64-bit numbers, (high, low)."""
    return _WORDS.unpack(hashlib.blake2b(key.encode(), digest_size=16, salt=salt).digest())
