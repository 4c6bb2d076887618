"""INSERT, UPDATE, DELETE, MERGE: the table's content afterwards, and the result of the statement."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from sokuji.errors import SqlError, UnsupportedSqlError
from sokuji.meta.objects import Ref
from sokuji.sql.engine import Engine

Rows = list[tuple[Any, ...]]

START: Rows = [(1, "ann", 10.0), (2, "bob", 20.0), (3, "cyd", None)]


@pytest.fixture
def shop(engine: Engine) -> Engine:
    """`shop.t` with START, `shop.u` with rows for ids 2, 3 and 4, and `shop.wide` with every kind of column."""
    engine.execute("CREATE TABLE shop.t (id INT64 NOT NULL, name STRING, v FLOAT64)")
    engine.execute("INSERT INTO shop.t VALUES (1, 'ann', 10), (2, 'bob', 20), (3, 'cyd', NULL)")
    engine.execute("CREATE TABLE shop.u AS SELECT 2 AS id, 'B' AS name UNION ALL SELECT 3, 'C' UNION ALL SELECT 4, 'D'")
    engine.execute(
        "CREATE TABLE shop.wide (id INT64, s STRUCT<a INT64, b STRUCT<c STRING>>, l ARRAY<INT64>, n NUMERIC, time TIMESTAMP, j JSON)"
    )
    return engine


def rows(engine: Engine, table: str = "shop.t") -> Rows:
    return engine.execute(f"SELECT * FROM {table} ORDER BY id").rows()


@pytest.mark.parametrize(
    ("statement", "changed", "after"),
    [
        ("INSERT shop.t VALUES (4, 'dan', 1.5)", 1, [*START, (4, "dan", 1.5)]),
        ("INSERT shop.t (v, id) VALUES (0, 9), (1, 8)", 2, [*START, (8, None, 1.0), (9, None, 0.0)]),
        ("INSERT shop.t (id, name) VALUES (7, DEFAULT)", 1, [*START, (7, None, None)]),
        ("INSERT shop.t (id) SELECT id + 3 FROM shop.t WHERE id > 1", 2, [*START, (5, None, None), (6, None, None)]),
        ("INSERT shop.t (id, name) VALUES ((SELECT MAX(id) + 1 FROM shop.t), CONCAT('e', 'f'))", 1, [*START, (4, "ef", None)]),
        ("INSERT shop.t SELECT * FROM shop.t WHERE FALSE", 0, START),
        ("UPDATE shop.t SET v = v + 1 WHERE id < 3", 2, [(1, "ann", 11.0), (2, "bob", 21.0), (3, "cyd", None)]),
        ("UPDATE shop.t SET name = 'x', v = DEFAULT WHERE v IS NULL", 1, [*START[:2], (3, "x", None)]),
        ("UPDATE shop.t SET v = 0 WHERE v > 15 OR NULL", 1, [START[0], (2, "bob", 0.0), START[2]]),
        ("UPDATE shop.t SET id = id + 10, v = id WHERE TRUE", 3, [(11, "ann", 1.0), (12, "bob", 2.0), (13, "cyd", 3.0)]),
        ("UPDATE shop.t SET name = u.name FROM shop.u AS u WHERE t.id = u.id", 2, [START[0], (2, "B", 20.0), (3, "C", None)]),
        ("UPDATE shop.t SET v = (SELECT COUNT(*) FROM shop.u WHERE u.id > t.id) WHERE id = 3", 1, [*START[:2], (3, "cyd", 1.0)]),
        ("UPDATE shop.t SET v = 1 WHERE id IN (SELECT id FROM shop.u)", 2, [START[0], (2, "bob", 1.0), (3, "cyd", 1.0)]),
        ("UPDATE shop.t SET v = 1 WHERE FALSE", 0, START),
        ("DELETE FROM shop.t WHERE v > 5", 2, [START[2]]),
        ("DELETE shop.t WHERE TRUE", 3, []),
        ("DELETE shop.t WHERE NOT EXISTS (SELECT 1 FROM shop.u WHERE u.id = t.id)", 1, START[1:]),
        ("DELETE shop.t WHERE NULL", 0, START),
        (
            (
                "MERGE shop.t USING shop.u ON t.id = u.id WHEN MATCHED THEN UPDATE SET name = u.name "
                "WHEN NOT MATCHED THEN INSERT (id, name) VALUES (id, name)"
            ),
            3,
            [START[0], (2, "B", 20.0), (3, "C", None), (4, "D", None)],
        ),
        (
            (
                "MERGE shop.t USING shop.u ON t.id = u.id WHEN MATCHED AND u.id = 3 THEN DELETE "
                "WHEN MATCHED THEN UPDATE SET v = v * 2 WHEN NOT MATCHED BY SOURCE THEN UPDATE SET name = 'left'"
            ),
            3,
            [(1, "left", 10.0), (2, "bob", 40.0)],
        ),
        ("MERGE shop.t USING shop.u ON FALSE WHEN NOT MATCHED BY SOURCE AND v IS NULL THEN DELETE", 1, START[:2]),
        (
            (
                "MERGE shop.t USING (SELECT id * 10 AS id, name, 0.5 AS v FROM shop.u) AS n ON t.id = n.id "
                "WHEN NOT MATCHED AND n.id = 20 THEN INSERT ROW WHEN NOT MATCHED AND n.id = 30 THEN INSERT (id) VALUES (30)"
            ),
            2,
            [*START, (20, "B", 0.5), (30, None, None)],
        ),
        ("MERGE shop.t USING shop.u ON t.id = u.id WHEN MATCHED AND FALSE THEN DELETE", 0, START),
        ("MERGE shop.t USING (SELECT 1 AS id UNION ALL SELECT 1) AS n ON t.id = n.id WHEN MATCHED AND t.id = 2 THEN DELETE", 0, START),
        ("TRUNCATE TABLE shop.t", None, []),
    ],
)
def test_what_a_statement_does(shop: Engine, statement: str, changed: int | None, after: Rows) -> None:
    result = shop.execute(statement)
    assert result.rows_affected == changed
    assert changed is None or f" {changed} row{'' if changed == 1 else 's'} " in result.message
    assert rows(shop) == after


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("INSERT shop.t (name) VALUES ('x')", "Required field id cannot be null"),
        ("INSERT shop.t (id, v) SELECT id, 1 / (id - 2) FROM shop.u", "division by zero"),
        ("INSERT shop.wide (l) VALUES ([1, NULL])", "Array cannot have a null element"),
        ("UPDATE shop.t SET id = NULL WHERE id = 3", "Required field id cannot be null"),
        ("UPDATE shop.t SET name = u.name FROM shop.u WHERE t.id < u.id", "must match at most one source row for each target row"),
        ("MERGE shop.t USING shop.u ON t.id < u.id WHEN MATCHED THEN DELETE", "must match at most one source row for each target row"),
        ("DELETE shop.t WHERE 1 / (id - 3) > 0", "division by zero"),
        ("DELETE FROM shop.t", "must have a WHERE clause"),
        ("INSERT shop.t (id, id) VALUES (1, 2)", "columns with duplicate name"),
    ],
)
def test_an_error_leaves_the_table_as_it_was(shop: Engine, statement: str, message: str) -> None:
    with pytest.raises(SqlError, match=message):
        shop.execute(statement)
    assert rows(shop) == START


def test_parts_of_a_struct_are_set_one_by_one(shop: Engine) -> None:
    shop.execute("INSERT shop.wide (id, s) VALUES (1, (5, STRUCT('x'))), (2, NULL)")
    shop.execute("UPDATE shop.wide SET s.a = s.a + 1, s.b.c = 'y', l = [id], n = 0.5, time = '2024-01-01 00:00:00+00' WHERE TRUE")
    assert shop.execute("SELECT id, s, l, n = 0.5, UNIX_SECONDS(time) FROM shop.wide ORDER BY id").rows() == [
        (1, {"a": 6, "b": {"c": "y"}}, [1], True, 1704067200),
        (2, {"a": None, "b": {"c": "y"}}, [2], True, 1704067200),
    ]


def test_arrays_are_stored_as_bigquery_stores_them(shop: Engine) -> None:
    shop.execute("INSERT shop.wide (id, l, j) VALUES (1, NULL, JSON '{\"k\": [1]}')")
    assert shop.execute("SELECT l, ARRAY_LENGTH(l), j.k[0] FROM shop.wide").rows() == [([], 0, "1")]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("INSERT shop.t (id) VALUES (1) THEN RETURN id", "THEN RETURN"),
        ("INSERT OR IGNORE shop.t (id) VALUES (1)", "INSERT OR IGNORE"),
        ("UPDATE shop.wide SET l[OFFSET(0)] = 1 WHERE TRUE", "elements of an ARRAY"),
    ],
)
def test_what_does_not_run_says_so(shop: Engine, statement: str, message: str) -> None:
    with pytest.raises(UnsupportedSqlError, match=message):
        shop.execute(statement)


def test_views_cannot_be_changed(shop: Engine) -> None:
    shop.execute("CREATE VIEW shop.view AS SELECT * FROM shop.t")
    with pytest.raises(SqlError, match=r"shop.view is a view"):
        shop.execute("DELETE shop.view WHERE TRUE")


def test_parameters_reach_a_change(shop: Engine) -> None:
    shop.execute("UPDATE shop.t SET name = @name WHERE id = @id", {"name": "it's", "id": 2})
    assert rows(shop)[1] == (2, "it's", 20.0)


def test_a_change_that_does_nothing_commits_nothing(shop: Engine) -> None:
    before = shop.lake.snapshot(Ref("shop", "t")).version
    shop.execute("DELETE shop.t WHERE id = 99")
    shop.execute("INSERT shop.t SELECT * FROM shop.t WHERE FALSE")
    assert shop.lake.snapshot(Ref("shop", "t")).version == before


def test_changes_at_the_same_time_are_all_made(shop: Engine) -> None:
    def add(ids: Sequence[int]) -> None:
        for id_ in ids:
            shop.execute(f"UPDATE shop.t SET v = COALESCE(v, 0) + 1 WHERE id = {id_}")

    threads = [threading.Thread(target=add, args=([id_] * 3,)) for id_ in (1, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [v for _, _, v in rows(shop)] == [13.0, 20.0, 3.0]
