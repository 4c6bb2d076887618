"""DATA_SPLIT_METHOD: which rows train a model, and which evaluate it.

docs/decisions/0080-data-split.md has the decisions, and the points where BigQuery's documents contradict each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sokuji.errors import SqlError

SMALL_ROWS = 500
LARGE_ROWS = 50_000
LARGE_EVALUATION_ROWS = 10_000
_AUTO_FRACTION = 0.2

_CHOSEN_BY_COLUMN = ("CUSTOM", "SEQ")


@dataclass(frozen=True, slots=True)
class Split:
    """Rows to train on, and rows to evaluate on (None if there are none). The split column is removed from both."""

    training: pa.Table
    evaluation: pa.Table | None


def split(rows: pa.Table, options: Mapping[str, Any]) -> Split:
    """Split by the effective options of a supervised model.

    Raises:
        SqlError: DATA_SPLIT_COL is missing, not a column, of the wrong type, or given for a method that does not use it; or the split
            leaves no row to train on.
    """
    method, column = options["data_split_method"], options["data_split_col"]
    if method not in _CHOSEN_BY_COLUMN:
        if column is not None:
            raise SqlError(f"option DATA_SPLIT_COL is for DATA_SPLIT_METHOD 'CUSTOM' and 'SEQ', not for {method!r}")
        count = _evaluation_rows(method, rows.num_rows, options["data_split_eval_fraction"])
        return _cut(rows, _chosen(row_hashes(rows), count)) if count else Split(rows, None)
    if column is None:
        raise SqlError(f"DATA_SPLIT_METHOD {method!r} needs the option DATA_SPLIT_COL, the name of a column")
    if column not in rows.column_names:
        raise SqlError(f"option DATA_SPLIT_COL is {column!r}, which is not a column of the query; they are: {', '.join(rows.column_names)}")
    values, rest = rows[column], rows.drop_columns([column])
    if method == "CUSTOM":
        return _cut(rest, _custom(values, column))
    return _cut(rest, _last(values, round(rows.num_rows * options["data_split_eval_fraction"])))


def _cut(rows: pa.Table, evaluation: NDArray[np.bool_]) -> Split:
    if rows.num_rows and evaluation.all():
        raise SqlError(f"the data split sets all {rows.num_rows} rows apart for evaluation and leaves none to train on")
    if not evaluation.any():
        return Split(rows, None)
    return Split(rows.filter(pa.array(~evaluation)), rows.filter(pa.array(evaluation)))


def _evaluation_rows(method: str, rows: int, fraction: float) -> int:
    if method == "RANDOM":
        return round(rows * fraction)
    if method == "NO_SPLIT" or rows < SMALL_ROWS:
        return 0
    return round(rows * _AUTO_FRACTION) if rows <= LARGE_ROWS else LARGE_EVALUATION_ROWS


def _custom(values: pa.ChunkedArray, column: str) -> NDArray[np.bool_]:
    """TRUE and NULL mean evaluation, FALSE means training."""
    if not pa.types.is_boolean(values.type):
        raise SqlError(
            f"DATA_SPLIT_METHOD 'CUSTOM' needs a BOOL column, and {column} is not one (TRUE or NULL: evaluation, FALSE: training)"
        )
    return np.asarray(pc.fill_null(values, fill_value=True))


def _last(values: pa.ChunkedArray, count: int) -> NDArray[np.bool_]:
    """The last `count` rows in the column's order. NULL sorts first, as in ORDER BY; equal values keep the order of the rows."""
    order = pc.sort_indices(values, sort_keys=[("", "ascending", "at_start")]).to_numpy()
    chosen = np.zeros(len(order), dtype=bool)
    chosen[order[len(order) - count :]] = True
    return chosen


def _chosen(hashes: NDArray[np.uint64], count: int) -> NDArray[np.bool_]:
    """Choose the `count` rows with the smallest hashes. Equal rows are numbered 0, 1, 2, ... and hashed again with this number.

    The choice does not depend on the order of the rows, because equal rows are interchangeable.
    """
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    place = np.arange(len(hashes))
    first = np.maximum.accumulate(np.where(np.append(True, ordered[1:] != ordered[:-1]), place, 0))
    salted = _mix(ordered ^ _mix((place - first).astype(np.uint64)))
    chosen = np.zeros(len(hashes), dtype=bool)
    chosen[order[np.argsort(salted, kind="stable")[:count]]] = True
    return chosen


def row_hashes(rows: pa.Table) -> NDArray[np.uint64]:
    """A 64-bit hash of each row's values, the same on every machine and in every version of sokuji.

    A value's hash is 8 bytes of BLAKE2b of its text; NULL is 0. The finaliser of SplitMix64 combines the columns in order.
    """
    total = np.zeros(rows.num_rows, dtype=np.uint64)
    for column in rows.columns:
        total = _mix(total ^ _column_hashes(column.combine_chunks()))
    return total


def _column_hashes(values: pa.Array) -> NDArray[np.uint64]:
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int64())
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        number = pc.fill_null(values, fill_value=0).to_numpy(zero_copy_only=False)
        # Adding 0.0 gives -0.0 the bits of 0.0: the two are equal in SQL.
        bits = (number.astype(np.float64) + 0.0 if number.dtype.kind == "f" else number.astype(np.int64)).view(np.uint64)
        return np.where(np.asarray(values.is_null()), np.uint64(0), _mix(bits))
    if pa.types.is_nested(values.type):
        return np.fromiter((_digest(repr(value)) for value in values.to_pylist()), dtype=np.uint64, count=len(values))
    encoded = values.dictionary_encode()
    digests = np.fromiter((_digest(str(value)) for value in encoded.dictionary.to_pylist()), dtype=np.uint64)
    codes = pc.fill_null(encoded.indices, fill_value=len(digests)).to_numpy()
    hashes: NDArray[np.uint64] = np.append(digests, np.uint64(0))[codes]
    return hashes


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014): similar values get very different hashes."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
