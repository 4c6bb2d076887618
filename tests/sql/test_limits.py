"""Queries end: by themselves, by their limits, or because someone cancels them."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from sokuji.config import SqlSettings
from sokuji.errors import QueryCancelledError, SqlError
from sokuji.lake.delta.tables import DeltaLake
from sokuji.meta.store import SqlCatalog
from sokuji.sql.duckdb.backend import DuckDb
from sokuji.sql.duckdb.run import Database
from sokuji.sql.engine import Engine

# A cross join of 16000^3 rows: far more than any of these tests waits for.
ENDLESS = "SELECT COUNTIF(MOD(a * b + c, 7) = 3) FROM {0} AS a, {0} AS b, {0} AS c".format("UNNEST(GENERATE_ARRAY(1, 16000))")
MANY_ROWS = "SELECT a, b FROM {0} AS a, {0} AS b".format("UNNEST(GENERATE_ARRAY(1, 16000))")


@contextmanager
def limited(folder: Path, settings: SqlSettings) -> Iterator[Engine]:
    lake = folder / "lake"
    with (
        SqlCatalog(f"sqlite:///{folder}/catalog.db") as catalog,
        Engine(catalog, DeltaLake(lake), DuckDb([lake], folder / "spill", settings)) as engine,
    ):
        catalog.create_dataset("shop")
        yield engine


def database(engine: Engine) -> Database:
    backend = engine._backend
    assert isinstance(backend, DuckDb)
    return backend._database


def test_the_time_limit_ends_a_query(tmp_path: Path) -> None:
    with limited(tmp_path, SqlSettings(timeout_seconds=0.5)) as engine:
        started = time.monotonic()
        with pytest.raises(QueryCancelledError, match=r"time limit of 0.5 s \(\[sql\] timeout_seconds\)"):
            engine.execute(ENDLESS).rows()
        assert time.monotonic() - started < 10
        assert engine.execute("SELECT 1").rows() == [(1,)]
        assert engine.running() == []


def test_the_time_limit_counts_reading_too(tmp_path: Path) -> None:
    with limited(tmp_path, SqlSettings(timeout_seconds=3)) as engine:
        batches = engine.execute(MANY_ROWS).batches()
        next(batches)
        time.sleep(3.1)
        with pytest.raises(QueryCancelledError, match="time limit"):
            list(batches)


def test_the_memory_limit_ends_a_query(tmp_path: Path) -> None:
    with limited(tmp_path, SqlSettings(memory_limit_mib=64)) as engine:
        with pytest.raises(SqlError, match=r"more memory than its limit of 64 MiB \(\[sql\] memory_limit_mib\)"):
            engine.execute(f"SELECT ARRAY_LENGTH(ARRAY_AGG(a * b)) FROM ({MANY_ROWS})").rows()
        assert engine.execute("SELECT 1").rows() == [(1,)]


def test_a_sort_larger_than_memory_goes_to_disk(tmp_path: Path) -> None:
    with limited(tmp_path, SqlSettings(memory_limit_mib=100)) as engine:
        sql = f"SELECT a, REPEAT('x', 100) AS s FROM ({MANY_ROWS}) WHERE b <= 125 ORDER BY MOD(a * 7919 + b, 10007)"
        assert sum(batch.num_rows for batch in engine.execute(sql).batches()) == 2_000_000


def resident_mib() -> int:
    """The most memory that this process has had since `/proc/self/clear_refs` was last told to forget it."""
    [peak] = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(peak) // 1024


@pytest.mark.parametrize(
    "query",
    [
        "SELECT COUNT(*) FROM UNNEST(GENERATE_ARRAY(1, 2000)) AS a, UNNEST(GENERATE_ARRAY(1, 100000)) AS b",
        "SELECT COUNT(*) FROM (SELECT GENERATE_ARRAY(1, 100000) AS g FROM UNNEST(GENERATE_ARRAY(1, 2000))), UNNEST(g)",
        "SELECT SUM(ARRAY_LENGTH(GENERATE_ARRAY(100000, 1, -1))) FROM UNNEST(GENERATE_ARRAY(1, 2000))",
    ],
)
def test_an_array_of_constants_is_made_once_and_not_for_each_row(engine: Engine, query: str) -> None:
    engine.execute("SELECT 1").rows()
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_mib()
    assert engine.execute(query).rows() == [(200_000_000,)]
    assert resident_mib() - before < 512, "2,000 arrays are 1,600 MiB"


def started(engine: Engine, query_id: str) -> None:
    while query_id not in engine.running():
        time.sleep(0.01)
    time.sleep(0.2)


def test_a_query_is_cancelled_from_another_thread(engine: Engine) -> None:
    with ThreadPoolExecutor(1) as pool:
        query = pool.submit(lambda: engine.execute(ENDLESS, query_id="mine").rows())
        started(engine, "mine")
        assert engine.cancel("mine")
        with pytest.raises(QueryCancelledError, match="mine was cancelled"):
            query.result(timeout=20)
    assert engine.running() == []
    assert not engine.cancel("mine")


def test_cancel_ends_a_script_at_its_statement(engine: Engine) -> None:
    with ThreadPoolExecutor(1) as pool:
        query = pool.submit(lambda: engine.execute(f"{ENDLESS}; CREATE TABLE shop.after AS SELECT 1 AS x", query_id="mine"))
        started(engine, "mine")
        engine.cancel("mine")
        with pytest.raises(QueryCancelledError):
            query.result(timeout=20)
    assert engine.catalog.tables("shop") == []


def test_cancel_ends_the_reading_of_rows(engine: Engine) -> None:
    batches = engine.execute(MANY_ROWS, query_id="mine").batches()
    next(batches)
    assert engine.cancel("mine")
    with pytest.raises(QueryCancelledError):
        list(batches)
    assert engine.running() == []


def test_cancel_reaches_a_later_statement_and_one_that_is_about_to_start(engine: Engine) -> None:
    with ThreadPoolExecutor(1) as pool:
        for pause in (0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1):
            query = pool.submit(lambda: engine.execute(f"SELECT 1; SELECT 2; {ENDLESS}", query_id="mine").rows())
            while "mine" not in engine.running():
                time.sleep(0.0005)
            time.sleep(pause)
            assert engine.cancel("mine")
            with pytest.raises(QueryCancelledError):
                query.result(timeout=20)


def test_two_queries_cannot_have_one_id(engine: Engine) -> None:
    first = engine.execute(MANY_ROWS, query_id="mine")
    with pytest.raises(SqlError, match="mine is running already"):
        engine.execute("SELECT 1", query_id="mine")
    assert engine.cancel("mine")
    del first


def test_rows_that_nobody_reads_hold_nothing(engine: Engine) -> None:
    result = engine.execute(MANY_ROWS, query_id="mine")
    assert engine.running() == ["mine"]
    del result
    assert engine.running() == []


def test_a_table_is_not_made_when_its_query_is_cancelled(engine: Engine) -> None:
    with ThreadPoolExecutor(1) as pool:
        query = pool.submit(lambda: engine.execute(f"CREATE TABLE shop.t AS {ENDLESS.replace('3)', '3) AS n', 1)}", query_id="mine"))
        started(engine, "mine")
        engine.cancel("mine")
        with pytest.raises(QueryCancelledError):
            query.result(timeout=20)
    engine.execute("CREATE TABLE shop.t AS SELECT 1 AS n")
    assert engine.execute("SELECT n FROM shop.t").rows() == [(1,)]


def test_many_threads_query_one_engine(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.t AS SELECT x FROM UNNEST(GENERATE_ARRAY(1, 1000)) AS x")
    barrier = threading.Barrier(8)

    def work(number: int) -> int:
        barrier.wait()
        total = 0
        for step in range(5):
            [(value,)] = engine.execute("SELECT SUM(x) + @n FROM shop.t", {"n": number * step}).rows()
            total += value - number * step
        return total

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [5 * 500_500] * 8


LONG = {
    "operators": lambda n: f"SELECT {' + '.join(['x'] * n)} FROM (SELECT 1 AS x)",
    "calls": lambda n: f"SELECT {'ABS(' * n}{n}{')' * n}",
    "subqueries": lambda n: f"SELECT {'(SELECT ' * n}{n}{')' * n}",
    "a script": lambda n: f"DECLARE x INT64 DEFAULT 1; SET x = {' + '.join(['x'] * n)}; SELECT x",
    "text": lambda n: f"EXECUTE IMMEDIATE CONCAT('SELECT 1', REPEAT(' + 1', {n - 1}))",
}


@pytest.fixture
def no_collections() -> Iterator[None]:
    """Garbage of other tests is not collected meanwhile: its finalizers would run where the stack ends, and fail."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("of", LONG)
@pytest.mark.usefixtures("no_collections")
def test_a_statement_is_nested_as_deeply_as_people_write_or_refused(engine: Engine, of: str) -> None:
    assert engine.execute(LONG[of](40)).rows() == [(40,)]
    for depth in (200, 3000):  # the first is too deep for Python, the second for ZetaSQL
        with pytest.raises(SqlError, match="nested too deeply"):
            engine.execute(LONG[of](depth)).rows()
    assert engine.execute("SELECT 1").rows() == [(1,)]


@pytest.mark.usefixtures("no_collections")
def test_what_duckdb_and_arrow_find_too_deep_is_said_so(engine: Engine) -> None:
    names = ", ".join(f"t{n} AS (SELECT a FROM t{n - 1})" for n in range(1, 1500))
    for statement in (f"SELECT {'STRUCT(' * 80}1{')' * 80}", f"WITH t0 AS (SELECT 1 AS a), {names} SELECT a FROM t1499"):
        with pytest.raises(SqlError, match="nested too deeply"):
            engine.execute(statement).rows()
