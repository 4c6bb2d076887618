"""The vocabulary of `features.py`: expressions over events, which become features.

    from sokuji.features import events, sessions, view

    views, buys = events("page"), events("buy")
    spend = buys.sum("revenue").over("1h", "7d")

    view(
        "shopper",
        entity="visitor",
        spend=spend,                                             # spend_1h, spend_7d
        big=buys.where("revenue > 10000").count().over("28d"),   # big_28d
        seen=views.last(20, "url"),                              # seen
        shelf=views.count().by("category", top=5).over("1d"),    # shelf_1d
        share=spend["1h"] / (spend["7d"] + 1),                   # share
        visit=sessions.number(),                                 # visit
    )

Filters and values are GoogleSQL scalar expressions over the columns of an event. They are checked when the view is applied.
"""

from __future__ import annotations

import difflib
import keyword
import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import NamedTuple, overload

from sokuji.errors import FeatureError
from sokuji.features.spec import BY_CATEGORY, LISTS, Aggregate, AggregateFunction, Derived, Entity, Expression, Feature, ViewSpec
from sokuji.features.windows import ALL, SESSION, Window, WindowKind, length, window
from sokuji.lake.events import PROPERTY_TYPES, column_name
from sokuji.types import Type

_N_MAX = 100
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_SESSION_GAP = "30m"
_OF_ONE_SESSION = frozenset({AggregateFunction.SESSION_EVENTS, AggregateFunction.SESSION_DURATION})


class Declarations(NamedTuple):
    """The declarations of a project's file."""

    views: list[ViewSpec]
    properties: dict[str, Type]  # the declared types of properties


declared: ContextVar[Declarations | None] = ContextVar("declared", default=None)
"""Collects the declarations while a project's file is loaded."""


@dataclass(frozen=True, slots=True)
class Aggregation(Expression):
    """A function of events over one or more windows. Without `over`, the window is all time."""

    aggregate: Aggregate
    windows: tuple[Window, ...] = (ALL,)

    def over(self, *windows: str) -> Aggregation:
        """Compute over each of these windows: "90s", "30m", "1h", "7d", "session", "previous session", "today in Asia/Tokyo", "all"."""
        if not windows:
            raise FeatureError(f'over() needs a window: {self.aggregate.function}(...).over("1h")')
        chosen = tuple(window(text) for text in windows)
        if self.aggregate.function in _OF_ONE_SESSION and not {each.kind for each in chosen} <= _SESSIONS:
            raise FeatureError(f'{self.aggregate.function} needs one session: use over("session") or over("previous session")')
        if self.aggregate.function is AggregateFunction.SESSION_NUMBER:
            raise FeatureError('number() counts all sessions so far and has no window; use sessions.count().over("7d")')
        if self.aggregate.function is AggregateFunction.SESSION_COUNT and {each.kind for each in chosen} & _SESSIONS:
            raise FeatureError('a session has no sessions to count; use sessions.count().over("7d") or sessions.number()')
        return replace(self, windows=chosen)

    def by(self, category: str, *, top: int = 5) -> Aggregation:
        """Compute separately for each category: a map of the `top` categories with the most events."""
        aggregate = self.aggregate
        if aggregate.function not in BY_CATEGORY:
            raise FeatureError(f"{aggregate.function} cannot be kept by category; these can: {', '.join(sorted(BY_CATEGORY))}")
        return replace(self, aggregate=replace(aggregate, by=_sql(category, "by"), n=_number(top, "top")))

    def default(self, value: float | str) -> Aggregation:
        """Use this value instead of NULL when no event counts."""
        if self.aggregate.by is not None or self.aggregate.function in LISTS:
            raise FeatureError(f"{self.aggregate.function} of no events is an empty list, never NULL; leave default() out")
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise FeatureError(f"a default is a number or a text; got {value!r}")
        return replace(self, aggregate=replace(self.aggregate, default=value))

    def __getitem__(self, text: str) -> Aggregate:
        """The aggregate over one of the windows, for arithmetic: `spend["1h"] / spend["7d"]`."""
        wanted = window(text)
        if wanted not in self.windows:
            listed = ", ".join(f'"{each.text}"' for each in self.windows)
            raise FeatureError(f'{self.aggregate.function} is not kept over "{text}", only over {listed}; add it to over(...)')
        return replace(self.aggregate, window=wanted)

    __iter__ = None  # without it, Python would try aggregation[0]

    def one(self) -> Expression:
        """The aggregate, if there is only one window."""
        if len(self.windows) > 1:
            raise FeatureError(f'name the window to compute with: {self.aggregate.function}(...)["{self.windows[0].text}"]')
        return self[self.windows[0].text]

    def features(self, name: str) -> list[Feature]:
        """The columns: one per window, named after the window."""
        return [Feature(name + each.suffix, replace(self.aggregate, window=each)) for each in self.windows]


_SESSIONS = {WindowKind.SESSION, WindowKind.PREVIOUS_SESSION}


@dataclass(frozen=True, slots=True)
class Events:
    """The counted events: those with one of these names (or all events, without names) for which `condition` is true."""

    names: tuple[str, ...] = ()
    condition: str | None = None

    def where(self, condition: str) -> Events:
        """Only the events for which a GoogleSQL condition over the event's columns is true."""
        condition = _sql(condition, "where")
        return replace(self, condition=condition if self.condition is None else f"({self.condition}) AND ({condition})")

    def count(self) -> Aggregation:
        """The number of events; INT64."""
        return self._make(AggregateFunction.COUNT)

    def sum(self, value: str) -> Aggregation:
        """The sum; 0 without events."""
        return self._make(AggregateFunction.SUM, value)

    def mean(self, value: str) -> Aggregation:
        """The average; NULL without events."""
        return self._make(AggregateFunction.MEAN, value)

    def min(self, value: str) -> Aggregation:
        """The smallest value; NULL without events."""
        return self._make(AggregateFunction.MIN, value)

    def max(self, value: str) -> Aggregation:
        """The largest value; NULL without events."""
        return self._make(AggregateFunction.MAX, value)

    def variance(self, value: str) -> Aggregation:
        """The sample variance; NULL for fewer than two values."""
        return self._make(AggregateFunction.VARIANCE, value)

    def stddev(self, value: str) -> Aggregation:
        """The sample standard deviation; NULL for fewer than two values."""
        return self._make(AggregateFunction.STDDEV, value)

    def first(self, value: str) -> Aggregation:
        """The value with the earliest event time."""
        return self._make(AggregateFunction.FIRST, value)

    @overload
    def last(self, value: str, /) -> Aggregation: ...
    @overload
    def last(self, n: int, value: str, /) -> Aggregation: ...
    def last(self, *arguments: int | str) -> Aggregation:
        """`last("url")`: the value with the latest event time. `last(20, "url")`: an ARRAY of the last 20 values, the newest first."""
        match arguments:
            case [str(value)]:
                return self._make(AggregateFunction.LAST, value, 1)
            case [int(n), str(value)]:
                return self._make(AggregateFunction.LAST_N, value, _number(n, "last"))
            case _:
                raise FeatureError(f'write last("url") or last(20, "url"); got last{arguments!r}')

    def distinct(self, value: str) -> Aggregation:
        """The number of different values: exact up to a limit, then estimated by HyperLogLog; `sokuji features describe` prints both."""
        return self._make(AggregateFunction.DISTINCT, value)

    def top(self, n: int, value: str) -> Aggregation:
        """An ARRAY of the `n` most frequent values, the most frequent first, by space-saving counters."""
        return self._make(AggregateFunction.TOP_K, value, _number(n, "top"))

    def since_first(self) -> Aggregation:
        """Seconds since the first event; FLOAT64, NULL without events."""
        return self._make(AggregateFunction.SINCE_FIRST)

    def since_last(self) -> Aggregation:
        """Seconds since the last event; FLOAT64, NULL without events."""
        return self._make(AggregateFunction.SINCE_LAST)

    def _make(self, function: AggregateFunction, value: str | None = None, n: int = 0) -> Aggregation:
        text = None if value is None else _sql(value, function)
        return Aggregation(Aggregate(function, ALL, self._filter(), text, n=n))

    def _filter(self) -> str | None:
        listed = ", ".join(_quoted(name) for name in self.names)
        named = f"event_name = {listed}" if len(self.names) == 1 else f"event_name IN ({listed})" if self.names else None
        if named is None or self.condition is None:
            return self.condition or named
        return f"{named} AND ({self.condition})"


class Sessions:
    """Visits. A session ends when the profile has no event for the view's `session_gap`. Late events never join two sessions into one."""

    __slots__ = ()

    def count(self) -> Aggregation:
        """The number of sessions that began; INT64."""
        return Aggregation(Aggregate(AggregateFunction.SESSION_COUNT, ALL))

    def number(self) -> Aggregation:
        """The number of this session, from 1; between sessions, the number of the latest one."""
        return Aggregation(Aggregate(AggregateFunction.SESSION_NUMBER, ALL))

    def events(self) -> Aggregation:
        """The number of events in the session so far; 0 between sessions."""
        return Aggregation(Aggregate(AggregateFunction.SESSION_EVENTS, SESSION), (SESSION,))

    def duration(self) -> Aggregation:
        """Seconds from the session's first to its last event; NULL between sessions."""
        return Aggregation(Aggregate(AggregateFunction.SESSION_DURATION, SESSION), (SESSION,))


sessions = Sessions()


def events(*names: str) -> Events:
    """All events with these names: `events("buy")`; without a name, every event."""
    for name in names:
        if not isinstance(name, str) or not name:
            raise FeatureError(f'events() takes names of events, as events("buy", "refund"); got {name!r}')
    return Events(names)


def view(
    name: str,
    *,
    entity: str,
    features: Mapping[str, Expression] | None = None,
    session_gap: str = _SESSION_GAP,
    **named: Expression,
) -> ViewSpec:
    """Declare features of one entity ("visitor" or "user") under one name.

    An aggregation gives one column per window, named `<name>_<window>` (`<name>` alone for all time). An expression gives one column.

    Raises:
        FeatureError: the declaration is invalid; the message shows a valid one.
    """
    _check_name("view", name)
    if entity not in set(Entity):
        raise FeatureError(f'view {name!r}: entity is {entity!r}; write entity="visitor" or entity="user"')
    columns: list[Feature] = []
    given = features or {}
    for feature in given.keys() & named.keys():
        raise FeatureError(f"feature {feature!r} is given twice, in features and by itself; rename one of them")
    for feature, meaning in {**given, **named}.items():
        _check_name("feature", feature)
        if isinstance(meaning, Aggregation):
            columns += meaning.features(feature)
        elif isinstance(meaning, Aggregate | Derived):
            columns.append(Feature(feature, meaning))
        else:
            raise FeatureError(f'feature {feature!r} is {_hint(meaning)}; write {feature}=events("buy").count().over("1h")')
    if not columns:
        raise FeatureError(f'view {name!r} has no features; write view({name!r}, entity={entity!r}, buys=events("buy").count().over("7d"))')
    _check_distinct(name, columns)
    spec = ViewSpec(name, Entity(entity), tuple(columns), length(session_gap, "session_gap"))
    if (entered := declared.get()) is not None:
        entered.views.append(spec)
    return spec


def property_types(types: Mapping[str, str] | None = None, **named: str) -> dict[str, Type]:
    """Declare the types of properties, whatever type the first event has: `property_types(revenue="FLOAT64", sku="STRING")`.

    Values of another type count as NULL. When the property gets a column later, the column has this type too.

    Raises:
        FeatureError: a type is not one that a property can have, or a name is not a valid property name.
    """
    declared_types: dict[str, Type] = {}
    for name, type_ in {**(types or {}), **named}.items():
        if column_name(name) != name:
            raise FeatureError(f"no property has the column {name!r}; write what it is called in SQL")
        if type_ not in PROPERTY_TYPES:
            raise FeatureError(f"property {name}: {type_!r} is no type of a property; write {', '.join(PROPERTY_TYPES)}")
        declared_types[name] = PROPERTY_TYPES[type_]
    if (entered := declared.get()) is not None:
        entered.properties.update(declared_types)
    return declared_types


def _check_distinct(name: str, columns: list[Feature]) -> None:
    seen: dict[str, str] = {}
    for column in columns:
        other = seen.setdefault(column.name.lower(), column.name)
        if other is not column.name:
            raise FeatureError(f"view {name!r} has two features called {column.name}; rename one of them (SQL does not tell case apart)")


def _check_name(what: str, name: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise FeatureError(f"{what} {name!r}: a name has letters, digits and _, and begins with no digit")


def _hint(meaning: object) -> str:
    if isinstance(meaning, Events):
        return "events without a function"
    methods = [name for name in vars(Events) if not name.startswith("_")]
    near = difflib.get_close_matches(getattr(meaning, "__name__", ""), methods, 1)
    return f"the method {near[0]} itself, not called" if near else repr(meaning)


def _sql(text: str, what: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise FeatureError(f'{what}() takes a GoogleSQL expression over the event\'s columns as text, such as "revenue"; got {text!r}')
    return text.strip()


def _number(n: int, what: str) -> int:
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= _N_MAX:
        raise FeatureError(f"{what} is {n!r}; it must be between 1 and {_N_MAX}")
    return n


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
