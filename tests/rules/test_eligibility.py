"""The check of a decision before display."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sokuji.rules import popup, quiet_hours, rule, schedule
from sokuji.rules.decision import Decision
from sokuji.rules.eligibility import ineligible
from sokuji.rules.engine import Rules
from sokuji.rules.spec import Actions, Project
from tests.rules.stream import MINUTE_US, START_US, Event, Worker

RULE = rule(
    "offer",
    on="cart",
    unless="buy",
    still="spend_7d < 100",
    do=popup(title="x"),
    expires="20m",
    during=schedule(until="2027-01-01 00:15"),
    quiet=quiet_hours("08:59-10:00", zone="visitor"),
)


def decided() -> tuple[Worker, Decision]:
    worker = Worker(Rules(Actions(Project(), (RULE,))))
    [decision] = worker.decide([Event("cart", START_US)])
    return worker, decision


def asked(decision: Decision, **changes: Any) -> str | None:
    question: dict[str, Any] = {"rule": RULE, "stopped_us": 0, "holds": True, "now_us": START_US + MINUTE_US}
    return ineligible(decision, **(question | changes))


def test_it_may_be_shown_as_long_as_nothing_changed() -> None:
    _, decision = decided()
    assert asked(decision) is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"now_us": START_US + 15 * MINUTE_US - 1}, None),
        ({"now_us": START_US + 15 * MINUTE_US}, "off"),
        ({"now_us": START_US + 20 * MINUTE_US}, "expired"),
        ({"rule": None}, "off"),
        ({"stopped_us": START_US - 1}, None),
        ({"stopped_us": START_US}, "stopped"),
        ({"holds": False}, "no_longer_true"),
    ],
)
def test_what_changed_prevents_it(changes: dict[str, Any], why: str | None) -> None:
    _, decision = decided()
    assert asked(decision, **changes) == why


@pytest.mark.parametrize(("zone", "why"), [("Asia/Tokyo", "quiet_hours"), ("Europe/Berlin", None)])
def test_quiet_hours_are_those_where_the_visitor_is(zone: str, why: str | None) -> None:
    worker = Worker(Rules(Actions(Project(), (RULE,))))
    # Not quiet yet when it is decided, but a minute later.
    [decision] = worker.decide([Event("cart", START_US - MINUTE_US - 1, context={"timezone": zone})])
    assert decision.zone == zone
    assert asked(decision, now_us=START_US) == why


def test_what_has_nothing_to_show_is_not_shown() -> None:
    _, decision = decided()
    assert asked(msgspec.structs.replace(decision, action=None)) == "nothing_to_show"


def test_the_row_says_when_the_visitor_did_what_the_rule_was_to_prevent() -> None:
    worker, decision = decided()
    assert worker.rules.stopped_us(worker.get(["ann"]), "offer").tolist() == [0]
    worker.decide([Event("buy", START_US + 7), Event("buy", START_US + 5)])
    [stopped_us] = worker.rules.stopped_us(worker.get(["ann"]), "offer").tolist()
    assert stopped_us == START_US + 7
    assert asked(decision, stopped_us=stopped_us) == "stopped"


def test_a_rule_without_unless_is_never_stopped() -> None:
    rules = Rules(Actions(Project(), (rule("a", do=popup(title="x")),)))
    assert rules.stopped_us(Worker(rules).get(["ann", "bob"]), "a").tolist() == [0, 0]
