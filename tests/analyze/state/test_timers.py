"""Timers fire in order; a replaced or cancelled timer does not fire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sokuji.analyze.state import timers as module
from sokuji.analyze.state.timers import Timers

KEYS = st.sampled_from("abcdef")


@given(st.lists(st.one_of(st.tuples(KEYS, st.integers(0, 50)), st.integers(0, 50))), st.integers(1, 3), st.integers(0, 5))
def test_due_profiles_are_those_of_a_plain_dictionary(steps: list[tuple[str, int] | int], limit: int, heap_min: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_HEAP_MIN", heap_min)
        timers, oracle = Timers(), dict[str, int]()
        for number, step in enumerate(steps):
            if number % 7 == 3:
                timers = Timers(timers.save())
            if isinstance(step, tuple):
                key, due_us = step
                timers.set(key, due_us)
                oracle[key] = due_us
                if not due_us:
                    del oracle[key]
            else:
                due = sorted((at, key) for key, at in oracle.items() if at <= step)[:limit]
                assert timers.due(step, limit) == [key for _, key in due]
                for _, key in due:
                    del oracle[key]
            earliest = timers.next_us()
            assert (earliest is None) <= (not oracle)
            assert not oracle or (earliest or 0) <= min(oracle.values())


def test_timers_that_are_set_again_and_again_take_no_more_room_than_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HEAP_MIN", 10)
    timers = Timers()
    for due_us in range(1, 1001):
        timers.set("a", due_us)
    assert len(timers._heap) <= 15
    assert timers.due(1000, 10) == ["a"]
