"""The words of `actions.py`.

    from sokuji.rules import goal, popup, project, rule

    project(zone="Asia/Tokyo", gap="30s", gap_views=2, holdout=0.02, goal=goal("buy", within="24h"))

    rule(
        "left_cart",
        on="cart",
        after="30m",
        unless="buy",
        when="spend_7d < 100",
        do=popup(title="Still thinking about {item|it}?", button="Back to the cart", link="/cart"),
        control=0.1,
        at_most="1 per 7d",
    )

Every word checks what it is given and says what to write instead. `rule` and `project` also enter what they make into
the file that is being loaded (`sokuji.rules.load`), so nothing needs to be assigned or listed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar

from msgspec import Struct

from sokuji.errors import RuleError
from sokuji.rules import template
from sokuji.rules.bucket import control_arm
from sokuji.rules.calendar import ALL_DAYS, Hours, Schedule, to_us, zone_named
from sokuji.rules.duration import parse_us
from sokuji.rules.spec import (
    CONTROL,
    Action,
    Arm,
    Call,
    Cap,
    Goal,
    Message,
    Project,
    Quiet,
    Rule,
    TimeCap,
    Timer,
    TotalCap,
    ViewCap,
    Webhook,
)
from sokuji.rules.template import Template

CAP_COUNT_MAX = 32  # every occasion within a cap's window has its place in the profile's row
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_CAP = re.compile(r"(\d+) (?:per (?:(\d+) views?|(\w+))|(ever))")
_HOURS = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MESSAGE_TEXTS = ("title", "body", "button")

T = TypeVar("T")


class Declared(Struct):
    """What the file being loaded has declared so far."""

    rules: list[Rule]
    project: Project | None = None


declared: ContextVar[Declared | None] = ContextVar("declared", default=None)


def popup(*, title: str, body: str = "", button: str = "", link: str = "", image: str = "") -> Message:
    """A window over the page. All fields are templates; texts are shown as text, never as markup."""
    return _message("popup", title=title, body=body, button=button, link=link, image=image)


def banner(*, title: str, body: str = "", button: str = "", link: str = "", image: str = "") -> Message:
    """A strip at the edge of the page. Fields as in `popup`."""
    return _message("banner", title=title, body=body, button=button, link=link, image=image)


def webhook(url: str, **body: Any) -> Webhook:
    """A POST to `url` of the JSON object `body`. Strings in it are templates; one that is only a field keeps the field's type."""
    if not isinstance(url, str) or not re.match(r"https?://[^/{}\s]+", url) or "{" in url:
        raise RuleError(
            f"webhook url {url!r}: expected a fixed URL such as 'https://host/path'; fields go into the body: webhook(url, name='{{name}}')"
        )
    return Webhook(url, {key: _json_template(value, f"webhook {key}") for key, value in body.items()})


def call(function: Callable[..., object], **arguments: str) -> Call:
    """A call of `function(decision, **arguments)` by the delivery role. Arguments are templates; only a field keeps its type."""
    if not callable(function):
        raise RuleError(f"call({function!r}): expected a function; write call(send_mail, to='{{email}}'), without calling it yourself")
    return Call(function, {key: _template(value, f"call {key}") for key, value in arguments.items()})


def arm(name: str, do: Action, *, weight: float = 1) -> Arm:
    """One variant of an action. Any weights: each arm gets its part of their sum."""
    _check_name(name, "arm")
    if name == CONTROL:
        raise RuleError("arm 'control': the control arm is made by rule(..., control=0.1), the share of profiles that get nothing")
    if not isinstance(do, Action):
        raise RuleError(f"arm {name!r}: do={do!r}; expected popup(...), banner(...), webhook(...) or call(...)")
    if not isinstance(weight, int | float) or not (0 < weight < math.inf):
        raise RuleError(f"arm {name!r}: weight={weight!r}; expected a number above 0")
    return Arm(name, float(weight), do)


def schedule(
    *, since: str | None = None, until: str | None = None, days: str | None = None, hours: str | None = None, zone: str | None = None
) -> Schedule:
    """When a rule is on.

    Args:
        since, until: days or times, "2026-12-01" or "2026-12-01 18:00". A day in `until` is the last day, a time is the first instant off.
        days: "mon-fri", "sat,sun", "mon,wed-fri".
        hours: "10:00-22:00"; "22:00-02:00" passes midnight and belongs to the day on which it begins.
        zone: IANA name of the time zone; the project's if not given.
    """
    named = _zone(zone, "schedule") if zone is not None else _project().zone
    return Schedule(
        zone=named,
        since_us=None if since is None else _instant(since, "since", named, after_day=False),
        until_us=None if until is None else _instant(until, "until", named, after_day=True),
        days=ALL_DAYS if days is None else _days(days),
        hours=None if hours is None else _hours(hours, "schedule"),
    )


def quiet_hours(hours: str, *, zone: str | None = None) -> Quiet:
    """Hours such as "22:00-08:00" in which nothing is decided.

    Args:
        hours: of the local day; the end is the first minute that is not quiet.
        zone: "visitor" for the zone that the event's context names (the project's where it names none), or a zone's IANA name; the
            project's if not given.
    """
    visitor = zone == "visitor"
    named = "" if zone is None or visitor else _zone(zone, "quiet_hours")  # "": the project's, put in by project(...) or rule(...)
    return Quiet(_hours(hours, "quiet_hours"), named, visitor)


def goal(event: str, *, within: str) -> Goal:
    """What an action is to bring about: the event `event` at most `within` after the first decision. See `<dataset>.action_results`."""
    [name] = _events(event, "goal")
    return Goal(name, _duration(within, "goal within"))


def project(
    *,
    zone: str = "UTC",
    gap: str | None = None,
    gap_views: int = 0,
    holdout: float = 0.0,
    holdout_seed: str = "",
    quiet: Quiet | None = None,
    goal: Goal | None = None,
) -> Project:
    """What holds for all rules of the file; it stands above the first rule.

    Args:
        zone: the IANA time zone of schedules and quiet hours that name none.
        gap, gap_views: between two messages to a profile at least this time *and* this many page views pass.
        holdout: the share of profiles that never get an action, from 0 to below 1.
        holdout_seed: another text holds out other profiles.
        quiet, goal: those of rules that have none of their own.
    """
    current = declared.get()
    if current is not None and (current.rules or current.project):
        raise RuleError("project(...) comes once, above the first rule, because it gives the rules their time zone")
    named = _zone(zone, "project")
    if isinstance(gap_views, bool) or not isinstance(gap_views, int) or not 0 <= gap_views < 2**31:
        raise RuleError(f"project gap_views={gap_views!r}: expected a number of page views, such as 2")
    if quiet is not None and not isinstance(quiet, Quiet):
        raise RuleError(f"project quiet={quiet!r}: expected quiet_hours('22:00-08:00')")
    if goal is not None and not isinstance(goal, Goal):
        raise RuleError(f"project goal={goal!r}: expected goal('buy', within='24h')")
    made = Project(
        zone=named,
        gap_us=0 if gap is None else _duration(gap, "project gap"),
        gap_views=gap_views,
        holdout=_share(holdout, "project holdout"),
        holdout_seed=holdout_seed,
        quiet=_in_zone(quiet, named),
        goal=goal,
    )
    if current is not None:
        current.project = made
    return made


def rule(
    name: str,
    *,
    on: str | Sequence[str] | None = None,
    do: Action | Sequence[Arm],
    when: str | None = None,
    when_becomes: str | None = None,
    after: str | None = None,
    unless: str | Sequence[str] = (),
    still: str | None = None,
    during: Schedule | None = None,
    at_most: str | Sequence[str] = (),
    quiet: Quiet | Literal[False] | None = None,
    priority: int = 0,
    control: float = 0.0,
    expires: str = "30m",
    goal: Goal | None = None,
    seed: str | None = None,
) -> Rule:
    """When `on` happens and `when` holds, do `do`.

    Args:
        name: of the rule, as it is in the lake. Renaming it starts its caps anew and, without `seed`, deals its arms anew.
        on: the event or events that trigger it; every event if not given.
        do: an action, or arms: [arm("a", popup(...)), arm("b", banner(...), weight=2)].
        when: a GoogleSQL condition over the event's columns, features and model scores. The rule fires at *every* trigger at which it is
            true; NULL is not true.
        when_becomes: the same, but the rule fires only when it is true and was not at the profile's previous trigger.
        after: fire only this long after the trigger, and only if none of `unless` came in between. A new trigger starts the time anew.
        unless: the events that prevent it: before it fires with `after`, and in any case before it is shown.
        still: a GoogleSQL condition over features and scores alone that must hold when the message is shown.
        during: schedule(...), outside of which the rule is off.
        at_most: caps for one profile: "1 per 24h" (any 24 hours), "1 per 10 views", "3 ever", or several of them.
        quiet: quiet_hours(...); False for none, even if the project has some.
        priority: of the rules that would show something at the same event the one with the highest does; equal ones in the file's order.
        control: the share of profiles that get nothing and are measured.
        expires: how long after the decision it may still be shown.
        goal: goal(...), what `action_results` counts for this rule.
        seed: deals the arms; another text deals them anew. The name if not given.

    Raises:
        RuleError: a value is not allowed; the message says what to write.
    """
    _check_name(name, "rule")
    where = f"rule {name!r}"
    current = _project()
    if when is not None and when_becomes is not None:
        raise RuleError(
            f"{where}: when and when_becomes are both given; when fires every time it is true, when_becomes once as it turns true"
        )
    if after is not None and not unless:
        raise RuleError(f"{where}: after={after!r} without unless; write what prevents it, such as after='30m', unless='buy'")
    cancelling, triggering = _events(unless, where), _events(on or (), where)
    if after is not None and not (cancelling and triggering):
        raise RuleError(f"{where}: after={after!r} needs the event that starts the time, such as on='cart'")
    if set(cancelling) & set(triggering):
        raise RuleError(
            f"{where}: {sorted(set(cancelling) & set(triggering))} is in on and in unless; an event either starts the rule or stops it"
        )
    condition = _condition(when if when_becomes is None else when_becomes, f"{where}: when")
    if quiet is not False:
        _typed(quiet, Quiet, f"{where}: quiet", "quiet_hours('22:00-08:00') or False")
    made = Rule(
        name=name,
        on=triggering,
        condition=condition,
        edge=when_becomes is not None,
        timer=None if after is None else Timer(_duration(after, f"{where}: after")),
        unless=cancelling,
        still=_condition(still, f"{where}: still"),
        schedule=_typed(during, Schedule, f"{where}: during", "schedule(hours='10:00-22:00')"),
        caps=tuple(_cap(text, where) for text in ([at_most] if isinstance(at_most, str) else at_most)),
        quiet=None if quiet is False else current.quiet if quiet is None else _in_zone(quiet, current.zone),
        priority=_typed(priority, int, f"{where}: priority", "a whole number such as 10") or 0,
        arms=control_arm(_arms(do, where), _share(control, f"{where}: control")),
        expires_us=_duration(expires, f"{where}: expires"),
        goal=_typed(goal, Goal, f"{where}: goal", "goal('buy', within='24h')") or current.goal,
        seed=name if seed is None else seed,
    )
    _enter(made)
    return made


def _enter(made: Rule) -> None:
    current = declared.get()
    if current is None:
        return
    if any(other.name == made.name for other in current.rules):
        raise RuleError(f"rule {made.name!r} is declared twice; every rule needs its own name")
    current.rules.append(made)


def _project() -> Project:
    current = declared.get()
    return current.project if current is not None and current.project is not None else Project()


def _message(kind: Literal["popup", "banner"], **fields: str) -> Message:
    if not isinstance(fields["title"], str) or not fields["title"].strip():
        raise RuleError(f"{kind} title={fields['title']!r}: expected a text, such as {kind}(title='Hello {{name|you}}')")
    if fields["button"] and not fields["link"]:
        raise RuleError(f"{kind} button={fields['button']!r} has no link; write where it leads: link='/cart'")
    made = {key: _template(text, f"{kind} {key}", url=key not in _MESSAGE_TEXTS) for key, text in fields.items() if text != ""}
    return Message(kind, made)


def _template(text: object, where: str, *, url: bool = False) -> Template:
    if not isinstance(text, str):
        raise RuleError(f"{where}={text!r}: expected a text")
    try:
        return template.parse_url(text) if url else template.parse(text)
    except ValueError as error:
        raise RuleError(f"{where}: {error}") from error


def _json_template(value: object, where: str) -> object:
    if isinstance(value, str):
        return _template(value, where)
    if isinstance(value, Mapping):
        return {str(key): _json_template(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_template(item, where) for item in value]
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise RuleError(f"{where}={value!r}: expected what JSON has: texts, numbers, True, False, None, lists and dicts")


def _arms(do: object, where: str) -> tuple[Arm, ...]:
    if isinstance(do, Action):
        return (Arm("action", 1.0, do),)
    if not isinstance(do, list | tuple) or not do or not all(isinstance(each, Arm) for each in do):
        raise RuleError(f"{where}: do={do!r}; expected popup(...), banner(...), webhook(...), call(...) or [arm('a', popup(...)), ...]")
    names = [each.name for each in do]
    if len(set(names)) < len(names):
        raise RuleError(f"{where}: arms {names} have a name twice; every arm needs its own")
    if len({isinstance(each.action, Message) for each in do}) > 1:
        raise RuleError(
            f"{where}: some arms show a message and some do not; priority and gaps hold for messages only, so make it two rules"
        )
    return tuple(do)


def _events(names: str | Sequence[str], where: str) -> tuple[str, ...]:
    each = (names,) if isinstance(names, str) else tuple(names)
    for name in each:
        if not isinstance(name, str) or not name:
            raise RuleError(f"{where}: {name!r} is not the name of an event; expected a text such as 'buy' or 'page'")
    return tuple(dict.fromkeys(each))


def _condition(text: str | None, where: str) -> str | None:
    if text is not None and (not isinstance(text, str) or not text.strip()):
        raise RuleError(f"{where}={text!r}: expected a GoogleSQL condition, such as 'spend_7d > 100'")
    return None if text is None else text.strip()


def _cap(text: object, where: str) -> Cap:
    found = _CAP.fullmatch(text.strip()) if isinstance(text, str) else None
    window = parse_us(found[3]) if found and found[3] else None
    if found is None or not int(found[1]) or (found[2] and not int(found[2])) or (found[3] and window is None):
        raise RuleError(f"{where}: at_most={text!r}; expected '1 per 24h', '2 per 10 views' or '3 ever' (units s, m, h, d, w)")
    count = int(found[1])
    if found[4]:
        return TotalCap(count)
    if count > CAP_COUNT_MAX:
        raise RuleError(
            f"{where}: at_most={text!r}; a cap in a window counts up to {CAP_COUNT_MAX}; use a shorter window or '{count} ever'"
        )
    return ViewCap(count, int(found[2])) if window is None else TimeCap(count, window)


def _duration(text: str, where: str) -> int:
    found = parse_us(text)
    if found is None:
        raise RuleError(f"{where}={text!r}: expected a duration such as '45s', '30m', '24h', '7d' or '2w'")
    return found


def _share(value: float, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise RuleError(f"{where}={value!r}: expected a share from 0 to below 1; 10 % is 0.1")
    return float(value)


def _zone(name: str, where: str) -> str:
    if not isinstance(name, str) or zone_named(name) is None:
        raise RuleError(f"{where} zone={name!r}: expected a time zone's IANA name such as 'Asia/Tokyo' or 'UTC'")
    return name


def _in_zone(quiet: Quiet | None, zone: str) -> Quiet | None:
    return quiet if quiet is None or quiet.zone else Quiet(quiet.hours, zone, quiet.visitor)


def _hours(text: str, where: str) -> Hours:
    found = _HOURS.fullmatch(text.strip()) if isinstance(text, str) else None
    start, end = (int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])) if found else (0, 0)
    if found is None or int(found[2]) > 59 or int(found[4]) > 59 or start >= 24 * 60 or end > 24 * 60 or start == end:
        raise RuleError(f"{where} hours={text!r}: expected two different times of the day, such as '10:00-22:00' or '22:00-08:00'")
    return Hours(start, end)


def _days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.lower().split(",") if isinstance(text, str) else [""]:
        first, _, last = part.strip().partition("-")
        if first not in _DAYS or (last or first) not in _DAYS:
            raise RuleError(f"schedule days={text!r}: expected days such as 'mon-fri' or 'sat,sun'")
        start = _DAYS.index(first)
        days |= {(start + step) % 7 for step in range((_DAYS.index(last or first) - start) % 7 + 1)}
    return frozenset(days)


def _instant(text: str, name: str, zone: str, *, after_day: bool) -> int:
    try:
        at = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise RuleError(f"schedule {name}={text!r}: expected a day or a time such as '2026-12-01' or '2026-12-01 18:00'") from error
    if len(text.strip()) <= len("2026-12-01") and after_day:
        at += timedelta(days=1)
    if at.tzinfo is None:
        at = at.replace(tzinfo=zone_named(zone))
    return to_us(at)


def _check_name(name: object, what: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RuleError(f"{what} {name!r}: expected a name of letters, digits and _ that begins with a letter, such as 'left_cart'")


def _typed(value: T | None, kind: type[T], where: str, example: str) -> T | None:
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise RuleError(f"{where}={value!r}: expected {example}")
    return value
