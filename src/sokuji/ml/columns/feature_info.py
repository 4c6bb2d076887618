"""Statistics of the training rows: what preprocessing is fitted from and ML.FEATURE_INFO shows."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.ml.columns.inputs import Input
from sokuji.ml.values import NULL_CATEGORY, FeatureStatistics, Floats

_BLOCK = 8192  # BLAS keeps a product of so many numbers on one core


def describe_numbers(item: Input, values: Floats) -> FeatureStatistics:
    """Of a numeric column; NaN is NULL."""
    missing = np.isnan(values)
    null_count = int(missing.sum())
    present = values[~missing] if null_count else values
    if not present.size:
        return FeatureStatistics(item.name, None, None, None, None, None, None, null_count)
    mean = float(present.mean())
    return FeatureStatistics(
        input=item.name,
        min=float(present.min()),
        max=float(present.max()),
        mean=mean,
        median=_median(present),
        stddev=_deviation(present, mean),
        category_count=None,
        null_count=null_count,
    )


def describe_categories(item: Input, categories: int, null_count: int) -> FeatureStatistics:
    """Of a column whose values are categories."""
    return FeatureStatistics(item.name, None, None, None, None, None, categories, null_count)


def count_null_strings(values: pa.Array) -> int:
    """How many are NULL, as `read_strings` writes it."""
    return pc.sum(pc.equal(values, NULL_CATEGORY)).as_py() or 0


def _deviation(values: Floats, mean: float) -> float:
    """Of the sample; block by block, which makes no copy of a column."""
    squares = 0.0
    for start in range(0, values.size, _BLOCK):
        apart = values[start : start + _BLOCK] - mean
        squares += float(apart @ apart)
    return math.sqrt(squares / (values.size - 1)) if values.size > 1 else 0.0


def _median(values: Floats) -> float:
    middle = values.size // 2
    halves = np.partition(values, middle)
    high = float(halves[middle])
    if values.size % 2:
        return high
    low = float(halves[:middle].max())
    return low + (high - low) / 2
