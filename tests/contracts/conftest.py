"""The databases on which the contracts of SQL stores are tested."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.meta.postgres import programs, server


@pytest.fixture(scope="session")
def new_postgres_database() -> Iterator[Callable[[], str]]:
    """Makes an empty database of a PostgreSQL server and returns its URL."""
    found = programs()
    if found is None or importlib.util.find_spec("psycopg") is None:
        pytest.skip("PostgreSQL or psycopg is not installed: tests/meta/install, pip install 'psycopg[binary]'")
    with server(found) as new_database:
        yield new_database


def _url_of(kind: str, request: pytest.FixtureRequest, folder: Path) -> str:
    if kind == "sqlite":
        return f"sqlite:///{folder / 'catalog.db'}"
    url: str = request.getfixturevalue("new_postgres_database")()
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    return _url_of(request.param, request, tmp_path)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def url_if_any(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    """An empty database; None: the backend in memory."""
    return None if request.param == "memory" else _url_of(request.param, request, tmp_path)
