"""The engine against an oracle that processes one event at a time."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sokuji.rules import banner, popup, quiet_hours, rule, schedule, webhook
from sokuji.rules.decision import Decision
from sokuji.rules.engine import Rules
from sokuji.rules.spec import Action, Actions, Project, Quiet
from tests.rules.oracle import Oracle, Outcome
from tests.rules.stream import MINUTE_US, SECOND_US, START_US, Event, Worker, numbered
from tests.searching import examples

NAMES = ("page", "cart", "buy", "search")
CONDITIONS = ("rich", "new", "near")
POPUP = popup(title="Hello")
ACTIONS: tuple[Action, ...] = (POPUP, banner(title="Look"), webhook("https://shop.example/hook"))
CAPS = ("1 per 10s", "2 per 30s", "3 per 1m", "1 per 2 views", "2 per 3 views", "1 per session", "2 per session", "1 ever", "3 ever")
SECONDS_US = (0, 1, SECOND_US, 5 * SECOND_US, 10 * SECOND_US - 1, 10 * SECOND_US, 30 * SECOND_US)
STEPS_US = (*SECONDS_US, 20 * MINUTE_US, 30 * MINUTE_US, 30 * MINUTE_US + 1, 60 * MINUTE_US)


@st.composite
def rules(draw: st.DrawFn, name: str) -> Any:
    edge, timed = draw(st.booleans()), draw(st.booleans())
    condition = draw(st.sampled_from(CONDITIONS))
    given: dict[str, Any] = {"when_becomes": condition} if edge else {"when": draw(st.sampled_from((condition, None)))}
    on = draw(st.sampled_from((None, "page", "cart", ["page", "search"])))
    if timed:
        given |= {"after": draw(st.sampled_from(("5s", "10s", "1m"))), "unless": draw(st.sampled_from(("buy", ["buy", "cart"])))}
        on = "page"
    hours = draw(st.sampled_from((None, "00:10-01:00", "23:00-00:40")))
    quiets: tuple[Quiet | Literal[False], ...] = (False, quiet_hours("00:20-00:50"), quiet_hours("02:00-09:30", zone="visitor"))
    return rule(
        name,
        on=on,
        do=draw(st.sampled_from(ACTIONS)),
        at_most=draw(st.lists(st.sampled_from(CAPS), max_size=2)),
        priority=draw(st.integers(0, 2)),
        during=None if hours is None else schedule(hours=hours, days=draw(st.sampled_from(("fri", "thu-sat")))),
        quiet=draw(st.sampled_from(quiets)),
        **given,
    )


@st.composite
def declared(draw: st.DrawFn) -> Actions:
    gap_us, gap_views = draw(st.sampled_from((0, 5 * SECOND_US, 60 * SECOND_US))), draw(st.sampled_from((0, 0, 2)))
    return Actions(
        Project(gap_us=gap_us, gap_views=gap_views, holdout=0.3),
        tuple(draw(rules(f"r{number}")) for number in range(draw(st.integers(1, 4)))),
    )


@st.composite
def events(draw: st.DrawFn, *, backwards: bool = False) -> list[Event]:
    steps = (*STEPS_US, -SECOND_US) if backwards else STEPS_US
    at_us, made = START_US, []
    for _ in range(draw(st.integers(0, 40))):
        at_us += draw(st.sampled_from(steps))
        made.append(
            Event(
                name=draw(st.sampled_from(NAMES)),
                at_us=at_us,
                profile=draw(st.sampled_from(("ann", "ann", "bob"))),
                truth=frozenset(draw(st.lists(st.sampled_from(CONDITIONS), max_size=3))),
                silent=draw(st.sampled_from((False, False, False, True))),
                context=draw(st.sampled_from((None, {"timezone": "Asia/Tokyo"}))),
            )
        )
    return numbered(made)


def outcome(decision: Decision) -> Outcome:
    return Outcome(
        decision.rule, decision.profile, decision.reason, decision.suppressed, decision.at_us, decision.trigger_id, decision.occasions
    )


def cut(stream: Sequence[Event], places: Sequence[int]) -> list[Sequence[Event]]:
    edges = [0, *sorted({place for place in places if place < len(stream)}), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges) if start < end]


@settings(max_examples=examples(150), deadline=None)
@given(declared(), events(backwards=True), st.lists(st.integers(1, 40), max_size=6))
def test_decisions_are_those_of_one_event_at_a_time_wherever_batches_end(actions: Actions, stream: list[Event], places: list[int]) -> None:
    oracle = Oracle(actions)
    for event in stream:
        oracle.take(event)
    whole, parts = Worker(Rules(actions)), Worker(Rules(actions))
    at_once = whole.decide(stream)
    assert [outcome(decision) for decision in at_once] == oracle.outcomes
    assert [decision for batch in cut(stream, places) for decision in parts.decide(batch)] == at_once
    assert parts.rows == whole.rows


@pytest.mark.parametrize("seed", range(12))
def test_long_streams_of_visitors_who_come_again_and_again(seed: int) -> None:
    """Blocked rules, recorded suppressions, open edges and armed timers, all of them from batches before."""
    dice = random.Random(seed)
    made = [
        rule(f"views{seed % 2}", when="rich", do=POPUP, at_most=f"1 per {dice.choice((2, 9))} views"),
        rule(
            "time",
            on=["page", "cart"],
            when="near",
            do=POPUP,
            at_most=["2 per 30s", dice.choice(("4 per 5m", "3 per session"))],
            priority=1,
        ),
        rule("edge", on="page", when_becomes="new", do=banner(title="x"), at_most=dice.choice(("1 per 10s", "5 ever"))),
        rule("hook", on="search", when="near", do=webhook("https://shop.example/hook"), at_most="9 ever"),
        rule("timer", on="cart", when="rich", after="10s", unless="buy", do=POPUP, priority=dice.choice((-1, 2))),
        rule("edge_timer", on="page", when_becomes="near", after="5s", unless="search", do=webhook("https://shop.example/hook")),
    ]
    actions = Actions(Project(gap_us=dice.choice((0, 20 * SECOND_US)), gap_views=dice.choice((0, 3))), tuple(made))
    at_us, stream = START_US, []
    for _ in range(600):
        at_us += dice.choice((0, 1, SECOND_US, 3 * SECOND_US, 3 * SECOND_US, 40 * SECOND_US, -SECOND_US))
        at_us += dice.choice((0,) * 60 + (60 * MINUTE_US,))
        truth = frozenset(text for text in CONDITIONS if dice.random() < 0.6)
        stream.append(Event(dice.choice(NAMES), at_us, dice.choice(("ann", "ann", "bob", "eve")), truth, silent=dice.random() < 0.05))
    stream = numbered(stream)
    oracle, worker = Oracle(actions), Worker(Rules(actions))
    for event in stream:
        oracle.take(event)
    places = list(itertools.accumulate(dice.choice((1, 2, 5, 60)) for _ in range(600)))
    assert [outcome(decision) for batch in cut(stream, places) for decision in worker.decide(batch)] == oracle.outcomes
    assert len(oracle.outcomes) > 50


@settings(max_examples=examples(80), deadline=None)
@given(declared(), events(), st.lists(st.integers(1, 40), max_size=6))
def test_a_timer_decides_the_same_whether_time_or_the_next_event_finds_it_due(
    actions: Actions, stream: list[Event], places: list[int]
) -> None:
    by_event, by_time = Worker(Rules(actions)), Worker(Rules(actions))
    end_us = START_US + 10**9 * SECOND_US
    expected = [*by_event.decide(stream), *by_event.due(end_us)]
    found: list[Decision] = []
    for batch in cut(stream, places):
        found += by_time.due(batch[0].at_us)
        found += by_time.decide(batch)
    found += by_time.due(end_us)
    assert sorted(found, key=lambda decision: decision.id) == sorted(expected, key=lambda decision: decision.id)
    assert by_time.rows == by_event.rows
