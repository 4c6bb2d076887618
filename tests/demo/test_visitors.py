"""The simulated shop: the same for the same seed, and similar to the shop that it is calibrated to."""

from __future__ import annotations

import itertools
import statistics
from collections import defaultdict

from sokuji.demo.visitors import BUY, CART, Sent, Visitors

RATE = 200.0


def sent(count: int, *, rate: float = RATE, seed: int = 2019) -> list[Sent]:
    return list(itertools.islice(Visitors(rate, seed).events(), count))


def visits(events: list[Sent]) -> list[list[Sent]]:
    """By visitor, cut where nothing happened for ten minutes: longer than any gap within a visit."""
    by_visitor = defaultdict(list)
    for event in events:
        by_visitor[event.call["anonymousId"]].append(event)
    found: list[list[Sent]] = []
    for own in by_visitor.values():
        found.append(own[:1])
        for before, event in itertools.pairwise(own):
            if event.due_seconds - before.due_seconds > 600:
                found.append([])
            found[-1].append(event)
    return found


def names(visit: list[Sent]) -> list[str]:
    return [event.call.get("event", event.call["type"]) for event in visit]


def test_the_same_seed_gives_the_same_events() -> None:
    assert sent(2000) == sent(2000)
    assert sent(100) != sent(100, seed=7)


def test_events_come_in_order_at_the_rate_with_ids_of_their_own() -> None:
    events = sent(20_000)
    due = [event.due_seconds for event in events]
    assert due == sorted(due)
    assert 0 <= due[0] < 1
    assert 0.9 * RATE < len(events) / due[-1] < 1.1 * RATE
    assert len({event.call["messageId"] for event in events}) == len(events)


def test_visits_are_as_long_and_end_as_in_the_shop_they_are_calibrated_to() -> None:
    # A low rate, so that hours pass and people who come back are told apart; those who were there at the opening are left out.
    events = sent(40_000, rate=2.0)
    whole = [visit for visit in visits(events) if visit[0].due_seconds > 600 and visit[-1].due_seconds < events[-1].due_seconds - 1200]
    lengths = [len([name for name in names(visit) if name != "identify"]) for visit in whole]
    assert statistics.median(lengths) == 4
    assert 4.6 < statistics.mean(lengths) < 5.5
    assert abs(sum("cart" in names(visit) for visit in whole) / len(whole) - CART) < 0.03
    assert abs(sum("buy" in names(visit) for visit in whole) / len(whole) - BUY) < 0.02
    gaps = [after.due_seconds - before.due_seconds for visit in whole for before, after in itertools.pairwise(visit)]
    quartiles = statistics.quantiles(gaps, n=20)
    for found, wanted in zip((quartiles[4], quartiles[9], quartiles[14], quartiles[17]), (2, 8, 24, 85), strict=True):
        assert abs(found - wanted) < 0.15 * wanted


def test_some_become_known_some_are_programs_some_events_are_late_or_come_twice() -> None:
    events = sent(40_000)
    people = defaultdict(set)
    for event in events:
        if "userId" in event.call:
            people[event.call["userId"]].add(event.call["anonymousId"])
    assert len(people) > 100
    assert any(len(visitors) > 1 for visitors in people.values())
    assert 0.01 < sum("bot" in event.call["context"]["userAgent"] for event in events) / len(events) < 0.03
    assert 0 < sum(event.late_seconds > 0 for event in events) < len(events) / 50
    assert 0 < sum(event.repeats for event in events) < len(events) / 100
