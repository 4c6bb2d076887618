"""The kernel against an oracle that computes every value again from the list of events."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from sokuji.features.kernel.kernel import Kernel
from tests.features.everything import TIMES, everything, feed, histories, kernel, rows_of
from tests.features.oracle import US, Event, Oracle
from tests.searching import examples

_SETTINGS = settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@functools.cache
def shared(*windows: str) -> Kernel:
    return kernel(everything(windows) if windows else everything())


def same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, float) and isinstance(found, int | float):
        return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-6)
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    if isinstance(wanted, dict) and isinstance(found, dict):
        return found.keys() == wanted.keys() and all(same(found[key], wanted[key]) for key in wanted)
    return bool(found == wanted)


def assert_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    different = {name: (found[name], value) for name, value in wanted.items() if not same(found[name], value)}
    assert not different, f"(kernel, oracle): {different}"
    assert found.keys() == wanted.keys()


@_SETTINGS
@given(histories(), st.data())
def test_the_value_at_each_event_is_that_of_all_events_until_then(happened: list[Event], data: st.DataObject) -> None:
    made = shared()
    segment, oracle = rows_of(made, 1), Oracle(made.view)
    while happened:
        size = data.draw(st.integers(1, len(happened)), "events of the next batch")
        for event, found in zip(happened[:size], feed(made, segment, happened[:size]), strict=True):
            oracle.add(event)
            assert_same(found, oracle.read(event.time))
        happened = happened[size:]


@_SETTINGS
@given(histories(), st.sampled_from([0, 1, 4, 60, 1800, 1801, 3599, 7200, 86_400, 691_200, 5_000_000]))
def test_a_later_reader_finds_what_has_not_left_the_windows(happened: list[Event], later: int) -> None:
    made = shared()
    segment = rows_of(made, 1)
    feed(made, segment, happened)
    at = max(event.time for event in happened) + later * US
    assert_same(made.finalize(segment, at).to_pylist()[0], Oracle(made.view, happened).read(at))


@_SETTINGS
@given(st.lists(st.tuples(st.integers(0, 2), histories(most=1)), min_size=1, max_size=20))
def test_profiles_of_one_batch_do_not_touch_each_other(chosen: list[tuple[int, list[Event]]]) -> None:
    made = shared("1h", "session", "all")
    segment = rows_of(made, 3)
    happened, profiles = [events[0] for _, events in chosen], [profile for profile, _ in chosen]
    feed(made, segment, happened, profiles)
    rows = made.finalize(segment, 0).to_pylist()
    for profile in range(3):
        own = [event for event, of in zip(happened, profiles, strict=True) if of == profile]
        if own:
            assert_same(rows[profile], Oracle(made.view, own).read(0))
        else:
            assert not np.any(segment[profile])


@_SETTINGS
@given(histories(), histories(), st.booleans())
def test_merged_rows_are_those_of_one_profile_with_the_events_of_both(first: list[Event], second: list[Event], further: bool) -> None:
    made = shared(*TIMES)
    into, other = rows_of(made, 1), rows_of(made, 1)
    feed(made, into, first)
    feed(made, other, second)
    made.merge(into, other)
    found, wanted = made.finalize(into, 0).to_pylist()[0], Oracle(made.view, [*first, *second]).read(0)
    visits = [name for name in wanted if name.startswith("visit")]
    assert_same({name: found[name] for name in found if name not in visits}, {name: wanted[name] for name in wanted if name not in visits})
    if further:  # and goes on as one
        for event in first[:3]:
            moved = Event(event.time + 86_400 * US, event.says)
            wanted = Oracle(made.view, [*first, *second, moved]).read(0)
            found = feed(made, into.copy(), [moved])[0]
            assert_same({name: found[name] for name in found if name not in visits}, {n: wanted[n] for n in wanted if n not in visits})


@_SETTINGS
@given(histories(late=False, most=8), histories(late=False, most=8))
def test_merging_joins_sessions_that_are_no_more_than_the_gap_apart(first: list[Event], second: list[Event]) -> None:
    made = shared()
    sides = [Oracle(made.view, side) for side in (first, second)]
    assume(all(len(side.sessions) <= 2 for side in sides))  # older ones are not kept, so that they can join nothing
    into, other = rows_of(made, 1), rows_of(made, 1)
    feed(made, into, first)
    feed(made, other, second)
    made.merge(into, other)
    together = Oracle(made.view, sorted([*first, *second], key=lambda event: event.time))
    found, wanted = made.finalize(into, 0).to_pylist()[0], together.read(0)
    assert_same(
        {name: found[name] for name in found if "visits" not in name}, {name: wanted[name] for name in wanted if "visits" not in name}
    )


@_SETTINGS
@given(histories(most=8), histories(most=8))
def test_merging_with_a_profile_never_seen_changes_nothing(first: list[Event], second: list[Event]) -> None:
    made = shared()
    rows, others = rows_of(made, 2), rows_of(made, 2)
    feed(made, rows[:1], first)
    feed(made, others[1:], second)
    before, other = rows.copy(), others.copy()
    made.merge(rows, others)
    assert np.array_equal(rows, before + other)
    assert np.array_equal(others, other)


def test_without_values_the_rows_are_the_same() -> None:
    made = shared()
    happened = [Event(1_767_225_600 * US + n * 977 * US, {**_SAID, "amount": float(n)}) for n in range(40)]
    rows, others = rows_of(made, 1), rows_of(made, 1)
    feed(made, rows, happened)
    from tests.features.everything import columns

    times = np.array([event.time for event in happened], np.int64)
    assert made.update(others, np.zeros(40, np.int32), times, columns(made, happened), want_values=False).batch().num_rows == 0
    assert np.array_equal(rows, others)


def test_events_in_a_slice_of_a_batch_say_what_they_say_alone() -> None:
    made = shared()
    batch = pa.RecordBatch.from_pylist([{**_SAID, "page": page, "amount": 1.0} for page in ("/", "/cart", "/item/2", "/item/1")])
    whole, part = made.columns(batch), made.columns(batch.slice(1, 3))
    assert np.array_equal(part.values, whole.values[:, 1:], equal_nan=True)
    assert np.array_equal(part.filters, whole.filters[:, 1:])


_SAID = {"event_name = 'buy'": True, "event_name = 'buy' AND (amount > 1)": True, "page": "/", "shelf": "a"}


@pytest.mark.parametrize("time", [-86_400 * US * 400, 0, 1, 253_402_300_799 * US])
def test_any_time_will_do(time: int) -> None:
    made = shared(*(window for window in TIMES if "today" not in window), "session")
    happened = [Event(time, {**_SAID, "amount": 2.0}), Event(time + US, {**_SAID, "amount": 4.0})]
    segment = rows_of(made, 1)
    assert_same(feed(made, segment, happened)[1], Oracle(made.view, happened).read(time))
