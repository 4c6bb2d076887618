"""Old versions of tables have their old columns, whatever was renamed, dropped, added or created again since."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sokuji.errors import LakeError, SqlError, UnsupportedSqlError
from sokuji.meta.objects import Column, Ref, Table, TableKind
from sokuji.sql.duckdb.backend import DuckDb
from sokuji.sql.engine import Engine
from sokuji.types import INT64, JSON, STRING
from tests.lake.platform import Lakeside, lakeside

Run = Callable[..., list[Any]]


@pytest.fixture
def run(engine: Engine) -> Run:
    return lambda sql, parameters=None: engine.execute(sql, parameters).rows()


def moment() -> dt.datetime:
    """A time before which everything so far happened, and after which everything further happens."""
    time.sleep(0.005)  # commits are dated in milliseconds
    now = dt.datetime.now(dt.UTC)
    time.sleep(0.005)
    return now


@pytest.fixture
def then(run: Run) -> dt.datetime:
    """When `shop.t` had the columns a and b; since then b is c, a is gone, d is new, and b is another column again."""
    run("CREATE TABLE shop.t AS SELECT 1 AS a, 'one' AS b")
    at = moment()
    for change in ("RENAME COLUMN b TO c", "DROP COLUMN a", "ADD COLUMN d INT64", "ADD COLUMN b FLOAT64"):
        run(f"ALTER TABLE shop.t {change}")
    run("INSERT INTO shop.t (c, d, b) VALUES ('two', 2, 0.5)")
    return at


def test_an_old_version_has_the_columns_it_had(run: Run, then: dt.datetime) -> None:
    at = {"at": then}
    assert run("SELECT * FROM shop.t FOR SYSTEM_TIME AS OF @at", at) == [(1, "one")]
    assert run("SELECT t.b, t.a FROM shop.t FOR SYSTEM_TIME AS OF @at", at) == [("one", 1)]
    assert run("SELECT x.b FROM `shop.t` AS x FOR SYSTEM_TIME AS OF TIMESTAMP_SUB(@at, INTERVAL 0 SECOND)", at) == [("one",)]
    assert run("SELECT `shop.t`.b FROM `shop.t` FOR SYSTEM_TIME AS OF @at WHERE a = 1", at) == [("one",)]
    assert run("SELECT * FROM shop.t ORDER BY c") == [("one", None, None), ("two", 2, 0.5)]
    with pytest.raises(SqlError, match=r"Unrecognized name: d \[at 1:8\]"):
        run("SELECT d FROM shop.t FOR SYSTEM_TIME AS OF @at", at)


def test_now_and_then_in_one_statement(run: Run, then: dt.datetime) -> None:
    sql = """
        SELECT now.c, t.b, ? FROM shop.t FOR SYSTEM_TIME AS OF ?
        JOIN shop.t AS now ON now.c = t.b JOIN shop.t AS also FOR SYSTEM_TIME AS OF ? ON also.a = t.a WHERE t.a = ?
    """
    assert run(sql, [7, then, then, 1]) == [("one", "one", 7)]
    later = "SELECT COUNT(*) FROM shop.t FOR SYSTEM_TIME AS OF @at WHERE c IS NOT NULL AND b IS NULL"
    assert run(later, {"at": moment()}) == [(1,)]


def test_another_type_is_not_read_as_the_one_of_now(run: Run) -> None:
    run("CREATE TABLE shop.u AS SELECT 'x' AS v, JSON '{\"k\": 1}' AS j, TIME '12:30:00' AS t")
    at = {"at": moment()}
    run("CREATE OR REPLACE TABLE shop.u AS SELECT 5 AS v, 'text' AS j, 1 AS t")
    sql = "SELECT v || 'y', JSON_VALUE(j, '$.k'), EXTRACT(HOUR FROM t) FROM shop.u FOR SYSTEM_TIME AS OF @at"
    assert run(sql, at) == [("xy", "1", 12)]
    assert run("SELECT v + 1, j || '!' FROM shop.u") == [(6, "text!")]


def test_subqueries_of_statements_that_change_rows(run: Run, then: dt.datetime) -> None:
    at = {"at": then}
    run("UPDATE shop.t SET d = (SELECT MAX(a) FROM shop.t FOR SYSTEM_TIME AS OF @at) WHERE c = 'one'", at)
    run("DELETE FROM shop.t WHERE c NOT IN (SELECT b FROM shop.t FOR SYSTEM_TIME AS OF @at)", at)
    run("INSERT INTO shop.t (c, d) SELECT b, a + 10 FROM shop.t FOR SYSTEM_TIME AS OF @at", at)
    run(
        """MERGE shop.t USING (SELECT * FROM shop.t FOR SYSTEM_TIME AS OF @at) AS old ON t.d = old.a
        WHEN MATCHED THEN UPDATE SET d = 3""",
        at,
    )
    assert run("SELECT c, d FROM shop.t ORDER BY d") == [("one", 3), ("one", 11)]
    run("CREATE TABLE shop.back AS SELECT * FROM shop.t FOR SYSTEM_TIME AS OF @at", at)
    assert run("SELECT * FROM shop.back") == [(1, "one")]


def test_a_view_over_an_old_version_and_a_script(run: Run, then: dt.datetime) -> None:
    literal = f"TIMESTAMP '{then.isoformat()}'"
    run(f"CREATE VIEW shop.v AS SELECT a, t.b AS was FROM shop.t FOR SYSTEM_TIME AS OF {literal}")
    assert run("SELECT was, a FROM shop.v") == [("one", 1)]
    script = f"DECLARE moment TIMESTAMP DEFAULT {literal}; SELECT b FROM shop.t FOR SYSTEM_TIME AS OF moment WHERE a = 1;"
    assert run(script) == [("one",)]
    with pytest.raises(UnsupportedSqlError, match=r"the view shop\.v: use it on the tables inside"):
        run("SELECT * FROM shop.v FOR SYSTEM_TIME AS OF @at", {"at": then})
    with pytest.raises(UnsupportedSqlError, match="use it on the tables inside"):
        run("SELECT * FROM shop.INFORMATION_SCHEMA.TABLES FOR SYSTEM_TIME AS OF @at", {"at": then})


def test_a_function_reads_an_old_version_only_with_columns_that_it_had(run: Run, then: dt.datetime) -> None:
    literal = f"TIMESTAMP '{then.isoformat()}'"
    run("CREATE TABLE shop.k AS SELECT 1 AS n")
    at = f"TIMESTAMP '{moment().isoformat()}'"
    run("INSERT INTO shop.k VALUES (2)")
    run(f"CREATE FUNCTION shop.f() AS ((SELECT MAX(n) FROM shop.k FOR SYSTEM_TIME AS OF {at}))")
    assert run("SELECT shop.f()") == [(1,)]
    for now in ("CURRENT_TIMESTAMP()", "TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 0 SECOND)"):
        run(f"CREATE OR REPLACE FUNCTION shop.now() AS ((SELECT MAX(n) FROM shop.k FOR SYSTEM_TIME AS OF {now}))")
        assert run("SELECT 1 + shop.now() AS a_place_in_the_text_that_is_not_the_one_in_the_body") == [(3,)]
    run("CREATE FUNCTION shop.at(t TIMESTAMP) AS ((SELECT MAX(n) FROM shop.k FOR SYSTEM_TIME AS OF t))")
    with pytest.raises(SqlError, match="an argument of a function cannot stand there"):
        run("SELECT shop.at(CURRENT_TIMESTAMP())")
    run(f"CREATE FUNCTION shop.g() AS ((SELECT MAX(c) FROM shop.t FOR SYSTEM_TIME AS OF {literal}))")
    with pytest.raises(SqlError, match=r"shop\.t had no column c of type STRING at 20"):
        run("SELECT shop.g()")


def test_wildcards_have_the_columns_of_the_newest_table_of_then(run: Run, then: dt.datetime) -> None:
    run("CREATE TABLE shop.d1 AS SELECT 1 AS x, 'a' AS y; CREATE TABLE shop.d2 AS SELECT 2 AS x, 'b' AS y")
    at = {"at": moment()}
    run("ALTER TABLE shop.d2 RENAME COLUMN y TO z; CREATE TABLE shop.d3 AS SELECT 3 AS other")
    assert run("SELECT x, y, _TABLE_SUFFIX FROM `shop.d*` FOR SYSTEM_TIME AS OF @at ORDER BY x", at) == [(1, "a", "1"), (2, "b", "2")]
    assert run("SELECT other FROM `shop.d*` WHERE other > 0") == [(3,)]
    with pytest.raises(LakeError, match="did not exist yet"):
        run("SELECT * FROM `shop.d*` FOR SYSTEM_TIME AS OF @at", {"at": then})


def test_a_time_must_be_one(run: Run, then: dt.datetime) -> None:
    with pytest.raises(SqlError, match="needs a TIMESTAMP, and not NULL"):
        run("SELECT * FROM shop.t FOR SYSTEM_TIME AS OF CAST(NULL AS TIMESTAMP)")
    with pytest.raises(SqlError, match=r"Table not found: shop\.nothing"):
        run("SELECT * FROM shop.nothing FOR SYSTEM_TIME AS OF @at", {"at": then})


def test_a_table_from_before_columns_were_kept_in_the_lake_goes_on(engine: Engine, run: Run) -> None:
    columns = (Column("id", INT64), Column("info", JSON), Column("late", STRING))
    ref = Ref("shop", "old")
    engine.lake.create(ref, pa.schema([("id", pa.int64()), ("info", pa.string())]))
    engine.lake.append(ref, pa.table({"id": [1], "info": ['{"k": 5}']}).to_reader())
    engine.catalog.put_table(Table(ref, TableKind.TABLE, columns))  # `late` was added, which changed the catalog only
    assert run("SELECT id, JSON_VALUE(info, '$.k'), late FROM shop.old") == [(1, "5", None)]
    run("INSERT INTO shop.old VALUES (2, JSON '[]', 'here')")
    run("ALTER TABLE shop.old ADD COLUMN more INT64")
    assert [column.name for column in engine.catalog.table(ref).columns] == ["id", "info", "late", "more"]
    at = {"at": moment()}
    run("ALTER TABLE shop.old RENAME COLUMN info TO data")
    assert run("SELECT JSON_VALUE(info, '$.k'), late, more FROM shop.old FOR SYSTEM_TIME AS OF @at ORDER BY id", at) == [
        ("5", None, None),
        (None, "here", None),
    ]
    assert run("SELECT JSON_VALUE(data, '$.k') FROM shop.old WHERE id = 1") == [("5",)]


def test_an_events_table_before_a_column_came(tmp_path: Path) -> None:
    with lakeside(tmp_path) as side, _engine(side) as engine:
        side.track({"message_id": "m1", "properties": {"revenue": 5}})
        side.drain()
        at = {"at": moment()}
        side.track({"message_id": "m2", "properties": {"coupon": "x"}})
        side.drain()
        side.track({"message_id": "m3", "properties": {"coupon": "y"}})  # in the log only
        assert engine.execute("SELECT revenue FROM shop.events FOR SYSTEM_TIME AS OF @at", at).rows() == [(5.0,)]
        assert engine.execute("SELECT coupon FROM shop.events ORDER BY coupon").rows() == [(None,), ("x",), ("y",)]
        with pytest.raises(SqlError, match="Unrecognized name: coupon"):
            engine.execute("SELECT coupon FROM shop.events FOR SYSTEM_TIME AS OF @at", at)


def _engine(side: Lakeside) -> Engine:
    return Engine(side.catalog, side.tables, DuckDb([side.folder / "lake"], side.folder / "spill"), acknowledged=side.fresh)
