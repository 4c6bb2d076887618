"""The declarations of a project's `actions.py`, checked and immutable. Created by `language`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from msgspec import Struct

from sokuji.rules.calendar import Hours, Schedule, local, zone_named
from sokuji.rules.template import Template, TemplateField

CONTROL = "control"  # the arm that gets nothing and is measured


class Message(Struct, frozen=True):
    """A message that the visitor sees. Texts are plain text, never markup; `link` and `image` are URLs."""

    kind: Literal["popup", "banner"]
    fields: Mapping[str, Template]


class Webhook(Struct, frozen=True):
    """A POST of `body` as JSON to `url`. Strings in `body` are templates."""

    url: str
    body: Mapping[str, Any]  # str leaves are Template


class PythonCall(Struct, frozen=True):
    """A user's Python function, which the delivery role calls with the decision and `arguments`."""

    function: Callable[..., object]
    arguments: Mapping[str, Template]


Action = Message | Webhook | PythonCall


def fields_of(action: Action) -> Iterator[TemplateField]:
    """The template fields of an action, in its order."""
    match action:
        case Message(fields=parts) | Webhook(body=parts) | PythonCall(arguments=parts):
            yield from _fields(parts)


def _fields(value: object) -> Iterator[TemplateField]:
    match value:
        case Template():
            yield from value.fields
        case Mapping():
            for item in value.values():
                yield from _fields(item)
        case list():
            for item in value:
                yield from _fields(item)


class Arm(Struct, frozen=True):
    """One variant of a rule's action. Weights are relative to each other; `action` is None for the control arm."""

    name: str
    weight: float
    action: Action | None


class TimeCap(Struct, frozen=True):
    """At most `count` decisions of the rule for one profile within any `window_us`."""

    count: int
    window_us: int


class ViewCap(Struct, frozen=True):
    """At most `count` decisions of the rule for one profile within any `views` page views."""

    count: int
    views: int


class SessionCap(Struct, frozen=True):
    """At most `count` decisions of the rule for one profile in one session."""

    count: int


class TotalCap(Struct, frozen=True):
    """At most `count` decisions of the rule for one profile, ever."""

    count: int


Cap = TimeCap | ViewCap | SessionCap | TotalCap


class Timer(Struct, frozen=True):
    """The rule fires `delay_us` after its last trigger event, unless an event of `unless` comes first."""

    delay_us: int


class Quiet(Struct, frozen=True):
    """Hours in which nothing is decided. With `visitor`, they are in the zone of the event's context, if it names one, else in `zone`."""

    hours: Hours
    zone: str
    visitor: bool

    def contains(self, at_us: int, visitor_zone: str | None) -> bool:
        """Whether `at_us` is quiet. `visitor_zone` is the zone name in the event, if any."""
        zone = visitor_zone if self.visitor and visitor_zone is not None and zone_named(visitor_zone) is not None else self.zone
        local_time = local(at_us, zone)
        return self.hours.contains(local_time.hour * 60 + local_time.minute)


class Goal(Struct, frozen=True):
    """The goal of an action: event `event` within `within_us` of the first decision."""

    event: str
    within_us: int


class Rule(Struct, frozen=True, kw_only=True):
    """One rule. Empty `on`: every event triggers it. `condition` None: always true."""

    name: str
    on: tuple[str, ...]
    condition: str | None
    edge: bool  # fires when the condition becomes true, not each time it is true
    timer: Timer | None
    unless: tuple[str, ...]
    still: str | None
    schedule: Schedule | None
    caps: tuple[Cap, ...]
    quiet: Quiet | None
    priority: int
    arms: tuple[Arm, ...]
    expires_us: int
    goal: Goal | None
    seed: str

    @property
    def competes(self) -> bool:
        """Whether the rule shows a message, and so is subject to priority and the project's gap."""
        return any(isinstance(arm.action, Message) for arm in self.arms)

    @property
    def fields(self) -> tuple[TemplateField, ...]:
        """The template fields of all arms."""
        return tuple(field for arm in self.arms if arm.action is not None for field in fields_of(arm.action))


class Project(Struct, frozen=True, kw_only=True):
    """Settings for all rules of a project."""

    zone: str = "UTC"
    gap_us: int = 0
    gap_views: int = 0
    holdout: float = 0.0  # the share of profiles that never get an action
    holdout_seed: str = ""
    quiet: Quiet | None = None
    goal: Goal | None = None
    image_hosts: tuple[str, ...] = ()  # hosts of images that a lone field may name, besides the site's own


class Actions(Struct, frozen=True):
    """All declarations of an `actions.py`; rules are in file order."""

    project: Project
    rules: tuple[Rule, ...]
