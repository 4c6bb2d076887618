"""Preprocessing of raw columns into the numbers and codes of an estimator. It is fitted once and described once; numpy runs it in training,
ONNX in serving.

A feature becomes one number or one code, the position of its category. Categories are never expanded into columns of zeros and ones: the
code looks up a weight per category, which gives the same sums.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.errors import ModelError
from sokuji.ml import parallel
from sokuji.ml.columns.encoded import Codes, Design
from sokuji.ml.columns.feature_info import count_null_strings, describe_categories, describe_numbers
from sokuji.ml.columns.inputs import BOUNDS, Column, Input, InputKind, inputs, read_column
from sokuji.ml.columns.timestamps import PARTS
from sokuji.ml.graph import INT64, ML_DOMAIN, Encoded, Graph, Tensor
from sokuji.ml.values import NULL_CATEGORY, FeatureStatistics, Floats
from sokuji.types import Field

_BLOCK_ROWS = 4096  # intermediate results of this many rows fit into the processor's cache
_NULL_KEY = -(2**31)  # NULL as a key; no BOOL or calendar part has this value
_FAR_APART = 1e9  # a feature is refused if its standard deviation is this many times the range of the middle half of its values
_SPREAD_ROWS = 10_000
_CONSTANT_BELOW = 1e-12  # a standard deviation this small relative to the mean is rounding noise of a constant column


@dataclass(frozen=True, slots=True)
class Number:
    """A numeric feature: (value - center) / scale. NULL is first replaced by `fill`; if `fill` is None, NULL stays NaN."""

    name: str
    input: str
    part: str | None  # a calendar part of a timestamp; None for the value itself
    fill: float | None
    center: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Category:
    """A categorical feature.

    Its code is the position in the sorted `keys`; len(keys) is NULL, and len(keys) + 1 is a category not seen in training.
    """

    name: str
    input: str
    part: str | None
    keys: tuple[str | int, ...]
    boolean: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """The categories as text, ordered by code, NULL included."""
        return (*(str(bool(key)).lower() if self.boolean else str(key) for key in self.keys), NULL_CATEGORY)

    @property
    def size(self) -> int:
        """The number of codes of known categories, NULL included. The same number is the code of an unseen category."""
        return len(self.keys) + 1


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The fitted preprocessing. Weights and centroids are in this order: `numbers`, then `categories`."""

    inputs: tuple[Input, ...]
    numbers: tuple[Number, ...]
    categories: tuple[Category, ...]

    def read(self, rows: pa.RecordBatch | pa.Table) -> dict[str, Column]:
        """Read the raw columns, by name, as the graph's inputs represent them."""
        return {item.name: read_column(item, rows) for item in self.inputs}

    def transform(self, columns: Mapping[str, Column]) -> Design:
        """Compute in numpy what the nodes of `export` compute."""
        kinds = {item.name: item.kind for item in self.inputs}
        rows = len(next(iter(columns.values())))
        numbers = np.empty((rows, len(self.numbers)))

        def fill(share: range) -> None:
            for start in share:
                block = slice(start, start + _BLOCK_ROWS)
                for position, number in enumerate(self.numbers):
                    values = _part(columns[number.input][block], kinds[number.input], number.part)
                    if number.fill is not None:
                        values = np.where(np.isnan(values), number.fill, values)
                    numbers[block, position] = (values - number.center) / number.scale

        parallel.each(fill, parallel.shares(rows, _BLOCK_ROWS))
        codes = parallel.each(lambda category: _codes(category, columns[category.input], kinds[category.input]), self.categories)
        return Design(numbers, tuple(codes), tuple(category.size for category in self.categories))

    def export(self, graph: Graph) -> Encoded:
        """Add nodes that encode the graph's inputs."""
        clipped = {item.name: _clipped(graph, item) for item in self.inputs if item.kind is not InputKind.STRING}
        numbers = _export_numbers(graph, self.numbers, clipped) if self.numbers else None
        codes = [(_export_codes(graph, category, clipped), category.size) for category in self.categories]
        return Encoded(numbers, codes)


def read(features: Iterable[Field], rows: pa.Table) -> tuple[tuple[Input, ...], dict[str, Column]]:
    """Read the raw columns of `features` once, for both `fit` and `transform`. Returns the columns' descriptions, and their values by name.

    Raises:
        ModelError: there are no features or no rows.
    """
    items = inputs(features)
    if not items or not rows.num_rows:
        raise ModelError(f"training needs at least one feature and one row; the query gave {len(items)} features, {rows.num_rows} rows")
    columns = parallel.each(lambda item: read_column(item, rows), items)
    return items, {item.name: column for item, column in zip(items, columns, strict=True)}


def fit(
    items: tuple[Input, ...], columns: Mapping[str, Column], *, standardize: bool = True, trees: bool = False
) -> tuple[Preprocessing, tuple[FeatureStatistics, ...]]:
    """Learn means, deviations and categories from the training rows.

    With `trees`, numbers stay unchanged and NULL stays NaN. Otherwise NULL becomes the mean. `standardize` then makes z-scores with the
    sample's standard deviation (n - 1).
    """
    fitted = parallel.each(lambda item: _fit(item, columns[item.name], standardize=standardize, trees=trees), items)
    numbers, categories, infos = ([*part] for part in zip(*fitted, strict=True))
    return Preprocessing(items, tuple(itertools.chain(*numbers)), tuple(itertools.chain(*categories))), tuple(infos)


def _fit(item: Input, column: Column, *, standardize: bool, trees: bool) -> tuple[list[Number], list[Category], FeatureStatistics]:
    if item.kind is InputKind.STRING:
        keys = tuple(sorted(key for key in pc.unique(column).to_pylist() if key != NULL_CATEGORY))
        return [], [Category(item.name, item.name, None, keys)], describe_categories(item, len(keys), count_null_strings(column))
    values = _part(column, item.kind, None)
    info = describe_numbers(item, values)
    if item.kind is InputKind.BOOL:
        category = Category(item.name, item.name, None, _integer_keys(values), boolean=True)
        return [], [category], describe_categories(item, len(category.keys), info.null_count)
    if not trees:
        _check_spread(item, column, info)
    number = Number(item.name, item.name, None, None) if trees else _scaled(info, standardize=standardize)
    parts = {f"_TS_{part}_{item.name}": part for part in PARTS} if item.kind is InputKind.TIMESTAMP else {}
    if trees:
        return [*(Number(name, item.name, part, None) for name, part in parts.items()), number], [], info
    keyed = [Category(name, item.name, part, _integer_keys(_part(column, item.kind, part))) for name, part in parts.items()]
    return [number], keyed, info


def _scaled(info: FeatureStatistics, *, standardize: bool) -> Number:
    mean, deviation = info.mean or 0.0, info.stddev or 0.0
    if info.min is not None and info.min == info.max:
        mean = info.min  # exact, whereas the computed mean of large numbers has a large rounding error
    if not standardize:
        return Number(info.input, info.input, None, mean)
    varies = deviation > _CONSTANT_BELOW * abs(mean) and deviation > 1e-30
    return Number(info.input, info.input, None, mean, mean, deviation if varies else 1.0)


def _check_spread(item: Input, column: Floats, info: FeatureStatistics) -> None:
    """Raise ModelError for a feature whose outliers are so far away that most of its values would look equal."""
    infinite = int(np.isinf(column).sum())
    if infinite:
        raise ModelError(
            f"feature {item.name!r} is infinite in {infinite} of {len(column)} rows, from where no other value counts; leave these rows "
            f"out, or make it NULL: IF(IS_INF({item.name}), NULL, {item.name})"
        )
    if info.min is None or info.max is None or not info.stddev or info.max - info.min < _FAR_APART:
        return
    sample = column[np.unique(np.linspace(0, len(column) - 1, min(len(column), _SPREAD_ROWS)).astype(np.int64))]
    values = np.unique(sample[~np.isnan(sample)])
    low, high = values[(len(values) - 1) // 4], values[3 * (len(values) - 1) // 4]
    if low < high < low + info.stddev / _FAR_APART:
        raise ModelError(
            f"feature {item.name!r} reaches from {info.min:.3g} to {info.max:.3g}, while most of its values lie between {low:.3g} and "
            f"{high:.3g}: a model cannot tell those apart; leave the others out, or bound them with LEAST and GREATEST"
        )


def _integer_keys(values: Floats) -> tuple[int, ...]:
    return tuple(int(key) for key in np.unique(values[~np.isnan(values)]))


def _part(column: Floats, kind: InputKind, part: str | None) -> Floats:
    values = _within(column, *BOUNDS[kind])
    return values if part is None else PARTS[part](values, np.floor)


def _within(values: Floats, low: float, high: float) -> Floats:
    """Clip like `np.clip`, but without a copy if no value is outside the bounds."""
    if values.size and low <= np.fmin.reduce(values) and np.fmax.reduce(values) <= high:
        return values
    return np.clip(values, low, high)


def _codes(category: Category, column: Column, kind: InputKind) -> Codes:
    if kind is InputKind.STRING:
        found = pc.index_in(column, value_set=pa.array([*category.keys, NULL_CATEGORY], pa.string()))
        return np.asarray(pc.fill_null(found, category.size), dtype=np.int32)
    values = _part(column, kind, category.part)
    whole = np.where(np.isnan(values), _NULL_KEY, values).astype(np.int64)
    keys = np.array([_NULL_KEY, *category.keys], dtype=np.int64)
    place = np.minimum(np.searchsorted(keys, whole), len(keys) - 1)
    codes = np.where(place == 0, category.size - 1, place - 1)  # _NULL_KEY sorts first, but its code is the last
    return np.where(keys[place] == whole, codes, category.size).astype(np.int32)


def _clipped(graph: Graph, item: Input) -> tuple[Tensor, Tensor]:
    """The column within its bounds (0 for NULL), and a mask of its NULLs."""
    raw = graph.input(item.name)
    missing = graph.node("IsNaN", raw)
    present = graph.node("Where", missing, graph.constant(0.0), raw)
    low, high = BOUNDS[item.kind]
    return graph.node("Min", graph.node("Max", present, graph.constant(low)), graph.constant(high)), missing


def _export_part(clipped: Tensor, part: str | None) -> Tensor:
    return clipped if part is None else PARTS[part](clipped, Tensor.floor)


def _export_numbers(graph: Graph, numbers: tuple[Number, ...], clipped: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
    column = graph.constant(np.array([-1, 1], dtype=np.int64))
    values, missing = [], []
    for number in numbers:
        value, null = clipped[number.input]
        values.append(graph.node("Reshape", _export_part(value, number.part), column))
        missing.append(graph.node("Reshape", null, column))
    fill = graph.constant(np.array([np.nan if number.fill is None else number.fill for number in numbers]))
    filled = graph.node("Where", graph.node("Concat", *missing, axis=1), fill, graph.node("Concat", *values, axis=1))
    if all(number.center == 0 and number.scale == 1 for number in numbers):
        return filled
    return (filled - [number.center for number in numbers]) / [number.scale for number in numbers]


def _export_codes(graph: Graph, category: Category, clipped: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
    codes: dict[str, Any] = {"values_int64s": list(range(category.size)), "default_int64": category.size}
    if category.input not in clipped:
        return graph.node(
            "LabelEncoder", graph.input(category.input), domain=ML_DOMAIN, keys_strings=[*category.keys, NULL_CATEGORY], **codes
        )
    value, missing = clipped[category.input]
    known = graph.node("Where", missing, graph.constant(float(_NULL_KEY)), _export_part(value, category.part))
    whole = graph.cast(known, INT64)
    return graph.node("LabelEncoder", whole, domain=ML_DOMAIN, keys_int64s=[*category.keys, _NULL_KEY], **codes)
