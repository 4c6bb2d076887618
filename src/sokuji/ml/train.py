"""Fit a model from a checked CREATE MODEL."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.errors import ModelError
from sokuji.ml.base import Estimator, Progress, Trained, TrainingTask
from sokuji.ml.columns import preprocessing
from sokuji.ml.columns.inputs import Column, inputs, read_labels, read_numbers
from sokuji.ml.columns.preprocessing import Preprocessing
from sokuji.ml.estimators import kmeans, linear, trees
from sokuji.ml.estimators.kmeans import KMeans
from sokuji.ml.estimators.kmeans_start import first_centroids
from sokuji.ml.estimators.linear import Labelled, Linear
from sokuji.ml.estimators.warm_start import carry_points, carry_weights
from sokuji.ml.options import MAX_WEIGHT
from sokuji.ml.values import FeatureStatistics, Floats
from sokuji.types import Field, Kind

_NUMBERS = {Kind.INT64, Kind.FLOAT64, Kind.NUMERIC, Kind.BIGNUMERIC}
_CLASSES = {Kind.STRING, Kind.INT64, Kind.BOOL, Kind.FLOAT64}
_FLOAT_CLASSES = 50
_LARGEST_LABEL = 1e140
_LARGEST_LABEL_OF_TREES = 1e19  # XGBoost computes in float32, including the sum of squared labels times weights

E = TypeVar("E", bound=Estimator)


def train(task: TrainingTask, progress: Progress = lambda _: None) -> Trained:
    """Fit the preprocessing, then the estimator.

    Raises:
        ModelError: the rows or the options cannot make a model.
        MissingExtraError: the model type needs a package that is not installed.
    """
    trained = _TRAINERS[task.model_type](task, progress)
    for iteration in trained.history:
        if not math.isfinite(iteration.loss):
            raise ModelError(
                f"the loss of iteration {iteration.iteration} is {iteration.loss}: labels or weights are too large; divide them"
            )
    if task.start is None:
        return trained
    before = task.start.history
    return replace(trained, history=(*before, *(replace(iteration, run=before[-1].run + 1) for iteration in trained.history)))


def _train_kmeans(task: TrainingTask, progress: Progress) -> Trained:
    rows, options = task.training, dict(task.options)
    chosen = None
    if options["kmeans_init_method"] == "CUSTOM":
        chosen = np.asarray(pc.fill_null(rows[options["kmeans_init_col"]], False), dtype=bool)
        if options["num_clusters"] is None and not 2 <= chosen.sum() <= 100:
            raise ModelError(f"kmeans_init_col is TRUE in {chosen.sum()} rows; expected as many as there are clusters, from 2 to 100")
    if options["num_clusters"] is None:
        options["num_clusters"] = kmeans.default_clusters(rows.num_rows) if chosen is None else int(chosen.sum())
    items, columns = preprocessing.read(task.features, rows)
    fitted, infos = preprocessing.fit(items, columns, standardize=options["standardize_features"])
    design = fitted.transform(columns)
    if task.start is None:
        scores = design if options["standardize_features"] else preprocessing.fit(items, columns)[0].transform(columns)
        first = first_centroids(design, scores, options, chosen)
    else:
        first = carry_points(task.start.preprocessing, fitted, _estimator(task.start, KMeans).centroids)
    del columns  # they are as large as the design
    estimator, history = kmeans.fit(design, options, first, progress)
    return Trained(task.model_type, options, fitted, estimator, (), history, infos)


def _train_linear(task: TrainingTask, progress: Progress) -> Trained:
    logistic = task.model_type == "LOGISTIC_REG"
    data = _prepare(task, classify=logistic, for_trees=False)
    training = replace(data.training, targets=_indicators(data.training.targets, data.classes))
    evaluation = data.evaluation and replace(data.evaluation, targets=_indicators(data.evaluation.targets, data.classes))
    options = {**task.options, "optimize_strategy": linear.strategy(task.options, training.design, logistic=logistic)}
    start = None
    if task.start is not None:
        if task.start.classes != data.classes:
            raise ModelError(f"the label's values are {data.classes}, and the model of WARM_START has {task.start.classes}")
        before = _estimator(task.start, Linear)
        start = Linear(*carry_weights(task.start.preprocessing, data.preprocessing, before.weights, before.intercept), logistic)
    estimator, history = linear.fit(training, evaluation, options, logistic=logistic, progress=progress, start=start)
    return Trained(task.model_type, options, data.preprocessing, estimator, data.classes, history, data.infos)


def _estimator(trained: Trained, kind: type[E]) -> E:
    if not isinstance(trained.estimator, kind):
        raise ModelError(f"WARM_START cannot go on from a {trained.model_type} model here")
    return trained.estimator


def _train_trees(task: TrainingTask, progress: Progress) -> Trained:
    data = _prepare(task, classify=task.model_type == "BOOSTED_TREE_CLASSIFIER", for_trees=True)
    estimator, history = trees.fit(data.training, data.evaluation, task.options, classes=len(data.classes), progress=progress)
    return Trained(task.model_type, task.options, data.preprocessing, estimator, data.classes, history, data.infos)


_TRAINERS: dict[str, Callable[[TrainingTask, Progress], Trained]] = {
    "KMEANS": _train_kmeans,
    "LINEAR_REG": _train_linear,
    "LOGISTIC_REG": _train_linear,
    "BOOSTED_TREE_CLASSIFIER": _train_trees,
    "BOOSTED_TREE_REGRESSOR": _train_trees,
}


@dataclass(frozen=True, slots=True)
class _Data:
    preprocessing: Preprocessing
    infos: tuple[FeatureStatistics, ...]
    classes: tuple[Any, ...]
    training: Labelled  # targets [N, 1]: the label, or its position in `classes`
    evaluation: Labelled | None


def _prepare(task: TrainingTask, *, classify: bool, for_trees: bool) -> _Data:
    if len(task.labels) != 1:
        raise ModelError(f"{task.model_type} needs exactly one label column, there are {len(task.labels)}")
    label = task.labels[0]
    rows = _with_label(task.training, label.name)
    if label.type.kind not in (_CLASSES if classify else _NUMBERS):
        raise ModelError(f"the label {label.name!r} is {label.type}; cast it to {'STRING, INT64 or BOOL' if classify else 'FLOAT64'}")
    _check_label(rows, label, math.inf if classify else _LARGEST_LABEL_OF_TREES if for_trees else _LARGEST_LABEL)
    classes = _classes(read_labels(rows[label.name]), label.name) if classify else ()
    items, columns = preprocessing.read(task.features, rows)
    fitted, infos = preprocessing.fit(items, columns, trees=for_trees)
    by_class = _class_weights(task, classes, rows)

    def labelled(table: pa.Table, columns: Mapping[str, Column]) -> Labelled:
        targets = _targets(table, task, classes)
        weights = _instance_weights(table, task.options.get("instance_weight_col"))
        if by_class is not None:
            weights = weights * by_class[targets[:, 0].astype(np.int64)]
        return Labelled(fitted.transform(columns), targets, weights)

    training = labelled(rows, columns)
    if not training.weights.any():
        raise ModelError("every training row has weight 0; give a weight above 0 to some of them")
    if for_trees:
        _check_sum(training, label.name, classify=classify)
    evaluation = None
    if task.evaluation is not None:
        known = _with_label(task.evaluation, label.name)
        if classify:  # the model cannot know this class, so it has no loss
            known = known.filter(pc.is_in(read_labels(known[label.name]), value_set=pa.array(classes, known[label.name].type)))
        evaluation = labelled(known, fitted.read(known))
    if evaluation is not None and not evaluation.weights.any():  # there are no rows, or all have weight 0
        evaluation = None
    return _Data(fitted, infos, classes, training, evaluation)


def _with_label(rows: pa.Table, label: str) -> pa.Table:
    known = rows.filter(pc.is_valid(rows[label])) if rows[label].null_count else rows
    if not known.num_rows and rows.num_rows:
        raise ModelError(f"the label {label!r} is NULL in every row; select rows where it is known")
    return known


def _check_label(rows: pa.Table, label: Field, largest: float) -> None:
    if label.type.kind is Kind.FLOAT64:
        count = pc.sum(pc.invert(pc.is_finite(rows[label.name]))).as_py()
        if count:
            raise ModelError(f"the label {label.name!r} is NaN or infinite in {count} rows; leave these out")
    if label.type.kind in _NUMBERS and largest != math.inf:
        reached = np.abs(read_numbers(inputs([label])[0], rows)).max(initial=0)
        if reached > largest:
            raise ModelError(
                f"the label {label.name!r} reaches {reached:.3g}, and its squares must be computed; divide it to below {largest:g}"
            )


def _check_sum(training: Labelled, label: str, *, classify: bool) -> None:
    """Raise ModelError if XGBoost would find no split because the gain of each is infinite."""
    reached = 1.0 if classify else max(1.0, float(np.abs(training.targets).max()))
    weights = float(training.weights.sum())
    if reached * weights > _LARGEST_LABEL_OF_TREES:
        what = "" if classify else f"the label {label!r} reaches {reached:.3g}, times which "
        raise ModelError(
            f"{what}the weights of all rows add up to {reached * weights:.3g}, whose square XGBoost cannot hold; divide them to below "
            f"{_LARGEST_LABEL_OF_TREES:g} in all (a row without a weight has weight 1)"
        )


def _classes(labels: pa.ChunkedArray | pa.Array, name: str) -> tuple[Any, ...]:
    classes = tuple(sorted(pc.unique(labels).to_pylist()))
    if pa.types.is_floating(labels.type) and len(classes) > _FLOAT_CLASSES:
        raise ModelError(
            f"the label {name!r} is FLOAT64 and has {len(classes)} different values, more than the {_FLOAT_CLASSES} that can be meant as "
            "classes; predict it with LINEAR_REG or BOOSTED_TREE_REGRESSOR, or CAST it to INT64 or STRING"
        )
    if len(classes) < 2:
        raise ModelError(f"the label {name!r} has {len(classes)} different values; a classifier needs at least 2")
    return classes


def _targets(rows: pa.Table, task: TrainingTask, classes: tuple[Any, ...]) -> Floats:
    label = task.labels[0]
    if classes:
        column = read_labels(rows[label.name])
        positions = pc.index_in(column, value_set=pa.array(classes, column.type))
        return np.asarray(positions, dtype=np.float64)[:, None]
    return read_numbers(inputs([label])[0], rows)[:, None]


def _indicators(targets: Floats, classes: tuple[Any, ...]) -> Floats:
    """One column of 0 and 1 per class if there are more than two classes; otherwise `targets` unchanged."""
    if len(classes) <= 2:
        return targets
    return np.asarray(targets == np.arange(len(classes)), dtype=np.float64)


def _instance_weights(rows: pa.Table, column: str | None) -> Floats:
    if column is None:
        return np.ones(rows.num_rows)
    weights = np.asarray(pc.fill_null(pc.cast(rows[column], pa.float64(), safe=False), 0.0), dtype=np.float64)
    wrong = ~((weights >= 0) & (weights <= MAX_WEIGHT))
    if wrong.any():
        raise ModelError(
            f"instance_weight_col {column!r} is {weights[wrong][0]} in {wrong.sum()} rows; weights are from 0 to {MAX_WEIGHT:g}"
        )
    return weights


def _class_weights(task: TrainingTask, classes: tuple[Any, ...], rows: pa.Table) -> Floats | None:
    """One weight per class, or None if all have weight 1."""
    if not classes:
        return None
    if task.options["auto_class_weights"]:
        counts = np.bincount(_targets(rows, task, classes)[:, 0].astype(np.int64), minlength=len(classes))
        return np.asarray(rows.num_rows / (len(classes) * counts))
    texts = {str(label).lower() if isinstance(label, bool) else str(label): label for label in classes}
    given: dict[Any, float] = {}
    for label, weight in task.options["class_weights"] or ():
        if label not in classes and label not in texts:
            raise ModelError(f"class_weights names {label!r}, which is not a value of the label; its values are {classes}")
        given[label if label in classes else texts[label]] = weight
    return np.array([given.get(label, 1.0) for label in classes]) if given else None
