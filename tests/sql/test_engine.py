"""Statements from text to rows: queries, parameters, scripts, views, definitions, and errors."""

from __future__ import annotations

import datetime as dt
import decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sokuji.errors import AlreadyExistsError, DamagedFileError, LakeError, NotFoundError, SokujiError, SqlError, UnsupportedSqlError
from sokuji.meta.objects import Ref
from sokuji.sql.duckdb.backend import DuckDb
from sokuji.sql.engine import Engine
from sokuji.sql.extension import Queries
from sokuji.sql.result import Result


def rows(engine: Engine, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    return engine.execute(sql, parameters).rows()


def schema(engine: Engine, sql: str) -> list[str]:
    return [f"{field.name} {field.type}" for field in engine.execute(sql).schema]


EVERY_TYPE = """SELECT 1 AS i, 1.5 AS f, NUMERIC '1.25' AS n, TRUE AS t, 'é' AS s, b'\\x00\\xff' AS b, DATE '2026-01-02' AS d,
    DATETIME '2026-01-02 03:04:05.678901' AS dt, TIME '03:04:05.678901' AS ti, TIMESTAMP '2026-01-02 03:04:05.678901+09' AS ts,
    INTERVAL '1-2 3 4:5:6.5' YEAR TO SECOND AS iv, JSON '{"a": [1]}' AS j, [1, 2] AS arr, [STRUCT('x' AS k, TIME '01:00:00' AS v)] AS st,
    STRUCT(1, 'a' AS `a b`) AS w, CAST(NULL AS STRING) AS nothing, CAST('nan' AS FLOAT64) > 0 AS nan"""
EVERY_VALUE = (
    1,
    1.5,
    decimal.Decimal("1.25"),
    True,
    "é",
    b"\x00\xff",
    dt.date(2026, 1, 2),
    dt.datetime(2026, 1, 2, 3, 4, 5, 678901),  # noqa: DTZ001 a DATETIME has no zone
    dt.time(3, 4, 5, 678901),
    dt.datetime(2026, 1, 1, 18, 4, 5, 678901, tzinfo=dt.UTC),
    pa.MonthDayNano([14, 3, 14_706_500_000_000]),
    '{"a":[1]}',
    [1, 2],
    [{"k": "x", "v": dt.time(1)}],
    {"_field_1": 1, "a b": "a"},
    None,
    False,
)


def test_values_of_every_type_come_back(engine: Engine) -> None:
    assert rows(engine, EVERY_TYPE) == [EVERY_VALUE]


def test_values_of_every_type_are_stored(engine: Engine) -> None:
    engine.execute(f"CREATE TABLE shop.t AS {EVERY_TYPE}")
    engine.execute("INSERT INTO shop.t SELECT * FROM shop.t")
    assert rows(engine, "SELECT * FROM shop.t") == [EVERY_VALUE, EVERY_VALUE]
    assert schema(engine, "SELECT * FROM shop.t") == schema(engine, EVERY_TYPE)


def test_names_may_repeat_and_be_missing(engine: Engine) -> None:
    result = engine.execute("SELECT 1 AS a, 2 AS a, 3, 'x' AS A, 4")
    assert [field.name for field in result.schema] == ["a", "a", "f0_", "A", "f1_"]
    assert result.arrow().schema.names == ["a", "a", "f0_", "A", "f1_"]


def test_timestamps_are_utc_in_arrow(engine: Engine) -> None:
    assert engine.execute("SELECT CURRENT_TIMESTAMP() AS now").arrow().schema.field("now").type == pa.timestamp("us", tz="UTC")


def test_parameters(engine: Engine) -> None:
    assert rows(engine, "SELECT @a + 1, @A, @b", {"a": 1, "B": None}) == [(2, 1, None)]
    assert rows(engine, "SELECT ?, ? || 'x'", [dt.date(2026, 1, 2), "é"]) == [(dt.date(2026, 1, 2), "éx")]
    assert rows(engine, "SELECT x FROM UNNEST(@xs) AS x WHERE x > @s.least", {"xs": [1, 2, 3], "s": {"least": 1}}) == [(2,), (3,)]
    with pytest.raises(SqlError, match="Query parameter 'b' not found"):
        engine.execute("SELECT @b", {"a": 1})


def test_a_script_runs_statement_by_statement(engine: Engine) -> None:
    script = "CREATE TABLE shop.t AS SELECT 1 AS x; INSERT INTO shop.t (x) VALUES (2), (@three); SELECT SUM(x) FROM shop.t"
    results = [(result.message, result.rows_affected) for result in engine.execute_script(script, {"three": 3})]
    assert results == [("Created table shop.t (1 row)", 1), ("Inserted 2 rows into shop.t", 2), ("", None)]
    assert rows(engine, f"TRUNCATE TABLE shop.t; {script[script.index('INSERT') :]}", {"three": 4}) == [(6,)]


def test_nothing_of_a_script_runs_when_a_part_does_not_parse(engine: Engine) -> None:
    with pytest.raises(SqlError, match="Syntax error"):
        engine.execute("CREATE TABLE shop.t (x INT64); SELECT FROM")
    assert engine.catalog.tables("shop") == []


def test_a_script_stops_at_the_statement_that_fails(engine: Engine) -> None:
    with pytest.raises(SqlError, match=r"Table not found: shop\.u") as caught:
        engine.execute("CREATE TABLE shop.t (x INT64);\nSELECT 1 FROM shop.u; CREATE TABLE shop.v (x INT64)")
    assert (caught.value.line, caught.value.column) == (2, 15)
    assert [str(table.ref) for table in engine.catalog.tables("shop")] == ["shop.t"]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT 1 / 0", "division by zero"),
        ("SELECT DIV(1, 0)", "division by zero"),
        ("SELECT [1, 2][OFFSET(9)]", "Array index 9 is out of bounds"),
        ("SELECT 9223372036854775807 + 1", "int64 overflow"),
        ("SELECT CAST('x' AS INT64)", "Bad int64 value: x"),
        ("SELECT CAST('2026-13-01' AS DATE)", "Invalid date: '2026-13-01'"),
        ("SELECT (SELECT x FROM UNNEST([1, 2]) AS x)", "Scalar subquery produced more than one element"),
        ("SELECT ERROR('it is so')", "it is so"),
    ],
)
def test_errors_of_data_read_as_bigquerys(engine: Engine, sql: str, message: str) -> None:
    with pytest.raises(SqlError, match=message) as caught:
        rows(engine, sql)
    assert "DuckDB" not in str(caught.value)
    assert "LINE" not in str(caught.value)


def test_an_error_in_a_late_row_is_raised_where_rows_are_read(engine: Engine) -> None:
    array = "UNNEST(GENERATE_ARRAY(1, 1000))"
    result = engine.execute(f"SELECT 1 / (a * 1000 + b - 1000000) AS q FROM {array} AS a, {array} AS b")
    with pytest.raises(SqlError, match="division by zero"):
        list(result.batches())
    assert engine.running() == []


def test_a_view_is_its_query(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.t AS SELECT x, x * x AS y FROM UNNEST([1, 2, 3]) AS x")
    engine.execute("CREATE VIEW shop.big (a, b) AS SELECT x, y FROM shop.t WHERE x > 1")
    engine.execute("CREATE VIEW shop.sum AS SELECT SUM(b) AS total FROM shop.big")
    assert rows(engine, "SELECT b FROM shop.big ORDER BY a") == [(4,), (9,)]
    assert rows(engine, "SELECT COUNT(*) FROM shop.big AS v JOIN shop.big AS w ON v.a < w.a") == [(1,)]
    engine.execute("INSERT INTO shop.t VALUES (4, 16)")
    assert rows(engine, "SELECT total FROM shop.sum") == [(29,)]


def test_a_view_of_everything_keeps_the_columns_it_was_made_with(engine: Engine) -> None:
    engine.execute(
        "CREATE TABLE shop.t AS SELECT 1 AS x; CREATE VIEW shop.v AS SELECT * FROM shop.t; ALTER TABLE shop.t ADD COLUMN z STRING"
    )
    assert schema(engine, "SELECT * FROM shop.v") == ["x INT64"]
    assert rows(engine, "SELECT * FROM shop.v") == [(1,)]


def test_a_view_has_its_columns_by_name_whatever_was_done_to_its_table(engine: Engine) -> None:
    engine.execute(
        """CREATE TABLE shop.t AS SELECT 1 AS a, 2 AS b, 3 AS c, 4 AS d;
        CREATE VIEW shop.v AS SELECT * FROM shop.t;
        CREATE VIEW shop.named (w, x, y, z) AS SELECT t.*  FROM shop.t;
        CREATE VIEW shop.twice (p, q, r) AS SELECT t.c, u.c, t.d FROM shop.t, (SELECT 30 AS c) AS u;
        ALTER TABLE shop.t DROP COLUMN a;
        ALTER TABLE shop.t ADD COLUMN e INT64"""
    )
    assert rows(engine, "SELECT c, b FROM shop.v") == [(3, 2)]
    assert rows(engine, "SELECT y, x, z FROM shop.named") == [(3, 2, 4)]
    assert rows(engine, "SELECT * FROM shop.twice") == [(3, 30, 4)]
    for view in ("v", "named"):
        with pytest.raises(SqlError, match=rf"Invalid view shop\.{view}: its query has no column a any more; make it again with CREATE OR"):
            rows(engine, f"SELECT * FROM shop.{view}")
    engine.execute("CREATE OR REPLACE TABLE shop.t AS SELECT 1.5 AS b")
    with pytest.raises(SqlError, match=r"Invalid view shop\.v: its column b was INT64 when it was made, and is FLOAT64; make it again"):
        rows(engine, "SELECT b FROM shop.v")


def test_views_in_a_circle_are_refused(engine: Engine) -> None:
    engine.execute("CREATE VIEW shop.a AS SELECT 1 AS x; CREATE VIEW shop.b AS SELECT x FROM shop.a")
    engine.execute("CREATE OR REPLACE VIEW shop.a AS SELECT x FROM shop.b")
    with pytest.raises(SqlError, match=r"shop\.a refers to itself: shop\.a -> shop\.b -> shop\.a"):
        rows(engine, "SELECT x FROM shop.a")


def test_a_view_of_a_table_that_is_gone_says_which(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.t (x INT64); CREATE VIEW shop.v AS SELECT x FROM shop.t; DROP TABLE shop.t")
    with pytest.raises(SqlError, match=r"Invalid view shop\.v: Table not found: shop\.t"):
        rows(engine, "SELECT x FROM shop.v")


def test_tables_are_made_with_everything_said_of_them(engine: Engine) -> None:
    engine.execute(
        """CREATE TABLE shop.t (ts TIMESTAMP NOT NULL OPTIONS(description='when'), `my col` STRING, k STRUCT<a INT64, b ARRAY<STRING>>)
        PARTITION BY DATE(ts) CLUSTER BY `my col` OPTIONS(description='all of it', labels=[('team', 'a')])"""
    )
    table = engine.catalog.table(Ref("shop", "t"))
    assert [(column.name, str(column.type), column.not_null, column.description) for column in table.columns] == [
        ("ts", "TIMESTAMP", True, "when"),
        ("my col", "STRING", False, ""),
        ("k", "STRUCT<a INT64, b ARRAY<STRING>>", False, ""),
    ]
    assert (table.partition_by, table.cluster_by) == ("DATE(ts)", ("`my col`",))
    assert table.options["description"] == "all of it"
    assert rows(engine, "SELECT * FROM shop.t") == []
    engine.execute("CREATE TABLE shop.u LIKE shop.t")
    assert engine.catalog.table(Ref("shop", "u")).columns == table.columns


def test_create_table_says_what_to_do_when_it_exists(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.t AS SELECT 1 AS x")
    with pytest.raises(AlreadyExistsError, match=r"Already Exists: Table shop\.t"):
        engine.execute("CREATE TABLE shop.t AS SELECT 2 AS x")
    assert "exists already" in engine.execute("CREATE TABLE IF NOT EXISTS shop.t AS SELECT 2 AS x").message
    assert rows(engine, "SELECT * FROM shop.t") == [(1,)]
    engine.execute("CREATE OR REPLACE TABLE shop.t AS SELECT x + 1 AS x, 'new' AS y FROM shop.t")
    assert rows(engine, "SELECT * FROM shop.t") == [(2, "new")]


def test_a_table_is_not_made_when_its_query_fails(engine: Engine) -> None:
    with pytest.raises(SqlError, match="division by zero"):
        engine.execute("CREATE TABLE shop.t AS SELECT 1 / (x - 3) AS y FROM UNNEST([1, 2, 3]) AS x")
    assert engine.catalog.tables("shop") == []
    engine.execute("CREATE TABLE shop.t AS SELECT 1 AS y")


def test_a_column_that_must_not_be_null_is_checked(engine: Engine) -> None:
    with pytest.raises(SqlError, match="Required field x cannot be null"):
        engine.execute("CREATE TABLE shop.t (y INT64, x INT64 NOT NULL) AS SELECT 1 AS y, NULL AS x")
    engine.execute("CREATE TABLE shop.t (y INT64, x INT64 NOT NULL) AS SELECT NULL AS y, 1 AS x")
    assert rows(engine, "SELECT * FROM shop.t") == [(None, 1)]


def test_columns_are_added_dropped_and_renamed(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.t AS SELECT 1 AS x, 'a' AS y")
    engine.execute("ALTER TABLE shop.t ADD COLUMN z DATE, ADD COLUMN IF NOT EXISTS x INT64")
    engine.execute("INSERT INTO shop.t VALUES (2, 'b', DATE '2026-01-02')")
    assert rows(engine, "SELECT * FROM shop.t ORDER BY x") == [(1, "a", None), (2, "b", dt.date(2026, 1, 2))]
    engine.execute("ALTER TABLE shop.t DROP COLUMN y; ALTER TABLE shop.t RENAME COLUMN z TO day")
    assert rows(engine, "SELECT * FROM shop.t ORDER BY x") == [(1, None), (2, dt.date(2026, 1, 2))]
    engine.execute("ALTER TABLE shop.t ADD COLUMN y STRING")
    assert rows(engine, "SELECT y FROM shop.t") == [(None,), (None,)]  # not the values of the y before
    engine.execute("ALTER TABLE shop.t SET OPTIONS(description='new')")
    assert engine.catalog.table(Ref("shop", "t")).options["description"] == "new"


def test_truncate_empties_a_table(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.t AS SELECT 1 AS x; TRUNCATE TABLE shop.t")
    assert rows(engine, "SELECT COUNT(*), SUM(x) FROM shop.t") == [(0, None)]


def test_schemas_are_made_and_dropped(engine: Engine) -> None:
    engine.execute(
        "CREATE SCHEMA a; CREATE SCHEMA IF NOT EXISTS `project.a`; CREATE TABLE a.t AS SELECT 1 AS x; CREATE VIEW a.v AS SELECT 2 AS y"
    )
    with pytest.raises(SokujiError, match="t, v"):
        engine.execute("DROP SCHEMA a")
    engine.execute("DROP SCHEMA a CASCADE; DROP SCHEMA IF EXISTS a")
    assert engine.catalog.datasets() == ["shop"]
    with pytest.raises(NotFoundError):
        engine.execute("DROP SCHEMA a")


def test_dropped_tables_are_gone(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.t AS SELECT 1 AS x; CREATE VIEW shop.v AS SELECT 1 AS x")
    with pytest.raises(SqlError, match=r"shop\.v is a view; use DROP VIEW"):
        engine.execute("DROP TABLE shop.v")
    engine.execute("DROP TABLE shop.t; DROP VIEW shop.v; DROP TABLE IF EXISTS shop.t")
    with pytest.raises(NotFoundError):
        engine.execute("DROP TABLE shop.t")
    engine.execute("CREATE TABLE shop.t AS SELECT 'other' AS y")
    assert rows(engine, "SELECT * FROM shop.t") == [("other",)]


def test_files_that_vanish_under_a_query_are_no_defect(engine: Engine, tmp_path: Path) -> None:
    engine.execute("CREATE TABLE shop.t AS SELECT 1 AS x")
    for file in (tmp_path / "lake").rglob("*.parquet"):
        file.unlink()
    with pytest.raises(DamagedFileError, match=r"\.parquet is damaged: it is missing"):
        rows(engine, "SELECT x FROM shop.t")


def test_tables_are_read_as_of_a_time(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.t AS SELECT 1 AS x")
    [(then,)] = rows(engine, "SELECT CURRENT_TIMESTAMP()")
    engine.execute("INSERT INTO shop.t VALUES (2)")
    assert rows(engine, "SELECT x FROM shop.t FOR SYSTEM_TIME AS OF @then", {"then": then}) == [(1,)]
    assert rows(engine, "SELECT x FROM shop.t FOR SYSTEM_TIME AS OF ?", [then]) == [(1,)]
    sql = "SELECT COUNT(*) FROM shop.t AS now, shop.t AS before FOR SYSTEM_TIME AS OF TIMESTAMP_ADD(@then, INTERVAL 0 SECOND)"
    assert rows(engine, sql, {"then": then}) == [(2,)]
    with pytest.raises(LakeError, match="did not exist yet"):
        rows(engine, "SELECT x FROM shop.t FOR SYSTEM_TIME AS OF TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 1 HOUR)")


def test_the_catalog_can_be_asked(engine: Engine) -> None:
    engine.execute("CREATE SCHEMA a; CREATE TABLE a.t (x INT64 NOT NULL, k STRUCT<b STRING>); CREATE VIEW a.v AS SELECT 1 AS y")
    assert rows(engine, "SELECT schema_name FROM INFORMATION_SCHEMA.SCHEMATA ORDER BY 1") == [("a",), ("shop",)]
    tables = "SELECT table_name, table_type FROM a.INFORMATION_SCHEMA.TABLES ORDER BY table_name"
    assert rows(engine, tables) == [("t", "BASE TABLE"), ("v", "VIEW")]
    columns = (
        "SELECT column_name, ordinal_position, is_nullable, data_type FROM `project.a.INFORMATION_SCHEMA.COLUMNS` WHERE table_name = 't'"
    )
    assert rows(engine, f"{columns} ORDER BY 2") == [("x", 1, "NO", "INT64"), ("k", 2, "YES", "STRUCT<b STRING>")]


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("CREATE TABLE shop.t (x STRING(10))", "parameterized types"),
        ("CREATE TABLE shop.t (x INT64 DEFAULT 1)", "DEFAULT"),
        ("CREATE TABLE FUNCTION shop.f(x INT64) AS (SELECT x)", "CREATE TABLE FUNCTION"),
        ("BEGIN TRANSACTION", "BEGIN"),
        ("EXPORT DATA OPTIONS(uri='x') AS SELECT 1", "EXPORT DATA"),
        ("CREATE MODEL shop.m OPTIONS(model_type='kmeans') AS SELECT 1 AS x", "CREATE MODEL"),
    ],
)
def test_what_does_not_run_here_is_named(engine: Engine, sql: str, what: str) -> None:
    with pytest.raises(UnsupportedSqlError, match=what):
        engine.execute(sql)


def test_a_table_needs_a_dataset(engine: Engine) -> None:
    with pytest.raises(SqlError, match='"t" must be qualified with a dataset'):
        engine.execute("CREATE TABLE t (x INT64)")
    with pytest.raises(NotFoundError, match="Dataset nothing"):
        engine.execute("CREATE TABLE nothing.t (x INT64)")


def test_handlers_get_the_resolved_statement_and_may_query(engine: Engine, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def create_model(statement: Any, sql: str, queries: Queries) -> Result:
        seen["options"] = queries.option_values(statement.option_list)
        seen["rows"] = queries.run_query(statement.output_column_list, statement.query).rows()
        seen["sql"] = sql
        return Result((), message="trained")

    handlers = {"resolved_create_model_stmt_node": create_model}
    options = "MODEL_TYPE='kmeans', hidden=[8, 4], weights=[STRUCT('a' AS label, 0.5 AS weight)]"
    sql = f"CREATE MODEL shop.m OPTIONS({options}) AS SELECT @x + 1 AS y"
    with Engine(engine.catalog, engine.lake, DuckDb([], tmp_path), handlers=handlers) as other:
        assert other.execute(f"SELECT 1; {sql}", {"x": 1}).message == "trained"
    assert seen["options"] == {"model_type": "kmeans", "hidden": [8, 4], "weights": [{"label": "a", "weight": 0.5}]}
    assert seen["rows"] == [(2,)]
    assert seen["sql"] == sql


def test_date_formats_that_the_analyzers_c_library_lacks(engine: Engine) -> None:
    moments = "UNNEST([TIMESTAMP '2026-01-02 03:04:05+00', '2026-01-02 13:04:05+00']) AS t"
    written = rows(engine, f"SELECT FORMAT_TIMESTAMP('%%k%k|%l%P|%F', t), FORMAT_TIME('%l %P', TIME(t)) FROM {moments} ORDER BY t")
    assert written == [("%k 3| 3am|2026-01-02", " 3 am"), ("%k13| 1pm|2026-01-02", " 1 pm")]
    with pytest.raises(SqlError, match="needs a constant format"):
        rows(engine, f"SELECT FORMAT_TIMESTAMP(f, t) FROM {moments}, UNNEST(['%k']) AS f")
    read = rows(
        engine, "SELECT PARSE_DATE('%F', '2026-01-02'), PARSE_TIMESTAMP('%F %l:%M %P', '2026-01-02 11:30 pm'), PARSE_TIME('%k', '9')"
    )
    assert read == [(dt.date(2026, 1, 2), dt.datetime(2026, 1, 2, 23, 30, tzinfo=dt.UTC), dt.time(9))]


def test_json_constants_stay_json(engine: Engine) -> None:
    sql = """SELECT TO_JSON_STRING(JSON '{"a": 1}'), STRING(JSON '"2026"'), FLOAT64(JSON '1.5'), JSON_TYPE(JSON '[1]')"""
    assert rows(engine, sql) == [('{"a":1}', "2026", 1.5, "array")]


def test_any_value_prefers_a_value_to_null(engine: Engine) -> None:
    assert rows(engine, "SELECT ANY_VALUE(x) FROM UNNEST([NULL, 7, NULL]) AS x") == [(7,)]


def test_a_parameter_is_a_constant_to_functions_that_need_one(engine: Engine) -> None:
    parameters = {"json": '{"a": [1, 2]}', "path": "$.a", "by": "-", "zone": "Asia/Tokyo"}
    sql = """SELECT JSON_QUERY(@json, @path), STRING_AGG(x, @by ORDER BY x), DATE(TIMESTAMP '2026-01-01 20:00:00+00', @zone)
        FROM UNNEST(['a', 'b']) AS x"""
    assert rows(engine, sql, parameters) == [("[1,2]", "a-b", dt.date(2026, 1, 2))]


def test_base32(engine: Engine) -> None:
    assert rows(engine, "SELECT TO_BASE32(b'abc'), FROM_BASE32('MFRGG==='), TO_BASE32(NULL)") == [("MFRGG===", b"abc", None)]
    with pytest.raises(SqlError, match="invalid base32"):
        rows(engine, "SELECT FROM_BASE32('!')")


def test_a_wildcard_table_is_all_tables_whose_names_begin_alike(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.events_20260101 AS SELECT 1 AS n")
    engine.execute("CREATE TABLE shop.events_20260102 AS SELECT 2 AS n, 'new' AS label")
    engine.execute("CREATE VIEW shop.events_view AS SELECT 9 AS n")
    assert rows(engine, "SELECT * FROM `shop.events_*` ORDER BY n") == [(1, None), (2, "new")]
    suffixes = "SELECT _TABLE_SUFFIX, SUM(n) FROM `project.shop.events_2026*` WHERE _TABLE_SUFFIX > '0101' GROUP BY 1"
    assert rows(engine, suffixes) == [("0102", 2)]
    assert rows(engine, "SELECT COUNT(*) FROM `shop.events_*` AS e WHERE e._TABLE_SUFFIX BETWEEN '20260101' AND '20260131'") == [(2,)]
    with pytest.raises(SqlError, match="Table not found"):
        rows(engine, "SELECT * FROM `shop.nothing_*`")
    with pytest.raises(SokujiError):
        rows(engine, "DELETE FROM `shop.events_*` WHERE TRUE")


def test_a_column_may_be_called_as_the_lakes_own_of_tables_with_days(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.t AS SELECT DATE '2026-01-02' AS _day, 1 AS n; INSERT INTO shop.t VALUES ('2026-01-03', 2)")
    engine.execute("UPDATE shop.t SET n = 3 WHERE n = 2; ALTER TABLE shop.t ADD COLUMN z INT64; CREATE TABLE shop.u AS SELECT 7 AS _day")
    engine.lake.maintain([Ref("shop", "t")])
    assert rows(engine, "SELECT * FROM shop.t ORDER BY n") == [(dt.date(2026, 1, 2), 1, None), (dt.date(2026, 1, 3), 3, None)]
    assert rows(engine, "SELECT _day FROM shop.u") == [(7,)]


def test_a_wildcard_reads_no_value_as_one_of_another_type(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.d1 AS SELECT 1 AS n, 2.5 AS x; CREATE TABLE shop.d2 AS SELECT 1.5 AS n, 7 AS x")
    assert rows(engine, "SELECT n FROM `shop.d*` ORDER BY n") == [(1.0,), (1.5,)]
    with pytest.raises(SqlError, match=r"shop\.d\*: column x of shop\.d1 is FLOAT64, and INT64 in the newest of these tables"):
        rows(engine, "SELECT x FROM `shop.d*`")  # 2.5 was 3


def test_a_cast_keeps_to_the_length_and_the_precision_of_its_type(engine: Engine) -> None:
    sql = "SELECT CAST(x AS NUMERIC(5, 2)), SAFE_CAST(x * 1000 AS NUMERIC(5, 2)), SAFE_CAST('abcd' AS STRING(3)) FROM UNNEST([2.375]) AS x"
    assert rows(engine, sql) == [(decimal.Decimal("2.38"), None, None)]
    with pytest.raises(SqlError, match="maximum length 3 but got a value with length 4"):
        rows(engine, "SELECT CAST('abcd' AS STRING(3))")
    with pytest.raises(SqlError, match="not in range"):
        rows(engine, "SELECT CAST(x AS NUMERIC(5, 2)) FROM UNNEST([1000]) AS x")


def test_arrays_are_generated_up_to_bigquerys_limit(engine: Engine) -> None:
    minutes = "GENERATE_TIMESTAMP_ARRAY('2026-01-01 00:00:00+00', '2026-01-31 23:59:00+00', INTERVAL 1 MINUTE)"
    assert rows(engine, f"SELECT ARRAY_LENGTH(GENERATE_ARRAY(1, 1048575)), ARRAY_LENGTH({minutes})") == [(1_048_575, 44_640)]
    with pytest.raises(SqlError, match="more than 1048575 elements"):
        rows(engine, "SELECT GENERATE_ARRAY(0, 1048575)")
