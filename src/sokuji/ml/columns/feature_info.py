"""Statistics of the training rows. Preprocessing is fitted from them, and ML.FEATURE_INFO shows them."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.ml.columns.inputs import Input
from sokuji.ml.values import NULL_CATEGORY, FeatureStatistics, Floats

_BLOCK = 8192  # BLAS computes a product of this many numbers on one core


def describe_numbers(item: Input, values: Floats) -> FeatureStatistics:
    """Describe a numeric column. NaN is NULL."""
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
    """Describe a column whose values are categories."""
    return FeatureStatistics(item.name, None, None, None, None, None, categories, null_count)


def count_null_strings(values: pa.Array) -> int:
    """Count the NULLs, which `read_strings` writes as NULL_CATEGORY."""
    return pc.sum(pc.equal(values, NULL_CATEGORY)).as_py() or 0


def _deviation(values: Floats, mean: float) -> float:
    """The sample's standard deviation, computed block by block to avoid a copy of the column."""
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
