"""CREATE TEMP TABLE: tables that live as long as their script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sokuji.errors import AlreadyExistsError, SqlError
from sokuji.sql.engine import Engine


def results(engine: Engine, script: str, parameters: Any = None) -> list[Any]:
    """The rows of each statement that has some, the single value of each that has just one."""
    found = [result.rows() for result in engine.execute_script(script, parameters) if result.schema]
    return [rows[0][0] if len(rows) == 1 and len(rows[0]) == 1 else rows for rows in found]


def files(folder: Path) -> list[str]:
    return [path.name for path in (folder / "spill").rglob("*") if path.is_file()]


def test_a_temporary_table_is_gone_after_its_script(engine: Engine, tmp_path: Path) -> None:
    assert results(engine, "CREATE TEMP TABLE t AS SELECT 1 AS x; SELECT x FROM t; SELECT x + 1 FROM _SESSION.t") == [1, 2]
    with pytest.raises(SqlError, match='Table "t" must be qualified'):
        results(engine, "SELECT x FROM t")
    assert (engine.catalog.tables(), engine.catalog.datasets(), files(tmp_path)) == ([], ["shop"], [])


def test_it_stays_until_the_last_rows_are_read(engine: Engine, tmp_path: Path) -> None:
    batches = engine.execute("CREATE TEMP TABLE t AS SELECT x FROM UNNEST(GENERATE_ARRAY(1, 300000)) AS x; SELECT x FROM t").batches()
    assert next(batches).num_rows + sum(batch.num_rows for batch in batches) == 300_000
    assert (engine.running(), files(tmp_path)) == ([], [])


def test_its_rows_and_columns_are_changed_like_any_others(engine: Engine) -> None:
    script = """CREATE TEMP TABLE t (x INT64 NOT NULL, y STRING);
        INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c');
        UPDATE t SET y = 'z' WHERE x = 1;
        DELETE FROM t WHERE x = 2;
        MERGE t USING (SELECT 3 AS x UNION ALL SELECT 4) AS s ON t.x = s.x
          WHEN MATCHED THEN UPDATE SET y = 'm' WHEN NOT MATCHED THEN INSERT (x, y) VALUES (x, 'n');
        ALTER TABLE t ADD COLUMN w BOOL;
        ALTER TABLE t RENAME COLUMN y TO v;
        SELECT * FROM t ORDER BY x;
        TRUNCATE TABLE t;
        SELECT COUNT(*) FROM t;
        DROP TABLE t;
        DROP TABLE IF EXISTS _SESSION.t"""
    assert results(engine, script) == [[(1, "z", None), (3, "m", None), (4, "n", None)], 0]


def test_it_stands_beside_other_tables(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.t AS SELECT 1 AS x")
    script = """CREATE TEMP TABLE t AS SELECT x + 1 AS x FROM shop.t;
        CREATE TABLE shop.u AS SELECT t.x + s.x AS x FROM t, shop.t AS s;
        SELECT ARRAY_AGG(x ORDER BY x) FROM (SELECT x FROM t UNION ALL SELECT x FROM shop.t UNION ALL SELECT x FROM shop.u);
        CREATE TEMP FUNCTION most() AS ((SELECT MAX(x) FROM t));
        SELECT most()"""
    assert results(engine, script) == [[1, 2, 3], 2]


def test_procedural_scripts_fill_it(engine: Engine) -> None:
    script = """DECLARE n INT64 DEFAULT 0;
        CREATE TEMP TABLE counted (i INT64);
        WHILE n < 3 DO SET n = n + 1; INSERT INTO counted VALUES (n); END WHILE;
        EXECUTE IMMEDIATE 'SELECT SUM(i) FROM counted' INTO n;
        SELECT n"""
    assert results(engine, script) == [6]


def test_names_of_temporary_tables(engine: Engine) -> None:
    assert results(
        engine, "CREATE TEMP TABLE events AS SELECT 1 AS x; CREATE OR REPLACE TEMP TABLE events AS SELECT 2 AS x; SELECT x FROM events"
    ) == [2]
    assert results(engine, "CREATE TEMP TABLE t AS SELECT 1 AS x; CREATE TEMP TABLE IF NOT EXISTS t AS SELECT 2 AS x; SELECT x FROM t") == [
        1
    ]
    with pytest.raises(AlreadyExistsError, match=r"Table _SESSION\.t"):
        results(engine, "CREATE TEMP TABLE t AS SELECT 1 AS x; CREATE TEMP TABLE t AS SELECT 1 AS x")
    assert results(engine, "CREATE TEMP TABLE _SESSION.t AS SELECT 3 AS x; SELECT x FROM t") == [3]
    with pytest.raises(SqlError, match=r"Use CREATE TEMP TABLE for _SESSION\.t"):
        results(engine, "CREATE TABLE _SESSION.t AS SELECT 1 AS x")
    with pytest.raises(SqlError, match="_SESSION is the name of the dataset of temporary tables"):
        results(engine, "CREATE SCHEMA _SESSION")
    with pytest.raises(SqlError, match="a temporary table has no dataset"):
        results(engine, "CREATE TEMP TABLE shop.t AS SELECT 1 AS x")


@pytest.mark.parametrize("statement", ["CREATE VIEW shop.v AS SELECT x FROM t", "CREATE FUNCTION shop.f() AS ((SELECT MAX(x) FROM t))"])
def test_what_outlives_the_script_cannot_read_it(engine: Engine, statement: str) -> None:
    with pytest.raises(SqlError, match='Table "t" must be qualified'):
        results(engine, f"CREATE TEMP TABLE t AS SELECT 1 AS x; {statement}")


def test_two_scripts_have_their_own(engine: Engine) -> None:
    first = engine.execute_script("CREATE TEMP TABLE t AS SELECT 1 AS x; SELECT x FROM t; SELECT x FROM t")
    second = engine.execute_script("CREATE TEMP TABLE t AS SELECT 'b' AS y; SELECT y FROM t")
    next(first), next(second)
    assert next(first).rows() == [(1,)]
    assert next(second).rows() == [("b",)]
    assert next(first).rows() == [(1,)]
