"""Decisions as events; every process computes the same decisions."""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec

from sokuji.events import EVENT_SCHEMA
from sokuji.rules import arm, popup, rule, webhook
from sokuji.rules.decision import Decision, to_events
from sokuji.rules.engine import Rules
from sokuji.rules.spec import Actions, Project
from tests.rules.stream import MINUTE_US, START_US, Event, Worker, numbered


def made() -> list[Decision]:
    rules = (
        rule("offer", on="cart", do=[arm("a", popup(title="Hi {name}")), arm("b", popup(title="Yo"))], control=0.2, at_most="1 per 10m"),
        rule("hook", when="c", do=webhook("https://a.b/c", name="{name}")),
        rule("later", on="cart", after="5m", unless="buy", do=popup(title="{name}?")),
        rule("once", when_becomes="c", do=webhook("https://a.b/c")),
    )
    worker = Worker(Rules(Actions(Project(holdout=0.1), rules)))
    events = [
        Event(
            ("cart", "page", "buy")[number % 3],
            START_US + number * MINUTE_US // 7,
            f"p{number % 11}",
            frozenset({"c"} if number % 4 else ()),
        )
        for number in range(120)
    ]
    events = [msgspec.convert(vars(event) | {"properties": {"name": event.profile}}, Event) for event in numbered(events)]
    return [*worker.decide(events), *worker.due(START_US + 999 * MINUTE_US)]


def printed() -> str:
    """All decisions of `made` as one line of text."""
    return json.dumps(to_events(made(), START_US).to_pylist(), default=str)


def test_another_process_with_other_hashes_decides_the_same() -> None:
    code = "from tests.rules.test_decision import printed; print(printed())"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert runs == {printed()}


def test_ids_are_as_many_as_decisions_and_do_not_depend_on_the_profile() -> None:
    decisions = made()
    assert len({decision.id for decision in decisions}) == len(decisions) > 100
    assert {decision.reason for decision in decisions} == {"event", "timer", "cap"}


def test_a_decision_is_an_event_whose_properties_say_all_of_it() -> None:
    decisions = made()
    events = to_events(decisions, START_US + 5)
    assert events.schema == EVENT_SCHEMA
    events.validate(full=True)
    assert events.column("received_at").cast("int64").unique().to_pylist() == [START_US + 5]
    for row, decision in zip(events.to_pylist(), decisions, strict=True):
        assert (row["type"], row["source"], row["historical"]) == ("track", "sokuji", False)
        assert row["event_name"] == ("action_suppressed" if decision.suppressed else "action_decided")
        columns = {"id": row["message_id"], "dataset": row["dataset"], "visitor_id": row["visitor_id"], "user_id": row["user_id"]}
        assert msgspec.convert(json.loads(row["properties"]) | columns, Decision) == decision


def test_no_decisions_are_no_events() -> None:
    assert to_events([], START_US).num_rows == 0
