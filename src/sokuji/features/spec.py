"""A declaration as immutable objects: a view has named features, each an aggregate of events over one window, or computed from such.

`language.py` makes these objects from a `features.py`; `layout.py` makes the kernel's program and row layout from them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from sokuji.errors import FeatureError
from sokuji.features.windows import Window


class AggregateFunction(enum.StrEnum):
    """A function over events."""

    COUNT = "count"
    SUM = "sum"
    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    VARIANCE = "variance"  # the sample variance, as SQL's VARIANCE
    STDDEV = "stddev"
    FIRST = "first"
    LAST = "last"
    LAST_N = "last_n"
    DISTINCT = "distinct"
    TOP_K = "top_k"
    SINCE_FIRST = "since_first"
    SINCE_LAST = "since_last"
    SESSION_COUNT = "session_count"
    SESSION_NUMBER = "session_number"
    SESSION_EVENTS = "session_events"
    SESSION_DURATION = "session_duration"


NUMERIC = frozenset(
    {
        AggregateFunction.SUM,
        AggregateFunction.MEAN,
        AggregateFunction.MIN,
        AggregateFunction.MAX,
        AggregateFunction.VARIANCE,
        AggregateFunction.STDDEV,
    }
)
"""The functions that take only numbers."""

BY_CATEGORY = frozenset(
    {AggregateFunction.COUNT, AggregateFunction.SUM, AggregateFunction.MEAN, AggregateFunction.MIN, AggregateFunction.MAX}
)
"""The functions that can be computed per category."""

LISTS = frozenset({AggregateFunction.LAST_N, AggregateFunction.TOP_K})
"""The functions whose value is an ARRAY."""


class Expression:
    """A number for each profile at each moment. Arithmetic with other expressions and with constants gives a new expression.

    An operation with NULL gives NULL, and so does a division by zero.
    """

    __slots__ = ()

    def __add__(self, other: Expression | float) -> Derived:
        return Derived("+", operand(self), operand(other))

    def __radd__(self, other: float) -> Derived:
        return Derived("+", operand(other), operand(self))

    def __sub__(self, other: Expression | float) -> Derived:
        return Derived("-", operand(self), operand(other))

    def __rsub__(self, other: float) -> Derived:
        return Derived("-", operand(other), operand(self))

    def __mul__(self, other: Expression | float) -> Derived:
        return Derived("*", operand(self), operand(other))

    def __rmul__(self, other: float) -> Derived:
        return Derived("*", operand(other), operand(self))

    def __truediv__(self, other: Expression | float) -> Derived:
        return Derived("/", operand(self), operand(other))

    def __rtruediv__(self, other: float) -> Derived:
        return Derived("/", operand(other), operand(self))

    def __neg__(self) -> Derived:
        return Derived("-", FixedNumber(0.0), operand(self))

    def one(self) -> Expression:
        """This expression. Raises FeatureError if it stands for several numbers and one of them must be named."""
        return self

    def aggregates(self) -> Iterator[Aggregate]:
        """The aggregates that the expression uses."""
        return iter(())


@dataclass(frozen=True, slots=True)
class FixedNumber(Expression):
    """The same number for all profiles."""

    value: float


@dataclass(frozen=True, slots=True)
class Aggregate(Expression):
    """One function over one window.

    `filter`, `value` and `by` are GoogleSQL scalar expressions over an event's columns. An event counts if `filter` is true (or None) and
    neither `value` nor `by` is NULL. `n` is the length of a list or map. `default` replaces NULL.
    """

    function: AggregateFunction
    window: Window
    filter: str | None = None
    value: str | None = None
    by: str | None = None
    n: int = 0
    default: float | str | None = None

    def aggregates(self) -> Iterator[Aggregate]:
        """This aggregate itself."""
        yield self


@dataclass(frozen=True, slots=True)
class Derived(Expression):
    """Arithmetic: `operator` is one of + - * /."""

    operator: str
    left: Expression
    right: Expression

    def aggregates(self) -> Iterator[Aggregate]:
        """The aggregates of both sides."""
        yield from self.left.aggregates()
        yield from self.right.aggregates()


def operand(value: Expression | float) -> Expression:
    """Convert one side of an operator to an expression.

    Raises:
        FeatureError: it is not a number.
    """
    if isinstance(value, Expression):
        one = value.one()
        if isinstance(one, Aggregate) and (one.by is not None or one.function in LISTS):
            raise FeatureError(f"{one.function}{' by category' if one.by else ''} is not a number to compute with; make it a feature")
        return one
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FeatureError(f'features are computed from features and numbers, as spend["1h"] / (spend["7d"] + 1); got {value!r}')
    return FixedNumber(float(value))


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of a view."""

    name: str
    expression: Aggregate | Derived


class Entity(enum.StrEnum):
    """The kind of profile that has the features."""

    VISITOR = "visitor"
    USER = "user"


@dataclass(frozen=True, slots=True)
class ViewSpec:
    """The features of one entity under one name. Equal specs have the same row layout."""

    name: str
    entity: Entity
    features: tuple[Feature, ...]
    session_gap_us: int

    @property
    def expressions(self) -> tuple[str, ...]:
        """The distinct GoogleSQL expressions over an event's columns that the view needs."""
        aggregates = (aggregate for feature in self.features for aggregate in feature.expression.aggregates())
        texts = (text for aggregate in aggregates for text in (aggregate.filter, aggregate.value, aggregate.by))
        return tuple(dict.fromkeys(text for text in texts if text is not None))

    @property
    def numbers(self) -> frozenset[str]:
        """The expressions among `expressions` that must be numbers, because numeric functions use them as values."""
        aggregates = (aggregate for feature in self.features for aggregate in feature.expression.aggregates())
        return frozenset(each.value for each in aggregates if each.value is not None and each.function in NUMERIC)
