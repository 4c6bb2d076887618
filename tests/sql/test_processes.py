"""Several processes change one table's columns and rows at the same time: what was acknowledged is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from sokuji.lake.delta import DeltaLake
from sokuji.meta.base import Ref
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
    assert first
