"""BOOSTED_TREE_CLASSIFIER and BOOSTED_TREE_REGRESSOR, trained by XGBoost, as in BigQuery (docs/decisions/0070).

A row is float32, as everywhere in XGBoost. Numbers stay unchanged, with NaN for NULL. A category is its position, from 1, in the sorted
categories; 0 is NULL and a category not seen in training.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sokuji.errors import MissingExtraError, ModelError
from sokuji.ml.base import PREDICTION, PROBABILITIES, Estimator, Iteration, Progress, stalled
from sokuji.ml.columns.encoded import Design
from sokuji.ml.estimators.linear import Labelled, export_probabilities, flat, probabilities
from sokuji.ml.graph import DOUBLE, FLOAT, ML_DOMAIN, Encoded, Graph, Tensor
from sokuji.ml.values import Floats

_FILE = "booster.json"
_BASE_SCORE = 0.5  # as in BigQuery; this probability is a score of 0
_SEED = 0
_ONE_HOT_COLUMNS = 2000  # at four bytes each in every row: unlike elsewhere, the columns of zeros and ones are built here

_PARAMETERS = {
    "num_parallel_tree": "num_parallel_tree",
    "max_tree_depth": "max_depth",
    "l1_reg": "alpha",
    "l2_reg": "lambda",
    "learn_rate": "eta",
    "min_tree_child_weight": "min_child_weight",
    "colsample_bytree": "colsample_bytree",
    "colsample_bylevel": "colsample_bylevel",
    "colsample_bynode": "colsample_bynode",
    "min_split_loss": "gamma",
    "subsample": "subsample",
}
"""BigQuery's option -> XGBoost's parameter, for values that are passed on unchanged."""


class Trees(Estimator):
    """A trained booster, as the JSON text that XGBoost saves. Only training and native prediction need XGBoost itself."""

    def __init__(self, model: bytes, *, classes: int, one_hot: bool) -> None:
        """Create from the booster's JSON; `classes` is 0 for a regression."""
        self.model, self.classes, self.one_hot = model, classes, one_hot

    def predict(self, design: Design) -> dict[str, Floats]:
        """Predict by XGBoost. Raises MissingExtraError."""
        xgboost = load_xgboost()
        rows = xgboost.DMatrix(_matrix(design, one_hot=self.one_hot), missing=np.nan)
        margins = xgboost.Booster(model_file=bytearray(self.model)).predict(rows, output_margin=True).astype(np.float64)
        if not self.classes:
            return {PREDICTION: margins}
        return {PROBABILITIES: probabilities(margins.reshape(len(design), -1))}

    def export(self, graph: Graph, encoded: Encoded) -> dict[str, Tensor]:
        """Add one TreeEnsembleRegressor that computes raw scores, and the link function after it."""
        columns = [] if encoded.numbers is None else [graph.cast(encoded.numbers, FLOAT)]
        for codes, size in encoded.codes:
            columns.append(graph.node("Gather", graph.constant(_values_by_code(size, one_hot=self.one_hot)), codes))
        outputs = self.classes if self.classes > 2 else 1
        rows = graph.node("Concat", *columns, axis=1)
        ensemble = _ensemble(json.loads(self.model)["learner"]["gradient_booster"])
        scores = graph.node("TreeEnsembleRegressor", rows, domain=ML_DOMAIN, n_targets=outputs, **ensemble)
        exact = graph.cast(scores, DOUBLE)
        if not self.classes:
            return {PREDICTION: flat(graph, exact + _BASE_SCORE)}
        return {PROBABILITIES: export_probabilities(graph, exact, outputs=outputs)}

    def save(self, folder: Path) -> None:
        """Write XGBoost's own file format, with the other fields as attributes."""
        document = json.loads(self.model)
        document["learner"]["attributes"] |= {"sokuji_classes": str(self.classes), "sokuji_one_hot": str(int(self.one_hot))}
        (folder / _FILE).write_text(json.dumps(document))

    @classmethod
    def load(cls, folder: Path) -> Trees:
        """Read what `save` wrote."""
        model = (folder / _FILE).read_bytes()
        attributes = json.loads(model)["learner"]["attributes"]
        return cls(model, classes=int(attributes["sokuji_classes"]), one_hot=attributes["sokuji_one_hot"] == "1")


def fit(
    training: Labelled, evaluation: Labelled | None, options: Mapping[str, Any], *, classes: int, progress: Progress
) -> tuple[Trees, tuple[Iteration, ...]]:
    """Boost trees. The `targets` of both arguments are [N, 1]; they are class positions if `classes` is not 0.

    Raises:
        MissingExtraError: XGBoost is not installed.
        ModelError: one-hot encoding would make too many columns for memory, or XGBoost refuses the options.
    """
    xgboost = load_xgboost()
    one_hot = options["category_encoding_method"] == "ONE_HOT_ENCODING"
    if one_hot and sum(training.design.sizes) > _ONE_HOT_COLUMNS:
        raise ModelError(
            f"category_encoding_method ONE_HOT_ENCODING would make {sum(training.design.sizes)} columns of the categories, at most "
            f"{_ONE_HOT_COLUMNS} are possible; use LABEL_ENCODING, or fewer categories"
        )
    history: list[Iteration] = []
    started = time.perf_counter()

    class Recorder(xgboost.callback.TrainingCallback):  # type: ignore[misc, name-defined]
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002 (XGBoost names the arguments)
            nonlocal started
            loss, eval_loss = (_last_loss(evals_log, name, squared=not classes) for name in ("training", "evaluation"))
            now = time.perf_counter()
            history.append(Iteration(epoch, loss or 0.0, eval_loss, options["learn_rate"], round((now - started) * 1000)))
            started = now
            progress(history[-1])
            losses = [entry.loss if entry.eval_loss is None else entry.eval_loss for entry in history]
            return bool(options["early_stop"]) and stalled(losses, options["min_rel_progress"])

    def data(rows: Labelled, reference: Any = None) -> Any:
        matrix = _matrix(rows.design, one_hot=one_hot)
        if options["tree_method"] in {"AUTO", "HIST"}:  # binned immediately, which takes a quarter of the memory
            return xgboost.QuantileDMatrix(matrix, label=rows.targets[:, 0], weight=rows.weights, ref=reference, missing=np.nan)
        return xgboost.DMatrix(matrix, label=rows.targets[:, 0], weight=rows.weights, missing=np.nan)

    watched = [(data(training), "training")]
    if evaluation is not None:
        watched.append((data(evaluation, watched[0][0]), "evaluation"))
    parameters = _parameters(options, classes)
    try:
        booster = xgboost.train(
            parameters, watched[0][0], options["max_iterations"], evals=watched, callbacks=[Recorder()], verbose_eval=False
        )
    except xgboost.core.XGBoostError as error:
        reason = str(error).partition("\nStack trace")[0].rpartition(": ")[2].strip()
        raise ModelError(f"XGBoost cannot train with these options: {reason}") from error
    return Trees(bytes(booster.save_raw("json")), classes=classes, one_hot=one_hot), tuple(history)


def _parameters(options: Mapping[str, Any], classes: int) -> dict[str, Any]:
    parameters: dict[str, Any] = {name: options[option] for option, name in _PARAMETERS.items()}
    parameters |= {"base_score": _BASE_SCORE, "seed": _SEED, "verbosity": 0, "booster": options["booster_type"].lower()}
    parameters["tree_method"] = "hist" if options["tree_method"] == "AUTO" else options["tree_method"].lower()
    if options["booster_type"] == "DART":
        parameters |= {"rate_drop": options["dropout"], "normalize_type": options["dart_normalize_type"].lower()}
    if not classes:
        return parameters | {"objective": "reg:squarederror", "eval_metric": "rmse"}
    if classes == 2:
        return parameters | {"objective": "binary:logistic", "eval_metric": "logloss"}
    return parameters | {"objective": "multi:softprob", "num_class": classes, "eval_metric": "mlogloss"}


def _last_loss(log: Mapping[str, Mapping[str, list[float]]], name: str, *, squared: bool) -> float | None:
    """The last loss of the data set `name`: the log loss, or the mean squared error."""
    if name not in log:
        return None
    value = next(iter(log[name].values()))[-1]
    return value**2 if squared else value


def _matrix(design: Design, *, one_hot: bool) -> npt.NDArray[np.float32]:
    columns = [design.numbers.astype(np.float32)]
    columns += [_values_by_code(size, one_hot=one_hot)[codes] for codes, size in zip(design.codes, design.sizes, strict=True)]
    return np.hstack(columns)


def _values_by_code(size: int, *, one_hot: bool) -> npt.NDArray[np.float32]:
    """[size + 1, columns]: the values in a row for each code. The last two codes are NULL and unseen."""
    if one_hot:
        return np.vstack([np.eye(size, dtype=np.float32), np.zeros((1, size), dtype=np.float32)])
    return np.append(np.arange(1, size), [0, 0]).astype(np.float32)[:, None]


def _ensemble(booster: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of TreeEnsembleRegressor: parallel lists with one entry per node, or per leaf."""
    dart = booster["name"] == "dart"
    model = (booster["gbtree"] if dart else booster)["model"]
    shares = booster["weight_drop"] if dart else [1.0] * len(model["trees"])
    nodes: dict[str, list[Any]] = {name: [] for name in _NODE_ATTRIBUTES + _LEAF_ATTRIBUTES}
    for tree_id, (tree, target, share) in enumerate(zip(model["trees"], model["tree_info"], shares, strict=True)):
        left, right = tree["left_children"], tree["right_children"]
        leaves = [node for node, child in enumerate(left) if child == -1]
        leaf = set(leaves)
        count = len(left)
        nodes["nodes_treeids"] += [tree_id] * count
        nodes["nodes_nodeids"] += range(count)
        nodes["nodes_featureids"] += tree["split_indices"]
        nodes["nodes_modes"] += ["LEAF" if node in leaf else "BRANCH_LT" for node in range(count)]
        nodes["nodes_values"] += [0.0 if node in leaf else float(value) for node, value in enumerate(tree["split_conditions"])]
        nodes["nodes_truenodeids"] += [0 if node in leaf else child for node, child in enumerate(left)]
        nodes["nodes_falsenodeids"] += [0 if node in leaf else child for node, child in enumerate(right)]
        nodes["nodes_missing_value_tracks_true"] += [int(value) for value in tree["default_left"]]
        nodes["target_treeids"] += [tree_id] * len(leaves)
        nodes["target_nodeids"] += leaves
        nodes["target_ids"] += [target] * len(leaves)
        nodes["target_weights"] += [float(tree["split_conditions"][node]) * share for node in leaves]
    return nodes


_NODE_ATTRIBUTES = [
    f"nodes_{name}"
    for name in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids", "missing_value_tracks_true")
]
_LEAF_ATTRIBUTES = [f"target_{name}" for name in ("treeids", "nodeids", "ids", "weights")]


def load_xgboost() -> Any:
    """Import XGBoost. Raises MissingExtraError."""
    # The library reads this once, when it is loaded. By default its waiting threads spin; on cores shared with other processes, spinning
    # made training ten times slower than sleeping.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import xgboost
    except ImportError as error:
        raise MissingExtraError("xgboost-cpu", "ml", "a boosted tree model") from error
    return xgboost
