"""An engine on its own catalog and lake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sokuji.lake.delta.tables import DeltaLake
from sokuji.meta.store import SqlCatalog
from sokuji.sql.duckdb.backend import DuckDb
from sokuji.sql.engine import Engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    lake = tmp_path / "lake"
    with (
        SqlCatalog(f"sqlite:///{tmp_path}/catalog.db") as catalog,
        Engine(catalog, DeltaLake(lake), DuckDb([lake], tmp_path / "spill")) as engine,
    ):
        catalog.create_dataset("shop")
        yield engine
