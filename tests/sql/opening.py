"""An engine on its own catalog and lake, with the dataset `shop`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sokuji.lake.delta.tables import DeltaLake
from sokuji.meta.store import SqlCatalog
from sokuji.sql.duckdb.backend import DuckDb
from sokuji.sql.engine import Engine
from sokuji.sql.extension import AnyTableFunction


@contextmanager
def opened(folder: Path, table_functions: Mapping[str, AnyTableFunction] | None = None) -> Iterator[Engine]:
    """An engine in `folder`, with these functions."""
    lake = folder / "lake"
    with (
        SqlCatalog(f"sqlite:///{folder}/catalog.db") as catalog,
        Engine(catalog, DeltaLake(lake), DuckDb([lake], folder / "spill"), table_functions=table_functions) as engine,
    ):
        catalog.create_dataset("shop")
        yield engine
