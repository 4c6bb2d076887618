"""Preprocessed rows, and the matrix products that estimators compute from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sokuji.ml import parallel
from sokuji.ml.values import Floats

Codes = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Design:
    """Preprocessed rows: `numbers` is [N, D], and `codes` has one [N] array per category feature.

    A design represents the matrix [N, width] in which every known category, NULL included, is a column of zeros and ones. This matrix is
    never built: a feature costs four bytes a row, however many categories it has. A code equal to the feature's size is an unseen category:
    all its columns are zero.
    """

    numbers: Floats
    codes: tuple[Codes, ...]
    sizes: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def width(self) -> int:
        """The number of columns of the represented matrix."""
        return int(self.numbers.shape[1]) + sum(self.sizes)

    def blocks(self) -> Iterator[tuple[Codes, slice]]:
        """Yield the codes of every category feature, and the matrix columns they represent."""
        start = self.numbers.shape[1]
        for codes, size in zip(self.codes, self.sizes, strict=True):
            yield codes, slice(start, start + size)
            start += size

    def take(self, rows: slice | npt.NDArray[np.integer]) -> Design:
        """Select some of the rows."""
        return Design(self.numbers[rows], tuple(codes[rows] for codes in self.codes), self.sizes)

    def dense(self) -> Floats:
        """Build the whole matrix. Use it for few rows only."""
        result = np.zeros((len(self), self.width))
        result[:, : self.numbers.shape[1]] = self.numbers
        for codes, columns in self.blocks():
            (known,) = np.nonzero(codes < columns.stop - columns.start)
            result[known, columns.start + codes[known]] = 1
        return result

    def dot(self, weights: Floats) -> Floats:
        """[N, M] = the matrix times `weights` [width, M]."""
        result = self.numbers @ weights[: self.numbers.shape[1]]
        for codes, columns in self.blocks():
            result += with_unseen(weights[columns])[codes]
        return np.asarray(result)

    def transposed_dot(self, values: Floats) -> Floats:
        """[width, M] = the transposed matrix times `values` [N, M]."""
        result = np.zeros((self.width, values.shape[1]))
        result[: self.numbers.shape[1]] = self.numbers.T @ values
        for codes, columns in self.blocks():
            size = columns.stop - columns.start
            for output in range(values.shape[1]):
                result[columns, output] = np.bincount(codes, weights=values[:, output], minlength=size + 1)[:size]
        return result

    def without(self, block: slice) -> Design:
        """The design without the category feature whose columns are `block`."""
        kept = [place for place, (_, columns) in enumerate(self.blocks()) if columns != block]
        return Design(self.numbers, tuple(self.codes[place] for place in kept), tuple(self.sizes[place] for place in kept))

    def gram(self, weights: Floats) -> Floats:
        """[width, width] = the transposed matrix times the matrix, with a weight for each row."""
        dimensions = self.numbers.shape[1]
        result = np.zeros((self.width, self.width))
        result[:dimensions, :dimensions] = (self.numbers * weights[:, None]).T @ self.numbers
        for codes, columns in self.blocks():
            result[columns] = self.by_category(codes, columns.stop - columns.start, weights)
            result[:dimensions, columns] = result[columns, :dimensions].T
        return result

    def by_category(self, codes: Codes, size: int, weights: Floats) -> Floats:
        """[size, width]: the sum of the weighted rows of each category. Unseen categories are left out."""
        result = np.zeros((size, self.width))
        for column, values in enumerate(self.numbers.T):
            result[:, column] = np.bincount(codes, weights=weights * values, minlength=size + 1)[:size]
        for other_codes, columns in self.blocks():
            other_size = columns.stop - columns.start
            pairs = codes.astype(np.int64) * (other_size + 1) + other_codes
            sums = np.bincount(pairs, weights=weights, minlength=(size + 1) * (other_size + 1))
            result[:, columns] = sums.reshape(size + 1, other_size + 1)[:size, :other_size]
        return result

    def squared_norms(self) -> Floats:
        """[N]: the sum of squares of each row."""
        norms = np.empty(len(self))

        def fill(share: range) -> None:
            numbers = self.numbers[share.start : share.stop]
            np.einsum("nd,nd->n", numbers, numbers, out=norms[share.start : share.stop])

        parallel.each(fill, parallel.shares(len(self), 1))
        for codes, size in zip(self.codes, self.sizes, strict=True):
            norms += codes < size
        return norms


def with_unseen(table: Floats) -> Floats:
    """Append a row of zeros, for the unseen category, to a table with one row per category."""
    return np.vstack([table, np.zeros((1, table.shape[1]))])
