"""Functions written in SQL: CREATE TEMP FUNCTION, and those of BigQuery's that the analyzer does not bring along."""

from __future__ import annotations

from typing import Any

import pytest

from sokuji.errors import AlreadyExistsError, SqlError, UnsupportedSqlError
from sokuji.sql.engine import Engine


def rows(engine: Engine, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    return engine.execute(sql, parameters).rows()


def test_a_function_lives_as_long_as_its_script(engine: Engine) -> None:
    assert rows(engine, "CREATE TEMP FUNCTION plus(x INT64, y INT64) AS (x + y); SELECT plus(1, plus(2, 3))") == [(6,)]
    with pytest.raises(SqlError, match="Function not found: plus"):
        rows(engine, "SELECT plus(1, 2)")


def test_arguments_are_converted_to_what_was_declared(engine: Engine) -> None:
    script = "CREATE TEMP FUNCTION half(x NUMERIC) RETURNS FLOAT64 AS (x / 2); SELECT half(3)"
    assert [field.type.kind for field in engine.execute(script).schema] == ["FLOAT64"]
    with pytest.raises(SqlError, match="No matching signature for function HALF"):
        rows(engine, script.replace("half(3)", "half('a')"))


def test_an_argument_of_any_type_takes_the_type_of_each_call(engine: Engine) -> None:
    script = "CREATE TEMP FUNCTION tail(items ANY TYPE) AS (items[ARRAY_LENGTH(items) - 1]); SELECT tail([1, 2]), tail(['a'])"
    assert rows(engine, script) == [(2, "a")]


def test_an_argument_is_computed_once_and_hides_columns(engine: Engine) -> None:
    script = "CREATE TEMP FUNCTION twice(x FLOAT64) AS (x - x); SELECT twice(RAND()), twice(y) FROM (SELECT 1 AS x, 2 AS y)"
    assert rows(engine, script) == [(0.0, 0.0)]


def test_aggregate_functions_and_functions_of_functions(engine: Engine) -> None:
    script = """CREATE TEMP AGGREGATE FUNCTION spread(x FLOAT64) AS (MAX(x) - MIN(x));
        CREATE TEMP FUNCTION square(x FLOAT64) AS (x * x);
        CREATE TEMP FUNCTION fourth(x FLOAT64) AS (square(square(x)));
        SELECT k, spread(v), fourth(COUNT(*)) FROM UNNEST([STRUCT(1 AS k, 2.0 AS v), (1, 5.0), (2, 3.0)]) GROUP BY k ORDER BY k"""
    assert rows(engine, script) == [(1, 3.0, 16.0), (2, 0.0, 1.0)]


def test_a_body_may_read_tables_and_the_script_may_use_parameters(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.rates AS SELECT 'eur' AS currency, 2.0 AS rate")
    script = """CREATE TEMP FUNCTION rate(c STRING) AS ((SELECT ANY_VALUE(r.rate) FROM shop.rates AS r WHERE r.currency = c));
        SELECT rate(@currency), rate('usd')"""
    assert rows(engine, script, {"currency": "eur"}) == [(2.0, None)]


def test_what_is_refused(engine: Engine) -> None:
    with pytest.raises(UnsupportedSqlError, match="LANGUAGE js is not supported"):
        rows(engine, "CREATE TEMP FUNCTION f(x FLOAT64) RETURNS FLOAT64 LANGUAGE js AS 'return x'")
    with pytest.raises(UnsupportedSqlError, match="only CREATE TEMP FUNCTION"):
        rows(engine, "CREATE FUNCTION shop.f(x INT64) AS (x)")
    with pytest.raises(AlreadyExistsError):
        rows(engine, "CREATE TEMP FUNCTION f() AS (1); CREATE TEMP FUNCTION F() AS (2)")
    with pytest.raises(AlreadyExistsError, match="built-in"):
        rows(engine, "CREATE TEMP FUNCTION last(x INT64) AS (x); SELECT 1")
    with pytest.raises(SqlError, match="Unrecognized name: y"):
        rows(engine, "CREATE TEMP FUNCTION f(x INT64) AS (y)")


def test_bigquerys_own(engine: Engine) -> None:
    values = "UNNEST([STRUCT('a' AS v, 2 AS k), ('b', 3), ('c', NULL), ('d', 1)])"
    assert rows(engine, f"SELECT MAX_BY(v, k), MIN_BY(v, k) FROM {values}") == [("b", "d")]
    assert rows(
        engine, "SELECT CONTAINS_SUBSTR('the Blue house', 'bluE'), CONTAINS_SUBSTR(['a', 'Bc'], 'bC'), CONTAINS_SUBSTR('a', 'b')"
    ) == [(True, True, False)]
    assert rows(engine, "SELECT CONTAINS_SUBSTR(CAST(NULL AS STRING), 'a'), CONTAINS_SUBSTR((1, '２x'), '2X')") == [(None, True)]
