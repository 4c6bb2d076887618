"""Where k-means starts from: rows drawn at random, or near to it, whatever the order they come in.

A query returns its rows in another order every time, and its sums differ in their last digit. So chance comes from the values of a row,
rounded: each different row has a key, from which every draw makes a number in (0, 1), and the draw is won by the row with the least
-log(number) / weight. That is a draw in proportion to the weights, and a row that is new or gone changes it only by winning it.
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

_GRID = 2.0**20  # z-scores that differ by less than a millionth are one value
_BLOCK_ROWS = 4096  # what is made on the way stays in the processor's cache
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio: its multiples are far apart
_HALF = np.uint64(32)
_BITS_LEFT_OUT = np.uint64(11)  # float64 has 53


def first_centroids(design: Design, scores: Design, options: Mapping[str, Any], chosen: npt.NDArray[np.bool_] | None) -> Floats:
    """[K, width] by KMEANS_INIT_METHOD. `scores` are the rows with numbers as z-scores; `chosen` marks the rows of 'CUSTOM'.

    RANDOM takes different rows as long as there are any; KMEANS++ draws each further row in proportion to its squared distance
    to the nearest one so far. CUSTOM's are in the order of their values.

    Raises:
        ModelError: fewer rows than clusters, or `chosen` marks another number of rows than there are clusters.
    """
    count = options["num_clusters"]
    if len(design) < count:
        raise ModelError(f"num_clusters is {count}, and there are only {len(design)} rows; lower num_clusters or give more rows")
    if chosen is not None:
        if chosen.sum() != count:
            raise ModelError(f"kmeans_init_col is TRUE in {chosen.sum()} rows, and must be in exactly num_clusters ({count})")
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
    """The different rows: where the first of each is, how many there are of it, and what its chances follow from."""

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
        """The row with the least wins the draw, with a chance in proportion to its weight; the next least would win without it."""
        bits = _mixed(_mixed(_mixed(self.keys + np.uint64(draw)))) >> _BITS_LEFT_OUT
        with np.errstate(divide="ignore"):
            return np.asarray(-np.log((bits + 0.5) * 2.0**-53) / weights)


def _keys(scores: Design) -> Keys:
    """[N]: equal for rows that are equal, and for no others but by a chance of 2**-64."""
    keys = np.zeros(len(scores), dtype=np.uint64)

    def fill(share: range) -> None:
        for start in share:
            block = slice(start, start + _BLOCK_ROWS)
            rounded = np.rint(scores.numbers[block].T * _GRID) + 0.0  # no -0
            for column in (*rounded.view(np.uint64), *(codes[block].astype(np.uint64) for codes in scores.codes)):
                keys[block] = _mixed(keys[block] ^ column)

    parallel.each(fill, parallel.shares(len(scores), _BLOCK_ROWS))
    return keys


def _mixed(keys: Keys) -> Keys:
    """One to one; every bit goes up, then the upper half down."""
    keys = keys * _ODD
    keys ^= keys >> _HALF
    return keys
