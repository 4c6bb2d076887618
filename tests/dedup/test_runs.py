"""The sink's deduplication index, in files beside the offsets that it reflects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from sokuji.dedup.rule import Places, RepeatRule
from sokuji.dedup.runs import Ids, Seen

RULE = RepeatRule(2_000, 1)  # stretches of 1,000


def take_in(seen: Seen, numbers: Sequence[int], offset: int = 0) -> list[bool]:
    """Ask which messages are new that stand in the log from `offset` on, and remember those."""
    ids = Ids(np.array(numbers, np.uint64) * np.uint64(0x9E3779B97F4A7C15), np.zeros(len(numbers), np.uint64))
    places = Places(np.zeros(len(numbers), np.int32), np.arange(offset, offset + len(numbers)))
    new = seen.is_new(ids, places)
    seen.add(ids.take(new), places.take(new))
    return [bool(is_new) for is_new in new]


def test_what_was_not_saved_is_not_there(tmp_path: Path) -> None:
    seen = Seen(tmp_path, RULE)
    take_in(seen, [1])
    seen.save({"sink-0": 1})
    take_in(seen, [2], 1)
    after_crash = Seen(tmp_path, RULE)
    assert after_crash.offsets == {"sink-0": 1}
    assert take_in(after_crash, [1, 2], 1) == [False, True]


def test_offsets_are_kept_beside_the_ids_and_never_go_back(tmp_path: Path) -> None:
    seen = Seen(tmp_path, RULE)
    assert seen.offsets is None
    seen.save({"sink-0": 5, "sink-1": 3})
    seen.save({"sink-0": 4, "sink-1": 7})
    assert Seen(tmp_path, RULE).offsets == {"sink-0": 5, "sink-1": 7}


def test_files_that_were_lost_count_as_nothing_saved(tmp_path: Path) -> None:
    seen = Seen(tmp_path, RULE)
    take_in(seen, [1])
    seen.save({"sink-0": 1})
    for path in tmp_path.glob("*.ids"):
        path.unlink()
    assert Seen(tmp_path, RULE).offsets is None


def test_what_was_saved_by_another_rule_counts_as_nothing(tmp_path: Path) -> None:
    seen = Seen(tmp_path, RULE)
    take_in(seen, [1])
    seen.save({"sink-0": 1})
    assert Seen(tmp_path, RepeatRule(200, 1)).offsets is None


def test_only_the_files_in_use_remain_and_they_are_few(tmp_path: Path) -> None:
    seen = Seen(tmp_path, RULE)
    for number in range(0, 5_000, 50):
        assert all(take_in(seen, range(number, number + 50), number))
        seen.save({})
        assert len(list(tmp_path.glob("*.ids"))) < 12
    assert len(seen) == len(Seen(tmp_path, RULE)) == 2_000


def test_a_table_that_is_behind_the_ids_is_another_one(tmp_path: Path) -> None:
    seen = Seen(tmp_path, RULE)
    assert seen.reflects({})
    seen.save({"sink-0": 5})
    assert seen.reflects({"sink-0": 5, "sink-1": 9})
    assert not seen.reflects({"sink-0": 4})
    assert not seen.reflects({})


@pytest.mark.parametrize("bit", [0, 7])
def test_the_writer_notices_a_flipped_bit(tmp_path: Path, bit: int, caplog: pytest.LogCaptureFixture) -> None:
    seen = Seen(tmp_path, RULE)
    take_in(seen, range(100))
    seen.save({"sink-0": 100})
    [path] = tmp_path.glob("*.ids")
    content = bytearray(path.read_bytes())
    content[700] ^= 1 << bit
    path.write_bytes(content)
    assert Seen(tmp_path, RULE, check=True).offsets is None
    assert f"{path} is damaged" in caplog.text
