"""Values that are used more than once and computed once."""

from __future__ import annotations

import duckdb
import pytest

from sokuji.sql.duckdb.lets import let

ROWS = "(VALUES (1), (2), (3)) AS t(x)"


def computed(expression: str) -> list[object]:
    with duckdb.connect() as connection:
        return [value for (value,) in connection.execute(f"SELECT {expression} FROM {ROWS}").fetchall()]


def test_a_value_is_computed_once() -> None:
    assert computed(let(["random()"], lambda one: f"{one} = {one}")) == [True] * 3
    assert computed(let(["random()", "x + 1"], lambda one, other: f"{one} = {one} AND {other} = x + 1")) == [True] * 3


@pytest.mark.parametrize("value", ["x", "t.x", '"x"', "(-1.5e3)::DOUBLE", "$p", "'it'", "NULL"])
def test_a_name_or_a_literal_stands_for_itself(value: str) -> None:
    assert let([value], lambda one: f"{one} + {one}") == f"({value} + {value})"


def test_a_body_with_a_subquery() -> None:
    assert computed(let(["x + 1"], lambda one: f"(SELECT max(y) FROM (VALUES (2), (9)) AS u(y) WHERE y <= {one})")) == [2, 2, 2]
    nested = let(["x + 1"], lambda one: let(["x * 2", "x"], lambda two, same: f"({one} + {two} + {same} IN (SELECT 9))"))
    assert computed(nested) == [False, True, False]


def test_an_aggregate_stays_of_the_whole_query() -> None:
    value = "list(x ORDER BY x)"
    assert computed(
        let([value], lambda items: f"len({items}) + (SELECT max(y) FROM (VALUES (2), (9)) AS u(y) WHERE y < len({items}))")
    ) == [5]
