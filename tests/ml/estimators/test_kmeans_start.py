"""The start of k-means: random, and dependent only on the rows' values."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sokuji.ml.columns.encoded import Design
from sokuji.ml.estimators.kmeans import KMeans
from sokuji.ml.estimators.kmeans_start import first_centroids
from tests.ml.estimators.test_kmeans import blobs
from tests.ml.tasks import trained_on

Array = np.ndarray[Any, np.dtype[np.float64]]


def shuffled(rows: pa.Table, seed: int) -> pa.Table:
    return rows.take(pa.array(np.random.default_rng(seed).permutation(rows.num_rows)))


def disturbed(rows: pa.Table, seed: int) -> pa.Table:
    """The numbers as other orders of summing would have made them: another last digit."""
    random = np.random.default_rng(seed)
    for place, name in enumerate(rows.column_names):
        if pa.types.is_floating(rows[name].type):
            factors = 1 + random.choice([-1, 0, 1], size=rows.num_rows) * 2.0**-52
            rows = rows.set_column(place, name, pa.compute.multiply(rows[name], pa.array(factors)))
    return rows


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("distance", ["EUCLIDEAN", "COSINE"])
@pytest.mark.parametrize("method", ["RANDOM", "KMEANS++", "CUSTOM"])
def test_the_order_of_the_rows_and_the_last_digit_of_their_numbers_do_not_matter(method: str, distance: str, standardize: bool) -> None:
    rows = blobs()
    options = {"num_clusters": 5, "kmeans_init_method": method, "distance_type": distance, "standardize_features": standardize}
    if method == "CUSTOM":
        options["kmeans_init_col"] = "first"
    else:
        rows = rows.drop_columns("first")
    expected = trained_on("KMEANS", rows, **options)
    assert isinstance(expected.estimator, KMeans)

    for seed in range(3):
        found = trained_on("KMEANS", disturbed(shuffled(rows, seed), seed), **options)
        assert isinstance(found.estimator, KMeans)
        np.testing.assert_allclose(found.estimator.centroids, expected.estimator.centroids, rtol=1e-9, atol=1e-9)
        assert found.estimator.sizes == expected.estimator.sizes
        assert [iteration.loss for iteration in found.history] == pytest.approx([iteration.loss for iteration in expected.history])


def start(values: Array, method: str, clusters: int) -> Array:
    design = Design(values[:, None], (), ())
    return first_centroids(design, design, {"num_clusters": clusters, "kmeans_init_method": method, "distance_type": "EUCLIDEAN"}, None)[
        :, 0
    ]


@pytest.mark.parametrize("method", ["RANDOM", "KMEANS++"])
def test_a_value_starts_a_cluster_as_often_as_rows_have_it(method: str) -> None:
    """Of 100 rows 60 have one value and 30 another; 1,000 sets of values, as one set is always drawn from alike."""
    random = np.random.default_rng(0)
    drawn: Counter[int] = Counter()
    for _ in range(1000):
        values = random.normal(size=12)
        (first, *_) = start(np.repeat(values, [60, 30, *[1] * 10]), method, 2)
        drawn[int(np.flatnonzero(values == first)[0])] += 1
    assert drawn[0] / 1000 == pytest.approx(0.6, abs=0.06)  # four standard deviations
    assert drawn[1] / 1000 == pytest.approx(0.3, abs=0.06)


def test_kmeans_plus_plus_draws_in_proportion_to_the_squared_distance_and_to_the_number_of_rows() -> None:
    """From a start at 0: 4 rows at 1 weigh 4, one at 3 weighs 9."""
    random = np.random.default_rng(0)
    far = 0
    for _ in range(1000):
        zero = random.normal()
        near_then_far = sorted(start(zero + np.array([0.0] * 1000 + [1.0] * 4 + [3.0]), "KMEANS++", 2) - zero)
        far += near_then_far == pytest.approx([0.0, 3.0])
    assert far / 1000 == pytest.approx(9 / 13, abs=0.06)


@pytest.mark.parametrize("method", ["RANDOM", "KMEANS++"])
def test_starts_are_different_rows_while_there_are_any(method: str) -> None:
    values = np.repeat([0.0, 1.0, 2.0], [1000, 1, 1])
    assert sorted(start(values, method, 3)) == [0, 1, 2]
    assert set(start(values, method, 5)) == {0, 1, 2}
