"""Several processes change one table's columns and rows at the same time: all acknowledged changes are there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from sokuji.errors import AlreadyExistsError
from sokuji.lake.delta.tables import DeltaLake
from sokuji.meta.objects import Ref
from sokuji.sql.engine import Engine
from tests.lake.duck import select


def together(folder: Path, *tasks: tuple[str, str, int]) -> list[list[str]]:
    """What each task acknowledged; they begin at once."""
    command = [sys.executable, "-m", "tests.sql.altering", str(folder)]
    processes = [
        subprocess.Popen([*command, name, task, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name, task, count in tasks
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate()[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return outputs


@pytest.mark.e2e
@pytest.mark.parametrize("count", [6, pytest.param(50, marks=pytest.mark.long)])
def test_every_acknowledged_column_is_there(engine: Engine, tmp_path: Path, count: int) -> None:
    engine.execute("CREATE TABLE shop.t AS SELECT 1 AS id")
    added = together(tmp_path, *((f"p{number}", "add", count) for number in range(4)))
    columns = [column.name for column in engine.catalog.table(Ref("shop", "t")).columns]
    assert sorted(columns) == sorted(["id", *(name for names in added for name in names)])
    assert [len(names) for names in added] == [count] * 4
    assert pa.schema(DeltaLake(tmp_path / "lake").snapshot(Ref("shop", "t")).schema).names == columns


@pytest.mark.e2e
@pytest.mark.parametrize("count", [8, pytest.param(40, marks=pytest.mark.long)])
def test_no_acknowledged_value_is_lost_to_a_rename(engine: Engine, tmp_path: Path, count: int) -> None:
    engine.execute("CREATE TABLE shop.t (id STRING, v STRING)")
    first, second, renames = together(tmp_path, ("a", "insert", count), ("b", "insert", count), ("r", "rename", count))
    assert [column.name for column in engine.catalog.table(Ref("shop", "t")).columns] == ["id", renames[-1]]
    stored = select(DeltaLake(tmp_path / "lake").snapshot(Ref("shop", "t")), ("id", renames[-1]))
    assert sorted(stored) == sorted((name, name) for name in [*first, *second])
    assert [len(first), len(second)] == [count, count]


@pytest.mark.parametrize(
    ("statement", "result"),
    [
        ("SELECT id, a FROM shop.t", [(1, None)]),
        ("INSERT shop.t (id, a) VALUES (2, 3); SELECT a FROM shop.t WHERE id = 2", [(3,)]),
        ("UPDATE shop.t SET a = 7 WHERE id = 1; SELECT a FROM shop.t", [(7,)]),
        ("CREATE VIEW shop.v AS SELECT a FROM shop.t; SELECT * FROM shop.v", [(None,)]),
        ("SELECT MAX(x.a) FROM (SELECT * FROM shop.t) AS x", [(None,)]),
    ],
)
def test_a_column_is_there_though_who_added_it_was_killed_before_the_catalog_had_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, statement: str, result: list[tuple[object, ...]]
) -> None:
    engine.execute("CREATE TABLE shop.t AS SELECT 1 AS id")
    with monkeypatch.context() as killed:
        killed.setattr(type(engine.catalog), "put_table", lambda *_, **__: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            engine.execute("ALTER TABLE shop.t ADD COLUMN a INT64")
    assert engine.execute(statement).rows() == result


@pytest.mark.parametrize("create", ["CREATE TABLE shop.t AS SELECT 2 AS id", "CREATE OR REPLACE TABLE shop.t (id INT64)"])
def test_a_table_whose_maker_was_killed_says_how_to_go_on(engine: Engine, monkeypatch: pytest.MonkeyPatch, create: str) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(type(engine.catalog), "put_table", lambda *_, **__: 1 // 0)
        killed.setattr(type(engine.lake), "drop", lambda *_: None)
        with pytest.raises(ZeroDivisionError):
            engine.execute("CREATE TABLE shop.t AS SELECT 1 AS id")
    with pytest.raises(AlreadyExistsError, match=r"shop\.t already exists in the lake, and the catalog does not know it.*`sokuji adopt`"):
        engine.execute(create)
