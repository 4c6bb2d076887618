"""The queue of deliveries on disk: a SQLite file owned by the `deliver` role.

The log has the decisions; the queue has those still to be delivered, and when. So a receiver that is down for hours blocks neither the log
nor other receivers, and attempts are counted across restarts.
"""

from __future__ import annotations

import itertools
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sokuji.disk.files import make_folder
from sokuji.disk.sqlite import check, configure
from sokuji.disk.stored import check_format
from sokuji.errors import DamagedFileError, SokujiError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS deliveries (
  id TEXT PRIMARY KEY, endpoint TEXT NOT NULL, due_us INTEGER NOT NULL, attempts INTEGER NOT NULL, expires_us INTEGER NOT NULL,
  dataset TEXT NOT NULL, visitor_id TEXT, user_id TEXT, rule TEXT NOT NULL, arm TEXT, address TEXT, body BLOB NOT NULL,
  checksum INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (endpoint, due_us);
CREATE TABLE IF NOT EXISTS position (name TEXT PRIMARY KEY, next_offset INTEGER NOT NULL, checksum INTEGER NOT NULL DEFAULT 0);
"""
_FORMAT = 2  # 1 had no checksums
_UPGRADE = """
ALTER TABLE deliveries ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE position ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
"""
_REMEDY = "restore it from a copy, or delete it and the offsets of the consumer 'deliver': what the log has is then delivered once more"
_COLUMNS = "id, endpoint, due_us, attempts, expires_us, dataset, visitor_id, user_id, rule, arm, address, body"
_INSERT = f"INSERT OR IGNORE INTO deliveries ({_COLUMNS}, checksum) VALUES ({', '.join('?' * 13)})"
_DECISIONS, _OUTCOMES = "decisions", "outcomes"


class Delivery(NamedTuple):
    """One decision to deliver. Times are microseconds UTC."""

    id: str  # the decision's
    endpoint: str  # the unit that shares a circuit breaker
    due_us: int
    attempts: int
    expires_us: int
    dataset: str
    visitor_id: str | None
    user_id: str | None
    rule: str
    arm: str | None
    address: str | None  # a webhook's URL; None: call a function
    body: bytes  # JSON


class Queue:
    """Deliveries by endpoint and time. For one process, and one thread at a time."""

    def __init__(self, path: Path, *, is_new: bool = True) -> None:
        """Open the file; `is_new` says whether it may be missing, and is then created.

        Raises:
            DamagedFileError: the file is missing or damaged.
            FormatError: a newer release wrote it.
        """
        self._path = path
        make_folder(path.parent)
        if not is_new and not path.exists():
            raise DamagedFileError(path, "it is missing, though deliveries were taken", _REMEDY)
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
            self.counts: dict[str, int] = dict(self._database.execute("SELECT endpoint, COUNT(*) FROM deliveries GROUP BY endpoint"))
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # a message may quote bytes that are not text
            self._database.close()
            raise DamagedFileError(path, str(error), _REMEDY) from error
        except SokujiError:
            self._database.close()
            raise

    def _prepare(self) -> None:
        [(stored_format,)] = self._database.execute("PRAGMA user_version")
        check_format(stored_format, _FORMAT, self._path)
        check(self._database, self._path, _REMEDY)
        tables = self._database.execute("SELECT COUNT(*) FROM sqlite_master WHERE name = 'deliveries'").fetchall()
        configure(self._database)
        self._database.executescript(_SCHEMA)
        if tables == [(1,)] and stored_format < _FORMAT:
            self._upgrade()
        self._database.execute(f"PRAGMA user_version = {_FORMAT}")
        deliveries = self._database.execute(f"SELECT checksum, {_COLUMNS} FROM deliveries")
        positions = self._database.execute("SELECT checksum, name, next_offset FROM position")
        for checksum, *row in itertools.chain(deliveries, positions):
            if checksum != _checksum(row):
                raise DamagedFileError(self._path, f"the row of {row[0]!r} fails its checksum", _REMEDY)

    def _upgrade(self) -> None:
        with self._transaction():
            for statement in _UPGRADE.strip().split(";")[:-1]:
                self._database.execute(statement)
            for row in self._database.execute(f"SELECT {_COLUMNS} FROM deliveries").fetchall():
                self._database.execute("UPDATE deliveries SET checksum = ? WHERE id = ?", (_checksum(row), row[0]))
            for name, next_offset in self._database.execute("SELECT name, next_offset FROM position").fetchall():
                self._set_position(name, next_offset)
            self._database.execute(f"PRAGMA user_version = {_FORMAT}")

    def __len__(self) -> int:
        return sum(self.counts.values())

    def position(self) -> int:
        """The offset in the decisions log up to which deliveries were taken into the queue."""
        return self._position(_DECISIONS)

    def outcomes_position(self) -> int:
        """An offset in the log before which every outcome is known to the queue."""
        return self._position(_OUTCOMES)

    def take_in(self, deliveries: Iterable[Delivery], next_offset: int) -> None:
        """Add deliveries and store `next_offset`, in one transaction, durable on return. A delivery already in the queue is not changed."""
        with self._transaction():
            for delivery in deliveries:
                added = self._database.execute(_INSERT, (*delivery, _checksum(delivery))).rowcount
                self._count(delivery.endpoint, added)
            self._set_position(_DECISIONS, next_offset)

    def due(self, endpoint: str, now_us: int, limit: int) -> list[Delivery]:
        """Up to `limit` due deliveries to an endpoint, the longest due first."""
        query = f"SELECT {_COLUMNS} FROM deliveries WHERE endpoint = ? AND due_us <= ? ORDER BY due_us LIMIT ?"
        return [Delivery(*row) for row in self._database.execute(query, (endpoint, now_us, limit))]

    def due_after(self, time_us: int) -> list[Delivery]:
        """The deliveries that are due after this time."""
        return [Delivery(*row) for row in self._database.execute(f"SELECT {_COLUMNS} FROM deliveries WHERE due_us > ?", (time_us,))]

    def settle(self, ended: Iterable[str], again: Iterable[Delivery], outcomes_position: int) -> None:
        """Remove the deliveries whose ids have `ended`, and store the new due times and counts of those to retry (`again`); durable on
        return.

        The outcomes of the ended ones are in the log before `outcomes_position`.
        """
        with self._transaction():
            for id_ in ended:
                for (endpoint,) in self._database.execute("DELETE FROM deliveries WHERE id = ? RETURNING endpoint", (id_,)).fetchall():
                    self._count(endpoint, -1)
            self._database.executemany(
                "UPDATE deliveries SET due_us = ?, attempts = ?, checksum = ? WHERE id = ?",
                [(each.due_us, each.attempts, _checksum(each), each.id) for each in again],
            )
            self._set_position(_OUTCOMES, outcomes_position)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _position(self, name: str) -> int:
        row = self._database.execute("SELECT next_offset FROM position WHERE name = ?", (name,)).fetchone()
        return 0 if row is None else int(row[0])

    def _set_position(self, name: str, next_offset: int) -> None:
        row = (name, next_offset)
        self._database.execute("INSERT OR REPLACE INTO position VALUES (?, ?, ?)", (*row, _checksum(row)))

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


def _checksum(row: Iterable[Any]) -> int:
    return zlib.crc32(repr(tuple(row)).encode())
