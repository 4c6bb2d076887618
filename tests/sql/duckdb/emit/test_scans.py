"""Every kind of scan and expression: the same rows as GoogleSQL's reference implementation."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sql.duckdb.emit.oracle import NAN, Oracle, same, sorted_rows, table


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(
        {
            "people": table(
                "id INT64, name STRING, team STRING, score FLOAT64",
                (1, "ann", "red", 1.5),
                (2, "bob", "red", NAN),
                (3, "cyd", "blue", None),
                (4, None, None, -0.0),
                (5, "eve", "blue", 0.0),
                (6, "fay", "blue", float("inf")),
            ),
            "teams": table("team STRING, city STRING", ("red", "Oslo"), ("blue", "Rome"), ("gold", "Lima"), (None, "Nowhere")),
            "lists": table(
                "id INT64, items ARRAY<INT64>, pairs ARRAY<STRUCT<k STRING, v INT64>>",
                (1, [3, 1, 2], [("a", 1), ("b", 2)]),
                (2, [], []),
                (3, None, None),
                (4, [None, 7], [("a", None), None]),
            ),
            "nested": table(
                "id INT64, s STRUCT<x INT64, y STRUCT<z STRING>>", (1, (1, ("p",))), (2, (None, ("q",))), (3, (3, None)), (4, None)
            ),
            "nothing": table("id INT64, name STRING"),
        }
    )


STATEMENTS = Path(__file__).with_name("statements")


def statements() -> list[tuple[str, bool]]:
    """Each line of each file, and whether the order of its rows is part of what it says."""
    files = sorted(STATEMENTS.glob("*.sql"))
    return [(sql, file.stem == "order") for file in files for sql in file.read_text().splitlines()]


@pytest.mark.parametrize(("sql", "ordered"), statements())
def test_rows_are_those_of_the_reference_implementation(oracle: Oracle, sql: str, ordered: bool) -> None:
    expected, actual = oracle.reference(sql), oracle.run(sql)
    if not ordered:
        expected, actual = sorted_rows(expected), sorted_rows(actual)
    assert same(actual, expected), f"{actual}\nis not\n{expected}\nfor\n{oracle.emitted(sql)}"
