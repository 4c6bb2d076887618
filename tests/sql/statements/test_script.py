"""Scripts: variables, conditions, loops, exception handlers and dynamic SQL."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sokuji.config import SqlSettings
from sokuji.errors import AlreadyExistsError, NotFoundError, QueryCancelledError, SqlError, UnsupportedSqlError
from sokuji.lake.base import Lake
from sokuji.meta.objects import Ref
from sokuji.sql.duckdb.backend import DuckDb
from sokuji.sql.engine import Engine


def results(engine: Engine, script: str, parameters: Any = None) -> list[Any]:
    """The rows of each statement that has some, the single value of each that has just one."""
    found = [result.rows() for result in engine.execute_script(script, parameters) if result.schema]
    return [rows[0][0] if len(rows) == 1 and len(rows[0]) == 1 else rows for rows in found]


def test_a_variable_has_the_value_it_was_set_to_last(engine: Engine) -> None:
    script = "DECLARE x INT64 DEFAULT 3; DECLARE y DEFAULT x + 1; SELECT x * y; SET x = y - 6; SELECT x; SET (x, y) = (y, x); SELECT [X, Y]"
    assert results(engine, script) == [12, -2, [4, -2]]


def test_a_variable_without_a_value_is_null_of_its_type(engine: Engine) -> None:
    [result] = engine.execute_script("DECLARE a, b STRING; DECLARE c ARRAY<DATE>; SELECT a, b, c")
    assert [str(field.type) for field in result.schema] == ["STRING", "STRING", "ARRAY<DATE>"]
    assert result.rows() == [(None, None, [])]


@pytest.mark.parametrize(
    ("type_", "value", "wanted"),
    [
        ("FLOAT64", "1", 1.0),
        ("DATE", "'2026-01-02'", dt.date(2026, 1, 2)),
        ("NUMERIC", "NUMERIC '1.000000001'", Decimal("1.000000001")),
        ("TIMESTAMP", "TIMESTAMP '2026-01-02 03:04:05.678901+00'", dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC)),
        ("DATETIME", "DATETIME '0001-01-01 00:00:00'", dt.datetime(1, 1, 1)),  # noqa: DTZ001 a DATETIME has no zone
        ("TIME", "TIME '23:59:59.999999'", dt.time(23, 59, 59, 999999)),
        ("BYTES", "b'\\x00\\xff'", b"\x00\xff"),
        ("JSON", "JSON '{\"a\": [1, null]}'", '{"a":[1,null]}'),
        ("BOOL", "NULL", None),
        ("STRUCT<a INT64, b ARRAY<STRING>>", "(1, ['x', 'é'])", {"a": 1, "b": ["x", "é"]}),
        ("INT64", "9223372036854775807", 2**63 - 1),
    ],
)
def test_values_of_every_type_are_kept_exactly(engine: Engine, type_: str, value: str, wanted: Any) -> None:
    script = f"DECLARE v {type_} DEFAULT {value}; DECLARE w {type_}; SET w = v; SELECT w"
    [result] = engine.execute_script(script)
    assert str(result.schema[0].type) == type_
    assert result.rows() == [(wanted,)]


def test_what_is_assigned_is_coerced_and_a_query_runs_once(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.t AS SELECT x FROM UNNEST([1, 2]) AS x")
    script = "DECLARE x FLOAT64 DEFAULT (SELECT MAX(x) FROM shop.t); DECLARE y NUMERIC; SET y = 1; SELECT x / 4 + y"
    assert results(engine, script) == [1.5]
    declared = "DECLARE a FLOAT64; DECLARE d DATE; DECLARE l ARRAY<FLOAT64> DEFAULT [1, 2]"
    script = f"{declared}; SET (a, d) = (1, '2026-01-02'); SELECT a; SELECT d; SELECT l"
    assert results(engine, script) == [1.0, dt.date(2026, 1, 2), [1.0, 2.0]]


def test_columns_hide_variables(engine: Engine) -> None:
    script = "DECLARE x INT64 DEFAULT 5; DECLARE y INT64 DEFAULT 6; SELECT x + y FROM (SELECT 1 AS x)"
    assert results(engine, script) == [7]


def test_variables_stand_wherever_an_expression_does(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.t AS SELECT x FROM UNNEST([1, 2, 3, 4]) AS x")
    script = """
        DECLARE n INT64 DEFAULT 2;
        DECLARE words ARRAY<STRING> DEFAULT ['a', 'b'];
        SELECT ARRAY_AGG(x ORDER BY x) FROM (SELECT x FROM shop.t WHERE x >= n ORDER BY x LIMIT n);
        SELECT COUNT(*) FROM UNNEST(words);
        CREATE TABLE shop.u (y INT64) OPTIONS(description = CONCAT('of ', words[OFFSET(1)]));
        INSERT INTO shop.u (y) SELECT x * n FROM shop.t;
        UPDATE shop.u SET y = -n WHERE y = n;
        DELETE FROM shop.u WHERE y = n + 2;
        SELECT ARRAY_AGG(y ORDER BY y) FROM shop.u"""
    assert results(engine, script) == [[2, 3], 2, [-2, 6, 8]]
    assert engine.catalog.table(Ref("shop", "u")).options == {"description": "of b"}


def test_a_separator_may_be_a_variable(engine: Engine) -> None:
    script = "DECLARE separator STRING; SET separator = {}; SELECT STRING_AGG(y, separator ORDER BY y LIMIT 2) FROM UNNEST(['b', 'a']) AS y"
    assert [results(engine, script.format(value)) for value in ("'-'", "''", "'{0}'", "'\\000'")] == [["a-b"], ["ab"], ["a{0}b"], ["a\0b"]]
    with pytest.raises(SqlError, match="Illegal NULL separator in STRING_AGG"):
        results(engine, script.format("NULL"))


def test_parameters_and_temporary_functions_reach_everything(engine: Engine) -> None:
    script = "CREATE TEMP FUNCTION twice(v INT64) AS (2 * v); BEGIN DECLARE y INT64 DEFAULT twice(@p); SELECT y + @p; END"
    assert results(engine, script, {"p": 4}) == [12]


def test_if_and_case_run_one_branch(engine: Engine) -> None:
    branches = "IF x > 1 THEN SELECT 'many'; ELSEIF x = 1 THEN SELECT 'one'; ELSE SELECT 'none'; END IF; SELECT 'end'"
    for value, wanted in ((5, "many"), (1, "one"), (0, "none"), ("NULL", "none")):
        assert results(engine, f"DECLARE x INT64 DEFAULT {value}; {branches}") == [wanted, "end"]
    assert results(engine, "CASE 2 WHEN 1 THEN SELECT 'one'; WHEN 1 + 1 THEN SELECT 'two'; WHEN 2 THEN SELECT 'again'; END CASE") == ["two"]
    assert results(engine, "CASE WHEN FALSE THEN SELECT 1; WHEN NULL THEN SELECT 2; ELSE SELECT 3; END CASE") == [3]
    with pytest.raises(SqlError, match="No WHEN of this CASE holds"):
        results(engine, "CASE 3 WHEN 1 THEN SELECT 1; END CASE")


def test_loops(engine: Engine) -> None:
    start = "DECLARE i INT64 DEFAULT 0; "
    assert results(engine, f"{start}WHILE i < 3 DO SET i = i + 1; IF i = 2 THEN CONTINUE; END IF; SELECT i; END WHILE") == [1, 3]
    assert results(engine, f"{start}LOOP SET i = i + 1; IF i = 4 THEN LEAVE; END IF; END LOOP; SELECT i") == [4]
    assert results(engine, f"{start}REPEAT SET i = i + 1; SELECT i; UNTIL i >= 2 END REPEAT") == [1, 2]
    rows = "(SELECT n, CONCAT('r', CAST(n AS STRING)) AS name FROM UNNEST([3, 1, 2]) AS n ORDER BY n)"
    assert results(engine, f"FOR row IN {rows} DO IF row.n = 2 THEN CONTINUE; END IF; SELECT row.name; END FOR") == ["r1", "r3"]
    assert results(engine, "FOR row IN (SELECT 1 AS n LIMIT 0) DO SELECT 1; END FOR; SELECT 'end'") == ["end"]
    nested = "outer_: LOOP LOOP SET i = i + 1; IF i < 3 THEN CONTINUE outer_; END IF; BREAK outer_; END LOOP; END LOOP; SELECT i"
    assert results(engine, start + nested) == [3]


def test_return_ends_the_script_and_a_label_leaves_a_block(engine: Engine) -> None:
    assert results(engine, "SELECT 1; BEGIN SELECT 2; RETURN; END; SELECT 3") == [1, 2]
    assert results(engine, "block: BEGIN SELECT 1; LEAVE block; SELECT 2; END; SELECT 3") == [1, 3]


def test_variables_of_a_block_are_gone_after_it(engine: Engine) -> None:
    assert results(engine, "DECLARE x INT64 DEFAULT 1; BEGIN DECLARE y INT64 DEFAULT 2; SET x = y; END; SELECT x") == [2]
    with pytest.raises(SqlError, match="Unrecognized name: y"):
        results(engine, "BEGIN DECLARE y INT64; END; SELECT y")


def test_an_exception_is_handled_where_it_happened(engine: Engine) -> None:
    script = """DECLARE x INT64 DEFAULT 1;
        BEGIN
          SET x = 2;
          SELECT 1 / 0;
          SET x = 3;
        EXCEPTION WHEN ERROR THEN
          SELECT x, @@error.message LIKE '%division by zero%';
        END;
        SELECT x"""
    assert results(engine, script) == [[(2, True)], 2]
    missing = "BEGIN DROP TABLE shop.nothing; EXCEPTION WHEN ERROR THEN SELECT @@error.message; END"
    assert results(engine, missing) == ["table shop.nothing was not found"]


def test_exceptions_are_raised_and_raised_again(engine: Engine) -> None:
    inner = "BEGIN SELECT ERROR('inner'); EXCEPTION WHEN ERROR THEN RAISE USING MESSAGE = CONCAT('outer of ', @@error.message); END"
    assert results(engine, f"BEGIN {inner}; EXCEPTION WHEN ERROR THEN SELECT @@error.message LIKE 'outer of inner%'; END") == [True]
    with pytest.raises(NotFoundError, match=r"shop\.nothing"):
        results(engine, "BEGIN DROP TABLE shop.nothing; EXCEPTION WHEN ERROR THEN RAISE; END")
    with pytest.raises(SqlError, match="outside of an exception handler"):
        results(engine, "RAISE")


def test_the_rows_a_statement_changed_are_counted(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.t AS SELECT x FROM UNNEST([1, 2, 3]) AS x")
    assert results(engine, "IF TRUE THEN DELETE FROM shop.t WHERE x > 1; END IF; SELECT @@row_count") == [2]


def test_dynamic_statements(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.t AS SELECT x FROM UNNEST([1, 2, 3]) AS x")
    script = """DECLARE name STRING DEFAULT 'shop.t'; DECLARE n, m INT64; DECLARE s STRING DEFAULT 'kept';
        EXECUTE IMMEDIATE CONCAT('SELECT COUNT(*), MAX(x) FROM ', name) INTO n, m;
        SELECT n + m;
        EXECUTE IMMEDIATE 'SELECT x FROM shop.t WHERE x = @wanted' USING n - 1 AS wanted;
        EXECUTE IMMEDIATE 'SELECT ? || ?' USING 'a', 'b';
        EXECUTE IMMEDIATE 'SELECT "x" FROM shop.t WHERE x > 9' INTO s;
        SELECT s;
        EXECUTE IMMEDIATE 'CREATE TABLE shop.u AS SELECT 7 AS y';
        SELECT y FROM shop.u"""
    assert results(engine, script) == [6, 2, "ab", None, 7]
    for statement, message in (
        ("'SELECT 1; SELECT 2'", "runs one statement, not 2"),
        ("CAST(NULL AS STRING)", "is NULL"),
        ("'SELECT x FROM shop.t' INTO n", "wants one row at most; the statement gave 3"),
        ("'SELECT 1, 2' INTO n", "INTO 1 variables: the statement gave 2 columns"),
        ("'SELECT \"a\"' INTO n", "the column is STRING, the variable INT64"),
        ("'SELECT n'", "Unrecognized name: n"),
        ("'SELECT @a, @b' USING 1 AS a, 2", "Either all arguments after USING have names, or none has"),
    ):
        with pytest.raises(SqlError, match=message):
            results(engine, f"DECLARE n INT64; EXECUTE IMMEDIATE {statement}")


def test_assertions(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.t AS SELECT 1 AS x")
    engine.execute("ASSERT EXISTS(SELECT 1 FROM shop.t); ASSERT (SELECT MAX(x) FROM shop.t) = @one", {"one": 1})
    with pytest.raises(SqlError, match="Assertion failed: too few"):
        engine.execute("DECLARE least INT64 DEFAULT 2; ASSERT (SELECT COUNT(*) FROM shop.t) >= least AS 'too few'")
    with pytest.raises(SqlError, match=r"^Assertion failed \["):
        engine.execute("ASSERT NULL")


def test_what_outlives_the_script_cannot_use_its_variables(engine: Engine) -> None:
    for statement in ("CREATE VIEW shop.v AS SELECT x AS y", "CREATE FUNCTION shop.f() AS (x)"):
        with pytest.raises(SqlError, match="Unrecognized name: x"):
            results(engine, f"DECLARE x INT64 DEFAULT 1; {statement}")
    with pytest.raises(SqlError, match="Function not found: f"):
        results(engine, "CREATE TEMP FUNCTION f() AS (1); CREATE VIEW shop.v AS SELECT f() AS y")
    with pytest.raises(SqlError, match="Query parameters cannot be used"):
        results(engine, "CREATE VIEW shop.v AS SELECT @p AS y", {"p": 1})
    assert (engine.catalog.tables(), engine.catalog.functions()) == ([], [])


@pytest.mark.parametrize(
    ("script", "message", "line", "column"),
    [
        ("DECLARE x INT64;\nSELECT x,\n  y", "Unrecognized name: y", 3, 3),
        ("DECLARE x INT64;\nSET x = x +\n  y", "Unrecognized name: y", 3, 3),
        ("DECLARE x INT64;\nIF x = 'é' THEN SELECT 1; END IF", "No matching signature for operator =", 2, 4),
        ("DECLARE x INT64;\n SET y = 1", "Undeclared variable: y", 2, 6),
        ("DECLARE x INT64;\nBEGIN DECLARE X INT64; END", "Variable 'X' redeclaration", 2, 15),
        ("DECLARE x INT64 DEFAULT\n 'abc'", "Cannot coerce expression of type STRING to type INT64", 2, 2),
        ("SELECT 'é';\nIF 1 THEN SELECT 1; END IF", "Cannot coerce expression of type INT64 to type BOOL", 2, 4),
        ("SELECT 1;\nIF TRUE THEN SELEC 1; END IF", "Syntax error", 2, 14),
        ("IF TRUE THEN\n BREAK; END IF", "are for loops only", 2, 2),
        ("SELECT 1;\nDECLARE x INT64", "only at the start of a block or script", 2, 1),
        ("DECLARE x INT64 DEFAULT\n (SELECT 'abc')", "Cannot coerce expression of type STRING to type INT64", 2, 2),
    ],
)
def test_an_error_names_its_place_in_the_script(engine: Engine, script: str, message: str, line: int, column: int) -> None:
    with pytest.raises(SqlError, match=message) as caught:
        results(engine, script)
    assert (caught.value.line, caught.value.column) == (line, column)


def test_nothing_runs_of_a_script_that_does_not_parse(engine: Engine) -> None:
    with pytest.raises(SqlError, match="Syntax error"):
        results(engine, "CREATE TABLE shop.t AS SELECT 1 AS x; IF TRUE THEN SELECT 1;")
    assert engine.catalog.tables() == []


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("SET @@time_zone = 'UTC'", "SET of system variables"),
        ("DECLARE x STRING(10); SELECT 1", r"parameterized types such as STRING\(10\)"),
        ("BEGIN BEGIN TRANSACTION; END", "BEGIN statements are not supported"),
        ("BEGIN CREATE PROCEDURE shop.p() BEGIN SELECT 1; END; END", "CREATE PROCEDURE statements are not supported"),
        ("DECLARE j JSON; EXECUTE IMMEDIATE 'SELECT ?' USING j", "USING a value of type JSON is not supported"),
    ],
)
def test_what_is_not_supported_is_named(engine: Engine, script: str, message: str) -> None:
    with pytest.raises(UnsupportedSqlError, match=message):
        results(engine, script)


def test_execute_gives_the_last_result_and_leaves_nothing_running(engine: Engine) -> None:
    assert engine.execute("DECLARE x INT64 DEFAULT 1; SELECT x; SET x = 2; SELECT x; SET x = 3").rows() == [(2,)]
    assert engine.execute("DECLARE x INT64").rows() == []
    with pytest.raises(AlreadyExistsError):
        engine.execute("BEGIN CREATE TABLE shop.t (x INT64); CREATE TABLE shop.t (x INT64); END")
    assert engine.running() == []


def test_an_endless_loop_ends_with_its_time(engine: Engine, tmp_path: Path) -> None:
    lake: Lake = engine.lake
    with Engine(
        engine.catalog,
        lake,
        DuckDb([tmp_path / "lake"], tmp_path / "spill", SqlSettings(timeout_seconds=1)),
    ) as hasty:
        for body in ("", "SELECT 1;", "BEGIN SELECT ERROR('x'); EXCEPTION WHEN ERROR THEN SELECT 2; END;"):
            with pytest.raises(QueryCancelledError, match="time limit"):
                hasty.execute(f"LOOP {body} END LOOP")
