"""KMEANS: Lloyd's algorithm by BigQuery's rules.

Distances are Euclidean, or sqrt(1 - cosine). For cosine, a centroid is the mean of rows scaled to length one. An empty cluster keeps its
centroid.
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

from sokuji.errors import ModelError
from sokuji.ml.base import DISTANCES, Cluster, Estimator, Iteration, Progress, Trained, stalled
from sokuji.ml.columns.encoded import Design, with_unseen
from sokuji.ml.estimators.distances import distances, squares_by_code
from sokuji.ml.estimators.kmeans_steps import Assignment, Sums
from sokuji.ml.graph import Encoded, Graph, Tensor, total
from sokuji.ml.values import CategoryValue, FeatureValue, Floats

_FILE = "kmeans.json"


@dataclass(frozen=True, slots=True)
class KMeans(Estimator):
    """A k-means model. `centroids` is [K, width] in preprocessed space; `radii` and `sizes` describe the training rows of each cluster."""

    centroids: Floats
    cosine: bool
    radii: tuple[float, ...]
    sizes: tuple[int, ...]

    def predict(self, design: Design) -> dict[str, Floats]:
        return {DISTANCES: distances(design, self.centroids, cosine=self.cosine)}

    def between_centroids(self) -> Floats:
        """[K, K]: the distances between centroids."""
        return self.predict(Design(self.centroids, (), ()))[DISTANCES]

    def export(self, graph: Graph, encoded: Encoded) -> dict[str, Tensor]:
        """Add nodes that compute the distances as |x|^2 - 2 x c + |c|^2."""
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
            table = with_unseen(block.T) if self.cosine else squares_by_code(block)
            terms.append(graph.node("Gather", graph.constant(table), codes))
            if self.cosine:
                lengths.append(graph.node("Gather", graph.constant(with_unseen(np.ones((size, 1)))), codes))
            start += size
        if self.cosine:
            return {DISTANCES: _cosine_distance(graph, total(terms), total(lengths), norms)}
        squares = total([*terms, *lengths]) + (numbers**2).sum(axis=1)
        return {DISTANCES: graph.node("Sqrt", graph.node("Max", squares, graph.constant(0.0)))}

    def save(self, folder: Path) -> None:
        """Write one JSON file."""
        state = {"centroids": self.centroids.tolist(), "cosine": self.cosine, "radii": self.radii, "sizes": self.sizes}
        (folder / _FILE).write_bytes(msgspec.json.encode(state))

    @classmethod
    def load(cls, folder: Path) -> KMeans:
        """Read what `save` wrote."""
        state = msgspec.json.decode((folder / _FILE).read_bytes())
        return cls(np.array(state["centroids"], dtype=np.float64), state["cosine"], tuple(state["radii"]), tuple(state["sizes"]))


def _cosine_distance(graph: Graph, products: Tensor, squared_lengths: Tensor, norms: Floats) -> Tensor:
    """The cosine distance. A row or a centroid of length 0 has cosine 0 with everything."""
    lengths = graph.node("Sqrt", squared_lengths) * norms
    zero = graph.node("Equal", lengths, graph.constant(0.0))
    cosine = products / graph.node("Where", zero, graph.constant(1.0), lengths)
    distance = graph.node("Sqrt", graph.node("Max", cosine * -1.0 + 1.0, graph.constant(0.0)))
    return graph.node("Where", zero, graph.constant(1.0), distance)


def fit(design: Design, options: Mapping[str, Any], first: Floats, progress: Progress) -> tuple[KMeans, tuple[Iteration, ...]]:
    """Cluster the rows, starting with the centroids `first` [K, width]."""
    cosine, centroids = options["distance_type"] == "COSINE", first
    assignment = Assignment(design, len(first), cosine=cosine)
    history: list[Iteration] = []
    for iteration in range(options["max_iterations"]):
        started = time.perf_counter()
        sums = assignment.move(centroids)
        centroids = sums.centroids(centroids)
        milliseconds = round((time.perf_counter() - started) * 1000)
        loss, clusters = _loss(sums, cosine=cosine)
        history.append(Iteration(iteration, loss, None, None, milliseconds, clusters))
        progress(history[-1])
        if options["early_stop"] and stalled([entry.loss for entry in history], options["min_rel_progress"]):
            break
    kept = assignment.move(centroids)  # once more: the last iteration moved the centroids after it assigned the rows
    radii = np.sqrt(kept.around(centroids, cosine=cosine) / np.maximum(kept.counts, 1))
    return KMeans(centroids, cosine, tuple(radii.tolist()), tuple(kept.counts.astype(int).tolist())), tuple(history)


def _loss(sums: Sums, *, cosine: bool) -> tuple[float, tuple[Cluster, ...]]:
    """The mean squared distance of all rows to their centroids, and the description of every cluster."""
    within = sums.within(cosine=cosine)
    radii = np.sqrt(within / np.maximum(sums.counts, 1))
    clusters = (
        Cluster(position, float(radius), int(size)) for position, (radius, size) in enumerate(zip(radii, sums.counts, strict=True), 1)
    )
    return float(within.sum() / sums.counts.sum()), tuple(clusters)


def default_clusters(rows: int) -> int:
    """BigQuery's default of NUM_CLUSTERS: log10 of the number of rows, at least 2 and at most 100."""
    return min(max(round(math.log10(max(rows, 1))), 2), 100)


def centroids(trained: Trained, *, standardize: bool = False) -> list[tuple[int, FeatureValue]]:
    """The rows of ML.CENTROIDS: (centroid_id, value) for every centroid and feature, in the columns' own units unless `standardize`."""
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
