"""An engine on its own catalog and lake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sokuji.sql.engine import Engine
from tests.sql.opening import opened


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with opened(tmp_path) as engine:
        yield engine


@pytest.fixture(scope="module")
def reading_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The same one for all tests of a module, which leave nothing in it: a new one takes longer than most queries."""
    with opened(tmp_path_factory.mktemp("reading")) as engine:
        yield engine
