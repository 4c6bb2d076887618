"""Identity merges, and rows that survive a change of the rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sokuji.rules import popup, rule, webhook
from sokuji.rules.decision import Decision
from sokuji.rules.engine import Rules
from sokuji.rules.spec import Actions, Project, Rule
from tests.rules.stream import MINUTE_US, SECOND_US, START_US, Event, Worker, numbered
from tests.searching import examples

POPUP = popup(title="Hello")


def worker(*rules: Rule, **project: Any) -> Worker:
    return Worker(Rules(Actions(Project(**project), rules)))


def ann(*offsets_us: int, name: str = "page", truth: str = "") -> list[Event]:
    return [Event(name, START_US + offset, "ann", frozenset({truth})) for offset in offsets_us]


def visitor(*offsets_us: int, name: str = "page", truth: str = "") -> list[Event]:
    return [Event(name, START_US + offset, "visitor", frozenset({truth})) for offset in offsets_us]


def reasons(decisions: Sequence[Decision]) -> list[str]:
    return [each.reason for each in decisions]


def test_a_visitor_who_becomes_known_keeps_arms_caps_and_timers() -> None:
    """Of page views only differences mean anything; all else is as it was."""
    rules = (
        rule("a", on="page", do=POPUP, at_most=["2 per 1m", "3 per 9 views", "9 ever"], control=0.5),
        rule("t", on="cart", after="30m", unless="buy", do=POPUP),
        rule("e", on="page", when_becomes="c", do=webhook("https://a.b/c")),
    )
    side = worker(*rules, holdout=0.5)
    side.decide(numbered([*visitor(0, 1, truth="c"), *visitor(2, name="cart")]))
    [old] = side.get(["visitor"]).view(side.rules._dtype)[:, 0]
    side.merge("ann", "visitor")
    [new] = side.get(["ann"]).view(side.rules._dtype)[:, 0]
    assert 0 not in (old["bucket"], old["acted_us"], old["rule:a"]["total"], old["rule:t"]["due_us"], old["rule:e"]["used"])
    assert (new["bucket"], new["acted_us"]) == (old["bucket"], old["acted_us"])
    assert new["views"] - new["acted_views"] == old["views"] - old["acted_views"]
    assert (new["rule:a"]["decided_us"] == old["rule:a"]["decided_us"]).all()
    assert new["rule:t"] == old["rule:t"]
    assert new["rule:e"] == old["rule:e"]


def test_arms_stay_those_of_the_known_profile_if_it_has_any() -> None:
    side = worker(rule("a", on="page", do=POPUP, control=0.5))
    arms = {each.profile: each.arm for each in side.decide(numbered([*ann(0), *visitor(1)]))}
    side.merge("ann", "visitor")
    assert {each.arm for each in side.decide(ann(*range(10 * SECOND_US, 20 * SECOND_US, SECOND_US)))} == {arms["ann"]}


def test_caps_count_the_decisions_of_both() -> None:
    side = worker(rule("a", on="page", do=POPUP, at_most="3 per 10s"))
    side.decide([*ann(0, 4 * SECOND_US), *visitor(2 * SECOND_US)])
    side.merge("ann", "visitor")
    assert reasons(side.decide(ann(10 * SECOND_US - 1, 10 * SECOND_US, 11 * SECOND_US, 12 * SECOND_US))) == ["cap", "event", "event"]


def test_view_caps_and_gaps_go_on_from_whoever_was_shown_something_last() -> None:
    side = worker(rule("a", on="cart", do=POPUP, at_most="1 per 3 views"))
    side.decide([*ann(0), *visitor(0, 0, 0, 0), *visitor(1, name="cart"), *visitor(2, 3)])
    side.merge("ann", "visitor")
    assert reasons(side.decide([*ann(4, name="cart"), *ann(5), *ann(6, name="cart")])) == ["cap", "event"]
    side = worker(rule("a", on="cart", do=POPUP), gap_views=2)
    side.decide([*ann(0, name="cart"), *ann(1, 1, 1), *visitor(2, 2, 2), *visitor(3, name="cart"), *visitor(4)])
    side.merge("ann", "visitor")
    assert reasons(side.decide([*ann(5, name="cart"), *ann(6), *ann(7, name="cart")])) == ["gap", "event"]


@pytest.mark.parametrize(("apart_us", "found"), [(30 * MINUTE_US, ["cap"]), (30 * MINUTE_US + 1, ["event"])])
@pytest.mark.parametrize("turned", [False, True])
def test_sessions_no_further_apart_than_the_gap_are_one(apart_us: int, found: list[str], turned: bool) -> None:
    first, second = (visitor, ann) if turned else (ann, visitor)
    side = worker(rule("a", on="cart", do=POPUP, at_most="1 per session"))
    side.decide([*first(0, name="cart"), *second(apart_us)])
    side.merge("ann", "visitor")
    assert reasons(side.decide(ann(apart_us + 1, name="cart"))) == found


def test_a_total_cap_counts_both_and_an_edge_used_by_either_is_used() -> None:
    total, edge = rule("t", on="cart", do=POPUP, at_most="3 ever"), rule("e", on="page", when_becomes="c", do=webhook("https://a.b/c"))
    side = worker(total, edge)
    side.decide([*ann(0, name="cart"), *visitor(0, 1, name="cart"), *visitor(2, truth="c"), *ann(2)])
    side.merge("ann", "visitor")
    assert reasons(side.decide([*ann(3, name="cart"), *ann(4, truth="c"), *ann(5), *ann(6, truth="c")])) == ["cap", "event"]


def test_the_timer_armed_later_stays_unless_the_other_profile_stopped_it() -> None:
    waits = rule("t", on="cart", after="30m", unless="buy", do=POPUP)
    side = worker(waits)
    side.decide(numbered([*ann(0, name="cart"), *visitor(MINUTE_US, name="cart")]))
    side.merge("ann", "visitor")
    [fired] = side.due(START_US + 60 * MINUTE_US)
    assert (fired.trigger_id, fired.profile, fired.at_us) == ("m1", "ann", START_US + 31 * MINUTE_US)
    for bought_us, fires in ((2 * MINUTE_US, 0), (MINUTE_US - 1, 1)):
        for buyer, other in ((ann, visitor), (visitor, ann)):
            side = worker(waits)
            side.decide([*other(MINUTE_US, name="cart"), *buyer(bought_us, name="buy")])
            side.merge("ann", "visitor")
            assert len(side.due(START_US + 60 * MINUTE_US)) == fires


def test_suppressions_of_both_are_reported_together() -> None:
    side = worker(rule("a", on="page", do=POPUP, at_most="1 ever"))
    side.decide([*ann(0, 1, 2), *visitor(0, 1, 2)])  # one each is recorded
    side.merge("ann", "visitor")
    [found] = side.decide(ann(120 * MINUTE_US))
    assert (found.suppressed, found.occasions) == (True, 3)


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from(("page", "cart", "buy")), st.integers(0, 3)), max_size=30))
def test_many_rows_merge_as_each_alone(steps: list[tuple[bool, str, int]]) -> None:
    rules = (
        rule("a", on="page", do=POPUP, at_most=["2 per 2s", "3 per 4 views", "4 per session"]),
        rule("t", on="cart", after="3s", unless="buy", do=popup(title="{x|x}")),
        rule("e", on="buy", when_becomes="c", do=webhook("https://a.b/c"), at_most="2 ever"),
    )
    side, at_us = worker(*rules, gap_views=1), START_US
    for mine, name, step in steps:
        at_us += step * SECOND_US
        side.decide([Event(name, at_us, "ann" if mine else "visitor", frozenset({"c"}))])
    pairs = [("ann", "visitor"), ("visitor", "ann"), ("new", "ann"), ("ann", "new"), ("ann", "ann")]
    into, from_ = side.get([pair[0] for pair in pairs]), side.get([pair[1] for pair in pairs])
    unchanged = from_.copy()
    side.rules.merge(into, from_)
    for row, pair in enumerate(pairs):
        alone = side.get([pair[0]])
        side.rules.merge(alone, side.get([pair[1]]))
        assert (into[row] == alone[0]).all()
    assert (from_ == unchanged).all()
    assert (into[3] == side.get(["ann"])[0]).all(), "a profile never seen adds nothing"


def test_rules_that_stay_keep_their_state_when_others_come_and_go() -> None:
    stays = rule("stays", on="page", do=POPUP, at_most=["2 per 10s"])
    waits = rule("waits", on="cart", after="5s", unless="buy", do=popup(title="{item}"))
    side = worker(rule("gone", do=webhook("https://a.b/c"), at_most="5 ever"), stays, waits)
    side.decide([*ann(0, SECOND_US), Event("cart", START_US, "ann", properties={"item": "shoes"})])
    after = Rules(
        Actions(
            Project(), (rule("new", on="nothing", do=POPUP), waits, rule("stays", on="page", do=POPUP, at_most=["3 per 10s", "9 ever"]))
        )
    )
    rows = after.carry(side.get(["ann"]), side.rules.layout)
    assert rows.shape == (1, after.width)
    moved = Worker(after)
    moved.rows["ann"] = rows[0].tobytes()
    found = moved.decide(ann(2 * SECOND_US, 3 * SECOND_US, 6 * SECOND_US))
    assert [(each.rule, each.reason) for each in found] == [("stays", "event"), ("stays", "cap"), ("waits", "timer")]
    assert found[2].action == {"kind": "popup", "title": "shoes"}


@pytest.mark.parametrize(("item", "fires"), [("shoes", 1), ("x" * 85, 0)])
def test_a_timer_survives_a_shorter_template_if_its_trigger_still_fits(item: str, fires: int) -> None:
    def timer(title: str) -> Rule:
        return rule("t", on="cart", after="5s", unless="buy", do=popup(title=title))

    side = worker(timer("{a} {b} {c}"))
    side.decide([Event("cart", START_US, "ann", properties=dict.fromkeys("abc", item))])
    after = worker(timer("{a}"))
    after.rows["ann"] = after.rules.carry(side.get(["ann"]), side.rules.layout)[0].tobytes()
    assert [each.action for each in after.due(START_US + 5 * SECOND_US)] == [{"kind": "popup", "title": item}] * fires


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_carrying_to_the_same_rules_changes_nothing(rows: int) -> None:
    rules = Rules(Actions(Project(), (rule("a", do=POPUP, at_most=["2 per 10s", "2 per 3 views"]),)))
    stored = np.zeros((rows, rules.width), dtype=np.uint8)
    stored[:, :16] = 7
    assert (rules.carry(stored, rules.layout) == stored).all()
