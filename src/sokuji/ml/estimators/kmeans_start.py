"""The first centroids of k-means: rows drawn at random, independent of the order of the rows.

A query returns its rows in a different order every time, and its sums differ in the last digit. So the randomness comes from the rounded
values of a row. Each distinct row has a key, and every draw turns the key into a number in (0, 1). The row with the least -log(number) /
weight wins the draw. So a row wins with a probability in proportion to its weight, and adding or removing a row changes a draw only if that
row wins it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sokuji.errors import ModelError
from sokuji.ml import parallel
from sokuji.ml.columns.encoded import Design
from sokuji.ml.estimators.distances import distances
from sokuji.ml.values import Floats

Keys = npt.NDArray[np.uint64]

_GRID = 2.0**20  # z-scores that differ by less than a millionth count as equal
_BLOCK_ROWS = 4096  # intermediate results of this many rows fit into the processor's cache
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2**64 divided by the golden ratio: its multiples are far apart
_HALF = np.uint64(32)
_BITS_LEFT_OUT = np.uint64(11)  # float64 has a precision of 53 bits


def first_centroids(design: Design, scores: Design, options: Mapping[str, Any], chosen: npt.NDArray[np.bool_] | None) -> Floats:
    """[K, width]: the first centroids by KMEANS_INIT_METHOD. `scores` are the rows with numbers as z-scores; `chosen` marks the rows of
    'CUSTOM'.

    RANDOM takes distinct rows while there are any. KMEANS++ draws each further row in proportion to its squared distance to the nearest
    centroid so far. The centroids of CUSTOM are sorted by their values.

    Raises:
        ModelError: there are fewer rows than clusters, or the number of rows that `chosen` marks is not the number of clusters.
    """
    count = options["num_clusters"]
    if len(design) < count:
        raise ModelError(f"num_clusters is {count}, and there are only {len(design)} rows; lower num_clusters or give more rows")
    if chosen is not None:
        if chosen.sum() != count:
            raise ModelError(f"kmeans_init_col is TRUE in {chosen.sum()} rows; expected exactly num_clusters ({count})")
        rows = design.take(np.flatnonzero(chosen)).dense()
        return np.asarray(rows[np.lexsort(rows.T[::-1])])
    lots = _Lots.of(scores)
    if options["kmeans_init_method"] == "KMEANS++":
        return _spread(design.take(lots.rows), count, lots, cosine=options["distance_type"] == "COSINE")
    race = lots.race(0, lots.counts)
    winners = np.argpartition(race, range(min(count, len(race))))[:count]
    return design.take(lots.rows[np.resize(winners, count)]).dense()


def _spread(design: Design, count: int, lots: _Lots, *, cosine: bool) -> Floats:
    weights = lots.counts
    nearest = np.full(len(design), np.inf)
    centroids = np.empty((0, design.width))
    for draw in range(count):
        winner = design.take(np.array([lots.race(draw, weights).argmin()])).dense()
        centroids = np.vstack([centroids, winner])

        def approach(share: range, winner: Floats = winner) -> None:
            for start in share:
                block = slice(start, start + _BLOCK_ROWS)
                nearest[block] = np.minimum(nearest[block], distances(design.take(block), winner, cosine=cosine)[:, 0] ** 2)

        parallel.each(approach, parallel.shares(len(design), _BLOCK_ROWS))
        weights = lots.counts * nearest
    return centroids


@dataclass(frozen=True, slots=True)
class _Lots:
    """The distinct rows: the position of the first row of each, its number of copies, and the key that random numbers derive from."""

    rows: npt.NDArray[np.intp]
    counts: Floats
    keys: Keys

    @classmethod
    def of(cls, scores: Design) -> _Lots:
        keys = _keys(scores)
        order = keys.argsort()
        keys = keys[order]
        first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        return cls(order[first], np.diff(first, append=len(keys)).astype(np.float64), keys[first])

    def race(self, draw: int, weights: Floats) -> Floats:
        """Draw a number per distinct row.

        The row with the least number wins the draw, with a probability in proportion to its weight. The next least would win without it.
        """
        bits = _mixed(_mixed(_mixed(self.keys + np.uint64(draw)))) >> _BITS_LEFT_OUT
        with np.errstate(divide="ignore"):
            return np.asarray(-np.log((bits + 0.5) * 2.0**-53) / weights)


def _keys(scores: Design) -> Keys:
    """[N]: a key for each row. Equal rows have equal keys; different rows have equal keys with a probability of 2**-64."""
    keys = np.zeros(len(scores), dtype=np.uint64)

    def fill(share: range) -> None:
        for start in share:
            block = slice(start, start + _BLOCK_ROWS)
            rounded = np.rint(scores.numbers[block].T * _GRID) + 0.0  # + 0.0 turns -0.0 into 0.0
            for column in (*rounded.view(np.uint64), *(codes[block].astype(np.uint64) for codes in scores.codes)):
                keys[block] = _mixed(keys[block] ^ column)

    parallel.each(fill, parallel.shares(len(scores), _BLOCK_ROWS))
    return keys


def _mixed(keys: Keys) -> Keys:
    """Mix the bits of keys, one to one: every bit affects higher bits, then the upper half affects the lower."""
    keys = keys * _ODD
    keys ^= keys >> _HALF
    return keys
