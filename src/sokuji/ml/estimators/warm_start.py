"""WARM_START: convert the parameters of a model to a preprocessing that was fitted on other rows.

Means, deviations and categories come from the new rows. So the numbers of the parameters change, but not their meaning: a centroid stays at
the same place, and a weight gives the same predictions. A new category starts at 0; a category that no longer exists is left out.
"""

from __future__ import annotations

import numpy as np

from sokuji.ml.columns.preprocessing import Preprocessing
from sokuji.ml.values import Floats


def carry_points(old: Preprocessing, new: Preprocessing, points: Floats) -> Floats:
    """Convert `points` [K, width of `old`] to [K, width of `new`]."""
    (old_center, old_scale), (new_center, new_scale) = _affine(old), _affine(new)
    result = _categories(old, new, points)
    numbers = len(new.numbers)
    result[:, :numbers] = (points[:, :numbers] * old_scale + old_center - new_center) / new_scale
    return result


def carry_weights(old: Preprocessing, new: Preprocessing, weights: Floats, intercept: Floats) -> tuple[Floats, Floats]:
    """Convert `weights` [width, M] and `intercept` [M] of a linear model to `new`."""
    (old_center, old_scale), (new_center, new_scale) = _affine(old), _affine(new)
    result = _categories(old, new, weights.T).T
    numbers = len(new.numbers)
    slopes = weights[:numbers] / old_scale[:, None]
    result[:numbers] = slopes * new_scale[:, None]
    return result, intercept + (new_center - old_center) @ slopes


def _affine(preprocessing: Preprocessing) -> tuple[Floats, Floats]:
    centers, scales = ([getattr(number, part) for number in preprocessing.numbers] for part in ("center", "scale"))
    return np.array(centers, dtype=np.float64), np.array(scales, dtype=np.float64)


def _categories(old: Preprocessing, new: Preprocessing, values: Floats) -> Floats:
    """[K, width of `new`]: the columns of categories that both have; other columns are 0."""
    places = {column: place for place, column in enumerate(_columns(old))}
    columns = _columns(new)
    known = [place for place, column in enumerate(columns) if column in places]
    result = np.zeros((len(values), len(columns)))
    result[:, known] = values[:, [places[columns[place]] for place in known]]
    return result


def _columns(preprocessing: Preprocessing) -> list[tuple[str, str | None]]:
    """(feature, category) of every column; the category of a number is None."""
    numbers: list[tuple[str, str | None]] = [(number.name, None) for number in preprocessing.numbers]
    return numbers + [(category.name, label) for category in preprocessing.categories for label in category.labels]
