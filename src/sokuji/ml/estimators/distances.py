"""Distances from rows to centroids: Euclidean, or sqrt(1 - cosine)."""

from __future__ import annotations

import numpy as np

from sokuji.ml.columns.encoded import Design, with_unseen
from sokuji.ml.values import Floats


def distances(design: Design, centroids: Floats, *, cosine: bool) -> Floats:
    """[N, K]: distances to `centroids` [K, width], from differences row by row. This is slower but more exact than by products."""
    if cosine:
        lengths = np.sqrt(design.squared_norms())[:, None] * np.linalg.norm(centroids, axis=1)
        products = design.dot(centroids.T)
        cosines = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
        return np.asarray(np.sqrt(np.maximum(1 - cosines, 0)))
    dimensions = design.numbers.shape[1]
    squares = np.empty((len(design), len(centroids)))
    for cluster, centroid in enumerate(centroids):
        squares[:, cluster] = ((design.numbers - centroid[:dimensions]) ** 2).sum(axis=1)
    for codes, columns in design.blocks():
        squares += squares_by_code(centroids[:, columns])[codes]
    return np.asarray(np.sqrt(np.maximum(squares, 0)))


def squares_by_code(block: Floats) -> Floats:
    """[size + 1, K]: the squared distance from each category's row of zeros and ones to each centroid's `block` [K, size]."""
    return np.asarray(with_unseen(1 - 2 * block.T) + (block**2).sum(axis=1))
