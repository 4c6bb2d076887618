"""SQLite files: set up connections, detect damage, and name the damaged file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sokuji.errors import DamagedFileError

_BUSY_TIMEOUT_MS = 30_000
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def configure(connection: sqlite3.Connection) -> None:
    """Set up a connection that waits for other processes and makes commits durable."""
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def check(connection: sqlite3.Connection, path: object, remedy: str) -> None:
    """Check that the file `path` is undamaged.

    Raises:
        DamagedFileError: the file is damaged; `remedy` says what to do.
    """
    with naming_damage(path, remedy):
        [(state, *_), *_] = connection.execute("PRAGMA integrity_check(1)")
    if state != "ok":
        raise DamagedFileError(path, str(state).replace("\n", " "), remedy)


@contextmanager
def naming_damage(path: object, remedy: str) -> Iterator[None]:
    """Raise DamagedFileError for SQLite errors that report damage of the file `path`."""
    try:
        yield
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if is_damage(error):
            raise DamagedFileError(path, str(error), remedy) from error
        raise


def is_damage(error: BaseException) -> bool:
    """Whether SQLite reports a damaged file. Its message may quote bytes that are not text."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    damaged = isinstance(error, sqlite3.DatabaseError) and (code in _DAMAGED or "unsupported file format" in str(error))
    return damaged or isinstance(error, UnicodeDecodeError)
