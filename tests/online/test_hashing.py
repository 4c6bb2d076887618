"""The digests of a batch equal the digests of one key at a time."""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from sokuji.online.digest import digest
from sokuji.online.hashing import Hasher
from tests.online.rows import keys

LONG = st.integers(100, 400).map(lambda size: "x" * size)  # more than one block of 128 bytes


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.text() | LONG, max_size=20), st.binary(min_size=16, max_size=16), st.integers(0, 3))
def test_a_batch_is_hashed_as_blake2b_does(names: list[str], salt: bytes, start: int) -> None:
    expected = [hashlib.blake2b(name.encode(), digest_size=16, salt=salt).digest() for name in names]
    found = Hasher(salt).digests(keys(names).slice(start))
    assert [row.tobytes() for row in found] == expected[start:]
    assert [tuple(row) for row in found.tolist()] == [digest(name, salt) for name in names[start:]]
