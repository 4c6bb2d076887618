"""Generated queries over tables with every awkward value: the same rows as GoogleSQL's reference implementation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.searching import examples
from tests.sql.duckdb.emit.oracle import NAN, Oracle, Rows, same, sorted_rows, table

INTEGERS = st.none() | st.integers(-2, 3)
FLOATS = st.none() | st.sampled_from([NAN, float("inf"), -float("inf"), 0.0, -0.0, 1.5])
STRINGS = st.none() | st.sampled_from(["", "a", "b"])
ARRAYS = st.none() | st.lists(INTEGERS, max_size=3)
ROWS = st.lists(st.tuples(INTEGERS, FLOATS, STRINGS, ARRAYS), max_size=5)
COLUMNS = {"i": "INT64", "f": "FLOAT64", "s": "STRING", "l": "ARRAY"}


@dataclass(frozen=True)
class Scope:
    """The columns an expression may use, by type."""

    columns: tuple[tuple[str, str], ...]

    def of(self, type_: str) -> list[str]:
        return [name for name, kind in self.columns if kind == type_]


def integer(draw: st.DrawFn, scope: Scope, depth: int) -> str:
    leaves = [*scope.of("INT64"), "0", "1", "-1", "CAST(NULL AS INT64)"]
    if depth == 0:
        return draw(st.sampled_from(leaves))
    pick = draw(st.integers(0, 6))
    match pick:
        case 0:
            return f"({integer(draw, scope, depth - 1)} {draw(st.sampled_from('+-*'))} {integer(draw, scope, depth - 1)})"
        case 1:
            return f"IF({boolean(draw, scope, depth - 1)}, {integer(draw, scope, depth - 1)}, {integer(draw, scope, depth - 1)})"
        case 2:
            return f"COALESCE({integer(draw, scope, depth - 1)}, {integer(draw, scope, depth - 1)})"
        case 3:
            value = integer(draw, scope, depth - 1)
            return f"CASE WHEN {value} = 0 THEN 0 ELSE DIV(6, {value}) END"
        case 4:
            return f"(SELECT COUNT(*) FROM b WHERE {boolean(draw, inner(scope, 'b'), depth - 1)})"
        case 5 if scope.of("ARRAY"):
            array = draw(st.sampled_from(scope.of("ARRAY")))
            function = draw(st.sampled_from(["SUM", "MAX", "COUNT"]))
            return f"(SELECT {function}(e) FROM UNNEST({array}) AS e WHERE e > {integer(draw, scope, 0)})"
        case _:
            return draw(st.sampled_from(leaves))


def inner(scope: Scope, name: str) -> Scope:
    """The scope inside a subquery over a table: its columns, and those around it."""
    return Scope((*scope.columns, *((f"{name}.{column}", kind) for column, kind in COLUMNS.items())))


def boolean(draw: st.DrawFn, scope: Scope, depth: int) -> str:
    comparison = draw(st.sampled_from(["=", "!=", "<", "<=", ">", ">="]))
    pick = draw(st.integers(0, 9 if depth else 3))
    match pick:
        case 0 if scope.of("FLOAT64"):
            floats = st.sampled_from([*scope.of("FLOAT64"), "0.0", "CAST('nan' AS FLOAT64)"])
            return f"({draw(floats)} {comparison} {draw(floats)})"
        case 1 if scope.of("STRING"):
            strings = st.sampled_from([*scope.of("STRING"), "'a'", "''"])
            return f"({draw(strings)} {comparison} {draw(strings)})"
        case 2:
            return f"({integer(draw, scope, 0)} IS {draw(st.sampled_from(['', 'NOT ']))}NULL)"
        case 4:
            word = draw(st.sampled_from(["AND", "OR"]))
            return f"({boolean(draw, scope, depth - 1)} {word} {boolean(draw, scope, depth - 1)})"
        case 5:
            return f"(NOT {boolean(draw, scope, depth - 1)})"
        case 6:
            column = draw(st.sampled_from(["i", "f", "s"]))
            values = scope.of(COLUMNS[column]) or ["NULL"]
            negated = draw(st.sampled_from(["", "NOT "]))
            return f"({draw(st.sampled_from(values))} {negated}IN (SELECT b.{column} FROM b WHERE {boolean(draw, inner(scope, 'b'), 0)}))"
        case 7:
            return f"EXISTS(SELECT 1 FROM b WHERE {boolean(draw, inner(scope, 'b'), depth - 1)})"
        case 8 if scope.of("ARRAY"):
            return f"({integer(draw, scope, 0)} IN UNNEST({draw(st.sampled_from(scope.of('ARRAY')))}))"
        case 9:
            return f"(STRUCT({integer(draw, scope, 0)}, 1) = STRUCT({integer(draw, scope, 0)}, {integer(draw, scope, 0)}))"
        case _:
            return f"({integer(draw, scope, max(depth - 1, 0))} {comparison} {integer(draw, scope, 0)})"


BASE = tuple(COLUMNS.items())
A, B = (tuple((f"{name}.{column}", kind) for column, kind in BASE) for name in "ab")


def filtered(draw: st.DrawFn) -> str:
    scope = Scope(A)
    return f"SELECT {integer(draw, scope, 2)}, {boolean(draw, scope, 2)}, a.* FROM a WHERE {boolean(draw, scope, 2)}"


def joined(draw: st.DrawFn) -> str:
    kind = draw(st.sampled_from(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]))
    on = draw(st.sampled_from(["a.i = b.i", "a.f = b.f", "a.s = b.s AND a.i < b.i"])) if draw(st.booleans()) else None
    condition = on or boolean(draw, Scope((*A, *B)), 1 if kind == "JOIN" else 0)
    return f"SELECT a.i, a.f, a.s, b.i, b.f, b.s FROM a {kind} b ON {condition}"


def using(draw: st.DrawFn) -> str:
    column = draw(st.sampled_from(["i", "f", "s"]))
    kind = draw(st.sampled_from(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]))
    return f"SELECT {column}, a.i, b.i, {integer(draw, Scope((*A, *B)), 1)} FROM a {kind} b USING ({column})"


def unnested(draw: st.DrawFn) -> str:
    scope = Scope((*A, ("e", "INT64"), ("o", "INT64")))
    join = draw(st.sampled_from(["CROSS JOIN", "LEFT JOIN"]))
    where = f"WHERE {boolean(draw, scope, 1)}" if draw(st.booleans()) else ""
    if join == "LEFT JOIN" and draw(st.booleans()):
        where = f"ON {boolean(draw, scope, 0)}"
    array = draw(st.sampled_from(["a.l", "[a.i, 1]", "ARRAY(SELECT b.i FROM b WHERE b.i > a.i)"]))
    order = "" if array.startswith("ARRAY") else ", o"
    return f"SELECT a.i, e{order} FROM a {join} UNNEST({array}) AS e WITH OFFSET AS o {where if order else ''}"


def grouped(draw: st.DrawFn) -> str:
    keys = draw(st.sampled_from(["", "i", "f", "s", "i, s", "i > 0", "ROLLUP (i, s)", "CUBE (f, s)", "GROUPING SETS (i, (i, f), ())"]))
    shown = {"ROLLUP (i, s)": "i, s, ", "CUBE (f, s)": "f, s, ", "GROUPING SETS (i, (i, f), ())": "i, f, "}.get(
        keys, f"{keys}, " if keys else ""
    )
    scope = Scope(A)
    aggregates = f"COUNT(*), SUM({integer(draw, scope, 1)}), MIN(f), MAX(f), COUNT(DISTINCT f), COUNTIF({boolean(draw, scope, 1)}), MAX(s)"
    having = draw(st.sampled_from(["", "HAVING COUNT(*) > 1", "HAVING SUM(i) IS NOT NULL"]))
    where = f"WHERE {boolean(draw, scope, 1)}" if draw(st.booleans()) else ""
    return f"SELECT {shown}{aggregates} FROM a {where} {f'GROUP BY {keys}' if keys else ''} {having if keys else ''}"


def combined(draw: st.DrawFn) -> str:
    columns = draw(st.sampled_from(["i", "f", "s", "i, f", "f, s"]))
    word = draw(st.sampled_from(["UNION ALL", "UNION DISTINCT", "INTERSECT DISTINCT", "EXCEPT DISTINCT", "INTERSECT ALL", "EXCEPT ALL"]))
    return f"SELECT {columns} FROM a {word} SELECT {columns} FROM b"


def windowed(draw: st.DrawFn) -> str:
    partition = draw(st.sampled_from(["", "PARTITION BY s ", "PARTITION BY i "]))
    order = draw(st.sampled_from(["f", "f DESC", "i", "i DESC NULLS FIRST", "s"]))
    bounds = ["UNBOUNDED PRECEDING", "1 PRECEDING", "CURRENT ROW", "1 FOLLOWING", "UNBOUNDED FOLLOWING"]
    start, end = sorted(draw(st.lists(st.integers(0, 4), min_size=2, max_size=2)))
    frame = "" if start == 4 or end == 0 or order == "s" else f"RANGE BETWEEN {bounds[start]} AND {bounds[end]}"
    if order.startswith("f") and {start, end} & {0, 4} and {start, end} & {1, 3}:
        frame = ""  # refused where there is a NaN
    over = f"OVER ({partition}ORDER BY {order} {frame})"
    return f"SELECT i, f, s, RANK() OVER (ORDER BY {order}), COUNT(*) {over}, SUM(i) {over}, MAX(s) {over} FROM a"


def distinct(draw: st.DrawFn) -> str:
    return f"SELECT DISTINCT {draw(st.sampled_from(['f', 's', 'i, f', 'l', 'STRUCT(i, f)']))} FROM a"


def arrays(draw: st.DrawFn) -> str:
    scope = Scope((("e", "INT64"), ("o", "INT64"), *A))
    order = draw(st.sampled_from(["o", "o DESC", "e, o", "e DESC, o"]))
    limit = draw(st.sampled_from(["", "LIMIT 1", "LIMIT 2 OFFSET 1"]))
    value, condition = integer(draw, scope, 1), boolean(draw, scope, 1)
    return f"SELECT i, ARRAY(SELECT {value} FROM UNNEST(a.l) AS e WITH OFFSET AS o WHERE {condition} ORDER BY {order} {limit}) FROM a"


Kind = Callable[[st.DrawFn], str]
KINDS: list[Kind] = [filtered, joined, using, unnested, grouped, combined, windowed, distinct, arrays]


def multiset(rows: Rows) -> Rows:
    """Rows whose order is nobody's promise; grouping may keep either zero of -0.0 and 0.0."""
    return sorted_rows([tuple(0.0 if isinstance(value, float) and value == 0 else value for value in row) for row in rows])


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_generated_queries_give_the_rows_of_the_reference_implementation(oracle: Oracle, kind: Kind, data: st.DataObject) -> None:
    columns = "i INT64, f FLOAT64, s STRING, l ARRAY<INT64>"
    oracle.hold({"a": table(columns, *data.draw(ROWS)), "b": table(columns, *data.draw(ROWS))})
    sql = data.draw(st.composite(kind)())
    expected, actual = oracle.reference(sql), oracle.run(sql)
    assert same(multiset(actual), multiset(expected)), f"{actual}\nis not\n{expected}\nfor\n{sql}\nas\n{oracle.emitted(sql)}"
