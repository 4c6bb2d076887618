"""Duplicates are found exactly, against a set, across restarts that lose what no checkpoint kept."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sokuji.analyze import deduplicator
from sokuji.analyze.deduplicator import Deduplicator
from sokuji.analyze.hashing import Words, hash_pairs


def hashes(*numbers: int) -> Words:
    return hash_pairs(pa.array(["web"] * len(numbers), pa.string()), pa.array([f"m{number}" for number in numbers], pa.string()))


@settings(max_examples=60, deadline=None)
@given(batches=st.lists(st.lists(st.integers(0, 300), max_size=40), max_size=12), restarts=st.sets(st.integers(0, 11)))
def test_an_id_is_new_once(batches: list[list[int]], restarts: set[int]) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(deduplicator, "_SLOTS_MIN", 8)  # so that tables grow all the time
        seen: set[int] = set()
        marked: set[int] = set()
        marks: dict[str, int] = {}
        known = Deduplicator(Path(name), {}, ids_max=1_000_000)
        for number, batch in enumerate(batches):
            if number in restarts:
                known.close()
                known, seen = Deduplicator(Path(name), marks, ids_max=1_000_000), set(marked)
            wanted = [not (each in seen or seen.add(each)) for each in batch]  # type: ignore[func-returns-value]
            assert known.first(hashes(*batch)).tolist() == wanted
            if number % 3 == 0:
                marks, marked = known.mark(), set(seen)
        known.close()


def test_the_newest_half_is_always_known_and_memory_is_bounded(tmp_path: Path) -> None:
    known = Deduplicator(tmp_path, {}, ids_max=1000)
    for start in range(0, 10_000, 100):
        assert known.first(hashes(*range(start, start + 100))).all()
        assert not known.first(hashes(*range(max(0, start - 300), start + 100))).any()
    assert len(list(tmp_path.glob("*.ids"))) > 2
    marks = known.mark()
    known.close()
    again = Deduplicator(tmp_path, marks, ids_max=1000)
    assert len(list(tmp_path.glob("*.ids"))) == 2
    assert not again.first(hashes(*range(9_500, 10_000))).any()
    again.close()


def test_a_table_grows_with_what_it_holds(tmp_path: Path) -> None:
    known = Deduplicator(tmp_path, {}, ids_max=1_000_000)
    numbers = np.arange(100_000)
    for part in np.array_split(numbers, 20):
        assert known.first(hashes(*part)).all()
    assert not known.first(hashes(*numbers[::-1])).any()
    known.close()
