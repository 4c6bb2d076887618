"""Describe the cost and accuracy of a view: the hop of each feature, its bytes in a row, and its error."""

from __future__ import annotations

import math
from typing import NamedTuple

from sokuji.features.kernel.layout import PartKey, ProgramLayout, layout, registers, slots
from sokuji.features.spec import Aggregate, AggregateFunction, Feature, ViewSpec
from sokuji.features.windows import WindowKind, duration


class Described(NamedTuple):
    """One feature. `hop` is "" if the window is exact at both ends. Parts shared with an earlier feature add no `bytes`."""

    name: str
    function: str
    window: str
    hop: str
    bytes: int
    error: str


def describe(view: ViewSpec) -> tuple[Described, ...]:
    """The features of a view, in their order."""
    view_layout = layout(view)
    paid: set[PartKey] = set()
    return tuple(_describe(feature, view_layout, paid) for feature in view.features)


def _describe(feature: Feature, made: ProgramLayout, paid: set[PartKey]) -> Described:
    name, expression = feature.name, feature.expression
    aggregates = list(expression.aggregates())
    size = 0
    for aggregate in aggregates:
        for part in made.parts[aggregate]:
            size += 0 if part in paid else part.words * 8
            paid.add(part)
    if isinstance(expression, Aggregate):
        window = expression.window
        hop = duration(window.hop_us) if window.kind is WindowKind.SLIDING else ""
        by = f" by {expression.by}" if expression.by else ""
        return Described(name, f"{expression.function}{by}", window.text, hop, size, _error(expression))
    windows = dict.fromkeys(aggregate.window.text for aggregate in aggregates)
    return Described(name, "computed", ", ".join(windows), "", size, "")


def _error(aggregate: Aggregate) -> str:
    tiles = aggregate.window.tiles
    if aggregate.function is AggregateFunction.DISTINCT:
        count = registers(tiles)
        return f"exact up to {tiles * count // 16}, then {1.04 / math.sqrt(count):.1%} (HyperLogLog)"
    if aggregate.function is AggregateFunction.TOP_K or aggregate.by is not None:
        kept = slots(aggregate.n)
        if aggregate.by is not None and aggregate.function is not AggregateFunction.COUNT:
            return f"exact up to {kept} categories, then the one with the fewest events starts over"
        return f"exact up to {kept} categories, then at most events/{kept} too many (space-saving)"
    return ""
