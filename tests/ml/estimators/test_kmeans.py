"""KMEANS against scikit-learn and against numbers computed by hand."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.cluster import KMeans as SklearnKMeans

from sokuji.errors import ModelError
from sokuji.ml.estimators.kmeans import KMeans, centroids, default_clusters
from sokuji.ml.values import NULL_CATEGORY
from tests.ml.tasks import native, served, trained_on

Array = np.ndarray[Any, np.dtype[np.float64]]


def blobs(rows: int = 3000, clusters: int = 5, seed: int = 0) -> pa.Table:
    random = np.random.default_rng(seed)
    middles = random.normal(0, 10, (clusters, 3))
    blob = random.integers(clusters, size=rows)
    values = middles[blob] + random.normal(size=(rows, 3))
    return pa.table(
        {
            "a": pa.array(values[:, 0], mask=random.random(rows) < 0.02),
            "b": values[:, 1] * 100,
            "c": values[:, 2],
            "kind": [None if value == 3 else f"k{value}" for value in blob],
            "first": np.arange(rows) < clusters,
        }
    )


def euclidean_space(rows: pa.Table) -> Array:
    """Z-scores with n - 1, NULL the mean, beside a column for each category and for NULL: BigQuery's k-means space."""
    columns = []
    for name in ("a", "b", "c"):
        values = rows[name].to_numpy()
        columns.append(np.nan_to_num((values - np.nanmean(values)) / np.nanstd(values, ddof=1)))
    kinds = rows["kind"].to_pylist()
    columns += [np.array([kind == wanted for kind in kinds], dtype=float) for wanted in (*sorted(set(kinds) - {None}), None)]
    return np.column_stack(columns)


@pytest.mark.parametrize("iterations", [1, 2, 30])
def test_from_the_same_start_every_iteration_is_scikit_learns(iterations: int) -> None:
    rows = blobs()
    space = euclidean_space(rows)
    first = space[:5][np.lexsort(space[:5].T[::-1])]  # centroids are numbered in the order of the values of these rows
    oracle = SklearnKMeans(5, init=first, n_init=1, max_iter=iterations, tol=0, algorithm="lloyd").fit(space)

    trained = trained_on("KMEANS", rows, kmeans_init_method="CUSTOM", kmeans_init_col="first", max_iterations=iterations, early_stop=False)

    assert isinstance(trained.estimator, KMeans)
    np.testing.assert_allclose(trained.estimator.centroids, oracle.cluster_centers_, atol=1e-9)
    assert trained.options["num_clusters"] == 5
    assert len(trained.history) == iterations
    np.testing.assert_allclose(native(trained, rows), oracle.transform(space), atol=1e-7)


def test_an_iteration_reports_its_clusters_and_the_mean_squared_distance() -> None:
    rows = pa.table({"x": [0.0, 2.0, 10.0, 14.0, 18.0], "first": [True, False, True, False, False]})

    trained = trained_on(
        "KMEANS", rows, kmeans_init_method="CUSTOM", kmeans_init_col="first", standardize_features=False, early_stop=False, max_iterations=3
    )

    # Clusters {0, 2} and {10, 14, 18} at once: means 1 and 14, squared distances 1, 1, 16, 0, 16.
    for iteration in trained.history:
        assert iteration.loss == pytest.approx(34 / 5)
        assert [(cluster.centroid_id, cluster.size) for cluster in iteration.clusters] == [(1, 2), (2, 3)]
        assert [cluster.radius for cluster in iteration.clusters] == pytest.approx([1, np.sqrt(32 / 3)])
        assert (iteration.eval_loss, iteration.learning_rate) == (None, None)
    assert [(identifier, value.feature, value.number) for identifier, value in centroids(trained)] == [(1, "x", 1.0), (2, "x", 14.0)]


def test_it_stops_once_an_iteration_gains_less_than_min_rel_progress() -> None:
    rows = blobs(clusters=6).drop_columns("first")
    history = trained_on("KMEANS", rows, num_clusters=4, early_stop=True, min_rel_progress=0.05, max_iterations=50).history
    losses = [iteration.loss for iteration in history]
    gains = [(before - after) / before for before, after in itertools.pairwise(losses)]
    assert all(gain >= 0.05 for gain in gains[:-1])
    assert gains[-1] < 0.05


@pytest.mark.parametrize("method", ["RANDOM", "KMEANS++"])
@pytest.mark.parametrize("distance", ["EUCLIDEAN", "COSINE"])
def test_training_is_repeatable_and_never_gets_worse(method: str, distance: str) -> None:
    rows = blobs().drop_columns("first")
    options = {"num_clusters": 6, "kmeans_init_method": method, "distance_type": distance, "early_stop": False, "max_iterations": 15}
    first, second = (trained_on("KMEANS", rows, **options) for _ in range(2))

    losses = [iteration.loss for iteration in first.history]
    assert losses == [iteration.loss for iteration in second.history]
    assert all(after <= before + 1e-12 for before, after in itertools.pairwise(losses))
    assert sum(cluster.size for cluster in first.history[-1].clusters) == rows.num_rows
    distances = native(first, rows)
    assert distances.min(axis=1).mean() ** 2 <= losses[-1] + 1e-9


def test_kmeans_plus_plus_starts_in_every_far_apart_group() -> None:
    values = np.concatenate([np.full(1000, 0.0), np.full(5, 1e3), np.full(3, 2e3), np.full(2, -5e3)])
    rows = pa.table({"x": values + np.random.default_rng(0).normal(size=len(values))})
    trained = trained_on("KMEANS", rows, num_clusters=4, kmeans_init_method="KMEANS++")
    assert sorted(cluster.size for cluster in trained.history[-1].clusters) == [2, 3, 5, 1000]


def test_random_starts_are_different_rows_when_there_are_enough() -> None:
    rows = pa.table({"x": [0.0] * 990 + [1.0] * 5 + [2.0] * 5})
    trained = trained_on("KMEANS", rows, num_clusters=3)
    assert sorted(cluster.size for cluster in trained.history[-1].clusters) == [5, 5, 990]


def test_cosine_distance_is_the_root_of_one_minus_the_cosine(tmp_path: Path) -> None:
    first = [False, True, False, True, False]
    rows = pa.table({"x": [1.0, 10.0, 0.0, 0.0, 0.0], "y": [0.0, 0.0, 1.0, 3.0, 0.0], "first": first})
    options = {"distance_type": "COSINE", "standardize_features": False, "kmeans_init_method": "CUSTOM", "kmeans_init_col": "first"}
    trained = trained_on("KMEANS", rows, **options)

    distances = native(trained, rows)

    along_x = int(distances[0].argmin())
    np.testing.assert_allclose(distances[:, along_x], [0, 0, 1, 1, 1], atol=1e-7)  # a row of zeros has cosine 0 with everything
    np.testing.assert_allclose(distances[:, 1 - along_x], [1, 1, 0, 0, 1], atol=1e-7)
    np.testing.assert_allclose(served(trained, rows, tmp_path), distances, atol=1e-7)


def test_centroids_are_in_the_columns_own_units_and_shares_of_categories() -> None:
    rows = pa.table({"x": [1.0, 3.0, 101.0, 103.0], "kind": ["a", None, "b", "b"], "first": [True, False, True, False]})
    trained = trained_on("KMEANS", rows, kmeans_init_method="CUSTOM", kmeans_init_col="first")

    found = {(identifier, value.feature): value for identifier, value in centroids(trained)}

    assert found[1, "x"].number == pytest.approx(2)
    assert found[2, "x"].number == pytest.approx(102)
    assert [(item.category, item.value) for item in found[1, "kind"].categories] == [("a", 0.5), ("b", 0.0), (NULL_CATEGORY, 0.5)]
    assert [(item.category, item.value) for item in found[2, "kind"].categories] == [("a", 0.0), ("b", 1.0), (NULL_CATEGORY, 0.0)]
    standardised = {identifier: value.number for identifier, value in centroids(trained, standardize=True) if value.feature == "x"}
    deviation = np.std([1, 3, 101, 103], ddof=1)
    assert standardised == pytest.approx({1: -50 / deviation, 2: 50 / deviation})


def test_a_cluster_that_loses_all_rows_keeps_its_centroid() -> None:
    rows = pa.table({"x": [5.0, 5.0, 5.0, 9.0], "first": [True, True, False, True]})
    trained = trained_on("KMEANS", rows, kmeans_init_method="CUSTOM", kmeans_init_col="first", standardize_features=False)
    assert [cluster.size for cluster in trained.history[-1].clusters] == [3, 0, 1]
    assert [value.number for _, value in centroids(trained)] == [5.0, 5.0, 9.0]


@pytest.mark.parametrize(("rows", "clusters"), [(1, 2), (999, 3), (1_000_000, 6), (65_000, 5), (10**200, 100)])
def test_the_default_number_of_clusters_is_the_logarithm_of_the_rows(rows: int, clusters: int) -> None:
    assert default_clusters(rows) == clusters


def test_distances_between_centroids(tmp_path: Path) -> None:
    estimator = KMeans(np.array([[0.0, 0.0], [3.0, 4.0]]), False, (0.0, 0.0), (1, 1))
    np.testing.assert_allclose(estimator.between_centroids(), [[0, 5], [5, 0]])
    estimator.save(tmp_path)
    assert KMeans.load(tmp_path).centroids.tolist() == [[0, 0], [3, 4]]


def test_a_feature_of_a_hundred_thousand_categories_is_clustered() -> None:
    """Its matrix of zeros and ones would have 10^10 numbers."""
    names = [f"id {number}" for number in range(100_000)]
    rows = pa.table({"name": names, "x": np.repeat([0.0, 9.0], 50_000), "first": [True] + [False] * 99_998 + [True]})
    model = trained_on("KMEANS", rows, kmeans_init_method="CUSTOM", kmeans_init_col="first", max_iterations=2)
    assert isinstance(model.estimator, KMeans)
    assert sorted(model.estimator.sizes) == [50_000, 50_000]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_clusters": 7}, "num_clusters is 7, and there are only 3 rows"),
        ({"num_clusters": 3, "kmeans_init_method": "CUSTOM", "kmeans_init_col": "first"}, r"TRUE in 2 rows; .* num_clusters \(3\)"),
    ],
)
def test_clusters_that_cannot_be_started_are_refused(options: dict[str, Any], message: str) -> None:
    rows = pa.table({"x": [1.0, 2.0, 3.0], "first": [True, True, None]})
    with pytest.raises(ModelError, match=message):
        trained_on("KMEANS", rows, **options)
