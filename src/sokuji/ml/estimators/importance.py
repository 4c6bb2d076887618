"""ML.FEATURE_IMPORTANCE: how much each feature contributes to boosted trees."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sokuji.errors import ModelError
from sokuji.ml.base import Trained
from sokuji.ml.estimators.trees import Trees
from sokuji.ml.values import Floats


@dataclass(frozen=True, slots=True)
class Importance:
    """One row of ML.FEATURE_IMPORTANCE."""

    feature: str
    weight: float  # the number of splits that use the feature
    gain: float  # how much such a split lowers the loss, on average
    cover: float  # the sum of second derivatives over the rows of such a split, on average


def importances(trained: Trained) -> list[Importance]:
    """The importance of every feature, in the model's order; 0 for a feature that no split uses.

    Raises:
        ModelError: the model has no trees.
    """
    if not isinstance(trained.estimator, Trees):
        raise ModelError(f"ML.FEATURE_IMPORTANCE needs a boosted tree model, this one is {trained.model_type}")
    names = _columns(trained, one_hot=trained.estimator.one_hot)
    features = list(dict.fromkeys(names))
    rows = np.array([features.index(name) for name in names])
    booster = json.loads(trained.estimator.model)["learner"]["gradient_booster"]
    totals = np.zeros((len(features), 3))
    for tree in (booster["gbtree"] if booster["name"] == "dart" else booster)["model"]["trees"]:
        split, values = _splits(tree)
        np.add.at(totals, rows[split], values)
    totals[:, 1:] /= np.maximum(totals[:, :1], 1)
    return [Importance(name, *(float(value) for value in values)) for name, values in zip(features, totals, strict=True)]


def _columns(trained: Trained, *, one_hot: bool) -> list[str]:
    """The feature of each column of the trees' matrix."""
    names = [number.name for number in trained.preprocessing.numbers]
    for category in trained.preprocessing.categories:
        names += [category.name] * (category.size if one_hot else 1)
    return names


def _splits(tree: Mapping[str, Any]) -> tuple[np.ndarray[Any, np.dtype[np.int64]], Floats]:
    """The matrix column of each split, and an array [splits, 3] of: 1, its gain, its cover."""
    inner = np.array(tree["left_children"]) != -1
    gain, cover = np.array(tree["loss_changes"])[inner], np.array(tree["sum_hessian"])[inner]
    return np.array(tree["split_indices"])[inner], np.column_stack([np.ones(len(gain)), gain, cover])
