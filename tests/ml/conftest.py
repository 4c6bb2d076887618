"""The engine with models, on its own catalog, lake and model store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from sokuji.lake.delta.tables import DeltaLake
from sokuji.meta.objects import Column, Ref, Table, TableKind
from sokuji.meta.store import SqlCatalog
from sokuji.ml.base import Iteration
from sokuji.ml.create import Progress, unheard
from sokuji.ml.sql import statement_handlers, table_functions
from sokuji.models.local import LocalModelStore
from sokuji.sql.duckdb.backend import DuckDb
from sokuji.sql.engine import Engine
from sokuji.sql.result import Result
from sokuji.types import from_arrow


class Workbench:
    """What a test does: put a table into the dataset `d`, run SQL, look into the catalog and the store."""

    def __init__(self, folder: Path) -> None:
        self.catalog = SqlCatalog(f"sqlite:///{folder / 'catalog.db'}")
        self.catalog.create_dataset("d")
        self.lake = DeltaLake(folder / "lake")
        self.store = LocalModelStore(folder / "models", self.catalog)
        self.progress: Progress = unheard
        self.engine = Engine(
            self.catalog,
            self.lake,
            DuckDb([folder / "lake"], folder / "temporary"),
            models=self.store,
            handlers=statement_handlers(self.catalog, self.store, progress=self._progress),
            table_functions=table_functions(self.store),
        )

    def _progress(self, ref: Ref, iteration: Iteration) -> None:
        self.progress(ref, iteration)

    def close(self) -> None:
        """Close everything."""
        self.engine.close()
        self.store.close()
        self.catalog.close()

    def sql(self, text: str) -> Result:
        """Run a statement."""
        return self.engine.execute(text)

    def table(self, name: str, rows: pa.Table) -> None:
        """A new table `d.x` with these rows."""
        ref = Ref(*name.split("."))
        columns = tuple(Column(field.name, from_arrow(field.type)) for field in rows.schema)
        self.lake.create(ref, rows.schema)
        self.lake.append(ref, rows.to_reader())
        self.catalog.put_table(Table(ref, TableKind.TABLE, columns))


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """Empty but for the dataset `d`."""
    made = Workbench(tmp_path_factory.mktemp("workbench"))
    yield made
    made.close()
