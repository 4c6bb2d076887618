"""Functions of DuckDB over large values: whoever asked is told at the time limit, or at cancel, and not when a vector of rows is done.

Each statement makes one vector of rows take long, and calls a function in Python for that vector just before: it returns when the query is
to end already, which DuckDB does not look at before the vector is done.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sokuji.config import SqlSettings
from sokuji.errors import QueryCancelledError, SqlError
from sokuji.project.create import create
from sokuji.sql.duckdb import native_calls
from sokuji.sql.duckdb.functions import reference
from sokuji.sql.engine import Engine
from sokuji.sql.stop import find
from tests.sql.test_limits import database, limited
from tests.waiting import until

WAIT_SECONDS = 120.0
WORD = "NORMALIZE(CAST(x AS STRING))"
TEXT = "(SELECT REPEAT('ab', 100000) AS text)"
ARRAY = "(SELECT ARRAY_AGG(y) AS numbers FROM UNNEST(GENERATE_ARRAY(1, 1000000)) AS y)"


def rows(count: int, of: str) -> str:
    return f"UNNEST(GENERATE_ARRAY(1, {count})) AS x, {of}"


# As much as keeps them below 512 MiB. Only the search takes little memory, however long it takes.
HEAVY = {
    "CONCAT": f"SELECT SUM(LENGTH(CONCAT({', '.join(['text'] * 4)}, {WORD}))) FROM {rows(500, TEXT)}",
    "SPLIT": f"SELECT SUM(ARRAY_LENGTH(SPLIT(CONCAT(text, {WORD}), ''))) FROM {rows(40, TEXT)}",
    "JSON_VALUE": f"""SELECT COUNT(JSON_VALUE(CONCAT('{{"a":"', text, {WORD}, '"}}'), '$.a')) FROM {rows(250, TEXT)}""",
    "REPLACE": f"SELECT SUM(LENGTH(REPLACE(text, 'a', CONCAT('a123456789', {WORD})))) FROM {rows(200, TEXT)}",
    "REGEXP_CONTAINS": f"SELECT COUNTIF(REGEXP_CONTAINS(CONCAT(text, {WORD}), '(a|b|ab)*c{{50}}x')) FROM {rows(700, TEXT)}",
    "ARRAY_CONCAT": f"SELECT SUM(ARRAY_LENGTH(ARRAY_CONCAT(numbers, [LENGTH({WORD})], numbers))) FROM {rows(10, ARRAY)}",
    "IN UNNEST": f"SELECT COUNTIF(-LENGTH({WORD}) IN UNNEST(numbers)) FROM {rows(400, ARRAY)}",
}
_SEARCHES = " OR ".join(f"{number} - x IN UNNEST(numbers)" for number in range(-200, -1))
ENDLESS_VECTOR = f"SELECT COUNTIF(LENGTH({WORD}) < 0 OR {_SEARCHES}) FROM {rows(2000, ARRAY)}"


@pytest.fixture
def go_on() -> threading.Event:
    """What functions in Python wait for beside the end of their query."""
    event = threading.Event()
    event.set()
    return event


@pytest.fixture(autouse=True)
def entered(monkeypatch: pytest.MonkeyPatch, go_on: threading.Event) -> threading.Event:
    """Set when a query is inside a vector; a function in Python returns when its query is to end."""
    event, call = threading.Event(), reference._Evaluator.__call__

    def late(self: Any, query: Any, *columns: Any) -> Any:
        result = call(self, query, *columns)
        if "normalize" in self._definition.name:
            stop = find(query[0].as_py())
            event.set()
            until(lambda: stop.reason is not None and go_on.is_set(), WAIT_SECONDS)
        return result

    monkeypatch.setattr(reference._Evaluator, "__call__", late)
    monkeypatch.setattr(native_calls, "GRACE_SECONDS", 0.01)
    return event


def left(engine: Engine) -> int:
    return database(engine).calls.left


@pytest.mark.parametrize("sql", HEAVY.values(), ids=HEAVY)
def test_cancel_does_not_wait_for_the_vector(sql: str, engine: Engine, entered: threading.Event) -> None:
    with ThreadPoolExecutor(1) as pool:
        query = pool.submit(lambda: engine.execute(sql, query_id="mine").rows())
        assert entered.wait(WAIT_SECONDS)
        assert engine.cancel("mine")
        with pytest.raises(QueryCancelledError, match="mine was cancelled"):
            query.result(WAIT_SECONDS)
        assert left(engine) == 1, "it is inside of the function still"
    assert engine.running() == []
    until(lambda: left(engine) == 0, WAIT_SECONDS)
    assert database(engine).calls.under_way == 0


def test_the_time_limit_does_not_wait_either_and_others_are_answered_meanwhile(tmp_path: Path, go_on: threading.Event) -> None:
    go_on.clear()
    with limited(tmp_path, SqlSettings(timeout_seconds=3)) as engine:
        with pytest.raises(QueryCancelledError, match="time limit of 3 s"):
            engine.execute(f"SELECT COUNT({WORD}) FROM UNNEST(GENERATE_ARRAY(1, 10)) AS x").rows()
        assert left(engine) == 1
        database(engine).settings = SqlSettings(timeout_seconds=WAIT_SECONDS)
        engine.execute("CREATE TABLE shop.t AS SELECT 7 AS x")
        assert engine.execute("SELECT x FROM shop.t").rows() == [(7,)]
        assert left(engine) == 1
        go_on.set()
        until(lambda: left(engine) == 0, WAIT_SECONDS)


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE shop.t AS {}", "INSERT INTO shop.there {}", "CREATE TEMP TABLE t AS {}; SELECT * FROM t"]
)
def test_statements_that_write_leave_too_and_write_nothing(statement: str, engine: Engine, entered: threading.Event) -> None:
    engine.execute("CREATE TABLE shop.there (n INT64)")
    with ThreadPoolExecutor(1) as pool:
        query = pool.submit(lambda: engine.execute(statement.format(HEAVY["IN UNNEST"].replace("FROM", "AS n FROM", 1)), query_id="mine"))
        assert entered.wait(WAIT_SECONDS)
        engine.cancel("mine")
        with pytest.raises(QueryCancelledError):
            query.result(WAIT_SECONDS)
    assert left(engine) > 0
    assert [table.ref.name for table in engine.catalog.tables("shop")] == ["there"]
    assert engine.execute("SELECT COUNT(*) FROM shop.there").rows() == [(0,)]
    until(lambda: left(engine) == 0, WAIT_SECONDS)


def test_a_sort_within_an_aggregate_ends_or_is_left(engine: Engine) -> None:
    numbers = "UNNEST(GENERATE_ARRAY(1, 1000000)) AS x, UNNEST([1, 2])"
    sql = f"SELECT ARRAY_LENGTH(ARRAY_AGG(x ORDER BY MOD(x * 7919, 1000003) DESC)) FROM {numbers}"
    with ThreadPoolExecutor(1) as pool:
        query = pool.submit(lambda: engine.execute(sql, query_id="mine").rows())
        until(lambda: "mine" in engine.running(), WAIT_SECONDS)
        time.sleep(0.5)
        engine.cancel("mine")
        with pytest.raises(QueryCancelledError):
            query.result(WAIT_SECONDS)
    until(lambda: left(engine) == 0, WAIT_SECONDS)


def test_no_query_starts_while_many_are_inside_of_vectors(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, entered: threading.Event
) -> None:
    monkeypatch.setattr(native_calls, "LEFT_MAX", 1)
    with ThreadPoolExecutor(1) as pool:
        query = pool.submit(lambda: engine.execute(HEAVY["IN UNNEST"], query_id="mine").rows())
        assert entered.wait(WAIT_SECONDS)
        engine.cancel("mine")
        with pytest.raises(QueryCancelledError):
            query.result(WAIT_SECONDS)
    with pytest.raises(SqlError, match="1 queries that were cancelled"):
        engine.execute("SELECT 1")
    until(lambda: left(engine) == 0, WAIT_SECONDS)
    assert engine.execute("SELECT 1").rows() == [(1,)]


def test_a_closed_engine_releases_its_folder_and_what_the_vector_needs_when_that_is_done(tmp_path: Path, entered: threading.Event) -> None:
    with limited(tmp_path, SqlSettings()) as engine, ThreadPoolExecutor(1) as pool:
        query = pool.submit(lambda: engine.execute(HEAVY["IN UNNEST"]).rows())
        assert entered.wait(WAIT_SECONDS)
        engine.close()
        with pytest.raises(QueryCancelledError, match="was cancelled"):
            query.result(WAIT_SECONDS)
        calls = database(engine).calls
        assert calls.left == 1
        assert list((tmp_path / "spill").iterdir()) == []
        until(lambda: calls.under_way == 0, WAIT_SECONDS)


PROCESS = """
import sys, time
from pathlib import Path
from sokuji.lake.delta.tables import DeltaLake
from sokuji.meta.memory import MemoryCatalog
from sokuji.sql.duckdb import native_calls
from sokuji.sql.duckdb.backend import DuckDb
from sokuji.sql.duckdb.functions import reference
from sokuji.sql.engine import Engine

class Late:
    def __del__(self, sleep=time.sleep):  # while the process exits
        sleep({exits_for})

def late(self, query, *columns, call=reference._Evaluator.__call__):
    result = call(self, query, *columns)
    engine.cancel("mine")
    return result

reference._Evaluator.__call__, native_calls.GRACE_SECONDS = late, 0.01
folder, sys.late = Path(sys.argv[1]), Late()  # cleared last
lake = folder / "lake"
engine = Engine(MemoryCatalog(), DeltaLake(lake), DuckDb([lake], folder / "spill"))
try:
    engine.execute({sql!r}, query_id="mine").rows()
except Exception as error:
    print(error, engine._backend._database.calls.left, flush=True)
if {closes}:
    engine.close()
sys.exit(3)
"""


@pytest.mark.parametrize("closes", [False, True])
def test_a_process_exits_while_a_query_is_inside_of_a_vector(closes: bool, tmp_path: Path) -> None:
    source = PROCESS.format(sql=ENDLESS_VECTOR, closes=closes, exits_for=0)
    done = subprocess.run([sys.executable, "-c", source, tmp_path], capture_output=True, text=True, timeout=WAIT_SECONDS, check=False)
    assert done.stdout == "The query mine was cancelled 1\n"
    assert done.returncode == 3, done.stderr[-2000:]


def test_a_vector_that_is_done_while_the_process_exits_does_not_abort_it(tmp_path: Path) -> None:
    sql = f"SELECT COUNTIF(-LENGTH({WORD}) IN UNNEST(numbers)) FROM {rows(200, ARRAY)}"
    source = PROCESS.format(sql=sql, closes=False, exits_for=5)
    done = subprocess.run([sys.executable, "-c", source, tmp_path], capture_output=True, text=True, timeout=WAIT_SECONDS, check=False)
    assert done.stdout == "The query mine was cancelled 1\n"
    assert done.returncode == 3, done.stderr[-2000:]


CTRL_C = """
import os, signal, sys
from sokuji.cli import main
from sokuji.sql.duckdb.functions import reference

def late(self, query, *columns, call=reference._Evaluator.__call__):
    result = call(self, query, *columns)
    os.kill(os.getpid(), signal.SIGINT)
    return result

reference._Evaluator.__call__ = late
main(["sql", "-p", sys.argv[1], sys.argv[2]])
"""


def test_ctrl_c_ends_the_command_at_once_and_with_nothing_but_its_own_words(tmp_path: Path) -> None:
    create(tmp_path / "project")
    arguments = [sys.executable, "-c", CTRL_C, str(tmp_path / "project"), ENDLESS_VECTOR]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False)
    assert (done.stdout, done.stderr.strip(), done.returncode) == ("", "Aborted!", 1)
