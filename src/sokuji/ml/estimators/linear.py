"""LINEAR_REG and LOGISTIC_REG, by BigQuery's rules: least squares, or batch gradient descent.

Both minimise  sum(weight * loss) / sum(weight) + l1 * |w| + l2 / 2 * |w|^2,  where the loss is (y - z)^2 / 2 or the log loss. The intercept
is not regularised. BigQuery does not publish how it scales L1_REG and L2_REG; the scale here is that of Spark and glmnet. The reported
losses exclude regularisation: the mean squared error, or the log loss.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from sokuji.errors import ModelError
from sokuji.ml.base import PREDICTION, PROBABILITIES, Estimator, Iteration, Progress, Trained, stalled
from sokuji.ml.columns.encoded import Design, with_unseen
from sokuji.ml.graph import Encoded, Graph, Tensor, total
from sokuji.ml.values import CategoryValue, FeatureValue, Floats

INTERCEPT = "__INTERCEPT__"
BATCH_GRADIENT_DESCENT = "BATCH_GRADIENT_DESCENT"
NORMAL_EQUATION = "NORMAL_EQUATION"

_FILE = "linear.json"
# eigenvalues of the normal equations this small relative to the largest are rounding noise: their directions get weight 0
_SINGULAR = 1e-10
_SMALLEST_RATE = 1e-12


@dataclass(frozen=True, slots=True)
class Linear(Estimator):
    """A linear model.

    `weights` is [width, M] and `intercept` [M] in preprocessed space. M is 1, or the number of classes if there are more than two.
    """

    weights: Floats
    intercept: Floats
    logistic: bool

    def predict(self, design: Design) -> dict[str, Floats]:
        """Predict probabilities if logistic, else values."""
        scores = self.scores(design)
        return {PROBABILITIES: probabilities(scores)} if self.logistic else {PREDICTION: scores[:, 0]}

    def scores(self, design: Design) -> Floats:
        """[N, M]: the scores before the link function."""
        return design.dot(self.weights) + self.intercept

    def export(self, graph: Graph, encoded: Encoded) -> dict[str, Tensor]:
        """Add nodes that compute the same sums. A code looks up the weight of its category."""
        start = len(self.weights) - sum(size for _, size in encoded.codes)
        terms = [] if encoded.numbers is None else [encoded.numbers @ self.weights[:start]]
        for codes, size in encoded.codes:
            terms.append(graph.node("Gather", graph.constant(with_unseen(self.weights[start : start + size])), codes))
            start += size
        scores = total(terms) + self.intercept
        if not self.logistic:
            return {PREDICTION: flat(graph, scores)}
        return {PROBABILITIES: export_probabilities(graph, scores, outputs=len(self.intercept))}

    def save(self, folder: Path) -> None:
        """Write one JSON file."""
        state = {"weights": self.weights.tolist(), "intercept": self.intercept.tolist(), "logistic": self.logistic}
        (folder / _FILE).write_bytes(msgspec.json.encode(state))

    @classmethod
    def load(cls, folder: Path) -> Linear:
        """Read what `save` wrote."""
        state = msgspec.json.decode((folder / _FILE).read_bytes())
        return cls(np.array(state["weights"], dtype=np.float64), np.array(state["intercept"], dtype=np.float64), state["logistic"])


def probabilities(scores: Floats) -> Floats:
    """[N, classes] from scores [N, M]: softmax. For one score per row: the sigmoid, and its complement in front."""
    if scores.shape[1] == 1:
        positive = 0.5 * (1 + np.tanh(0.5 * scores))  # the sigmoid, in a form that cannot overflow
        return np.hstack([1 - positive, positive])
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def export_probabilities(graph: Graph, scores: Tensor, *, outputs: int) -> Tensor:
    """Add nodes that compute `probabilities`."""
    if outputs > 1:
        return graph.node("Softmax", scores, axis=1)
    positive = graph.node("Sigmoid", scores)
    return graph.node("Concat", positive * -1.0 + 1.0, positive, axis=1)


def flat(graph: Graph, column: Tensor) -> Tensor:
    """Reshape [N, 1] to [N]."""
    return graph.node("Reshape", column, graph.constant(np.array([-1], dtype=np.int64)))


@dataclass(frozen=True, slots=True)
class Labelled:
    """Rows with their labels: `targets` [N, M] (0 and 1 for classes), and the weight of each row."""

    design: Design
    targets: Floats
    weights: Floats


def strategy(options: Mapping[str, Any], design: Design, *, logistic: bool) -> str:
    """OPTIMIZE_STRATEGY, with AUTO_STRATEGY resolved by BigQuery's rule. A constant learning rate chooses gradient descent.

    Raises:
        ModelError: the normal equation cannot solve this problem.
    """
    if options["warm_start"]:  # the normal equation has no starting point
        return BATCH_GRADIENT_DESCENT
    asked = options["optimize_strategy"]
    if asked == NORMAL_EQUATION and (logistic or options["l1_reg"] > 0):
        raise ModelError("optimize_strategy NORMAL_EQUATION solves LINEAR_REG without l1_reg; use BATCH_GRADIENT_DESCENT")
    if asked != "AUTO_STRATEGY":
        return str(asked)
    if options["learn_rate_strategy"] == "CONSTANT":  # the normal equation has no learning rate
        return BATCH_GRADIENT_DESCENT
    if logistic or options["l1_reg"] > 0 or design.width > 10_000 or len(design) < 10 * design.width:
        return BATCH_GRADIENT_DESCENT
    return NORMAL_EQUATION


def fit(
    training: Labelled,
    evaluation: Labelled | None,
    options: Mapping[str, Any],
    *,
    logistic: bool,
    progress: Progress,
    start: Linear | None = None,
) -> tuple[Linear, tuple[Iteration, ...]]:
    """Fit by the resolved `optimize_strategy` in `options`. Gradient descent starts from `start`, or from 0."""
    free = _free_columns(training.design, dummy=options["category_encoding_method"] == "DUMMY_ENCODING")
    if options["optimize_strategy"] == NORMAL_EQUATION:
        started = time.perf_counter()
        estimator = _solve(training, options["l2_reg"], free, intercept=options["fit_intercept"])
        history = [Iteration(0, *_losses(estimator, training, evaluation), None, _milliseconds(started))]
        progress(history[0])
        return estimator, tuple(history)
    outputs = training.targets.shape[1]
    first = start or Linear(np.zeros((training.design.width, outputs)), np.zeros(outputs), logistic)
    return _descend(training, evaluation, options, free, first, progress=progress)


def _free_columns(design: Design, *, dummy: bool) -> npt.NDArray[np.bool_]:
    """[width]: which weights are fitted. With dummy encoding, the most frequent category of each feature has weight 0."""
    free = np.ones(design.width, dtype=bool)
    if dummy:
        for codes, columns in design.blocks():
            free[columns.start + np.bincount(codes).argmax()] = False
    return free


def _solve(training: Labelled, l2_reg: float, free: npt.NDArray[np.bool_], *, intercept: bool) -> Linear:
    """Solve the normal equations. One-hot columns add up to the intercept, so many solutions exist; the shortest is returned.

    The feature with most categories is eliminated first, because its block of the equations is diagonal. The size of the remaining system
    then depends only on the other features.
    """
    design, weights = training.design, training.weights / training.weights.sum()
    nothing = np.zeros(len(design), np.int32), slice(0, 0)
    codes, block = max(design.blocks(), key=lambda item: item[1].stop - item[1].start, default=nothing)
    size, rest = block.stop - block.start, design.without(block)
    others = np.append(np.delete(np.arange(design.width), block), design.width)  # the intercept is last
    kept, kept_block = np.append(free, intercept)[others], free[block]
    goal = weights[:, None] * training.targets
    right = np.append(design.transposed_dot(goal)[:, 0], goal.sum())

    gram = np.zeros((len(others), len(others)))
    gram[:-1, :-1] = rest.gram(weights) + l2_reg * np.eye(rest.width)
    gram[:-1, -1] = gram[-1, :-1] = rest.transposed_dot(weights[:, None])[:, 0]
    gram[-1, -1] = 1
    diagonal = np.bincount(codes, weights=weights, minlength=size + 1)[:size]
    cross = np.column_stack([rest.by_category(codes, size, weights), diagonal])[:, kept]
    inverse = np.divide(1, diagonal + l2_reg, out=np.zeros(size), where=kept_block & (diagonal + l2_reg > 0))

    scaled = inverse[:, None] * cross
    values, vectors = np.linalg.eigh(gram[np.ix_(kept, kept)] - cross.T @ scaled)
    strong = values > _SINGULAR * gram.diagonal().max()
    found = vectors[:, strong] @ (vectors[:, strong].T @ (right[others[kept]] - scaled.T @ right[block]) / values[strong])
    solution = np.concatenate([found, inverse * right[block] - scaled @ found])
    # directions in which the solution can move without changing a prediction
    idle = np.vstack([vectors[:, ~strong], -scaled @ vectors[:, ~strong]])
    solution -= idle @ np.linalg.solve(idle.T @ idle, idle.T @ solution)

    result = np.zeros(design.width + 1)
    result[others[kept]], result[block] = solution[: len(found)], solution[len(found) :]
    return Linear(result[:-1, None], result[-1:], logistic=False)


@np.errstate(over="ignore", invalid="ignore")  # too high a rate overflows; the loss shows it
def _descend(
    training: Labelled,
    evaluation: Labelled | None,
    options: Mapping[str, Any],
    free: npt.NDArray[np.bool_],
    estimator: Linear,
    *,
    progress: Progress,
) -> tuple[Linear, tuple[Iteration, ...]]:
    """Run batch gradient descent. Line search starts each iteration at twice the last rate, and halves it until the objective falls."""
    search = options["learn_rate_strategy"] == "LINE_SEARCH"
    rate = options["ls_init_learn_rate"] if search else options["learn_rate"]
    objective = _objective(estimator, training, options)
    history: list[Iteration] = []
    for number in range(options["max_iterations"]):
        started = time.perf_counter()
        gradient, gradient_intercept = _gradient(estimator, training, options["l2_reg"])
        gradient[~free] = 0
        if not options["fit_intercept"]:
            gradient_intercept[:] = 0
        rate = rate * 2 if search else rate
        while True:
            moved = _step(estimator, gradient, gradient_intercept, rate, options["l1_reg"])
            reached = _objective(moved, training, options)
            if not search or reached <= objective or rate < _SMALLEST_RATE:
                break
            rate /= 2
        if not math.isfinite(reached):
            raise ModelError(f"training diverged in iteration {number} with learning rate {rate:g}; lower it, or use LINE_SEARCH")
        estimator, objective = moved, reached
        history.append(Iteration(number, *_losses(estimator, training, evaluation), rate, _milliseconds(started)))
        progress(history[-1])
        if options["early_stop"] and stalled([entry.loss for entry in history], options["min_rel_progress"]):
            break
    return estimator, tuple(history)


def _gradient(estimator: Linear, rows: Labelled, l2_reg: float) -> tuple[Floats, Floats]:
    scores = estimator.scores(rows.design)
    if estimator.logistic:
        predicted = probabilities(scores)
        residuals = (predicted if scores.shape[1] > 1 else predicted[:, 1:]) - rows.targets
    else:
        residuals = scores - rows.targets
    residuals *= (rows.weights / rows.weights.sum())[:, None]
    return rows.design.transposed_dot(residuals) + l2_reg * estimator.weights, residuals.sum(axis=0)


def _step(estimator: Linear, gradient: Floats, gradient_intercept: Floats, rate: float, l1_reg: float) -> Linear:
    weights = estimator.weights - rate * gradient
    if l1_reg > 0:  # the proximal step of |w|: moves weights towards 0, and sets small ones to exactly 0
        weights = np.sign(weights) * np.maximum(np.abs(weights) - rate * l1_reg, 0)
    return Linear(weights, estimator.intercept - rate * gradient_intercept, estimator.logistic)


def _objective(estimator: Linear, rows: Labelled, options: Mapping[str, Any]) -> float:
    loss = mean_loss(estimator, rows) * (1 if estimator.logistic else 0.5)
    weights = estimator.weights
    return float(loss + options["l1_reg"] * np.abs(weights).sum() + options["l2_reg"] / 2 * (weights**2).sum())


def mean_loss(estimator: Linear, rows: Labelled) -> float:
    """The weighted mean of the squared error, or of the log loss."""
    scores = estimator.scores(rows.design)
    if not estimator.logistic:
        losses = ((scores - rows.targets) ** 2)[:, 0]
    elif scores.shape[1] == 1:
        losses = np.logaddexp(0, scores)[:, 0] - (scores * rows.targets)[:, 0]
    else:
        highest = scores.max(axis=1)
        losses = np.log(np.exp(scores - highest[:, None]).sum(axis=1)) + highest - (scores * rows.targets).sum(axis=1)
    return float(np.average(losses, weights=rows.weights))


def _losses(estimator: Linear, training: Labelled, evaluation: Labelled | None) -> tuple[float, float | None]:
    return mean_loss(estimator, training), None if evaluation is None else mean_loss(estimator, evaluation)


def _milliseconds(started: float) -> int:
    return round((time.perf_counter() - started) * 1000)


def weights(trained: Trained, *, standardize: bool = False) -> list[tuple[Any, FeatureValue]]:
    """The rows of ML.WEIGHTS: (class label, weight) for every feature, in the columns' own units unless `standardize`.

    The label is None unless there are more than two classes. The intercept is the feature `__INTERCEPT__`.
    """
    estimator, preprocessing = trained.estimator, trained.preprocessing
    if not isinstance(estimator, Linear):
        raise ModelError(f"ML.WEIGHTS needs a LINEAR_REG or LOGISTIC_REG model, this one is {trained.model_type}")
    rows: list[tuple[Any, FeatureValue]] = []
    for output, intercept in enumerate(estimator.intercept):
        label = trained.classes[output] if len(estimator.intercept) > 1 else None
        column, shift = estimator.weights[:, output], 0.0
        for number, weight in zip(preprocessing.numbers, column, strict=False):
            shift += weight / number.scale * number.center
            rows.append((label, FeatureValue(number.name, float(weight if standardize else weight / number.scale))))
        start = len(preprocessing.numbers)
        for category in preprocessing.categories:
            labelled = zip(category.labels, column[start : start + category.size], strict=True)
            rows.append((label, FeatureValue(category.name, None, tuple(CategoryValue(name, float(value)) for name, value in labelled))))
            start += category.size
        rows.append((label, FeatureValue(INTERCEPT, float(intercept if standardize else intercept - shift))))
    return rows
