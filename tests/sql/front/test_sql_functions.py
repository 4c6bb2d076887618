"""Functions written in SQL: CREATE [TEMP] FUNCTION, and functions of BigQuery that the analyzer lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sokuji.errors import AlreadyExistsError, NotFoundError, SqlError, UnsupportedSqlError
from sokuji.meta.objects import Ref
from sokuji.meta.store import SqlCatalog
from sokuji.sql.duckdb.backend import DuckDb
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
    with pytest.raises(UnsupportedSqlError, match="a DEFAULT is not supported"):
        rows(engine, "CREATE TEMP FUNCTION f(x INT64 DEFAULT 1) AS (x)")
    with pytest.raises(SqlError, match='Function "f" must be qualified with a dataset'):
        rows(engine, "CREATE FUNCTION f(x INT64) AS (x)")
    with pytest.raises(NotFoundError, match="Not found: Dataset nowhere"):
        rows(engine, "CREATE FUNCTION nowhere.f(x INT64) AS (x)")
    with pytest.raises(AlreadyExistsError):
        rows(engine, "CREATE TEMP FUNCTION f() AS (1); CREATE TEMP FUNCTION F() AS (2)")
    with pytest.raises(AlreadyExistsError, match="built-in"):
        rows(engine, "CREATE TEMP FUNCTION last(x INT64) AS (x); SELECT 1")
    with pytest.raises(SqlError, match="Unrecognized name: y"):
        rows(engine, "CREATE TEMP FUNCTION f(x INT64) AS (y)")


def test_a_stored_function_is_there_for_later_statements_and_other_processes(engine: Engine, tmp_path: Path) -> None:
    engine.execute("CREATE FUNCTION shop.plus(x INT64, y INT64) AS (x + y)")
    sql = "SELECT shop.plus(1, 2), `shop.plus`(3, 4), project.shop.plus(5, 6), `project.shop.plus`(y => 7, x => 8)"
    assert rows(engine, sql) == [(3, 7, 11, 15)]
    with (
        SqlCatalog(f"sqlite:///{tmp_path}/catalog.db") as catalog,
        Engine(catalog, engine.lake, DuckDb([tmp_path / "lake"], tmp_path / "other")) as other,
    ):
        assert rows(other, sql) == [(3, 7, 11, 15)]
        other.execute("DROP FUNCTION shop.plus")
    with pytest.raises(SqlError, match=r"Function not found: shop\.plus"):
        rows(engine, sql)


def test_types_of_stored_functions_are_as_declared(engine: Engine) -> None:
    engine.execute("CREATE FUNCTION shop.half(x NUMERIC) RETURNS FLOAT64 AS (x / 2)")
    engine.execute("CREATE FUNCTION shop.tail(items ANY TYPE) AS (items[ARRAY_LENGTH(items) - 1])")
    engine.execute("CREATE AGGREGATE FUNCTION shop.spread(x FLOAT64, unit FLOAT64 NOT AGGREGATE) AS ((MAX(x) - MIN(x)) / unit)")
    result = engine.execute("SELECT shop.half(3), shop.tail(['a', 'b']), shop.tail([1]), shop.spread(v, 2) FROM UNNEST([1.0, 5.0]) AS v")
    assert [field.type.kind for field in result.schema] == ["FLOAT64", "STRING", "INT64", "FLOAT64"]
    assert result.rows() == [(1.5, "b", 1, 2.0)]
    with pytest.raises(SqlError, match=r"No matching signature for function SHOP\.HALF"):
        rows(engine, "SELECT shop.half('a')")


def test_stored_functions_stand_in_views_and_in_each_other(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.rates AS SELECT 'eur' AS currency, 2.0 AS rate")
    engine.execute("CREATE FUNCTION shop.rate(c STRING) AS ((SELECT ANY_VALUE(r.rate) FROM shop.rates AS r WHERE r.currency = c))")
    engine.execute("CREATE FUNCTION shop.price(amount FLOAT64, currency STRING) AS (amount * shop.rate(LOWER(currency)))")
    engine.execute("CREATE VIEW shop.v AS SELECT shop.price(3, 'EUR') AS price")
    assert rows(engine, "SELECT price FROM shop.v") == [(6.0,)]
    assert rows(engine, "CREATE TEMP FUNCTION twice(x FLOAT64) AS (2 * shop.price(x, 'eur')); SELECT twice(1)") == [(4.0,)]
    engine.execute("CREATE OR REPLACE FUNCTION shop.rate(c STRING) AS (10.0)")
    assert rows(engine, "SELECT price FROM shop.v") == [(30.0,)]
    engine.execute("DROP FUNCTION shop.rate")
    with pytest.raises(SqlError, match=r"Function not found: shop\.rate"):
        rows(engine, "SELECT price FROM shop.v")


def test_creating_and_dropping_stored_functions(engine: Engine) -> None:
    engine.execute("CREATE FUNCTION shop.f() AS (1)")
    with pytest.raises(AlreadyExistsError, match=r"Already Exists: Routine shop\.f"):
        engine.execute("CREATE FUNCTION shop.f() AS (2)")
    engine.execute("CREATE FUNCTION IF NOT EXISTS shop.f() AS (3)")
    assert rows(engine, "SELECT shop.f()") == [(1,)]
    engine.execute("CREATE OR REPLACE FUNCTION shop.f() OPTIONS(description = 'four') AS (4)")
    assert rows(engine, "SELECT shop.f()") == [(4,)]
    assert engine.catalog.function(Ref("shop", "f")).description == "four"
    engine.execute("DROP FUNCTION shop.f")
    with pytest.raises(NotFoundError, match=r"Not found: Routine shop\.f"):
        engine.execute("DROP FUNCTION shop.f")
    engine.execute("DROP FUNCTION IF EXISTS shop.f")
    engine.execute("CREATE FUNCTION shop.f() AS (5); DROP SCHEMA shop CASCADE")
    assert engine.catalog.functions() == []


def test_a_stored_function_is_not_recursive_and_outlives_its_script(engine: Engine) -> None:
    with pytest.raises(SqlError, match=r"Function not found: shop\.f"):
        engine.execute("CREATE FUNCTION shop.f(x INT64) AS (shop.f(x - 1))")
    engine.execute("CREATE FUNCTION shop.f(x INT64) AS (x); CREATE FUNCTION shop.g(x INT64) AS (shop.f(x))")
    for body in ("shop.f(x - 1)", "`shop.f`(x - 1)", "shop.g(x)"):
        with pytest.raises(SqlError, match=r"shop\.f calls itself"):
            engine.execute(f"CREATE OR REPLACE FUNCTION shop.f(x INT64) AS ({body})")
    with pytest.raises(SqlError, match="Function not found: h"):
        engine.execute("CREATE TEMP FUNCTION h(x INT64) AS (x); CREATE FUNCTION shop.h(x INT64) AS (h(x))")


def test_names_of_stored_functions(engine: Engine) -> None:
    engine.catalog.create_dataset("net")
    with pytest.raises(AlreadyExistsError, match=r"net\.host is a built-in function"):
        engine.execute("CREATE FUNCTION net.host(x STRING) AS (x)")
    engine.execute("CREATE FUNCTION shop.f() AS ('small'); CREATE FUNCTION shop.F() AS ('capital')")
    assert rows(engine, "SELECT shop.F()") == [("capital",)]
    with pytest.raises(SqlError, match="in case only"):
        rows(engine, "SELECT shop.F(), shop.f()")
    with pytest.raises(SqlError, match=r"Function not found: SHOP\.f"):
        rows(engine, "SELECT SHOP.f()")


def test_the_information_schema_lists_stored_functions(engine: Engine) -> None:
    engine.execute("CREATE FUNCTION shop.plus(x INT64) RETURNS FLOAT64 AS (x + 1); CREATE AGGREGATE FUNCTION shop.top(x INT64) AS (MAX(x))")
    columns = "routine_schema, routine_name, routine_type, data_type, routine_body, routine_definition"
    wanted = [("shop", "plus", "FUNCTION", "FLOAT64", "SQL", "x + 1"), ("shop", "top", "AGGREGATE_FUNCTION", None, "SQL", "MAX(x)")]
    assert rows(engine, f"SELECT {columns} FROM shop.INFORMATION_SCHEMA.ROUTINES ORDER BY routine_name") == wanted
    assert rows(engine, "SELECT created <= CURRENT_TIMESTAMP() FROM INFORMATION_SCHEMA.ROUTINES") == [(True,)] * 2


def test_bigquerys_own(engine: Engine) -> None:
    values = "UNNEST([STRUCT('a' AS v, 2 AS k), ('b', 3), ('c', NULL), ('d', 1)])"
    assert rows(engine, f"SELECT MAX_BY(v, k), MIN_BY(v, k) FROM {values}") == [("b", "d")]
    assert rows(
        engine, "SELECT CONTAINS_SUBSTR('the Blue house', 'bluE'), CONTAINS_SUBSTR(['a', 'Bc'], 'bC'), CONTAINS_SUBSTR('a', 'b')"
    ) == [(True, True, False)]
    assert rows(engine, "SELECT CONTAINS_SUBSTR(CAST(NULL AS STRING), 'a'), CONTAINS_SUBSTR((1, '２x'), '2X')") == [(None, True)]
