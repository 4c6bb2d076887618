"""Which messages count as repeats, against a model that remembers every message with its minute."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sokuji.errors import SokujiError
from sokuji.lake.seen import Ids, Seen, make_ids
from tests.lake.platform import START_US

WINDOW = 10  # minutes
MINUTE_US = 60_000_000
Message = tuple[str, int]  # its id, and the minute it was received in


def ids_of(messages: Sequence[Message]) -> Ids:
    hashes = [hashlib.md5(name.encode()).digest() for name, _ in messages]
    halves = np.array([[int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")] for digest in hashes], np.uint64)
    received = np.array([START_US + minute * MINUTE_US for _, minute in messages], np.int64)
    high, low = halves.reshape(-1, 2).T
    return make_ids(high, low, received)


def take_in(seen: Seen, messages: Sequence[Message]) -> list[bool]:
    """Ask which messages are new, and remember those."""
    ids = ids_of(messages)
    new = seen.is_new(ids)
    seen.add(ids.take(new), START_US + max((minute for _, minute in messages), default=0) * MINUTE_US)
    return [bool(is_new) for is_new in new]


class Model:
    """The rule itself: a message is a repeat if one that was new came within the window, before or after it."""

    def __init__(self) -> None:
        self.minutes: dict[str, list[int]] = {}

    def take_in(self, messages: Sequence[Message]) -> list[bool]:
        return [self._take_in(name, minute) for name, minute in messages]

    def _take_in(self, name: str, minute: int) -> bool:
        known = self.minutes.setdefault(name, [])
        if any(abs(other - minute) <= WINDOW for other in known):
            return False
        known.append(minute)
        return True


def open_seen(folder: Path, *, ids_max: int = 1_000_000, window: int = WINDOW) -> Seen:
    return Seen(folder, window_minutes=window, ids_max=ids_max)


names = st.sampled_from([f"message-{number}" for number in range(12)])
# Batches move on in time as the log does; rows inside one come in any order, and one that catches up spans many windows.
batches = st.lists(
    st.tuples(st.integers(0, 15), st.lists(st.tuples(names, st.integers(0, 40)), max_size=30), st.booleans()), min_size=1, max_size=12
)


@settings(max_examples=100, deadline=None)
@given(batches=batches)
def test_repeats_are_those_of_the_model(tmp_path_factory: pytest.TempPathFactory, batches: list[tuple[int, list[Message], bool]]) -> None:
    folder = tmp_path_factory.mktemp("seen")
    seen, model, now = open_seen(folder), Model(), 0
    for step, messages, reopen in batches:
        now += step
        moved = [(name, now + minute) for name, minute in messages]
        assert take_in(seen, moved) == model.take_in(moved)
        if reopen:
            seen.save({})
            seen = open_seen(folder)


@pytest.mark.parametrize(("minutes", "new"), [(0, False), (WINDOW, False), (-WINDOW, False), (WINDOW + 1, True), (-WINDOW - 1, True)])
def test_the_window_is_counted_in_whole_minutes_and_in_both_directions(tmp_path: Path, minutes: int, new: bool) -> None:
    seen = open_seen(tmp_path)
    assert take_in(seen, [("a", 100)]) == [True]
    assert take_in(seen, [("a", 100 + minutes)]) == [new]


def test_the_window_is_that_of_the_message_and_not_of_its_repeats(tmp_path: Path) -> None:
    within_one_batch = [("a", 0), ("a", 8), ("a", 16)]
    assert take_in(open_seen(tmp_path / "one"), within_one_batch) == [True, False, True]
    seen = open_seen(tmp_path / "many")
    assert [take_in(seen, [message])[0] for message in within_one_batch] == [True, False, True]


def test_a_message_and_its_repeat_in_one_batch_with_one_seen_before(tmp_path: Path) -> None:
    seen = open_seen(tmp_path)
    take_in(seen, [("a", 0)])
    assert take_in(seen, [("a", 8), ("a", 12), ("a", 21)]) == [False, True, False]


def test_ids_past_their_window_are_dropped_also_those_of_large_runs(tmp_path: Path) -> None:
    seen = open_seen(tmp_path, ids_max=80)  # a run of more than 10 ids is not merged
    for start in range(0, 1000, 100):
        take_in(seen, [(f"{start}-{number}", start) for number in range(20)])
        assert len(seen) == 20


@pytest.mark.parametrize("count", [1, 7, 100])
def test_the_last_ids_are_known_however_many_came_before(tmp_path: Path, count: int) -> None:
    ids_max = 64
    seen = open_seen(tmp_path, ids_max=ids_max)
    stream = [(f"message-{number}", 0) for number in range(1000)]
    for start in range(0, len(stream), count):
        assert all(take_in(seen, stream[start : start + count]))
        last = stream[max(0, start + count - ids_max) : start + count]
        assert not seen.is_new(ids_of(last)).any()
        assert len(seen) < ids_max + max(count, ids_max // 8) + 1


def test_a_message_is_forgotten_when_its_minute_comes_round_again(tmp_path: Path) -> None:
    """Minutes are stored in 16 bits."""
    seen = open_seen(tmp_path, ids_max=8)
    take_in(seen, [("a", 0)])
    for minute in (15_000, 30_000, 45_000, 60_000, 65_530):
        take_in(seen, [(f"{minute}", minute)])
    assert take_in(seen, [("a", 65_536)]) == [True]


def test_what_was_not_saved_is_not_there(tmp_path: Path) -> None:
    seen = open_seen(tmp_path)
    take_in(seen, [("a", 0)])
    seen.save({"sink-0": 1})
    take_in(seen, [("b", 0)])
    after_crash = open_seen(tmp_path)
    assert after_crash.offsets == {"sink-0": 1}
    assert list(after_crash.is_new(ids_of([("a", 0), ("b", 0)]))) == [False, True]


def test_offsets_are_kept_beside_the_ids_and_never_go_back(tmp_path: Path) -> None:
    seen = open_seen(tmp_path)
    assert seen.offsets is None
    seen.save({"sink-0": 5, "sink-1": 3})
    seen.save({"sink-0": 4, "sink-1": 7})
    assert open_seen(tmp_path).offsets == {"sink-0": 5, "sink-1": 7}


def test_files_that_were_lost_count_as_nothing_saved(tmp_path: Path) -> None:
    seen = open_seen(tmp_path)
    take_in(seen, [("a", 0)])
    seen.save({"sink-0": 1})
    for path in tmp_path.glob("*.npy"):
        path.unlink()
    assert open_seen(tmp_path).offsets is None


def test_only_the_files_in_use_remain(tmp_path: Path) -> None:
    seen = open_seen(tmp_path)
    for number in range(50):
        take_in(seen, [(f"message-{number}", 0)])
        seen.save({})
    assert len(list(tmp_path.glob("*.npy"))) < 5
    assert len(open_seen(tmp_path)) == 50


def test_a_table_that_is_behind_the_ids_is_another_one(tmp_path: Path) -> None:
    seen = open_seen(tmp_path)
    assert seen.reflects({})
    seen.save({"sink-0": 5})
    assert seen.reflects({"sink-0": 5, "sink-1": 9})
    assert not seen.reflects({"sink-0": 4})
    assert not seen.reflects({})


@pytest.mark.parametrize("window", [0, 15 * 24 * 60 + 1])
def test_a_window_that_cannot_be_kept_is_refused(tmp_path: Path, window: int) -> None:
    with pytest.raises(SokujiError, match=f"{window} minutes"):
        open_seen(tmp_path, window=window)
