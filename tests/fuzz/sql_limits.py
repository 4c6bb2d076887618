"""Statements that would run for ever, or take all memory: each ends within its limits, and other queries continue meanwhile.

Each statement is heavy in one place of the engine: DuckDB's joins and scalar functions, functions of the reference implementation
and of Python, the analyzer, constants, loops of scripts. If a statement ends by itself, its result does not matter here.
"""

from __future__ import annotations

import hashlib
import random
import resource
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sokuji.config import SqlSettings
from sokuji.errors import SokujiError
from sokuji.lake.delta.tables import DeltaLake
from sokuji.meta.store import SqlCatalog, sqlite_url
from sokuji.sql.duckdb.backend import DuckDb
from sokuji.sql.engine import Engine

LIMIT_SECONDS = 1.0
MEMORY_MIB = 512
MEMORY_MAX_MIB = 4096  # of the process, which runs two statements and has instances of the analyzer
SLACK_SECONDS = 5.0  # beside the other statements, of a clock that goes as fast as the machine works
_OTHERS_SECONDS = 10.0


def _numbers(make: random.Random) -> str:
    return f"UNNEST(GENERATE_ARRAY(1, {make.choice([10, 1000, 16000])}))"


def _text(make: random.Random) -> str:
    return f"CONCAT(REPEAT({make.choice(['a', 'ab', 'é', 'a%', '(a'])!r}, {make.choice([10, 1000, 100_000])}), CAST(x AS STRING))"


_SCALARS = (
    "{text} LIKE CONCAT('%', {text})",
    "REGEXP_CONTAINS({text}, CONCAT({text}, '*b'))",
    "REGEXP_REPLACE({text}, CAST(x AS STRING), {text})",
    "REGEXP_EXTRACT_ALL({text}, CONCAT('a', CAST(x AS STRING)))",
    "NORMALIZE_AND_CASEFOLD({text})",
    "TO_BASE32(CAST({text} AS BYTES))",
    "FORMAT('%t %s', [{text}], {text})",
    "PARSE_TIMESTAMP('%s', CAST(x AS STRING))",
    "SPLIT({text}, 'b')",
    "EDIT_DISTANCE(SUBSTR({text}, 1, 2000), SUBSTR({text}, 2, 2000))",
    "SAFE.PARSE_DATE({text}, {text})",
    "TO_JSON_STRING(STRUCT({text} AS a, x AS b))",
    "REVERSE({text})",
    "LPAD({text}, 100000, 'ab')",
    "NET.HOST({text})",
    "JSON_VALUE(CONCAT('{{\"a\":\"', {text}, '\"}}'), '$.a')",
    "FORMAT_TIMESTAMP({text}, TIMESTAMP_SECONDS(x))",
    "FORMAT_TIMESTAMP(" + repr("%Y %B " * 2000) + ", TIMESTAMP_SECONDS(x))",
    "RANGE_BUCKET(x, GENERATE_ARRAY(1, 1000 * x))",
    "GENERATE_TIMESTAMP_ARRAY(TIMESTAMP_SECONDS(0), TIMESTAMP_SECONDS(60 * x), INTERVAL 1 SECOND)",
    "GENERATE_DATE_ARRAY('1000-01-01', DATE_FROM_UNIX_DATE(x))",
    "-x IN UNNEST(GENERATE_ARRAY(1, 1000 * x))",
    "ARRAY_TO_STRING(SPLIT({text}, ''), CAST(x AS STRING))",
    "SHA512({text})",
)


def _query(make: random.Random) -> str:
    tables = [f"{_numbers(make)} AS {name}" for name in ("x", "y", "z")[: make.randint(1, 3)]]
    scalar = make.choice(_SCALARS).format(text=_text(make))
    return f"SELECT COUNT(DISTINCT TO_JSON_STRING({scalar})) FROM {', '.join(tables)}"


def _doubling(make: random.Random) -> str:
    functions = [f"CREATE TEMP FUNCTION f{n}(x INT64) AS (f{n - 1}(x) + f{n - 1}(x + {n}))" for n in range(1, make.randint(10, 40))]
    return "; ".join(["CREATE TEMP FUNCTION f0(x INT64) AS (x)", *functions, f"SELECT f{len(functions)}(1)"])


def _long(make: random.Random) -> str:
    return "SELECT " + make.choice([" + ", " AND 1 = ", " || '' || ", " IN UNNEST([2]) OR 1 = "]).join(
        ["1"] * make.choice([100, 3000, 20_000])
    )


def _constant(make: random.Random) -> str:
    tables = ", ".join(f"{_numbers(make)} AS {name}" for name in "xyz")
    scalar = make.choice(_SCALARS).format(text=_text(make))
    return (
        f"CREATE TABLE shop.t{make.randrange(10**9)} (a INT64) OPTIONS(description=(SELECT TO_JSON_STRING({scalar}) FROM {tables} LIMIT 1))"
    )


def _loop(make: random.Random) -> str:
    body = make.choice(["SET n = n + 1", "SELECT n", "IF n > 0 THEN SET n = n + 1; END IF", f"EXECUTE IMMEDIATE {_query(make)!r}"])
    return f"DECLARE n INT64 DEFAULT 1; WHILE TRUE DO {body}; END WHILE"


_KINDS = (_query, _query, _query, _doubling, _long, _constant, _loop)


class _Others(threading.Thread):
    """Small queries, one after the other, each of which is to be answered whatever else runs."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(daemon=True)
        self.slowest, self.failure = 0.0, ""
        self._engine, self._over = engine, threading.Event()

    def run(self) -> None:
        number = 0
        while not self._over.wait(0.05):
            number += 1
            started = time.monotonic()
            try:
                found = self._engine.execute(f"SELECT {number}, 'abc' LIKE p FROM (SELECT 'a%' AS p)").rows()
            except SokujiError as error:
                self.failure = f"small query {number}: {error}"
                return
            self.slowest = max(self.slowest, time.monotonic() - started)
            if found != [(number, True)]:
                self.failure = f"small query {number}: {found}"
                return

    def finish(self) -> None:
        self._over.set()
        self.join()


class _Clock(threading.Thread):
    """A clock that goes slower where the machine does other things too, or stands still for a while: it has to work for each tick."""

    _TICK_SECONDS, _WORK_SECONDS = 0.05, 0.005

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seconds = 0.0
        self._over = threading.Event()

    def run(self) -> None:
        block = bytes(65_536)
        while not self._over.wait(self._TICK_SECONDS - self._WORK_SECONDS):
            end = time.thread_time() + self._WORK_SECONDS
            while time.thread_time() < end:
                hashlib.sha256(block)
            self.seconds += self._TICK_SECONDS

    def finish(self) -> None:
        self._over.set()
        self.join()


def fuzz(seed: int, seconds: float) -> int:
    make, count, until = random.Random(seed), 0, time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with SqlCatalog(sqlite_url(folder / "catalog.db")) as catalog:
            catalog.create_dataset("shop")
            lake = DeltaLake(folder / "lake")
            settings = SqlSettings(timeout_seconds=LIMIT_SECONDS, memory_limit_mib=MEMORY_MIB)
            folders = [folder / "lake"]
            with (
                Engine(catalog, lake, DuckDb(folders, folder / "heavy", settings)) as heavy,
                Engine(catalog, lake, DuckDb(folders, folder / "small")) as small,
                ThreadPoolExecutor(2) as pool,
            ):
                small.execute("SELECT 'abc' LIKE p FROM (SELECT 'a%' AS p)").rows()
                others, clock = _Others(small), _Clock()
                others.start()
                clock.start()
                while time.monotonic() < until:
                    statements = [make.choice(_KINDS)(make) for _ in range(2)]
                    for statement, took in zip(statements, pool.map(lambda sql: _took(heavy, sql, clock), statements), strict=True):
                        assert took < LIMIT_SECONDS + SLACK_SECONDS, f"took {took:.1f} s: {statement[:2000]}"
                        count += 1
                others.finish()
                clock.finish()
    assert not others.failure, others.failure
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    assert peak_mib < MEMORY_MAX_MIB, f"the process had {peak_mib:,} MiB"
    assert others.slowest < _OTHERS_SECONDS, f"a small query took {others.slowest:.1f} s"
    return count


def _took(engine: Engine, sql: str, clock: _Clock) -> float:
    started = clock.seconds
    try:
        for _ in engine.execute(sql).batches():
            pass
    except SokujiError:  # of whatever kind: what matters is when
        pass
    return clock.seconds - started
