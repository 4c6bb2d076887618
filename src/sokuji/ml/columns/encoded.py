"""Preprocessed rows, and the products estimators need of them."""

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
    """`numbers` is [N, D], and `codes` has an [N] array for every category feature.

    It stands for the matrix [N, width] in which every known category, NULL included, is a column of zeros and ones. That matrix is
    never made: a feature with thousands of categories costs four bytes a row. A code equal to the feature's size is an unseen
    category: zero in all columns.
    """

    numbers: Floats
    codes: tuple[Codes, ...]
    sizes: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def width(self) -> int:
        """The columns of the matrix it stands for."""
        return int(self.numbers.shape[1]) + sum(self.sizes)

    def blocks(self) -> Iterator[tuple[Codes, slice]]:
        """Every category feature's codes, and the columns it stands for."""
        start = self.numbers.shape[1]
        for codes, size in zip(self.codes, self.sizes, strict=True):
            yield codes, slice(start, start + size)
            start += size

    def take(self, rows: slice | npt.NDArray[np.integer]) -> Design:
        """Some of the rows."""
        return Design(self.numbers[rows], tuple(codes[rows] for codes in self.codes), self.sizes)

    def dense(self) -> Floats:
        """The whole matrix: for few rows only."""
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
        """The same without the category feature whose columns `block` are."""
        kept = [place for place, (_, columns) in enumerate(self.blocks()) if columns != block]
        return Design(self.numbers, tuple(self.codes[place] for place in kept), tuple(self.sizes[place] for place in kept))

    def gram(self, weights: Floats) -> Floats:
        """[width, width] = the transposed matrix times the matrix, each row weighted."""
        dimensions = self.numbers.shape[1]
        result = np.zeros((self.width, self.width))
        result[:dimensions, :dimensions] = (self.numbers * weights[:, None]).T @ self.numbers
        for codes, columns in self.blocks():
            result[columns] = self.by_category(codes, columns.stop - columns.start, weights)
            result[:dimensions, columns] = result[columns, :dimensions].T
        return result

    def by_category(self, codes: Codes, size: int, weights: Floats) -> Floats:
        """[size, width]: the sum of the weighted rows of each category; an unseen one is left out."""
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
    """One row per category, and a row of zeros for the unseen one."""
    return np.vstack([table, np.zeros((1, table.shape[1]))])
