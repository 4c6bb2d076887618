"""Lloyd's iterations against the plain formula in float64, where float32 alone would be wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sokuji.ml import parallel
from sokuji.ml.columns.encoded import Design
from sokuji.ml.estimators.kmeans_steps import Assignment, Sums
from tests.searching import examples

Array = np.ndarray[Any, np.dtype[np.float64]]


def rows(random: np.random.Generator, count: int, dimensions: int, categories: int, offset: float, unit: float) -> Design:
    """Whole numbers, so that many are equally near; `offset` and `unit` are powers of 2 and round nothing."""
    numbers: Array = (random.integers(-8, 9, size=(count, dimensions)).astype(np.float64) + offset) * unit
    codes = tuple(random.integers(0, 4, size=count).astype(np.int32) for _ in range(categories))  # 3 is an unseen one
    return Design(numbers, codes, (3,) * categories)


def plain(design: Design, centroids: Array, *, cosine: bool) -> Sums:
    dense = design.dense()
    if cosine:
        dense, centroids = (part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-300) for part in (dense, centroids))
        nearest = np.round(dense @ centroids.T, 14).argmax(axis=1)
    else:
        nearest = ((dense[:, None] - centroids) ** 2).sum(axis=2).argmin(axis=1)
    member = (nearest == np.arange(len(centroids))[:, None]).astype(np.float64)
    return Sums(member @ dense, member.sum(axis=1), member @ (dense**2).sum(axis=1))


def assert_same(found: Sums, expected: Sums) -> None:
    np.testing.assert_array_equal(found.counts, expected.counts)
    for one, other in ((found.rows, expected.rows), (found.squares, expected.squares)):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9 * np.abs(other).max())


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 400),
    clusters=st.integers(2, 100),
    dimensions=st.integers(0, 4),
    categories=st.integers(0, 2),
    offset=st.sampled_from([0.0, 2.0**10, 2.0**30]),
    unit=st.sampled_from([1.0, 2.0**-100, 2.0**100]),
)
@settings(max_examples=examples(150), deadline=None)
def test_every_row_goes_to_the_first_of_the_nearest_centroids(
    seed: int, count: int, clusters: int, dimensions: int, categories: int, offset: float, unit: float
) -> None:
    assume(dimensions or categories)
    random = np.random.default_rng(seed)
    design = rows(random, count, dimensions, categories, offset, unit if not categories else 1.0)
    assignment = Assignment(design, clusters, cosine=False)
    for _ in range(4):
        centroids = rows(random, clusters, dimensions, categories, offset, unit if not categories else 1.0).dense()
        assert_same(assignment.move(centroids), plain(design, centroids, cosine=False))


@given(seed=st.integers(0, 2**32), count=st.integers(1, 400), clusters=st.integers(2, 20), categories=st.integers(0, 2))
@settings(max_examples=examples(100), deadline=None)
def test_by_cosine_only_the_direction_counts(seed: int, count: int, clusters: int, categories: int) -> None:
    random = np.random.default_rng(seed)
    design = Design(random.normal(size=(count, 3)) * 10.0 ** random.integers(-140, 140, size=(count, 1)), (), ())
    if categories:
        design = rows(random, count, 2, categories, 0.0, 1.0)
    assignment = Assignment(design, clusters, cosine=True)
    for _ in range(4):
        centroids = random.normal(size=(clusters, design.width))
        assert_same(assignment.move(centroids), plain(design, centroids, cosine=True))


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("reach", [1e-2, 1.0, 1e4])
def test_centroids_that_float32_cannot_tell_apart_are_told_apart(reach: float, cosine: bool) -> None:
    """Each has a twin a hundred-millionth away, and rows are between them; `reach` is how far centroids are, in lengths of rows."""
    random = np.random.default_rng(0)
    design = Design(random.normal(size=(5000, 3)), (), ())
    assignment = Assignment(design, 6, cosine=cosine)
    for _ in range(3):
        centroids = random.normal(0, reach, size=(3, 3))
        centroids = np.vstack([centroids, centroids + random.normal(0, 1e-8 * reach, size=(3, 3))])
        assert_same(assignment.move(centroids), plain(design, centroids, cosine=cosine))


def test_what_a_row_leaves_behind_is_as_exact_as_if_it_had_never_been_there() -> None:
    values = np.array([*range(1, 11), 1e17])[:, None]
    assignment = Assignment(Design(values, (), ()), 2, cosine=False)
    assert assignment.move(np.array([[0.0], [1e30]])).rows[0, 0] == pytest.approx(1e17)
    sums = assignment.move(np.array([[0.0], [1e17]]))
    assert sums.rows[:, 0].tolist() == [55, 1e17]
    assert sums.squares[0] == sum(number**2 for number in range(1, 11))


def test_rows_in_many_blocks_are_summed_the_same() -> None:
    random = np.random.default_rng(0)
    design = rows(random, 200_000, 3, 1, 0.0, 1.0)
    assignment = Assignment(design, 20, cosine=False)
    for _ in range(2):
        centroids = random.normal(0, 5, size=(20, design.width))
        assert_same(assignment.move(centroids), plain(design, centroids, cosine=False))


def test_the_number_of_cores_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    design = rows(np.random.default_rng(0), 50_000, 3, 1, 0.5, 0.1)
    found = []
    for cores in (1, 2, 7):
        monkeypatch.setattr(parallel, "CORES", cores)
        assignment, centroids = Assignment(design, 9, cosine=False), design.take(np.arange(9)).dense()
        for _ in range(5):
            centroids = assignment.move(centroids).centroids(centroids)
        found.append(centroids.tobytes())
    assert len(set(found)) == 1
