"""Sessions of a batch against one event at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sokuji.rules import popup, rule
from sokuji.rules.engine import Rules
from sokuji.rules.sessions import GAP_US, begun_at, find
from sokuji.rules.spec import Actions, Project
from tests.rules.stream import MINUTE_US, START_US, Event, Worker

TIMES = st.sampled_from((0, 1, MINUTE_US, GAP_US - 1, GAP_US, GAP_US + 1, 3 * GAP_US, 10**9 * GAP_US // 100))


@given(st.lists(st.tuples(st.integers(0, 3), TIMES, st.booleans()), min_size=1, max_size=40), st.lists(TIMES, min_size=4, max_size=4))
def test_each_event_is_in_the_session_that_its_time_says(steps: list[tuple[int, int, bool]], known: list[int]) -> None:
    at_us, profiles, times = START_US, [], []
    for profile, step_us, is_late in steps:
        at_us += step_us
        profiles.append(profile)
        times.append(at_us - (7 * MINUTE_US if is_late else 0))
    seen = [START_US - step_us if number else 0 for number, step_us in enumerate(known)]  # the first was never seen
    begun = [max(0, each - MINUTE_US) for each in seen]
    found = find(np.array(profiles, np.int32), np.array(times), np.array(begun), np.array(seen))
    for event, (profile, time_us) in enumerate(zip(profiles, times, strict=True)):
        assert (found.begun_before_us[event], found.seen_before_us[event]) == (begun[profile], seen[profile])
        begun[profile] = begun_at(time_us, begun[profile], seen[profile])
        seen[profile] = max(seen[profile], time_us)
        assert (found.begun_us[event], found.seen_us[event]) == (begun[profile], seen[profile])


def test_a_cap_of_one_a_session_holds_until_the_visit_ends() -> None:
    worker = Worker(Rules(Actions(Project(), (rule("a", on="cart", do=popup(title="x"), at_most="1 per session"),))))
    at = [0, 1, 20, 45, 75, 106]  # minutes; from 75 to 106 it is longer than half an hour
    events = [Event("cart" if minute != 45 else "page", START_US + minute * MINUTE_US, number=minute) for minute in at]
    decided = [decision.trigger_id for decision in worker.decide(events) if not decision.suppressed]
    assert decided == ["m0", "m106"]


def test_who_has_no_such_cap_keeps_no_session() -> None:
    plain, capped = (
        Rules(Actions(Project(), (rule("a", on="cart", do=popup(title="x"), at_most=f"1 per {unit}"),))).width for unit in ("1h", "session")
    )
    assert capped == plain + 16
