"""Statements on `shop.t` as a separate process: `altering FOLDER NAME TASK COUNT` prints the acknowledged statements.

`add` adds columns called NAME_0, ...; `insert` inserts rows whose number is in the only column besides `id`; `rename` renames that column.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sokuji.errors import SokujiError
from sokuji.lake.delta.tables import DeltaLake
from sokuji.meta.store import SqlCatalog
from sokuji.sql.duckdb.backend import DuckDb
from sokuji.sql.engine import Engine


def main(folder: Path, name: str, task: str, count: int) -> None:
    """Do the task `count` times."""
    lake = folder / "lake"
    with (
        SqlCatalog(f"sqlite:///{folder}/catalog.db") as catalog,
        Engine(catalog, DeltaLake(lake), DuckDb([lake], folder / "spill")) as engine,
    ):
        engine.execute("SELECT COUNT(*) FROM shop.t").rows()
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(count):
            _STEPS[task](engine, f"{name}_{number}")


def _add(engine: Engine, name: str) -> None:
    engine.execute(f"ALTER TABLE shop.t ADD COLUMN {name} INT64")
    print(name, flush=True)


def _insert(engine: Engine, name: str) -> None:
    while True:
        other = next(row[1] for row in _columns(engine) if row[1] != "id")
        try:
            engine.execute(f"INSERT INTO shop.t (id, {other}) VALUES ('{name}', '{name}')")
        except SokujiError as error:
            if other not in str(error):
                raise  # else it is called otherwise by now
        else:
            break
    print(name, flush=True)


def _rename(engine: Engine, name: str) -> None:
    other = next(row[1] for row in _columns(engine) if row[1] != "id")
    engine.execute(f"ALTER TABLE shop.t RENAME COLUMN {other} TO {name}")
    print(name, flush=True)


def _columns(engine: Engine) -> list[tuple[str, ...]]:
    sql = "SELECT ordinal_position, column_name FROM shop.INFORMATION_SCHEMA.COLUMNS WHERE table_name = 't' ORDER BY 1"
    rows: list[tuple[str, ...]] = engine.execute(sql).rows()
    return rows


_STEPS = {"add": _add, "insert": _insert, "rename": _rename}

if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
