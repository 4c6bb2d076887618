"""Values that describe a model: statistics of features, and numbers per feature or category."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NULL_CATEGORY = "_null_filler"
"""BigQuery's name for the category of a NULL. A NULL string enters a model's graph as this string."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FeatureStatistics:
    """One row of ML.FEATURE_INFO, about the training rows. A statistic is None if it has no meaning for the column's type."""

    input: str
    min: float | None
    max: float | None
    mean: float | None
    median: float | None
    stddev: float | None  # sample standard deviation (n - 1)
    category_count: int | None  # NULL not counted
    null_count: int
    dimension: int | None = None  # of an ARRAY


@dataclass(frozen=True, slots=True)
class CategoryValue:
    """A number for one category of a feature: a weight, or a share of a cluster's rows."""

    category: str  # NULL_CATEGORY for NULL
    value: float


@dataclass(frozen=True, slots=True)
class FeatureValue:
    """A number per feature (`number`), or per category of a feature (`categories`): a row of ML.CENTROIDS or ML.WEIGHTS."""

    feature: str
    number: float | None
    categories: tuple[CategoryValue, ...] = ()
