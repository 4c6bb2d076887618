"""Functions outside of DuckDB obey the limits of their query too: time, memory, cancel; and no other query waits for them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service

from sokuji.config import SqlSettings
from sokuji.errors import QueryCancelledError, SqlError
from sokuji.sql.engine import Engine
from sokuji.sql.front import wasm
from sokuji.sql.front.wasm import Instance, ResourcesError
from sokuji.sql.stop import NEVER, Stop, find
from tests.sql.test_limits import database, limited

# One call outside of DuckDB: the patterns are no constants, and each is tried at each place of the text.
HEAVY_LIKE = """SELECT COUNTIF(text LIKE CONCAT(pattern, x)) FROM UNNEST(GENERATE_ARRAY(1, 1000)) AS x,
    (SELECT REPEAT('ab', 50000) AS text, CONCAT('%', REPEAT('a%b', 500), '%c') AS pattern)"""
# Functions that each call the one before twice: the analyzer would resolve 2 ** 40 bodies.
DOUBLING = [f"CREATE TEMP FUNCTION f{n}(x INT64) AS (f{n - 1}(x) + f{n - 1}(x + 1))" for n in range(1, 41)]
HEAVY_ANALYSIS = "; ".join(["CREATE TEMP FUNCTION f0(x INT64) AS (x)", *DOUBLING, "SELECT f40(1)"])
HEAVY_CONSTANT = (
    "CREATE TABLE shop.t (x INT64) OPTIONS(description=(SELECT CAST(COUNT(*) AS STRING) FROM {0} AS a, {0} AS b, {0} AS c))".format(
        "UNNEST(GENERATE_ARRAY(1, 10000))"
    )
)
HEAVY = {"like": HEAVY_LIKE, "analysis": HEAVY_ANALYSIS, "constant": HEAVY_CONSTANT}


@pytest.mark.parametrize("sql", HEAVY.values(), ids=HEAVY)
def test_the_time_limit_ends_it(sql: str, tmp_path: Path) -> None:
    with limited(tmp_path, SqlSettings(timeout_seconds=1)) as engine:
        started = time.monotonic()
        with pytest.raises(QueryCancelledError, match=r"time limit of 1 s"):
            engine.execute(sql).rows()
        assert time.monotonic() - started < 20
        database(engine).settings = SqlSettings()
        assert engine.execute("SELECT 'abc' LIKE x FROM (SELECT 'a%' AS x)").rows() == [(True,)]


@pytest.mark.parametrize("sql", HEAVY.values(), ids=HEAVY)
def test_cancel_ends_it_and_other_queries_go_on_meanwhile(sql: str, engine: Engine) -> None:
    with ThreadPoolExecutor(2) as pool:
        heavy = [pool.submit(lambda name: engine.execute(sql, query_id=name).rows(), f"heavy {number}") for number in range(2)]
        for number in range(5):
            assert engine.execute(f"SELECT 'abc' LIKE x, {number} FROM (SELECT 'a%' AS x)").rows() == [(True, number)]
        assert not any(query.done() for query in heavy)
        for number, query in enumerate(heavy):
            assert engine.cancel(f"heavy {number}")
            with pytest.raises(QueryCancelledError, match=f"heavy {number} was cancelled"):
                query.result(timeout=20)
    assert engine.running() == []


def test_the_memory_limit_ends_a_call_and_is_named() -> None:
    instance, small = Instance(), Stop(memory_mib=1)  # an instance itself needs more: it is 256 then
    for size in (100, 300):
        request = service.ParseRequest(sql_statement=f"SELECT '{'x' * size * 1024**2}'")
        with pytest.raises(ResourcesError, match=r"more memory than its limit of 256 MiB \(\[sql\] memory_limit_mib\)"):
            instance.call("Parse", request, service.ParseResponse, small)
        assert not instance.kept
    assert instance.generation == 2
    assert "SELECT" not in str(instance.call("Parse", service.ParseRequest(sql_statement="SELECT 1"), service.ParseResponse))


def test_an_instance_that_could_not_start_again_does_so_at_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    instance = Instance()
    too_large = service.ParseRequest(sql_statement=f"SELECT '{'x' * 300 * 1024**2}'")
    with monkeypatch.context() as full:
        full.setattr(wasm, "_module", lambda _: (_ for _ in ()).throw(MemoryError))
        for request in (too_large, service.ParseRequest(sql_statement="SELECT 1")):
            with pytest.raises(ResourcesError, match="no memory left for the SQL analyzer"):
                instance.call("Parse", request, service.ParseResponse, Stop(memory_mib=1))
    assert "SELECT" not in str(instance.call("Parse", service.ParseRequest(sql_statement="SELECT 1"), service.ParseResponse))


LARGE = {
    "arrays": "ARRAY_LENGTH(GENERATE_ARRAY(x, 1000000))",
    "safe": "ARRAY_LENGTH(SAFE.ARRAY_CONCAT(GENERATE_ARRAY(x, 1000000)))",
    "times": "ARRAY_LENGTH(GENERATE_TIMESTAMP_ARRAY(TIMESTAMP_SECONDS(x), TIMESTAMP_SECONDS(1000000), INTERVAL 1 SECOND))",
    "characters": "LENGTH(REVERSE(CONCAT((SELECT REPEAT('é', 400000)), CAST(x AS STRING))))",
    "texts": "LENGTH(LPAD(CAST(x AS STRING), 900000))",
    "texts, of Python": "LENGTH(NORMALIZE(CONCAT((SELECT REPEAT('a', 500000)), CAST(x AS STRING))))",
}


@pytest.mark.parametrize("value", LARGE.values(), ids=LARGE)
def test_rows_that_are_worked_on_together_are_counted(value: str, tmp_path: Path) -> None:
    with limited(tmp_path, SqlSettings(memory_limit_mib=64)) as engine:
        assert engine.execute(f"SELECT {value} > 1 FROM (SELECT MAX(y) AS x FROM UNNEST([1, 2]) AS y)").rows() == [(True,)]
        with pytest.raises(SqlError, match=r"more memory than the query's limit of 64 MiB \(\[sql\] memory_limit_mib\)"):
            engine.execute(f"SELECT SUM({value}) FROM UNNEST(GENERATE_ARRAY(1, 150)) AS x").rows()
        assert engine.execute("SELECT 1").rows() == [(1,)]


def test_long_results_come_in_parts(engine: Engine) -> None:
    sql = "SELECT SUM(LENGTH(FORMAT('%s', REPEAT(CAST(MOD(x, 10) AS STRING), 1000)))) FROM UNNEST(GENERATE_ARRAY(1, 3000)) AS x"
    assert engine.execute(sql).rows() == [(3_000_000,)]


def test_functions_in_python_look_at_the_clock(engine: Engine) -> None:
    sql = "SELECT COUNT(DISTINCT NORMALIZE(REPEAT(CAST(x AS STRING), 10000), NFKD)) FROM UNNEST(GENERATE_ARRAY(1, 10000000)) AS x"
    with ThreadPoolExecutor(1) as pool:
        query = pool.submit(lambda: engine.execute(sql, query_id="mine").rows())
        while "mine" not in engine.running():
            time.sleep(0.01)
        assert engine.cancel("mine")
        with pytest.raises(QueryCancelledError):
            query.result(timeout=20)


def test_a_stop_comes_once_and_only_to_what_runs() -> None:
    stop, calls = Stop(), []
    with stop.interrupting(lambda: calls.append("first")):
        pass
    with stop.interrupting(lambda: calls.append("second")):
        stop.now("enough")
        stop.now("of another reason")
    assert calls == ["second", "second"]
    with pytest.raises(QueryCancelledError, match="enough"), stop.interrupting(lambda: calls.append("third")):
        raise AssertionError
    assert (find(stop.number), find(-1), find(None)) == (stop, NEVER, NEVER)
