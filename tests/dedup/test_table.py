"""The worker's deduplication index: growing tables, in files that are valid up to a mark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sokuji.dedup import table
from sokuji.dedup.hashing import hash_pairs
from sokuji.dedup.rule import Mask, Places, RepeatRule
from sokuji.dedup.table import Deduplicator

RULE = RepeatRule(2_000, 1)  # stretches of 1,000


def first(known: Deduplicator, numbers: Sequence[int], offset: int = 0) -> Mask:
    """Which messages are no repeats that stand in the log from `offset` on."""
    hashes = hash_pairs(pa.array(["web"] * len(numbers), pa.string()), pa.array([f"m{number}" for number in numbers], pa.string()))
    return known.first(hashes, Places(np.zeros(len(numbers), np.int32), np.arange(offset, offset + len(numbers))))


@pytest.mark.parametrize("slots", [8, 1 << 16])
def test_a_table_grows_with_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slots: int) -> None:
    monkeypatch.setattr(table, "_SLOTS_MIN", slots)
    known = Deduplicator(tmp_path, None, RepeatRule(1_000_000, 1))
    numbers = range(100_000)
    for start in range(0, 100_000, 5_000):
        assert first(known, numbers[start : start + 5_000], start).all()
    assert not first(known, numbers[::-1], 100_000).any()
    known.close()


def test_files_are_deleted_once_no_checkpoint_needs_them(tmp_path: Path) -> None:
    known = Deduplicator(tmp_path, None, RULE)
    marks = []
    for start in range(0, 20_000, 100):
        assert first(known, range(start, start + 100), start).all()
        if start % 500 == 0:
            marks.append(known.mark())
            assert len(list(tmp_path.glob("*.ids"))) <= 4
    known.close()
    again = Deduplicator(tmp_path, marks[-2], RULE)  # the last may not have become durable
    assert again.is_complete
    assert not first(again, range(18_000, 18_900), 19_100).any()
    again.close()


@pytest.mark.parametrize("damage", ["flip", "cut", "delete", "older"])
def test_damage_is_noticed(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    known = Deduplicator(tmp_path, None, RULE)
    first(known, range(100))
    known.mark()
    path = tmp_path / "0-0.ids"
    older = path.read_bytes()
    first(known, range(100, 200), 100)
    mark = known.mark()
    known.close()
    content = path.read_bytes()
    changed = {"flip": content[:-1] + bytes([content[-1] ^ 4]), "cut": content[:-16], "delete": b"", "older": older}[damage]
    path.write_bytes(changed)
    if damage == "delete":
        path.unlink()
    again = Deduplicator(tmp_path, mark, RULE)
    assert not again.is_complete
    assert f"{path} is damaged" in caplog.text
    assert first(again, range(200), 200).all()  # so that it can be learned again
    again.close()


def test_what_was_marked_by_another_rule_counts_as_nothing(tmp_path: Path) -> None:
    known = Deduplicator(tmp_path, None, RULE)
    first(known, range(10))
    mark = known.mark()
    known.close()
    again = Deduplicator(tmp_path, mark, RepeatRule(100, 1))
    assert not again.is_complete
    again.close()
