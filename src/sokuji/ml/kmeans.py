"""KMEANS: Lloyd's iterations by BigQuery's rules.

Distances are Euclidean, or sqrt(1 - cosine); then centroids are means of rows scaled to length one. An empty cluster keeps its centroid.
"""

from __future__ import annotations

import itertools
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
from sokuji.ml.base import DISTANCES, CategoryValue, Cluster, Estimator, FeatureValue, Floats, Iteration, Progress, Trained, stalled
from sokuji.ml.design import Codes, Design, with_unseen
from sokuji.ml.graph import Encoded, Graph, Tensor, total

_SEED = 0  # the same rows and options give the same model
_FILE = "kmeans.json"
# OpenBLAS hands a product of more than 2**18 multiplications to its threads; below that one core works inside its own cache,
# measured 4 times as fast on rows with few columns (docs/decisions/0071).
_CHUNK_MULTIPLICATIONS = 2**18


@dataclass(frozen=True, slots=True)
class KMeans(Estimator):
    """`centroids` is [K, width], in preprocessed space; of the training rows nearest to each, `radii` and `sizes`."""

    centroids: Floats
    cosine: bool
    radii: tuple[float, ...]
    sizes: tuple[int, ...]

    def predict(self, design: Design) -> dict[str, Floats]:
        """Distances, from differences row by row: slower and more exact than the products of the graph."""
        if self.cosine:
            lengths = np.sqrt(design.squared_norms())[:, None] * np.linalg.norm(self.centroids, axis=1)
            products = design.dot(self.centroids.T)
            cosines = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
            return {DISTANCES: np.sqrt(np.maximum(1 - cosines, 0))}
        dimensions = design.numbers.shape[1]
        squares = np.empty((len(design), len(self.centroids)))
        for cluster, centroid in enumerate(self.centroids):
            squares[:, cluster] = ((design.numbers - centroid[:dimensions]) ** 2).sum(axis=1)
        for codes, columns in design.blocks():
            squares += _squares_by_code(self.centroids[:, columns])[codes]
        return {DISTANCES: np.sqrt(np.maximum(squares, 0))}

    def between_centroids(self) -> Floats:
        """[K, K]: the distances from centroid to centroid."""
        return self.predict(Design(self.centroids, (), ()))[DISTANCES]

    def export(self, graph: Graph, encoded: Encoded) -> dict[str, Tensor]:
        """Distances from |x|^2 - 2 x c + |c|^2."""
        dimensions = self.centroids.shape[1] - sum(size for _, size in encoded.codes)
        numbers = self.centroids[:, :dimensions]
        norms = np.linalg.norm(self.centroids, axis=1)
        terms: list[Tensor] = []
        lengths: list[Tensor] = []
        if encoded.numbers is not None:
            axis = graph.constant(np.array([1], dtype=np.int64))
            lengths.append(graph.node("ReduceSumSquare", encoded.numbers, axis, keepdims=1))
            terms.append(encoded.numbers @ (numbers if self.cosine else -2 * numbers).T)
        start = dimensions
        for codes, size in encoded.codes:
            block = self.centroids[:, start : start + size]
            table = with_unseen(block.T) if self.cosine else _squares_by_code(block)
            terms.append(graph.node("Gather", graph.constant(table), codes))
            if self.cosine:
                lengths.append(graph.node("Gather", graph.constant(with_unseen(np.ones((size, 1)))), codes))
            start += size
        if self.cosine:
            return {DISTANCES: _cosine_distance(graph, total(terms), total(lengths), norms)}
        squares = total([*terms, *lengths]) + (numbers**2).sum(axis=1)
        return {DISTANCES: graph.node("Sqrt", graph.node("Max", squares, graph.constant(0.0)))}

    def save(self, folder: Path) -> None:
        """As one JSON file."""
        state = {"centroids": self.centroids.tolist(), "cosine": self.cosine, "radii": self.radii, "sizes": self.sizes}
        (folder / _FILE).write_bytes(msgspec.json.encode(state))

    @classmethod
    def load(cls, folder: Path) -> KMeans:
        """What `save` wrote."""
        state = msgspec.json.decode((folder / _FILE).read_bytes())
        return cls(np.array(state["centroids"], dtype=np.float64), state["cosine"], tuple(state["radii"]), tuple(state["sizes"]))


def _squares_by_code(block: Floats) -> Floats:
    """[size + 1, K]: the squared distance from each category's zeros and ones to each centroid's `block` [K, size]."""
    return np.asarray(with_unseen(1 - 2 * block.T) + (block**2).sum(axis=1))


def _cosine_distance(graph: Graph, products: Tensor, squared_lengths: Tensor, norms: Floats) -> Tensor:
    """A row or a centroid of length 0 has cosine 0 with everything."""
    lengths = graph.node("Sqrt", squared_lengths) * norms
    zero = graph.node("Equal", lengths, graph.constant(0.0))
    cosine = products / graph.node("Where", zero, graph.constant(1.0), lengths)
    distance = graph.node("Sqrt", graph.node("Max", cosine * -1.0 + 1.0, graph.constant(0.0)))
    return graph.node("Where", zero, graph.constant(1.0), distance)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The training rows as Lloyd's iterations read them: columns lie together, and what is summed with them stands below them.

    COSINE: everything is scaled to rows of length one, by `scale`.
    """

    numbers: Floats  # [D + 2, N]: the numbers, a row of ones, the squared lengths
    codes: tuple[Codes, ...]
    sizes: tuple[int, ...]
    scale: Floats | None

    @classmethod
    def of(cls, design: Design, *, cosine: bool) -> _Rows:
        dimensions = design.numbers.shape[1]
        numbers = np.empty((dimensions + 2, len(design)))
        squares, scale = design.squared_norms(), None
        numbers[:dimensions] = design.numbers.T
        numbers[dimensions], numbers[dimensions + 1] = 1, squares
        if cosine:
            scale = np.divide(1, np.sqrt(squares), out=np.zeros_like(squares), where=squares > 0)
            numbers[:dimensions] *= scale
        return cls(numbers, design.codes, design.sizes, scale)


@dataclass(frozen=True, slots=True)
class _Sums:
    """Of the rows of each cluster: their sum [K, width], their number [K], their sum of squared lengths [K]."""

    rows: Floats
    counts: Floats
    squares: Floats

    def centroids(self, before: Floats) -> Floats:
        means = self.rows / np.maximum(self.counts, 1)[:, None]
        return np.asarray(np.where(self.counts[:, None] > 0, means, before))

    def within(self, *, cosine: bool) -> Floats:
        """[K]: the sum of squared distances to the mean."""
        if cosine:
            within = self.counts - np.linalg.norm(self.rows, axis=1)
        else:
            within = self.squares - (self.rows**2).sum(axis=1) / np.maximum(self.counts, 1)
        return np.asarray(np.maximum(within, 0))

    def around(self, centroids: Floats, *, cosine: bool) -> Floats:
        """[K]: the sum of squared distances to `centroids`."""
        products, squares = (self.rows * centroids).sum(axis=1), (centroids**2).sum(axis=1)
        if cosine:
            around = self.counts - np.divide(products, np.sqrt(squares), out=np.zeros_like(products), where=squares > 0)
        else:
            around = self.squares - 2 * products + self.counts * squares
        return np.asarray(np.maximum(around, 0))


def fit(design: Design, options: Mapping[str, Any], first: Floats, progress: Progress) -> tuple[KMeans, tuple[Iteration, ...]]:
    """Cluster the rows, from the centroids `first` [K, width] on."""
    cosine, centroids = options["distance_type"] == "COSINE", first
    rows = _Rows.of(design, cosine=cosine)
    history: list[Iteration] = []
    for iteration in range(options["max_iterations"]):
        started = time.perf_counter()
        sums = _assign(rows, centroids, cosine=cosine)
        centroids = sums.centroids(centroids)
        milliseconds = round((time.perf_counter() - started) * 1000)
        loss, clusters = _loss(sums, cosine=cosine)
        history.append(Iteration(iteration, loss, None, None, milliseconds, clusters))
        progress(history[-1])
        if options["early_stop"] and stalled([entry.loss for entry in history], options["min_rel_progress"]):
            break
    kept = _assign(rows, centroids, cosine=cosine)  # once more: the last iteration assigned the rows, then moved the centroids
    radii = np.sqrt(kept.around(centroids, cosine=cosine) / np.maximum(kept.counts, 1))
    return KMeans(centroids, cosine, tuple(radii.tolist()), tuple(kept.counts.astype(int).tolist())), tuple(history)


def _loss(sums: _Sums, *, cosine: bool) -> tuple[float, tuple[Cluster, ...]]:
    """The mean squared distance of all rows, and every cluster."""
    within = sums.within(cosine=cosine)
    radii = np.sqrt(within / np.maximum(sums.counts, 1))
    clusters = (
        Cluster(position, float(radius), int(size)) for position, (radius, size) in enumerate(zip(radii, sums.counts, strict=True), 1)
    )
    return float(within.sum() / sums.counts.sum()), tuple(clusters)


def default_clusters(rows: int) -> int:
    """BigQuery's NUM_CLUSTERS when it is not given: log10 of the rows, from 2 to 100."""
    return min(max(round(math.log10(max(rows, 1))), 2), 100)


def _assign(rows: _Rows, centroids: Floats, *, cosine: bool) -> _Sums:
    """Sums of the rows nearest to each centroid, a chunk at a time."""
    if cosine:
        norms = np.linalg.norm(centroids, axis=1, keepdims=True)
        centroids = np.divide(centroids, norms, out=np.zeros_like(centroids), where=norms > 0)
    offsets = np.zeros(len(centroids)) if cosine else (centroids**2).sum(axis=1) / 2
    dimensions, count = len(rows.numbers) - 2, rows.numbers.shape[1]
    # x c - |c|^2 / 2 is largest for the nearest centroid; the row of ones takes the offset, the squared lengths take no part.
    weights = np.column_stack([centroids[:, :dimensions], -offsets, np.zeros(len(centroids))])
    sums = np.zeros((len(centroids), dimensions + 2))
    labels = np.empty(count, dtype=np.int64)
    tables = _tables(centroids, dimensions, rows.sizes)
    step = max(1024, _CHUNK_MULTIPLICATIONS // weights.size)
    for start in range(0, count, step):
        chunk = slice(start, min(start + step, count))
        scores = weights @ rows.numbers[:, chunk]
        for table, codes in zip(tables, rows.codes, strict=True):
            scores += table[:, codes[chunk]] * (1 if rows.scale is None else rows.scale[chunk])
        member = _largest(scores)
        sums += member @ rows.numbers[:, chunk].T
        if tables:
            labels[chunk] = np.arange(len(member)) @ member
    blocks = [_count(labels, codes, (len(centroids), size), rows.scale) for codes, size in zip(rows.codes, rows.sizes, strict=True)]
    return _Sums(np.hstack([sums[:, :dimensions], *blocks]), sums[:, dimensions], sums[:, dimensions + 1])


def _tables(centroids: Floats, start: int, sizes: tuple[int, ...]) -> list[Floats]:
    """[K, size + 1] for every category feature: each centroid's value by code."""
    ends = np.cumsum((start, *sizes))
    return [np.ascontiguousarray(with_unseen(centroids[:, low:high].T).T) for low, high in itertools.pairwise(ends)]


def _largest(scores: Floats) -> Floats:
    """[K, N] of 1 in the row of each column's largest score, the first of equal ones, and 0 elsewhere."""
    member = scores == scores.max(axis=0)
    if np.count_nonzero(member) != scores.shape[1]:
        member = np.arange(len(scores))[:, None] == scores.argmax(axis=0)
    return np.asarray(member, dtype=np.float64)


def _count(labels: npt.NDArray[np.int64], codes: Codes, shape: tuple[int, int], scale: Floats | None) -> Floats:
    """`shape` [K, size]: how many rows (or how much `scale`) of each category each cluster has."""
    clusters, size = shape
    pairs = np.bincount(labels * (size + 1) + codes, weights=scale, minlength=clusters * (size + 1))
    return np.asarray(pairs.reshape(clusters, size + 1)[:, :size], dtype=np.float64)


def first_centroids(design: Design, count: int, method: str, chosen: npt.NDArray[np.bool_] | None) -> Floats:
    """[K, width] by KMEANS_INIT_METHOD. `chosen` marks the rows of 'CUSTOM'.

    Raises:
        ModelError: fewer rows than clusters, or `chosen` marks another number of rows than there are clusters.
    """
    if len(design) < count:
        raise ModelError(f"num_clusters is {count}, and there are only {len(design)} rows; lower num_clusters or give more rows")
    if chosen is not None:
        if chosen.sum() != count:
            raise ModelError(f"kmeans_init_col is TRUE in {chosen.sum()} rows, and must be in exactly num_clusters ({count})")
        return design.take(np.flatnonzero(chosen)).dense()
    random = np.random.default_rng(_SEED)
    if method == "KMEANS++":
        return _spread(design, count, random)
    # More rows than needed: equal ones would make clusters that stay empty.
    candidates = design.take(random.choice(len(design), size=min(len(design), 20 * count), replace=False))
    _, first = np.unique(np.column_stack([candidates.numbers, *candidates.codes]), axis=0, return_index=True)
    if len(first) < count:
        return _spread(design, count, random)
    return candidates.take(np.sort(first)[:count]).dense()


def _spread(design: Design, count: int, random: np.random.Generator) -> Floats:
    """k-means++: each further row is drawn with a chance in proportion to its squared distance to the nearest one so far."""
    centroids = design.take(random.integers(len(design), size=1)).dense()
    nearest = np.full(len(design), np.inf)
    while len(centroids) < count:
        distances = KMeans(centroids[-1:], False, (), ()).predict(design)[DISTANCES][:, 0]
        nearest = np.minimum(nearest, distances**2)
        cumulated = nearest.cumsum()
        row = min(int(np.searchsorted(cumulated, random.random() * cumulated[-1], side="right")), len(design) - 1)
        centroids = np.vstack([centroids, design.take(np.array([row])).dense()])
    return centroids


def centroids(trained: Trained, *, standardize: bool = False) -> list[tuple[int, FeatureValue]]:
    """ML.CENTROIDS: (centroid_id, value) for every centroid and feature, in the columns' own units unless `standardize`."""
    estimator, preprocessing = trained.estimator, trained.preprocessing
    if not isinstance(estimator, KMeans):
        raise ModelError(f"ML.CENTROIDS needs a KMEANS model, this one is {trained.model_type}")
    rows: list[tuple[int, FeatureValue]] = []
    for position, centroid in enumerate(estimator.centroids):
        for number, value in zip(preprocessing.numbers, centroid, strict=False):
            shown = value if standardize else value * number.scale + number.center
            rows.append((position + 1, FeatureValue(number.name, float(shown))))
        start = len(preprocessing.numbers)
        for category in preprocessing.categories:
            shares = centroid[start : start + category.size]
            values = tuple(CategoryValue(label, float(share)) for label, share in zip(category.labels, shares, strict=True))
            rows.append((position + 1, FeatureValue(category.name, None, values)))
            start += category.size
    return rows
