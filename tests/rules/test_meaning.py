"""The meaning of rules, one example each; `test_engine` proves that combinations and batches keep this meaning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from sokuji.rules import arm, banner, call, popup, quiet_hours, rule, schedule, webhook
from sokuji.rules.decision import Decision
from sokuji.rules.engine import Rules
from sokuji.rules.meaning import SUPPRESSED_EVERY_US
from sokuji.rules.spec import Actions, Project, Rule
from tests.rules.stream import MINUTE_US, SECOND_US, START_US, Event, Worker, batch_of, numbered

POPUP = popup(title="Hello")


def decided(events: Sequence[Event], *rules: Rule, columns: dict[str, Any] | None = None, **settings: Any) -> list[Decision]:
    return Worker(Rules(Actions(Project(**settings), rules))).decide(numbered(events), columns)


def summary(decisions: Sequence[Decision]) -> list[tuple[str, str, str]]:
    return [(each.trigger_id, each.rule, each.reason) for each in decisions]


def at(*offsets_us: int, name: str = "page", **more: Any) -> list[Event]:
    return [Event(name, START_US + offset, **more) for offset in offsets_us]


def true_at(*offsets_us: int) -> list[Event]:
    return at(*offsets_us, truth=frozenset({"c"}))


def test_a_condition_fires_each_time_it_is_true() -> None:
    events = [*true_at(0), *at(1), *true_at(2, 3)]
    assert [each.trigger_id for each in decided(events, rule("a", when="c", do=webhook("https://a.b/c")))] == ["m0", "m2", "m3"]


def test_a_condition_that_becomes_true_fires_once_until_it_was_false() -> None:
    events = [*true_at(0, 1), *at(2), *true_at(3, 4)]
    assert [each.trigger_id for each in decided(events, rule("a", when_becomes="c", do=webhook("https://a.b/c")))] == ["m0", "m3"]


def test_an_edge_is_seen_at_the_rules_own_triggers_only() -> None:
    events = [*true_at(0), *at(1, name="cart"), *true_at(2)]
    assert [each.trigger_id for each in decided(events, rule("a", on="page", when_becomes="c", do=webhook("https://a.b/c")))] == ["m0"]


def test_an_edge_that_another_rule_blocks_stays_open_and_one_that_the_cap_blocks_does_not() -> None:
    becomes = rule("b", on="page", when_becomes="c", do=POPUP)
    events = [*at(0, name="cart"), *true_at(SECOND_US, 5 * SECOND_US, 6 * SECOND_US)]
    found = decided(events, rule("a", on="cart", do=POPUP), becomes, gap_us=5 * SECOND_US)
    assert summary(found) == [("m0", "a", "event"), ("m1", "b", "gap"), ("m2", "b", "event")]
    events = [*true_at(0), *at(1), *true_at(2, 12 * SECOND_US), *at(13 * SECOND_US), *true_at(14 * SECOND_US)]
    found = decided(events, msgspec.structs.replace(becomes, caps=rule("x", do=POPUP, at_most="1 per 10s").caps))
    assert summary(found) == [("m0", "b", "event"), ("m2", "b", "cap"), ("m5", "b", "event")]


def test_a_time_cap_ends_exactly_with_its_window() -> None:
    events = at(0, 5 * SECOND_US, 10 * SECOND_US - 1, 10 * SECOND_US, 15 * SECOND_US - 1, 15 * SECOND_US)
    found = decided(events, rule("a", do=POPUP, at_most="2 per 10s"))
    assert summary(found) == [("m0", "a", "event"), ("m1", "a", "event"), ("m2", "a", "cap"), ("m3", "a", "event"), ("m5", "a", "event")]


def test_a_time_cap_counts_by_time_whatever_the_order_of_arrival() -> None:
    found = decided(at(5 * SECOND_US, 1 * SECOND_US, 12 * SECOND_US, 13 * SECOND_US), rule("a", do=POPUP, at_most="2 per 10s"))
    assert [each.reason for each in found] == ["event", "event", "event", "cap"]


def test_a_view_cap_counts_pages_and_screens_only() -> None:
    events = [*at(0, 1, name="cart"), *at(2), *at(3, name="screen"), *at(4, name="cart")]
    found = decided(events, rule("a", on="cart", do=POPUP, at_most="1 per 2 views"))
    assert summary(found) == [("m0", "a", "event"), ("m1", "a", "cap"), ("m4", "a", "event")]


def test_a_total_cap_never_ends() -> None:
    found = decided(at(0, 1, 10**15), rule("a", do=POPUP, at_most="1 ever"))
    assert [each.suppressed for each in found] == [False, True, True]


def test_of_rules_at_one_event_the_highest_priority_shows_and_the_others_say_why_not() -> None:
    rules = (
        rule("low", do=POPUP, priority=-1),
        rule("first", do=POPUP),
        rule("second", do=POPUP),
        rule("high", do=POPUP, priority=2, at_most="1 ever"),
    )
    found = decided(at(0, 1), *rules)
    assert summary(found[:4]) == [
        ("m0", "high", "event"),
        ("m0", "first", "priority"),
        ("m0", "second", "priority"),
        ("m0", "low", "priority"),
    ]
    assert summary(found[4:]) == [("m1", "high", "cap"), ("m1", "first", "event")]


def test_webhooks_and_calls_neither_wait_for_messages_nor_hold_them_up() -> None:
    found = decided(at(0), rule("hook", do=webhook("https://a.b/c"), priority=1), rule("a", do=POPUP), rule("b", do=call(print)), gap_us=1)
    assert summary(found) == [("m0", "hook", "event"), ("m0", "a", "event"), ("m0", "b", "event")]


def test_the_gap_is_in_seconds_and_in_views() -> None:
    a, b = rule("a", on="cart", do=POPUP, at_most="1 ever"), rule("b", on="search", do=POPUP)
    settings: dict[str, Any] = {"gap_us": 5 * SECOND_US, "gap_views": 2}
    start, early, late = at(0, name="cart"), at(5 * SECOND_US - 1, name="search"), at(5 * SECOND_US, name="search")
    assert summary(decided([*start, *at(1, 2), *early, *late], a, b, **settings))[1:] == [("m3", "b", "gap"), ("m4", "b", "event")]
    assert summary(decided([*start, *at(1), *late], a, b, **settings))[1:] == [("m2", "b", "gap")]


def test_a_rule_is_off_outside_its_schedule_and_its_edge_waits() -> None:
    on = schedule(since="2027-01-01 00:00:10", until="2027-01-01 00:00:20")
    events = true_at(9 * SECOND_US, 10 * SECOND_US, 20 * SECOND_US)
    assert summary(decided(events, rule("a", when_becomes="c", do=POPUP, during=on))) == [("m1", "a", "event")]


def test_quiet_hours_are_the_visitors_own() -> None:
    loud = rule("a", do=webhook("https://a.b/c"), quiet=quiet_hours("08:30-10:00", zone="visitor"))
    zones: list[dict[str, Any] | None] = [
        {"timezone": "Asia/Tokyo"},
        {"timezone": "Europe/Berlin"},
        {"timezone": 9},
        {"timezone": "x"},
        None,
    ]
    found = decided([Event("page", START_US, profile=str(number), context=context) for number, context in enumerate(zones)], loud)
    assert [each.reason for each in found] == ["quiet_hours", "event", "event", "event", "event"]  # 09:00 in Tokyo


def test_silent_events_do_nothing_at_all() -> None:
    timer = rule("t", on="cart", after="5s", unless="buy", do=POPUP)
    silent = [Event(name, START_US + 1, silent=True) for name in ("page", "cart", "buy")]
    worker = Worker(Rules(Actions(Project(), (rule("a", on="page", do=POPUP, at_most="1 per 2 views"), timer))))
    assert worker.decide(numbered(silent)) == []
    assert worker.rows == {"ann": bytes(worker.rules.width)}
    worker.decide(at(0, name="cart"))
    assert worker.decide([Event("buy", START_US + 6 * SECOND_US, silent=True)]) == []
    assert len(worker.due(START_US + 5 * SECOND_US)) == 1


def test_a_timer_fires_unless_what_it_waits_for_came_in_time() -> None:
    waits = rule("t", on="cart", after="30m", unless="buy", do=popup(title="Still {item}?"))
    cart = Event("cart", START_US, properties={"item": "shoes"})
    [fired] = decided([cart, *at(30 * MINUTE_US)], waits)
    assert (fired.reason, fired.at_us, fired.trigger_id, fired.visitor_id) == ("timer", START_US + 30 * MINUTE_US, "m0", "ann")
    assert fired.action == {"kind": "popup", "title": "Still shoes?"}
    assert decided([cart, *at(30 * MINUTE_US - 1, name="buy"), *at(40 * MINUTE_US)], waits) == []
    assert len(decided([cart, *at(30 * MINUTE_US, name="buy")], waits)) == 1, "due at T, it fires before an event received at T"


def test_a_new_trigger_starts_the_timer_again() -> None:
    waits = rule("t", on="cart", after="30m", unless="buy", do=POPUP)
    [fired] = decided([*at(0, 20 * MINUTE_US, name="cart"), *at(49 * MINUTE_US, 51 * MINUTE_US)], waits)
    assert (fired.trigger_id, fired.at_us) == ("m1", START_US + 50 * MINUTE_US)


def test_a_timer_that_is_due_after_the_rules_last_day_does_not_fire() -> None:
    waits = rule("t", on="cart", after="30m", unless="buy", do=POPUP, during=schedule(until="2027-01-01 00:20"))
    assert decided([*at(0, name="cart"), *at(40 * MINUTE_US)], waits) == []


def test_time_alone_fires_a_timer_when_events_on_their_way_have_had_their_chance() -> None:
    rules = Rules(Actions(Project(), (rule("t", on="cart", after="5s", unless="buy", do=POPUP),)))
    worker = Worker(rules)
    worker.decide(at(0, name="cart"))
    assert rules.next_due(worker.get(["ann"])).tolist() == [START_US + 5 * SECOND_US]
    assert worker.due(START_US + 5 * SECOND_US - 1) == []
    assert len(worker.due(START_US + 5 * SECOND_US)) == 1
    assert worker.due(START_US + 50 * SECOND_US) == []
    assert rules.next_due(worker.get(["ann"])).tolist() == [0]


def test_nothing_of_the_trigger_stays_in_the_row_when_its_timer_is_done() -> None:
    worker = Worker(Rules(Actions(Project(), (rule("t", on="cart", after="5s", unless="buy", do=popup(title="{secret}")),))))
    worker.decide([Event("cart", START_US, properties={"secret": "s3cret"})])
    assert b"s3cret" in worker.rows["ann"]
    worker.decide([Event("cart", START_US, properties={"secret": ""}, number="")])
    assert b"3cret" not in worker.rows["ann"]
    worker.decide(at(1, name="buy"))
    assert b"s3cret" not in worker.rows["ann"]


def test_fields_come_from_columns_properties_and_context() -> None:
    title = "{spend_7d} {name} {properties.item.colour} {item.colour} {context.page.title} {visitor_id} {keys.user_id|nobody}"
    event = Event("page", START_US, properties={"name": "Ann", "item": {"colour": "red"}}, context={"page": {"title": "Shop"}})
    [found] = decided([event], rule("a", do=popup(title=title)), columns={"spend_7d": [12.5], "keys": [{"user_id": None}]})
    assert found.action is not None
    assert found.action["title"] == "12.5 Ann red red Shop ann nobody"


def test_a_webhook_gets_values_with_their_types() -> None:
    hook = webhook("https://a.b/c", n="{n}", nan="{nan|-}", all=["{n} x", {"deep": "{tags}"}])
    [found] = decided([Event("page", START_US, properties={"n": 3, "tags": ["a"]})], rule("a", do=hook), columns={"nan": [float("nan")]})
    assert found.action == {"kind": "webhook", "url": "https://a.b/c", "body": {"n": 3, "nan": "-", "all": ["3 x", {"deep": ["a"]}]}}


def test_a_field_without_value_suppresses_the_rule_whichever_arm_needs_it() -> None:
    either = rule("a", do=[arm("x", popup(title="Hello")), arm("y", popup(title="Hello {name}"))], control=0.5)
    found = decided([Event("page", START_US, profile=str(number)) for number in range(20)], either)
    assert {each.reason for each in found} == {"missing_field"}
    assert len(decided([Event("page", START_US, properties={"name": "Ann"})], either)) == 1


@pytest.mark.parametrize("text", ["{", "[1]", '"x"', '{"a":1e400}', '{"a":"\\ud800"}', "[" * 5000, "null"])
def test_properties_that_cannot_be_read_are_as_good_as_none(text: str) -> None:
    rules = Rules(Actions(Project(), (rule("a", do=popup(title="{a|-} {context.b|-}")),)))
    worker = Worker(rules)
    event = Event("page", START_US)
    batch = batch_of([event])
    for name in ("properties", "context"):
        batch = batch.set_column(batch.schema.get_field_index(name), batch.schema.field(name), [text])
    [found] = worker.decide_batch([event], batch)
    assert found.action == {"kind": "popup", "title": "- -"}


def test_huge_numbers_and_long_texts_survive_or_are_left_out_of_a_timer() -> None:
    waits = rule("t", on="cart", after="5s", unless="buy", do=popup(title="{n} {long|long}"))
    event = Event("cart", START_US, properties={"n": 10**30, "long": "x" * 200})
    [found] = decided([event, *at(6 * SECOND_US)], waits)
    assert found.action == {"kind": "popup", "title": f"{10**30} long"}
    # The timer that was armed before is gone: a new trigger starts the time again, and this one cannot be kept.
    huge = Event("cart", START_US + 1, number="m" * 400)
    none = Worker(Rules(Actions(Project(), (waits,)))).decide([event, huge, *at(6 * SECOND_US)])
    assert [(each.reason, each.trigger_id) for each in none] == [("does_not_fit", huge.message_id)]


def test_suppressions_are_recorded_once_an_hour_with_how_many_there_were() -> None:
    hour = SUPPRESSED_EVERY_US
    offsets = [0, 1, 2, hour - 1, hour, hour + 1, 2 * hour + 1]
    found = decided(at(*offsets), rule("a", do=POPUP, at_most="1 ever"))
    assert [(each.trigger_id, each.occasions) for each in found if each.suppressed] == [("m1", 1), ("m5", 4), ("m6", 1)]


def test_arms_change_nothing_but_what_is_delivered() -> None:
    events = at(*range(0, 40 * SECOND_US, SECOND_US), profile="ann")
    capped = rule("a", do=POPUP, at_most="2 per 10s")
    plain = decided(events, capped)
    control = decided(events, msgspec.structs.replace(capped, arms=rule("a", do=POPUP, control=0.999999).arms))
    holdout = decided(events, capped, holdout=0.999999)
    for other in (control, holdout):
        assert [(each.id, each.reason, each.occasions) for each in other] == [(each.id, each.reason, each.occasions) for each in plain]
        assert all(each.action is None for each in other)
    assert {each.arm for each in control if not each.suppressed} == {"control"}
    assert {(each.arm, each.holdout) for each in holdout if not each.suppressed} == {("action", True)}
    assert all(each.action is None for each in plain if each.suppressed)


def test_no_rules_and_no_events_are_fine() -> None:
    assert decided(at(0)) == []
    worker = Worker(Rules(Actions(Project(), (rule("a", do=banner(title="x")),))))
    assert worker.decide([]) == []
    assert worker.due(START_US) == []


def test_conditions_are_shared_by_their_text() -> None:
    rules = Rules(Actions(Project(), tuple(rule(f"r{n}", when=f"a > {n % 2}", still="b", do=POPUP) for n in range(5))))
    assert rules.conditions == ("a > 0", "a > 1")
    assert rules.rechecks == ("b",)
