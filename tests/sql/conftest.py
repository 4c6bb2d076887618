"""An engine on its own catalog and lake."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sokuji.lake.delta.tables import DeltaLake
from sokuji.meta.store import SqlCatalog
from sokuji.sql.duckdb.backend import DuckDb
from sokuji.sql.engine import Engine


@contextmanager
def _opened(folder: Path) -> Iterator[Engine]:
    lake = folder / "lake"
    with (
        SqlCatalog(f"sqlite:///{folder}/catalog.db") as catalog,
        Engine(catalog, DeltaLake(lake), DuckDb([lake], folder / "spill")) as engine,
    ):
        catalog.create_dataset("shop")
        yield engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with _opened(tmp_path) as engine:
        yield engine


@pytest.fixture(scope="module")
def reading_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The same one for all tests of a module, which leave nothing in it: a new one takes longer than most queries."""
    with _opened(tmp_path_factory.mktemp("reading")) as engine:
        yield engine
