"""What a model says of its inputs: features, categories and their values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NULL_CATEGORY = "_null_filler"
"""What BigQuery calls the category of a NULL, and how a NULL string is fed to a model's graph."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FeatureStatistics:
    """One row of ML.FEATURE_INFO. Numbers describe the training rows; None where they have no meaning for the column's type."""

    input: str
    min: float | None
    max: float | None
    mean: float | None
    median: float | None
    stddev: float | None  # of the sample (n - 1)
    category_count: int | None  # without NULL
    null_count: int
    dimension: int | None = None  # of an ARRAY


@dataclass(frozen=True, slots=True)
class CategoryValue:
    """A number that belongs to one category of a feature: a weight, or a share of a cluster's rows."""

    category: str  # NULL_CATEGORY for NULL
    value: float


@dataclass(frozen=True, slots=True)
class FeatureValue:
    """A number per feature (`number`), or per category of it (`categories`): a row of ML.CENTROIDS or ML.WEIGHTS."""

    feature: str
    number: float | None
    categories: tuple[CategoryValue, ...] = ()
