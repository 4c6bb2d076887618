"""The numbers of ML.EVALUATE: computed by hand where BigQuery has its own rule, against scikit-learn where the definitions agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sokuji.ml.scores import (
    CLASSIFICATION,
    REGRESSION,
    Floats,
    classification,
    clustering,
    confusion_matrix,
    log_loss,
    regression,
    roc_curve,
)

sklearn_metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn, the oracle, is not installed")

SIZES = st.integers(2, 60)
VALUES = st.floats(-1e3, 1e3, allow_nan=False).map(lambda value: round(value, 3))


def floats(size: int) -> Any:
    return arrays(np.float64, size, elements=VALUES)


@given(st.data())
def test_regression_agrees_with_scikit_learn(data: st.DataObject) -> None:
    size = data.draw(SIZES)
    actual, predicted = data.draw(floats(size)), data.draw(floats(size))
    scores = regression(actual, predicted)
    assert scores["mean_absolute_error"] == pytest.approx(sklearn_metrics.mean_absolute_error(actual, predicted))
    assert scores["mean_squared_error"] == pytest.approx(sklearn_metrics.mean_squared_error(actual, predicted))
    if np.ptp(actual) > 1e-9:
        assert scores["r2_score"] == pytest.approx(sklearn_metrics.r2_score(actual, predicted), rel=1e-9, abs=1e-9)
        expected = sklearn_metrics.explained_variance_score(actual, predicted)
        assert scores["explained_variance"] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_mean_squared_log_error_agrees_with_scikit_learn() -> None:
    actual, predicted = np.array([0.0, 2.0, 3.5]), np.array([1.0, 2.5, 0.1])
    expected = sklearn_metrics.mean_squared_log_error(actual, predicted)
    assert regression(actual, predicted)["mean_squared_log_error"] == pytest.approx(expected)


def test_the_median_is_the_lower_one() -> None:
    assert regression(np.array([0.0, 0, 0, 0]), np.array([1.0, 2, 4, 8]))["median_absolute_error"] == 2
    assert regression(np.array([0.0, 0, 0]), np.array([4.0, 2, 1]))["median_absolute_error"] == 2


def test_what_is_undefined_is_null() -> None:
    scores = regression(np.array([5.0, 5.0]), np.array([-1.0, 6.0]))
    assert (scores["mean_squared_log_error"], scores["r2_score"], scores["explained_variance"]) == (None, None, None)
    nothing = np.array([])
    assert regression(nothing, nothing) == dict.fromkeys(REGRESSION)
    assert classification(np.array([], dtype=np.int64), np.empty((0, 2))) == dict.fromkeys(CLASSIFICATION)
    assert classification(np.array([1, 1]), np.array([[0.1, 0.9], [0.4, 0.6]]))["roc_auc"] is None


def probabilities(data: st.DataObject, size: int, classes: int) -> Floats:
    weights = data.draw(arrays(np.float64, (size, classes), elements=st.integers(1, 9).map(float)))
    scaled: Floats = weights / weights.sum(axis=1, keepdims=True)
    return scaled


@given(st.data(), st.sampled_from([0.2, 0.5, 0.8]))
def test_two_classes_report_the_positive_one(data: st.DataObject, threshold: float) -> None:
    size = data.draw(SIZES)
    actual, scores = data.draw(arrays(np.int64, size, elements=st.integers(0, 1))), probabilities(data, size, 2)
    found = classification(actual, scores, threshold=threshold)
    predicted = (scores[:, 1] >= threshold).astype(int)
    assert found["precision"] == pytest.approx(sklearn_metrics.precision_score(actual, predicted, zero_division=0))
    assert found["recall"] == pytest.approx(sklearn_metrics.recall_score(actual, predicted, zero_division=0))
    assert found["f1_score"] == pytest.approx(sklearn_metrics.f1_score(actual, predicted, zero_division=0))
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(actual, predicted))
    assert found["log_loss"] == pytest.approx(sklearn_metrics.log_loss(actual, scores, labels=[0, 1]))
    if len(set(actual)) == 2:
        assert found["roc_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(actual, scores[:, 1]))


@given(st.data())
def test_more_classes_report_macro_averages(data: st.DataObject) -> None:
    actual = np.array([0, 1, 2, *data.draw(st.lists(st.integers(0, 2), max_size=30))])
    scores = probabilities(data, len(actual), 3)
    found = classification(actual, scores)
    average: dict[str, Any] = {"average": "macro", "zero_division": 0}
    predicted = scores.argmax(axis=1)
    assert found["precision"] == pytest.approx(sklearn_metrics.precision_score(actual, predicted, **average))
    assert found["recall"] == pytest.approx(sklearn_metrics.recall_score(actual, predicted, **average))
    assert found["f1_score"] == pytest.approx(sklearn_metrics.f1_score(actual, predicted, **average))
    assert found["roc_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(actual, scores, multi_class="ovr", average="macro"))
    matrix = confusion_matrix(actual, predicted, 3)
    assert (matrix == sklearn_metrics.confusion_matrix(actual, predicted, labels=[0, 1, 2])).all()


def test_a_certain_and_wrong_prediction_costs_a_finite_loss() -> None:
    assert log_loss(np.array([0]), np.array([[0.0, 1.0]])) == pytest.approx(52 * np.log(2))


def test_roc_curve_counts_at_each_threshold_from_the_highest() -> None:
    actual, positive = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.4, 0.1])
    curve = roc_curve(actual, positive, np.array([0.1, 0.5, 0.9]))
    assert curve.thresholds.tolist() == [0.9, 0.5, 0.1]
    assert curve.true_positives.tolist() == [1, 1, 2]
    assert curve.false_positives.tolist() == [0, 1, 2]
    assert (curve.positives, curve.negatives) == (2, 2)


def test_roc_curve_chooses_percentiles_of_the_predictions() -> None:
    positive = np.random.default_rng(1).random(5000)
    curve = roc_curve((positive > 0.5).astype(np.int64), positive)
    assert len(curve.thresholds) == 101
    assert set(curve.thresholds) <= set(positive)
    assert (curve.thresholds[0], curve.thresholds[-1]) == (positive.max(), positive.min())


def test_davies_bouldin_uses_the_root_mean_square_distance_to_the_stored_centroid() -> None:
    # Cluster 0 at 0 has rows at 1 and 7, cluster 1 at 20 has one at 22: scatters 5 and 2 (mean distances would be 4 and 2).
    between = np.array([[0.0, 20.0], [20.0, 0.0]])
    scores = clustering(np.array([1.0 + 49, 4]), np.array([2, 1]), between)
    assert scores == {"davies_bouldin_index": pytest.approx((5 + 2) / 20), "mean_squared_distance": pytest.approx(54 / 3)}


def test_davies_bouldin_takes_the_worst_neighbour_of_each_cluster_and_leaves_empty_clusters_out() -> None:
    between = np.array([[0.0, 4, 10, 1], [4, 0, 5, 1], [10, 5, 0, 1], [1, 1, 1, 0]], dtype=float)
    scores = clustering(np.array([1.0, 1, 9, 0]), np.array([1, 1, 1, 0]), between)
    assert scores["davies_bouldin_index"] == pytest.approx((max(2 / 4, 4 / 10) + max(2 / 4, 4 / 5) + 4 / 5) / 3)


def test_davies_bouldin_of_one_cluster_or_of_centroids_in_one_place_is_null() -> None:
    one = clustering(np.array([1.0, 0]), np.array([1, 0]), np.array([[0.0, 1], [1, 0]]))
    same = clustering(np.array([1.0, 1]), np.array([1, 1]), np.zeros((2, 2)))
    assert (one["davies_bouldin_index"], same["davies_bouldin_index"]) == (None, None)
