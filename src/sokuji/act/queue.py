"""Deliveries that are to be made, on disk: a SQLite file of the `deliver` role's own.

The log says what was decided; this says what of it is still to be delivered, and when. So a receiver that is down for hours holds
neither the log nor other receivers back, and attempts are counted across restarts.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

_SCHEMA = """
CREATE TABLE IF NOT EXISTS deliveries (
  id TEXT PRIMARY KEY, endpoint TEXT NOT NULL, due_us INTEGER NOT NULL, attempts INTEGER NOT NULL, expires_us INTEGER NOT NULL,
  dataset TEXT NOT NULL, visitor_id TEXT, user_id TEXT, rule TEXT NOT NULL, arm TEXT, address TEXT, body BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (endpoint, due_us);
CREATE TABLE IF NOT EXISTS position (name TEXT PRIMARY KEY, next_offset INTEGER NOT NULL);
"""
_COLUMNS = "id, endpoint, due_us, attempts, expires_us, dataset, visitor_id, user_id, rule, arm, address, body"
_INSERT = f"INSERT OR IGNORE INTO deliveries ({_COLUMNS}) VALUES ({', '.join('?' * 12)})"
_DECISIONS, _OUTCOMES = "decisions", "outcomes"


class Delivery(NamedTuple):
    """One decision on its way. Times are microseconds UTC."""

    id: str  # the decision's
    endpoint: str  # what shares a circuit breaker
    due_us: int
    attempts: int
    expires_us: int
    dataset: str
    visitor_id: str | None
    user_id: str | None
    rule: str
    arm: str | None
    address: str | None  # a webhook's URL; None: a function is to be called
    body: bytes  # JSON


class Queue:
    """Deliveries by endpoint and time. For one process, and one thread at a time."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;" + _SCHEMA)
        self.counts: dict[str, int] = dict(self._database.execute("SELECT endpoint, COUNT(*) FROM deliveries GROUP BY endpoint"))

    def __len__(self) -> int:
        return sum(self.counts.values())

    def position(self) -> int:
        """The offset in the log up to which deliveries were taken."""
        return self._position(_DECISIONS)

    def outcomes_position(self) -> int:
        """An offset in the log up to which every outcome that is there is known here."""
        return self._position(_OUTCOMES)

    def take_in(self, deliveries: Iterable[Delivery], next_offset: int) -> None:
        """Add deliveries and remember `next_offset`, in one transaction, durable on return. One that is there already stays as it is."""
        with self._transaction():
            for delivery in deliveries:
                added = self._database.execute(_INSERT, delivery).rowcount
                self._count(delivery.endpoint, added)
            self._set_position(_DECISIONS, next_offset)

    def due(self, endpoint: str, now_us: int, limit: int) -> list[Delivery]:
        """Up to `limit` deliveries to an endpoint whose time has come, the longest due first."""
        query = f"SELECT {_COLUMNS} FROM deliveries WHERE endpoint = ? AND due_us <= ? ORDER BY due_us LIMIT ?"
        return [Delivery(*row) for row in self._database.execute(query, (endpoint, now_us, limit))]

    def settle(self, ended: Iterable[str], again: Iterable[Delivery], outcomes_position: int) -> None:
        """Remove those whose ids have `ended`, and put down the new times and counts of what is to be tried `again`; durable on return.

        What came of the ended ones is in the log before `outcomes_position`.
        """
        with self._transaction():
            for id_ in ended:
                for (endpoint,) in self._database.execute("DELETE FROM deliveries WHERE id = ? RETURNING endpoint", (id_,)).fetchall():
                    self._count(endpoint, -1)
            self._database.executemany(
                "UPDATE deliveries SET due_us = ?, attempts = ? WHERE id = ?", [(each.due_us, each.attempts, each.id) for each in again]
            )
            self._set_position(_OUTCOMES, outcomes_position)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _position(self, name: str) -> int:
        row = self._database.execute("SELECT next_offset FROM position WHERE name = ?", (name,)).fetchone()
        return 0 if row is None else int(row[0])

    def _set_position(self, name: str, next_offset: int) -> None:
        self._database.execute("INSERT OR REPLACE INTO position VALUES (?, ?)", (name, next_offset))

    def _count(self, endpoint: str, change: int) -> None:
        count = self.counts.get(endpoint, 0) + change
        if count:
            self.counts[endpoint] = count
        else:
            self.counts.pop(endpoint, None)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        with self._database:  # commits, or rolls back after an exception
            yield
