"""Lloyd's iterations over the training rows: find the nearest centroid of each row, and the sums that give the next centroids.

The result is that of float64, but most of the work is not. The nearest centroid is searched in float32. If the two nearest centroids of a
row are too close for float32, float64 decides. Sums are float64, and an iteration only adds and subtracts the rows that changed their
cluster.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sokuji.ml import parallel
from sokuji.ml.columns.encoded import Codes, Design, with_unseen
from sokuji.ml.estimators.distances import distances
from sokuji.ml.values import Floats

Labels = npt.NDArray[np.uint8]
Singles = npt.NDArray[np.float32]

# OpenBLAS uses threads for a product of more than 2**18 multiplications. For few columns, the threads cost far more than they save.
_MULTIPLICATIONS = 2**18
_LEAST_ROWS = 64  # rows of a product; with fewer, calls cost more than multiplications
_SCORES = 2**19  # number of scores computed at once: they stay in the processor's cache
_SUMMED_ROWS = 16_384  # rows that one thread sums at once
# Subtracting rows cancels digits. If a cluster's sum of squares shrinks by this factor, 12 of float64's 16 digits are left.
_SHRUNK = 1e4
_ROUNDING = 2.0**-24  # relative rounding error of float32
_TINY = 2.0**-126  # smaller products lose their digits
_FAR = 1e12  # times the length of the longest row; a centroid farther out is too far for float32
_ALL = 1e38  # makes every row doubtful


@dataclass(frozen=True, slots=True)
class Sums:
    """Per cluster: the sum of its rows [K, width], their number [K], the sum of their squared lengths [K]."""

    rows: Floats
    counts: Floats
    squares: Floats

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.rows + other.rows, self.counts + other.counts, self.squares + other.squares)

    def __sub__(self, other: Sums) -> Sums:
        return Sums(self.rows - other.rows, self.counts - other.counts, self.squares - other.squares)

    def centroids(self, before: Floats) -> Floats:
        """[K, width]: the means. The centroid of an empty cluster stays as in `before`."""
        means = self.rows / np.maximum(self.counts, 1)[:, None]
        return np.asarray(np.where(self.counts[:, None] > 0, means, before))

    def within(self, *, cosine: bool) -> Floats:
        """[K]: the sum of squared distances to the cluster's mean."""
        if cosine:
            within = self.counts - np.linalg.norm(self.rows, axis=1)
        else:
            within = self.squares - (self.rows**2).sum(axis=1) / np.maximum(self.counts, 1)
        return np.asarray(np.maximum(within, 0))

    def around(self, centroids: Floats, *, cosine: bool) -> Floats:
        """[K]: the sum of squared distances to the cluster's row of `centroids`."""
        products, squares = (self.rows * centroids).sum(axis=1), (centroids**2).sum(axis=1)
        if cosine:
            around = self.counts - np.divide(products, np.sqrt(squares), out=np.zeros_like(products), where=squares > 0)
        else:
            around = self.squares - 2 * products + self.counts * squares
        return np.asarray(np.maximum(around, 0))


class Assignment:
    """The training rows and their clusters. COSINE scales rows to length one, and the centroids that they are compared with."""

    def __init__(self, design: Design, clusters: int, *, cosine: bool) -> None:
        self._clusters = clusters
        self._rows = _Rows.of(design, cosine=cosine)
        self._screen = _Screen(design, self._rows, clusters)
        self._labels: Labels | None = None
        self._sums: Sums
        self._largest: Floats  # the largest sum of squares of each cluster since all its rows were summed

    def move(self, centroids: Floats) -> Sums:
        """Assign every row to the nearest of `centroids` [K, width]; of equally near ones, to the first. Returns the new sums."""
        labels = self._screen.nearest(centroids)
        before, self._labels = self._labels, labels
        if before is None:
            return self._sum(labels)
        moved = _where_different(labels, before)
        rows = self._rows.take(moved)
        joined = self._sums + rows.sums(labels[moved], self._clusters)
        self._sums = joined - rows.sums(before[moved], self._clusters)
        self._largest = np.maximum(self._largest, joined.squares)
        return self._sum(labels) if (self._largest > _SHRUNK * self._sums.squares).any() else self._sums

    def _sum(self, labels: Labels) -> Sums:
        self._sums = self._rows.sums(labels, self._clusters)
        self._largest = self._sums.squares
        return self._sums


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows that are summed."""

    numbers: Floats  # [N, D]
    codes: tuple[Codes, ...]
    sizes: tuple[int, ...]
    scale: Floats | None  # [N]: the factor of each row for COSINE
    squares: Floats  # [N]: the squared lengths, scaled

    @classmethod
    def of(cls, design: Design, *, cosine: bool) -> _Rows:
        squares = design.squared_norms()
        if not cosine:
            return cls(design.numbers, design.codes, design.sizes, None, squares)
        scale = np.divide(1, np.sqrt(squares), out=np.zeros_like(squares), where=squares > 0)
        return cls(design.numbers * scale[:, None], design.codes, design.sizes, scale, squares * scale**2)

    def take(self, rows: npt.NDArray[np.intp]) -> _Rows:
        numbers = np.empty((len(rows), self.numbers.shape[1]))

        def fill(share: range) -> None:
            block = slice(share.start, share.stop)
            self.numbers.take(rows[block], axis=0, out=numbers[block], mode="clip")  # other modes fill a copy of `out` first

        parallel.each(fill, parallel.shares(len(rows), 1))
        codes = tuple(codes.take(rows) for codes in self.codes)
        scale = None if self.scale is None else self.scale.take(rows)
        return _Rows(numbers, codes, self.sizes, scale, self.squares.take(rows))

    def sums(self, labels: Labels, clusters: int) -> Sums:
        """Sum the rows by cluster. The rounding does not depend on the number of cores."""
        count, dimensions = self.numbers.shape
        step = max(_LEAST_ROWS, _MULTIPLICATIONS // (clusters * max(dimensions, 1)))
        every = np.arange(clusters, dtype=np.uint8)[:, None]

        def part(start: int) -> Floats:
            total = np.zeros((clusters, dimensions))
            stop = min(start + _SUMMED_ROWS, count)
            for low in range(start, stop, step):
                chunk = slice(low, min(low + step, stop))
                total += (labels[chunk] == every).astype(np.float64) @ self.numbers[chunk]
            return total

        numbers = sum(parallel.each(part, range(0, count, _SUMMED_ROWS)), start=np.zeros((clusters, dimensions)))
        places = labels.astype(np.intp)
        blocks = [self._by_category(places, codes, (clusters, size)) for codes, size in zip(self.codes, self.sizes, strict=True)]
        counts, squares = (np.bincount(places, weights=weights, minlength=clusters) for weights in (None, self.squares))
        return Sums(np.hstack([numbers, *blocks]), counts.astype(np.float64), squares.astype(np.float64))

    def _by_category(self, places: npt.NDArray[np.intp], codes: Codes, shape: tuple[int, int]) -> Floats:
        clusters, size = shape
        pairs = np.bincount(places * (size + 1) + codes, weights=self.scale, minlength=clusters * (size + 1))
        return np.asarray(pairs.reshape(clusters, size + 1)[:, :size], dtype=np.float64)


class _Screen:
    """The rows in float32, in blocks of columns, with a row of ones below.

    Rows are shifted and scaled so that none is longer than 1, because float32 is most precise near 0 and its range is small.
    """

    def __init__(self, design: Design, rows: _Rows, clusters: int) -> None:
        self._design, self._rows = design, rows
        count, dimensions = rows.numbers.shape
        width = min(count, max(_LEAST_ROWS, _MULTIPLICATIONS // ((dimensions + 1) * clusters)))
        shape = (-(-count // width), width)
        self._center = np.zeros(design.width)
        if rows.scale is None:
            self._center[:dimensions] = rows.numbers[:: count // 1000 + 1].mean(axis=0)
        self._unit = 1 / (2 * math.sqrt(rows.squares.max()) or 1)
        self._numbers = np.zeros((shape[0], dimensions + 1, width), dtype=np.float32)
        self._lengths = np.full(shape, self._unit, dtype=np.float32)  # upper bounds
        self._codes = [_padded(codes, shape) for codes in rows.codes]
        # A row with a category has a length of at least 1. Other rows may be too short for float32.
        self._scale = _padded(rows.scale.astype(np.float32), shape) if rows.scale is not None and rows.sizes else None
        shares = parallel.shares(shape[0], 1)
        parallel.each(self._fill, shares)
        # Scores are always written to the same memory: new memory costs more than the computation.
        together = min(len(shares[0]), max(1, _SCORES // (clusters * width)))
        self._shares = [(share, np.empty((together, clusters, width), dtype=np.float32)) for share in shares]

    def _fill(self, blocks: range) -> None:
        rows, dimensions, width = self._rows, self._rows.numbers.shape[1], self._lengths.shape[1]
        for block in blocks:
            chunk = slice(block * width, (block + 1) * width)
            numbers = rows.numbers[chunk].T.copy()
            numbers -= self._center[:dimensions, None]
            numbers *= self._unit
            single = self._numbers[block, :dimensions, : numbers.shape[1]]
            single[...] = numbers
            if rows.scale is None:
                squares = (single**2).sum(axis=0) + len(rows.sizes) * self._unit**2
                self._lengths[block, : numbers.shape[1]] = np.sqrt(squares)
        self._numbers[blocks.start : blocks.stop, dimensions] = 1

    def nearest(self, centroids: Floats) -> Labels:
        """[N]: the index of the nearest row of `centroids` [K, width]."""
        cosine = self._rows.scale is not None
        count, width = len(self._design), self._lengths.shape[1]
        labels = np.empty(self._lengths.shape, dtype=np.uint8)
        scorer = _Scorer.of(_unit_length(centroids) if cosine else centroids, self._center, self._unit, self._rows, cosine=cosine)
        ranks = np.arange(len(centroids), 0, -1, dtype=np.uint8)[:, None]

        def search(share: tuple[range, Singles]) -> None:
            blocks, memory = share
            for start in range(blocks.start, blocks.stop, len(memory)):
                group = slice(start, min(start + len(memory), blocks.stop))
                scores = self._scores(scorer, group, memory[: group.stop - start])
                least = scores.max(axis=1) - scorer.doubt(self._lengths[group])
                near = (scores >= least[:, None]).view(np.uint8)
                doubtful = np.flatnonzero(near.sum(axis=1, dtype=np.uint8) > 1) + start * width
                labels[group] = len(centroids) - (near * ranks).max(axis=1)
                doubtful = doubtful[doubtful < count]
                if len(doubtful):
                    exact = distances(self._design.take(doubtful), centroids, cosine=cosine)
                    labels.ravel()[doubtful] = exact.argmin(axis=1)

        parallel.each(search, self._shares)
        return labels.ravel()[:count]

    def _scores(self, scorer: _Scorer, group: slice, memory: Singles) -> Singles:
        scores = np.matmul(scorer.weights, self._numbers[group], out=memory)
        for table, codes in zip(scorer.tables, self._codes, strict=True):
            found = table.take(codes[group], axis=1)
            scores += (found if self._scale is None else found * self._scale[group]).swapaxes(0, 1)
        return scores


@dataclass(frozen=True, slots=True)
class _Scorer:
    """Scores a row x for a centroid c as x c - |c|^2 / 2, which is largest for the nearest centroid; for COSINE as x c, as all centroids
    have one length.

    In float32 a score is wrong by less than (|x| |c| + |c|^2 / 2) * the number of its terms * 2**-24, in any order of addition.
    """

    weights: Singles  # [K, D + 1]
    tables: list[Singles]  # [K, size + 1] for every category feature
    per_length: np.float32  # the maximal error of the difference of two scores of a row: this much per unit of its length,
    constant: np.float32  # plus this much for every row

    @classmethod
    def of(cls, centroids: Floats, center: Floats, unit: float, rows: _Rows, *, cosine: bool) -> _Scorer:
        dimensions = rows.numbers.shape[1]
        placed = np.clip((centroids - center) * unit, -_FAR, _FAR)
        squares = (placed**2).sum(axis=1)
        weights = np.column_stack([placed[:, :dimensions], squares * (0 if cosine else -0.5)])
        ends = itertools.accumulate(rows.sizes, initial=dimensions)
        tables = [with_unseen(unit * placed[:, low:high].T).T.astype(np.float32, order="C") for low, high in itertools.pairwise(ends)]
        terms = dimensions + len(tables) + 8  # 8: the roundings before and after the sum
        longest = math.sqrt(squares.max())
        constant = 2 * terms * (_ROUNDING * longest**2 / 2 + _TINY) if longest < _FAR else _ALL
        return cls(weights.astype(np.float32), tables, np.float32(2 * terms * _ROUNDING * longest), np.float32(constant))

    def doubt(self, lengths: Singles) -> Singles:
        """[rows]: a score this far below a row's largest score may still be the larger one in exact arithmetic."""
        return lengths * self.per_length + self.constant


def _where_different(labels: Labels, before: Labels) -> npt.NDArray[np.intp]:
    found = parallel.each(
        lambda share: share.start + np.flatnonzero(labels[share.start : share.stop] != before[share.start : share.stop]),
        parallel.shares(len(labels), 1),
    )
    return np.concatenate(found)


def _unit_length(rows: Floats) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0))


def _padded(values: npt.NDArray[Any], shape: tuple[int, int]) -> npt.NDArray[Any]:
    result = np.zeros(shape, dtype=values.dtype)
    result.ravel()[: len(values)] = values
    return result
