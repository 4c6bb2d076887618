"""DATA_SPLIT_METHOD: how many rows, and which rows, are evaluation rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sokuji.errors import SqlError
from sokuji.ml.split import row_hashes, split


def options(method: str, fraction: float = 0.2, column: str | None = None) -> dict[str, Any]:
    return {"data_split_method": method, "data_split_eval_fraction": fraction, "data_split_col": column}


def numbers(count: int) -> pa.Table:
    return pa.table({"x": np.arange(count), "name": [f"row {number}" for number in range(count)]})


@pytest.mark.parametrize(("rows", "evaluated"), [(0, None), (499, None), (500, 100), (50_000, 10_000), (50_001, 10_000), (80_000, 10_000)])
def test_auto_split_by_the_number_of_rows(rows: int, evaluated: int | None) -> None:
    parts = split(numbers(rows), options("AUTO_SPLIT"))
    assert (parts.evaluation and parts.evaluation.num_rows) == evaluated
    assert parts.training.num_rows == rows - (evaluated or 0)


def test_no_split_trains_on_every_row() -> None:
    assert split(numbers(1000), options("NO_SPLIT")).evaluation is None


@given(st.permutations(range(40)), st.floats(0.1, 0.9))
def test_random_split_takes_the_fraction_whatever_the_order_of_the_rows(order: list[int], fraction: float) -> None:
    rows = numbers(40)
    first, second = split(rows, options("RANDOM", fraction)), split(rows.take(pa.array(order)), options("RANDOM", fraction))
    assert first.evaluation is not None
    assert second.evaluation is not None
    assert first.evaluation.num_rows == round(40 * fraction)
    assert set(first.evaluation["x"].to_pylist()) == set(second.evaluation["x"].to_pylist())
    assert sorted(first.training["x"].to_pylist() + first.evaluation["x"].to_pylist()) == list(range(40))


def test_random_split_is_even_over_the_values() -> None:
    chosen = split(numbers(20_000), options("RANDOM", 0.25)).evaluation
    assert chosen is not None
    halves = [sum(low <= value < low + 10_000 for value in chosen["x"].to_pylist()) for low in (0, 10_000)]
    assert halves == pytest.approx([2500, 2500], rel=0.06)


def test_copies_of_one_row_are_split_like_any_others() -> None:
    rows = pa.table({"x": [number % 4 for number in range(1000)]})
    chosen = split(rows, options("RANDOM", 0.5)).evaluation
    assert chosen is not None
    assert chosen.num_rows == 500
    assert [chosen["x"].to_pylist().count(value) for value in range(4)] == pytest.approx([125] * 4, abs=40)


def test_row_hashes_are_fixed_for_good() -> None:
    rows = pa.table({"x": [1, None], "y": [-0.0, 1.5], "z": ["a", None], "b": [True, None], "a": [[1, 2], None], "d": [b"\x00", None]})
    again = pa.table({"x": [1, None], "y": [0.0, 1.5], "z": ["a", None], "b": [True, None], "a": [[1, 2], None], "d": [b"\x00", None]})
    assert row_hashes(rows).tolist() == row_hashes(again).tolist() == [517515093993200361, 16260565042985676192]


def test_custom_split_evaluates_on_true_and_null() -> None:
    rows = pa.table({"x": [1, 2, 3, 4], "is_eval": [True, False, None, False]})
    parts = split(rows, options("CUSTOM", column="is_eval"))
    assert parts.training.to_pydict() == {"x": [2, 4]}
    assert parts.evaluation is not None
    assert parts.evaluation.to_pydict() == {"x": [1, 3]}


def test_sequential_split_evaluates_on_the_last_rows() -> None:
    rows = pa.table({"day": [5, None, 1, 4, 2], "x": ["e", "null", "a", "d", "b"]})
    parts = split(rows, options("SEQ", 0.4, "day"))
    assert parts.training.to_pydict() == {"x": ["null", "a", "b"]}
    assert parts.evaluation is not None
    assert parts.evaluation.to_pydict() == {"x": ["e", "d"]}


def test_a_fraction_of_nothing_is_no_split_and_of_everything_is_refused() -> None:
    rows = pa.table({"day": [1, 2], "x": ["a", "b"]})
    assert split(rows, options("SEQ", 0.0, "day")).evaluation is None
    with pytest.raises(SqlError, match="all 2 rows"):
        split(rows, options("SEQ", 1.0, "day"))


@pytest.mark.parametrize(
    ("method", "column", "words"),
    [
        ("CUSTOM", None, ["'CUSTOM' needs the option DATA_SPLIT_COL"]),
        ("SEQ", "nope", ["'nope', which is not a column", "x, name"]),
        ("CUSTOM", "x", ["needs a BOOL column", "x"]),
        ("RANDOM", "x", ["DATA_SPLIT_COL is for", "not for 'RANDOM'"]),
    ],
)
def test_a_split_column_that_does_not_fit(method: str, column: str | None, words: list[str]) -> None:
    with pytest.raises(SqlError) as raised:
        split(numbers(600), options(method, column=column))
    assert [word for word in words if word not in str(raised.value)] == []
