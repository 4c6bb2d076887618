"""The queue's file: an older format is upgraded, a newer format is refused, and an error names damage."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from sokuji.act.deliver.queue import Delivery, Queue
from sokuji.errors import DamagedFileError, FormatError

DELIVERIES = [
    Delivery(f"d{number}", "https://a:443", number, 0, 2**60, "main", "v", None, "rule", None, "https://a/x", b'{"n": 1}')
    for number in range(40)
]
FORMAT_1 = """
CREATE TABLE deliveries (
  id TEXT PRIMARY KEY, endpoint TEXT NOT NULL, due_us INTEGER NOT NULL, attempts INTEGER NOT NULL, expires_us INTEGER NOT NULL,
  dataset TEXT NOT NULL, visitor_id TEXT, user_id TEXT, rule TEXT NOT NULL, arm TEXT, address TEXT, body BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX deliveries_due ON deliveries (endpoint, due_us);
CREATE TABLE position (name TEXT PRIMARY KEY, next_offset INTEGER NOT NULL);
INSERT INTO position VALUES ('decisions', 7);
"""


def contents(path: Path) -> tuple[list[Delivery], int]:
    queue = Queue(path, is_new=False)
    try:
        return queue.due("https://a:443", 2**60, 1000), queue.position()
    finally:
        queue.close()


def filled(path: Path) -> Path:
    queue = Queue(path)
    queue.take_in(DELIVERIES, 7)
    queue.close()
    return path


def test_a_queue_of_format_1_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with sqlite3.connect(path) as database:
        database.executescript(FORMAT_1)
        database.executemany(f"INSERT INTO deliveries VALUES ({', '.join('?' * 12)})", DELIVERIES)
    database.close()
    assert contents(path) == (DELIVERIES, 7)
    queue = Queue(path)
    queue.settle(["d0"], [DELIVERIES[1]._replace(due_us=2**50, attempts=3)], 9)
    queue.close()
    assert contents(path) == ([*DELIVERIES[2:], DELIVERIES[1]._replace(due_us=2**50, attempts=3)], 7)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = filled(tmp_path / "queue.db")
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(FormatError, match=r"queue\.db has format 99"):
        Queue(path)


def test_a_queue_that_is_gone_is_missed(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match=r"queue\.db is damaged: it is missing, though deliveries were taken"):
        Queue(tmp_path / "queue.db", is_new=False)


def test_flipped_bits_are_named_or_change_nothing(tmp_path: Path) -> None:
    path, chance = filled(tmp_path / "queue.db"), random.Random(3)
    whole = path.read_bytes()
    outcomes = set()
    for at in [*range(100), *chance.sample(range(len(whole)), 200)]:
        content = bytearray(whole)
        content[at] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        for more in ("-wal", "-shm"):
            path.with_name(path.name + more).unlink(missing_ok=True)
        try:
            outcomes.add(contents(path) == (DELIVERIES, 7))
        except (DamagedFileError, FormatError) as error:
            outcomes.add(str(error).startswith(str(path)) and "\n" not in str(error))
    assert outcomes == {True}
