"""The words of `actions.py`: their meaning, and their errors when they are misused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sokuji.errors import RuleError
from sokuji.rules import arm, banner, call, goal, popup, project, quiet_hours, rule, schedule, webhook
from sokuji.rules.spec import Goal, Message, PythonCall, SessionCap, TimeCap, Timer, TotalCap, ViewCap, Webhook

POPUP = popup(title="Hello")


def shown(**_: object) -> None:
    """An action of the project."""


def test_a_rule_is_what_it_says() -> None:
    made = rule(
        "left_cart",
        on=["cart", "wishlist"],
        after="30m",
        unless="buy",
        when_becomes=" spend_7d < 100 ",
        do=[arm("warm", POPUP, weight=3), arm("cool", banner(title="Hi"), weight=1)],
        control=0.2,
        at_most=["2 per 7d", "1 per 10 views", "1 per session", "5 ever"],
        priority=7,
        expires="5m",
        goal=goal("buy", within="24h"),
    )
    assert (made.on, made.unless, made.timer) == (("cart", "wishlist"), ("buy",), Timer(1_800_000_000))
    assert (made.condition, made.edge) == ("spend_7d < 100", True)
    assert made.caps == (TimeCap(2, 604_800_000_000), ViewCap(1, 10), SessionCap(1), TotalCap(5))
    assert [(each.name, each.weight) for each in made.arms] == [
        ("warm", pytest.approx(0.6)),
        ("cool", pytest.approx(0.2)),
        ("control", 0.2),
    ]
    assert (made.priority, made.expires_us, made.goal) == (7, 300_000_000, Goal("buy", 86_400_000_000))
    assert (made.competes, made.seed) == (True, "left_cart")


def test_only_messages_compete() -> None:
    assert rule("a", do=POPUP).competes
    assert not rule("a", do=webhook("https://a.example/x")).competes
    assert not rule("a", do=call(shown)).competes


def test_actions_are_what_they_say() -> None:
    assert isinstance(POPUP, Message)
    hook = webhook("https://a.example/x", id="{user_id}", nested={"list": ["{a} b", 1, None]})
    assert isinstance(hook, Webhook)
    made = rule("a", do=[arm("x", hook), arm("y", call(shown, to="{email|nobody}"))])
    assert isinstance(made.arms[1].action, PythonCall)
    assert [field.name for field in made.fields] == ["user_id", "a", "email"]


MISUSES: dict[str, tuple[Callable[[], object], str]] = {
    "name": (lambda: rule("left cart", do=POPUP), "rule 'left cart': expected a name of letters, digits and _"),
    "both conditions": (
        lambda: rule("a", do=POPUP, when="x", when_becomes="x"),
        "write when to fire each time it is true, when_becomes to fire as it turns true",
    ),
    "empty condition": (lambda: rule("a", do=POPUP, when=" "), "when=' ': expected a GoogleSQL condition, such as 'spend_7d > 100'"),
    "after alone": (lambda: rule("a", on="cart", do=POPUP, after="30m"), "after='30m' without unless; write what prevents it"),
    "after any event": (lambda: rule("a", do=POPUP, after="30m", unless="buy"), "needs the event that starts the time, such as on='cart'"),
    "on and unless": (lambda: rule("a", on="cart", do=POPUP, unless="cart"), "['cart'] is in on and in unless"),
    "event": (lambda: rule("a", on=["cart", ""], do=POPUP), "'' is not the name of an event"),
    "action": (lambda: rule("a", do=shown), "expected popup(...), banner(...), webhook(...), call(...) or [arm("),  # type: ignore[arg-type]
    "no arms": (lambda: rule("a", do=[]), "expected popup(...)"),
    "same arms": (lambda: rule("a", do=[arm("x", POPUP), arm("x", POPUP)]), "have a name twice"),
    "mixed arms": (lambda: rule("a", do=[arm("x", POPUP), arm("y", webhook("https://a.b/c"))]), "make it two rules"),
    "control arm": (lambda: arm("control", POPUP), "rule(..., control=0.1)"),
    "arm's action": (lambda: arm("x", "popup"), "expected popup(...)"),  # type: ignore[arg-type]
    "control in %": (lambda: rule("a", do=POPUP, control=10), "control=10: expected a share from 0 to below 1; 10 % is 0.1"),
    "cap": (lambda: rule("a", do=POPUP, at_most="once a day"), "at_most='once a day'; expected '1 per 24h' (units s, m, h, d, w)"),
    "cap of 0": (lambda: rule("a", do=POPUP, at_most="0 per 24h"), "expected '1 per 24h'"),
    "cap's window": (lambda: rule("a", do=POPUP, at_most="1 per day"), "units s, m, h, d, w"),
    "large cap": (lambda: rule("a", do=POPUP, at_most="33 per 7d"), "can be at most 32; use a shorter window or '33 ever'"),
    "duration": (lambda: rule("a", do=POPUP, expires="half an hour"), "expires='half an hour': expected a duration such as '45s'"),
    "priority": (lambda: rule("a", do=POPUP, priority="high"), "priority='high': expected a whole number"),  # type: ignore[arg-type]
    "during": (lambda: rule("a", do=POPUP, during="10:00-22:00"), "expected schedule(hours='10:00-22:00')"),  # type: ignore[arg-type]
    "quiet": (lambda: rule("a", do=POPUP, quiet="22:00-08:00"), "expected quiet_hours('22:00-08:00') or False"),  # type: ignore[arg-type]
    "goal": (lambda: rule("a", do=POPUP, goal="buy"), "expected goal('buy', within='24h')"),  # type: ignore[arg-type]
    "title": (lambda: popup(title=""), "popup title='': expected a text"),
    "button": (lambda: popup(title="x", button="Go"), "popup button='Go' has no link; write where it leads: link='/cart'"),
    "template": (lambda: popup(title="{a"), "popup title: '{a': the '{' at character 1 has no other half"),
    "link": (lambda: popup(title="x", link="javascript:x"), "popup link: 'javascript:x' is not a link with a fixed beginning"),
    "webhook": (lambda: webhook("https://{host}/x"), "fields go into the body: webhook(url, name='{name}')"),
    "webhook body": (lambda: webhook("https://a.b/c", at=object()), "expected what JSON has"),
    "call": (lambda: call("send"), "expected a function; write call(send_mail, to='{email}')"),  # type: ignore[arg-type]
    "hours": (lambda: schedule(hours="10-22"), "schedule hours='10-22': expected two different times of the day"),
    "no hours": (lambda: quiet_hours("08:00-08:00"), "expected two different times of the day"),
    "minutes": (lambda: quiet_hours("08:60-09:00"), "expected two different times of the day"),
    "days": (lambda: schedule(days="weekdays"), "schedule days='weekdays': expected days such as 'mon-fri' or 'sat,sun'"),
    "since": (lambda: schedule(since="tomorrow"), "schedule since='tomorrow': expected a day or a time such as '2026-12-01'"),
    "zone": (lambda: schedule(zone="Tokyo"), "zone='Tokyo': expected a time zone's IANA name such as 'Asia/Tokyo'"),
    "holdout": (lambda: project(holdout=5), "project holdout=5: expected a share from 0 to below 1"),
    "gap": (lambda: project(gap="30"), "project gap='30': expected a duration"),
    "image hosts": (lambda: project(image_hosts=["https://x.example/"]), "expected a host's name such as 'cdn.shop.example'"),
    "gap views": (lambda: project(gap_views=-1), "expected a number of page views"),
    "project quiet": (lambda: project(quiet="22:00-08:00"), "expected quiet_hours('22:00-08:00')"),  # type: ignore[arg-type]
    "weight": (lambda: arm("x", POPUP, weight=0), "expected a number above 0"),
}


@pytest.mark.parametrize("misuse", MISUSES)
def test_misuse_gets_an_error_that_shows_the_fix(misuse: str) -> None:
    make, expected = MISUSES[misuse]
    with pytest.raises(RuleError) as caught:
        make()
    assert expected in str(caught.value)


def test_a_rule_is_frozen() -> None:
    made: Any = rule("a", do=POPUP)
    with pytest.raises(AttributeError):
        made.priority = 1
