"""The metrics of ML.EVALUATE, ML.CONFUSION_MATRIX and ML.ROC_CURVE, by BigQuery's rules.

A docstring says where a rule differs from scikit-learn's. A metric that is undefined for the data (a division by zero, a logarithm of a
negative number) is None, SQL's NULL.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Scores = dict[str, float | None]

REGRESSION = (
    "mean_absolute_error",
    "mean_squared_error",
    "mean_squared_log_error",
    "median_absolute_error",
    "r2_score",
    "explained_variance",
)
CLASSIFICATION = ("precision", "recall", "accuracy", "f1_score", "log_loss", "roc_auc")
CLUSTERING = ("davies_bouldin_index", "mean_squared_distance")


def regression(actual: Floats, predicted: Floats) -> Scores:
    """The regression metrics.

    The median is the lower of the two middle values, so it occurs in the data; scikit-learn takes the mean of the two.
    """
    if not actual.size:
        return dict.fromkeys(REGRESSION)
    error = actual - predicted
    size = np.abs(error)
    return {
        "mean_absolute_error": float(size.mean()),
        "mean_squared_error": float(np.mean(error**2)),
        "mean_squared_log_error": _mean_squared_log_error(actual, predicted),
        "median_absolute_error": lower_median(size),
        "r2_score": _one_minus_ratio(float(np.sum(error**2)), float(np.sum((actual - actual.mean()) ** 2))),
        "explained_variance": _one_minus_ratio(float(error.var()), float(actual.var())),
    }


def lower_median(values: Floats) -> float:
    """The middle value; if there are two, the smaller."""
    middle = (values.size - 1) // 2
    return float(np.partition(values, middle)[middle])


def _mean_squared_log_error(actual: Floats, predicted: Floats) -> float | None:
    if min(actual.min(), predicted.min()) <= -1:
        return None
    return float(np.mean((np.log1p(actual) - np.log1p(predicted)) ** 2))


def _one_minus_ratio(above: float, below: float) -> float | None:
    return None if below == 0 else 1 - above / below


def classification(actual: Ints, probabilities: Floats, *, threshold: float = 0.5) -> Scores:
    """The classification metrics, from the class of each row and the probability of each class.

    Two classes: precision, recall and F1 of class 1, the positive class, which is predicted if its probability reaches `threshold`. More
    classes: macro averages over all classes of the model; an absent class counts 0, and `threshold` does not apply. Precision without a
    prediction, and recall without a case, are 0. With more than two classes, ROC AUC is the macro average of one class against the rest.
    """
    if not actual.size:
        return dict.fromkeys(CLASSIFICATION)
    counts = confusion_matrix(actual, predicted_classes(probabilities, threshold), probabilities.shape[1])
    hits, per_actual, per_predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    precision = _ratio(hits, per_predicted)
    recall = _ratio(hits, per_actual)
    f1 = _ratio(2 * hits, per_actual + per_predicted)
    counted = slice(1, 2) if probabilities.shape[1] == 2 else slice(None)
    return {
        "precision": float(precision[counted].mean()),
        "recall": float(recall[counted].mean()),
        "accuracy": float(hits.sum() / actual.size),
        "f1_score": float(f1[counted].mean()),
        "log_loss": log_loss(actual, probabilities),
        "roc_auc": roc_auc(actual, probabilities),
    }


def _ratio(above: NDArray[np.int64], below: NDArray[np.int64]) -> Floats:
    return np.divide(above, below, out=np.zeros(len(above)), where=below != 0)


def predicted_classes(probabilities: Floats, threshold: float = 0.5) -> Ints:
    """The predicted class of each row. Of two classes: class 1 if its probability reaches `threshold`. Of more: the most probable."""
    if probabilities.shape[1] == 2:
        return (probabilities[:, 1] >= threshold).astype(np.int64)
    return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)


def confusion_matrix(actual: Ints, predicted: Ints, classes: int) -> Ints:
    """[actual class, predicted class]: the number of rows."""
    counts = np.bincount(actual * classes + predicted, minlength=classes * classes)
    return np.asarray(counts, dtype=np.int64).reshape(classes, classes)


def log_loss(actual: Ints, probabilities: Floats) -> float:
    """The mean negative logarithm of the probability of each row's class. Probabilities are clipped to 2^-52 ... 1 - 2^-52."""
    tiny = np.finfo(np.float64).eps
    return float(-np.log(np.clip(probabilities[np.arange(actual.size), actual], tiny, 1 - tiny)).mean())


def roc_auc(actual: Ints, probabilities: Floats) -> float | None:
    """The exact area under the ROC curve. For more than two classes: the macro average of one against the rest, without absent classes."""
    classes = probabilities.shape[1]
    columns = [1] if classes == 2 else range(classes)
    areas = [_binary_auc(actual == column, probabilities[:, column]) for column in columns]
    defined = [area for area in areas if area is not None]
    return math.fsum(defined) / len(defined) if defined else None


def _binary_auc(positive: NDArray[np.bool_], score: Floats) -> float | None:
    """The probability that a positive row scores above a negative row; a tie counts half (Mann-Whitney U)."""
    positives = int(positive.sum())
    negatives = positive.size - positives
    if not positives or not negatives:
        return None
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    last_ranks = np.cumsum(counts)
    mean_ranks = last_ranks - (counts - 1) / 2
    rank_sum = float(mean_ranks[inverse][positive].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


@dataclass(frozen=True, slots=True)
class RocPoints:
    """The counts at each threshold, from the highest threshold to the lowest."""

    thresholds: Floats
    true_positives: Ints
    false_positives: Ints
    positives: int
    negatives: int


ROC_POINTS = 100


def roc_curve(actual: Ints, positive_probability: Floats, thresholds: Floats | None = None) -> RocPoints:
    """Count the true and false positives (probability >= threshold) at each threshold.

    Without `thresholds`, the thresholds are the percentiles of the predictions (values that occur, at most 101 of them).
    """
    if thresholds is None:
        if positive_probability.size:
            thresholds = np.quantile(positive_probability, np.linspace(0, 1, ROC_POINTS + 1), method="inverted_cdf")
        else:
            thresholds = positive_probability
    thresholds = np.unique(thresholds)[::-1]
    positive, negative = np.sort(positive_probability[actual == 1]), np.sort(positive_probability[actual == 0])
    return RocPoints(
        thresholds,
        positive.size - np.searchsorted(positive, thresholds, side="left"),
        negative.size - np.searchsorted(negative, thresholds, side="left"),
        int(positive.size),
        int(negative.size),
    )


def clustering(squared: Floats, sizes: Ints, between: Floats) -> Scores:
    """The k-means metrics, from each cluster's sum of squared distances to its centroid and number of rows, and the distances between
    centroids.

    The Davies-Bouldin scatter of a cluster is the root mean square distance to its stored centroid; scikit-learn takes the mean distance to
    the mean of the given rows. Clusters without a row are left out. With fewer than two clusters the index is undefined.
    """
    if not sizes.any():
        return dict.fromkeys(CLUSTERING)
    used = np.flatnonzero(sizes)
    scatter = np.sqrt(squared[used] / sizes[used])
    return {
        "davies_bouldin_index": _davies_bouldin(scatter, between[np.ix_(used, used)]),
        "mean_squared_distance": float(squared.sum() / sizes.sum()),
    }


def _davies_bouldin(scatter: Floats, between: Floats) -> float | None:
    apart = ~np.eye(len(scatter), dtype=bool)
    # Two centroids at the same place have no ratio. BigQuery's index is then undefined; a division would make it infinite.
    if len(scatter) < 2 or not between[apart].all():
        return None
    ratios = np.divide(scatter[:, None] + scatter[None, :], between, out=np.zeros_like(between), where=apart)
    return float(ratios.max(axis=1).mean())
