"""Check that a graph computes the same as the model, on real rows and on adversarial rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from sokuji.ml.columns.inputs import InputKind
from sokuji.ml.columns.preprocessing import Preprocessing
from sokuji.ml.values import NULL_CATEGORY, Floats

TOLERANCE = 1e-4
"""The largest allowed difference: absolute for values up to 1, relative for larger values."""

_NUMBERS = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e-300, 1e30, -1e30, 3.4e38, -1e300, 2.0**53 + 2)
_DAY = 86_400.0
_DAYS = ("1899-12-31", "1900-02-28", "1900-03-01", "1969-12-31", "1999-12-31", "2000-02-29", "2001-01-06", "2004-12-31", "2100-03-01")
_TIMES = np.add.outer(np.array(_DAYS, "datetime64[s]").astype(np.float64), [0, _DAY - 1e-6]).ravel()
"""Edge cases of the calendar: ends of years and centuries, 29 February, its absence in 1900 and 2100, weeks that a new year divides."""
_STRINGS = (NULL_CATEGORY, "", " ", "\N{SNOWMAN} unseen \N{GREEK SMALL LETTER OMEGA}", "x" * 10_000)
_CATEGORIES_TRIED = 50
_MIXED_ROWS = 500


def difference(native: Mapping[str, Floats], graph: Mapping[str, Floats]) -> float:
    """The largest difference of any output. Infinite if only one side is NaN or infinite, or if shapes differ."""
    largest = 0.0
    for (_, expected), (_, found) in zip(native.items(), graph.items(), strict=True):
        if expected.shape != found.shape:
            return np.inf
        same = (expected == found) | (np.isnan(expected) & np.isnan(found))
        with np.errstate(invalid="ignore"):
            apart = np.abs(expected - found) / np.maximum(1, np.abs(expected))
        apart = np.where(same, 0.0, np.where(np.isfinite(apart), apart, np.inf))
        largest = max(largest, float(apart.max(initial=0)))
    return largest


def adversarial(preprocessing: Preprocessing, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Copies of real rows with difficult values. The result is the same for the same rows.

    The first rows have one column replaced: by NULL, an unseen category, every category (at most 50), extreme values, or values that change
    when rounded to float32. The next rows have about two columns replaced, half of the time by NULL. In the last row all columns are NULL.
    """
    real = {name: column.to_pylist() if isinstance(column, pa.Array) else column for name, column in columns.items()}
    categories = {category.input: category.keys for category in preprocessing.categories}
    nothing = {item.name: NULL_CATEGORY if item.kind is InputKind.STRING else np.nan for item in preprocessing.inputs}
    trials = {item.name: list(_trials(item.kind, real[item.name], categories.get(item.name))) for item in preprocessing.inputs}
    made: dict[str, list[Any]] = {name: [] for name in columns}
    for row, (replaced, value) in enumerate((name, value) for name, values in trials.items() for value in values):
        for name, values in real.items():
            made[name].append(value if name == replaced else values[row % len(values)])
    random = np.random.default_rng(0)
    for name, values in real.items():
        pool = [nothing[name]] * len(trials[name]) + trials[name]
        replace = random.random(_MIXED_ROWS) < 2 / max(len(real), 4)
        drawn = random.integers(len(pool), size=_MIXED_ROWS)
        made[name] += [pool[draw] if replace[row] else values[row % len(values)] for row, draw in enumerate(drawn)]
        made[name].append(nothing[name])
    return {name: pa.array(values) if isinstance(columns[name], pa.Array) else np.array(values) for name, values in made.items()}


def _trials(kind: InputKind, real: Any, keys: tuple[Any, ...] | None) -> Iterable[Any]:
    if kind is InputKind.STRING:
        return [*_STRINGS, *(keys or ())[:_CATEGORIES_TRIED]]
    finite = real[np.isfinite(real)]
    if not len(finite):
        return _NUMBERS
    edges = np.array([finite.min(), finite.max(), np.median(finite)])
    if kind is InputKind.TIMESTAMP:
        return [*_NUMBERS, *_TIMES, *edges, edges[0] - 366 * _DAY, edges[1] + 366 * _DAY]
    with np.errstate(over="ignore"):
        rounded = np.concatenate([np.nextafter(edges.astype(np.float32), np.float32(bound)) for bound in (-np.inf, np.inf)])
    return [*_NUMBERS, *edges, *rounded.astype(np.float64), *(edges * (1 + 1e-8))]
