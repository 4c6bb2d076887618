"""The vocabulary of `actions.py`.

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

Every function checks its arguments, and its errors say what to write. `rule` and `project` also register their result in
the file being loaded (`sokuji.rules.load`), so nothing needs to be assigned or listed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Literal

from msgspec import Struct

from sokuji.errors import RuleError
from sokuji.rules import arguments, template
from sokuji.rules.bucket import control_arm
from sokuji.rules.calendar import ALL_DAYS, Schedule
from sokuji.rules.spec import (
    CONTROL,
    Action,
    Arm,
    Goal,
    Message,
    Project,
    PythonCall,
    Quiet,
    Rule,
    Timer,
    Webhook,
)
from sokuji.rules.template import Template

_MESSAGE_TEXTS = ("title", "body", "button")


class DeclaredRules(Struct):
    """The declarations of the file that is being loaded, so far."""

    rules: list[Rule]
    project: Project | None = None


declared: ContextVar[DeclaredRules | None] = ContextVar("declared", default=None)


def popup(*, title: str, body: str = "", button: str = "", link: str = "", image: str = "") -> Message:
    """A window over the page. All fields are templates; texts are shown as plain text, never as markup."""
    return _message("popup", title=title, body=body, button=button, link=link, image=image)


def banner(*, title: str, body: str = "", button: str = "", link: str = "", image: str = "") -> Message:
    """A strip at the edge of the page, with the same fields as `popup`."""
    return _message("banner", title=title, body=body, button=button, link=link, image=image)


def webhook(url: str, **body: Any) -> Webhook:
    """A POST of the JSON object `body` to `url`. Strings in it are templates; a string of a single field keeps the field's type."""
    if not isinstance(url, str) or not re.match(r"https?://[^/{}\s]+", url) or "{" in url:
        raise RuleError(
            f"webhook url {url!r}: expected a fixed URL such as 'https://host/path'; fields go into the body: webhook(url, name='{{name}}')"
        )
    return Webhook(url, {key: _json_template(value, f"webhook {key}") for key, value in body.items()})


def call(function: Callable[..., object], **fields: str) -> PythonCall:
    """A call of `function(decision, **fields)` by the delivery role. Fields are templates; a single field keeps its type."""
    if not callable(function):
        raise RuleError(f"call({function!r}): expected a function; write call(send_mail, to='{{email}}'), without calling it yourself")
    return PythonCall(function, {key: _template(value, f"call {key}") for key, value in fields.items()})


def arm(name: str, do: Action, *, weight: float = 1) -> Arm:
    """One variant of an action. Weights are relative: each arm gets its part of their sum."""
    arguments.check_name(name, "arm")
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
    """The times when a rule is on.

    Args:
        since, until: days or times, "2026-12-01" or "2026-12-01 18:00". A day in `until` is the last day; a time is when the rule goes off.
        days: "mon-fri", "sat,sun", "mon,wed-fri".
        hours: "10:00-22:00"; "22:00-02:00" passes midnight and belongs to the day on which it begins.
        zone: IANA name of the time zone; default: the project's.
    """
    named = arguments.zone(zone, "schedule") if zone is not None else _project().zone
    return Schedule(
        zone=named,
        since_us=None if since is None else arguments.instant_us(since, "since", named, after_day=False),
        until_us=None if until is None else arguments.instant_us(until, "until", named, after_day=True),
        days=ALL_DAYS if days is None else arguments.days(days),
        hours=None if hours is None else arguments.hours(hours, "schedule"),
    )


def quiet_hours(hours: str, *, zone: str | None = None) -> Quiet:
    """Hours such as "22:00-08:00" in which nothing is decided.

    Args:
        hours: of the local day; the end is the first minute that is not quiet.
        zone: an IANA name; or "visitor": the zone that the event's context names, else the project's; default: the project's.
    """
    visitor = zone == "visitor"
    named = "" if zone is None or visitor else arguments.zone(zone, "quiet_hours")  # "": set by project(...) or rule(...)
    return Quiet(arguments.hours(hours, "quiet_hours"), named, visitor)


def goal(event: str, *, within: str) -> Goal:
    """The goal of an action: the event `event` at most `within` after the first decision. See `<dataset>.action_results`."""
    [name] = arguments.event_names(event, "goal")
    return Goal(name, arguments.duration_us(within, "goal within"))


def project(
    *,
    zone: str = "UTC",
    gap: str | None = None,
    gap_views: int = 0,
    holdout: float = 0.0,
    holdout_seed: str = "",
    quiet: Quiet | None = None,
    goal: Goal | None = None,
    image_hosts: Sequence[str] = (),
) -> Project:
    """Settings for all rules of the file. Must come before the first rule.

    Args:
        zone: the IANA time zone for schedules and quiet hours without a zone of their own.
        gap, gap_views: between two messages to a profile, at least this time *and* this many page views must pass.
        holdout: the share of profiles that never get an action, from 0 to below 1.
        holdout_seed: another text selects other profiles.
        quiet, goal: defaults for rules without their own.
        image_hosts: hosts of images that `image="{field}"` may name, besides the site's own; such as "cdn.shop.example".
    """
    current = declared.get()
    if current is not None and (current.rules or current.project):
        raise RuleError("project(...) comes once, above the first rule, because it gives the rules their time zone")
    named = arguments.zone(zone, "project")
    if isinstance(gap_views, bool) or not isinstance(gap_views, int) or not 0 <= gap_views < 2**31:
        raise RuleError(f"project gap_views={gap_views!r}: expected a number of page views, such as 2")
    new_project = Project(
        zone=named,
        gap_us=0 if gap is None else arguments.duration_us(gap, "project gap"),
        gap_views=gap_views,
        holdout=arguments.share(holdout, "project holdout"),
        holdout_seed=holdout_seed,
        quiet=_in_zone(arguments.typed(quiet, Quiet, "project quiet", "quiet_hours('22:00-08:00')"), named),
        goal=arguments.typed(goal, Goal, "project goal", "goal('buy', within='24h')"),
        image_hosts=arguments.hosts(image_hosts, "project image_hosts"),
    )
    if current is not None:
        current.project = new_project
    return new_project


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
    """When `on` happens and `when` is true, do `do`.

    Args:
        name: of the rule, as stored in the lake. Renaming the rule resets its caps and, without `seed`, assigns its arms again.
        on: the event or events that trigger the rule; default: every event.
        do: an action, or arms: [arm("a", popup(...)), arm("b", banner(...), weight=2)].
        when: a GoogleSQL condition over the event's columns, features and model scores. The rule fires at *every* trigger at which it is
            true; NULL is not true.
        when_becomes: the same, but the rule fires only if the condition is true and was not true at the profile's previous trigger.
        after: fire only this long after the trigger, and only if no event of `unless` came in between. A new trigger restarts the time.
        unless: the events that prevent the action: before the rule fires (with `after`), and always before the action is shown.
        still: a GoogleSQL condition over features and scores alone that must be true when the message is shown.
        during: schedule(...), outside of which the rule is off.
        at_most: caps for one profile: "1 per 24h" (any 24 hours), "1 per 10 views", "1 per session", "3 ever", or several of them.
        quiet: quiet_hours(...); False for none, even if the project has some.
        priority: of the rules that would show something at the same event, the one with the highest wins; ties go to the first in the file.
        control: the share of profiles that get nothing and are measured.
        expires: how long after the decision the action may still be shown.
        goal: goal(...), which `action_results` counts for this rule.
        seed: assigns the arms; another text assigns them again. Default: the name.

    Raises:
        RuleError: a value is not allowed; the message says what to write.
    """
    arguments.check_name(name, "rule")
    where, current = f"rule {name!r}", _project()
    if when is not None and when_becomes is not None:
        raise RuleError(f"{where}: when and when_becomes; write when to fire each time it is true, when_becomes to fire as it turns true")
    triggering, cancelling = _occasions(on, after, unless, where)
    if quiet is not False:
        arguments.typed(quiet, Quiet, f"{where}: quiet", "quiet_hours('22:00-08:00') or False")
    new_rule = Rule(
        name=name,
        on=triggering,
        condition=arguments.condition(when if when_becomes is None else when_becomes, f"{where}: when"),
        edge=when_becomes is not None,
        timer=None if after is None else Timer(arguments.duration_us(after, f"{where}: after")),
        unless=cancelling,
        still=arguments.condition(still, f"{where}: still"),
        schedule=arguments.typed(during, Schedule, f"{where}: during", "schedule(hours='10:00-22:00')"),
        caps=tuple(arguments.cap(text, where) for text in ([at_most] if isinstance(at_most, str) else at_most)),
        quiet=None if quiet is False else current.quiet if quiet is None else _in_zone(quiet, current.zone),
        priority=arguments.typed(priority, int, f"{where}: priority", "a whole number such as 10") or 0,
        arms=control_arm(_arms(do, where), arguments.share(control, f"{where}: control")),
        expires_us=arguments.duration_us(expires, f"{where}: expires"),
        goal=arguments.typed(goal, Goal, f"{where}: goal", "goal('buy', within='24h')") or current.goal,
        seed=name if seed is None else seed,
    )
    _enter(new_rule)
    return new_rule


def _occasions(
    on: str | Sequence[str] | None, after: str | None, unless: str | Sequence[str], where: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The events that trigger a rule and those that stop it."""
    triggering, cancelling = arguments.event_names(on or (), where), arguments.event_names(unless, where)
    if after is not None and not cancelling:
        raise RuleError(f"{where}: after={after!r} without unless; write what prevents it, such as after='30m', unless='buy'")
    if after is not None and not triggering:
        raise RuleError(f"{where}: after={after!r} needs the event that starts the time, such as on='cart'")
    if both := set(cancelling) & set(triggering):
        raise RuleError(f"{where}: {sorted(both)} is in on and in unless; an event either starts the rule or stops it")
    return triggering, cancelling


def _enter(new_rule: Rule) -> None:
    current = declared.get()
    if current is None:
        return
    if any(other.name == new_rule.name for other in current.rules):
        raise RuleError(f"rule {new_rule.name!r} is declared twice; every rule needs its own name")
    current.rules.append(new_rule)


def _project() -> Project:
    current = declared.get()
    return current.project if current is not None and current.project is not None else Project()


def _message(kind: Literal["popup", "banner"], **fields: str) -> Message:
    if not isinstance(fields["title"], str) or not fields["title"].strip():
        raise RuleError(f"{kind} title={fields['title']!r}: expected a text, such as {kind}(title='Hello {{name|you}}')")
    if fields["button"] and not fields["link"]:
        raise RuleError(f"{kind} button={fields['button']!r} has no link; write where it leads: link='/cart'")
    templates = {key: _template(text, f"{kind} {key}", url=key not in _MESSAGE_TEXTS) for key, text in fields.items() if text != ""}
    return Message(kind, templates)


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


def _in_zone(quiet: Quiet | None, zone: str) -> Quiet | None:
    return quiet if quiet is None or quiet.zone else Quiet(quiet.hours, zone, quiet.visitor)
