"""Unsupported statements raise a clear error, and wrong statements fail: never other rows than GoogleSQL's."""

from __future__ import annotations

import duckdb
import pytest

from sokuji.errors import UnsupportedSqlError
from tests.sql.duckdb.emit.oracle import Oracle, table


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle({"t": table("id INT64, f FLOAT64, l ARRAY<INT64>", (1, 1.0, [1]), (2, float("nan"), None), (3, 3.0, [None]))})


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("SELECT id FROM t ORDER BY l", "ORDER BY does not support expressions of type ARRAY"),
        ("SELECT id FROM t ORDER BY CAST(id AS STRING) COLLATE 'und:ci'", "Collation"),
        ("SELECT id FROM t WHERE STRUCT(l) = STRUCT(l)", "Equality is not defined for arguments of type ARRAY<INT64>"),
        ("SELECT CAST(1 AS BIGNUMERIC)", "BIGNUMERIC"),
        ("SELECT CAST(['abc'] AS ARRAY<STRING(2)>)", "parameterized type"),
        ("SELECT STRUCT()", "STRUCT without fields"),
        ("SELECT id FROM t TABLESAMPLE RESERVOIR (2 ROWS PARTITION BY id)", "PARTITION BY"),
    ],
)
def test_unsupported_constructs_are_named(oracle: Oracle, sql: str, named: str) -> None:
    with pytest.raises(UnsupportedSqlError, match=named):
        oracle.run(sql)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT 1 / (id - 1) FROM t", "division by zero"),
        ("SELECT (SELECT id FROM t)", "More than one row"),
        ("SELECT (SELECT e FROM UNNEST([1, 2]) AS e)", "Scalar subquery produced more than one element"),
        ("SELECT SUM(9223372036854775807) FROM t", "out of range"),
        ("SELECT id FROM t LIMIT CAST(NULL AS INT64)", "Limit requires non-null"),
        ("FROM t |> ASSERT id < 3, 'id is', id |> WHERE id < 3 |> SELECT id", "Assert failed: id is +3"),
        ("WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n FROM r) SELECT COUNT(*) FROM r", "maximum number of iterations: 500"),
        ("SELECT COUNT(*) OVER (ORDER BY f RANGE BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING) FROM t", "over NaN is not supported"),
        ("SELECT a FROM UNNEST([1] AS a, [1, 2] AS b, mode => 'STRICT')", "must have equal lengths"),
    ],
)
def test_errors_of_data_are_raised(oracle: Oracle, sql: str, message: str) -> None:
    with pytest.raises(duckdb.Error, match=f"(?i){message}"):
        oracle.run(sql)


def test_output_arrays_are_never_null_and_never_hold_null(oracle: Oracle) -> None:
    assert oracle.run("SELECT l, STRUCT(l) FROM t WHERE id < 3 ORDER BY id", storable=True) == [([1], ([1],)), ([], ([],))]
    with pytest.raises(duckdb.Error, match="Array cannot have a null element"):
        oracle.run("SELECT l FROM t", storable=True)


def test_a_branch_that_is_not_taken_raises_nothing(oracle: Oracle) -> None:
    branches = "IF(id = 1, 0, DIV(6, id - 1)), COALESCE(id, ERROR('no')), (SELECT DIV(e, id - 1) FROM UNNEST([6]) AS e WHERE id > 1)"
    assert oracle.run(f"SELECT {branches} FROM t ORDER BY id") == [(0, 1, None), (6, 2, 6), (3, 3, 3)]
