"""Read the features of one profile as Python values, by key. Arrow columns of a single row would take many times as long."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sokuji.errors import FeatureError
from sokuji.features.kernel.kernel import Kernel
from sokuji.features.kernel.layout import Output
from sokuji.features.kernel.loops import evaluate_all
from sokuji.features.kernel.strings import Strings
from sokuji.features.spec import Aggregate, Derived, Expression, FixedNumber
from sokuji.types import Kind, Type

_TEXTS_KEPT = 100_000

Numbers = list[float]
"""The kernel's numbers; NaN is NULL."""
Decode = Callable[[float], Any]
"""Converts a kernel number that is not NaN to its value."""
Part = Callable[[Numbers], Any]
"""Computes one feature."""


class FeatureReader:
    """Reads rows of a kernel's view. Not thread-safe."""

    def __init__(self, kernel: Kernel, strings: Strings) -> None:
        """Create the reader; `strings` are those of the process that writes the rows."""

        @functools.lru_cache(_TEXTS_KEPT)  # an id always means the same string
        def text(number: float) -> Any:
            return strings.decode(np.array([number]))[0].as_py()

        self._view, self._program = kernel.view.name, kernel.layout.program
        segment = np.zeros((1, kernel.width), np.uint8)
        self._row, self._at_us, self._numbers = segment[0], np.zeros(1, np.int64), np.empty((1, kernel.columns_count))
        self._state = kernel.state(segment)
        decodes: dict[Kind, Decode] = {Kind.STRING: text, Kind.INT64: int, Kind.FLOAT64: float}
        outputs = kernel.layout.outputs
        self._parts: dict[str, Part] = {
            feature.name: _aggregate(feature.expression, field.type, outputs, decodes)
            if isinstance(feature.expression, Aggregate)
            else _derived(feature.expression, outputs)
            for feature, field in zip(kernel.view.features, kernel.fields, strict=True)
        }

    def read(self, row: bytes, at_us: int) -> dict[str, Any]:
        """The features by name, for a reader at `at_us`, or at the row's own clock if that is later.

        Raises:
            FeatureError: the row's width is not the kernel's, or the row has a string that is not in `strings`.
        """
        if len(row) != len(self._row):
            raise FeatureError(f"view {self._view}: a row has {len(self._row)} bytes; got {len(row)}: it is of other declarations")
        self._row[:], self._at_us[0] = np.frombuffer(row, np.uint8), at_us
        evaluate_all(self._program, *self._state, self._at_us, self._numbers)
        numbers: Numbers = self._numbers[0].tolist()
        return {name: part(numbers) for name, part in self._parts.items()}


def _aggregate(aggregate: Aggregate, type_: Type, outputs: Mapping[Aggregate, Output], decodes: Mapping[Kind, Decode]) -> Part:
    to, n = outputs[aggregate].to, aggregate.n
    if type_.element is None:
        decode = decodes[type_.kind]
        default = decode(aggregate.default) if isinstance(aggregate.default, int | float) else aggregate.default
        return lambda numbers: default if math.isnan(numbers[to]) else decode(numbers[to])
    item = type_.element
    if aggregate.by is None:
        decode = decodes[item.kind]
        return lambda numbers: [decode(number) for number in numbers[to : to + n] if not math.isnan(number)]
    category, value = (decodes[field.type.kind] for field in item.fields)
    return lambda numbers: [
        {"category": category(key), "value": value(raw)}
        for key, raw in zip(numbers[to : to + n], numbers[to + n : to + 2 * n], strict=True)
        if not math.isnan(key)
    ]


def _derived(expression: Expression, outputs: Mapping[Aggregate, Output]) -> Part:
    compute = _number(expression, outputs)

    def derived(numbers: Numbers) -> float | None:
        number = compute(numbers)
        return None if math.isnan(number) else number

    return derived


def _number(expression: Expression, outputs: Mapping[Aggregate, Output]) -> Callable[[Numbers], float]:
    """A derived number. NaN is NULL; a result that is not finite is NULL too."""
    match expression:
        case FixedNumber(value):
            return lambda _: value
        case Aggregate(default=int() | float() as default):
            to = outputs[expression].to
            return lambda numbers: default if math.isnan(numbers[to]) else numbers[to]
        case Aggregate():
            to = outputs[expression].to
            return lambda numbers: numbers[to]
        case Derived(symbol, left, right):
            operate, one, other = _OPERATORS[symbol], _number(left, outputs), _number(right, outputs)
            return lambda numbers: _finite(operate(one(numbers), other(numbers)))
    raise FeatureError(f"{expression!r} cannot be computed")


def _finite(number: float) -> float:
    return number if math.isfinite(number) else math.nan


_OPERATORS: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda left, right: left / right if right else math.nan,
}
