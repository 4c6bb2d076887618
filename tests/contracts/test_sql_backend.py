"""The contract of `sokuji.sql.base`: what runs queries gives GoogleSQL's rows in GoogleSQL's types, on whatever lake."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest

from sokuji.config import SqlSettings
from sokuji.errors import QueryCancelledError, SqlError, UnsupportedSqlError
from sokuji.lake.acknowledged import OnlyCommitted
from sokuji.lake.base import Lake
from sokuji.lake.delta.tables import DeltaLake
from sokuji.lake.memory import MemoryLake
from sokuji.meta.memory import MemoryCatalog
from sokuji.meta.objects import Column, Ref
from sokuji.sql.base import Backend
from sokuji.sql.duckdb.backend import DuckDb
from sokuji.sql.engine import Engine
from sokuji.sql.extension import AnyTableFunction, RelationalFunction, TableCall
from sokuji.sql.query import Query, StoredRows
from sokuji.sql.reference.backend import Reference
from sokuji.sql.session import Session
from sokuji.types import FLOAT64, INT64, STRING, Field, to_arrow
from sokuji.types import parse as parse_type

MakeBackend = Callable[[SqlSettings], Backend]


class Side(NamedTuple):
    """A lake, and how a backend is made that can read it."""

    lake: Lake
    make_backend: MakeBackend


@pytest.fixture(params=["DuckDB on Delta", "reference on Delta", "reference in memory"])
def side(request: pytest.FixtureRequest, tmp_path: Path) -> Side:
    """A lake and its backends."""
    lake = MemoryLake() if request.param == "reference in memory" else DeltaLake(tmp_path / "lake")
    if request.param == "DuckDB on Delta":
        return Side(lake, lambda settings: DuckDb([tmp_path / "lake"], tmp_path / "spill", settings))
    return Side(lake, lambda settings: Reference(MemoryLake, settings))


class Doubled:
    """A table function of Python's: its rows twice, with a number."""

    def schema(self, call: TableCall) -> tuple[Field, ...]:
        """See `TableFunction`."""
        return (*(call.input or ()), Field("copy", INT64))

    def run(self, call: TableCall, rows: pa.RecordBatchReader | None) -> pa.RecordBatchReader:
        """See `TableFunction`."""
        assert rows is not None
        table = rows.read_all()
        copies = [table.append_column("copy", pa.array([copy] * table.num_rows, pa.int64())) for copy in (1, 2)]
        return pa.concat_tables(copies).to_reader()


def open_engine(side: Side, settings: SqlSettings | None = None) -> Engine:
    catalog = MemoryCatalog()
    catalog.create_dataset("shop")
    unknown = RelationalFunction(1, {}, lambda inputs: inputs[0])
    functions: dict[str, AnyTableFunction] = {"ml.doubled": Doubled(), "ml.unknown": unknown}
    return Engine(catalog, side.lake, side.make_backend(settings or SqlSettings()), table_functions=functions)


@pytest.fixture
def engine(side: Side) -> Iterator[Engine]:
    """An engine with the dataset `shop`."""
    with open_engine(side) as engine:
        yield engine


VALUES: dict[str, tuple[str, str, Any]] = {
    "i": ("INT64", "-9223372036854775808", -(2**63)),
    "f": ("FLOAT64", "0.1 + 0.2", 0.1 + 0.2),
    "inf": ("FLOAT64", "CAST('-inf' AS FLOAT64)", float("-inf")),
    "n": ("NUMERIC", "NUMERIC '-99999999999999999999999999999.999999999'", Decimal("-99999999999999999999999999999.999999999")),
    "b": ("BOOL", "FALSE", False),
    "s": ("STRING", r"'naïve \'quoted\' \u2603'", "naïve 'quoted' ☃"),
    "y": ("BYTES", r"b'\x00\xff'", b"\x00\xff"),
    "d": ("DATE", "DATE '0001-01-01'", dt.date(1, 1, 1)),
    "t": ("TIME", "TIME '23:59:59.999999'", dt.time(23, 59, 59, 999999)),
    "dt": ("DATETIME", "DATETIME '9999-12-31 23:59:59.999999'", dt.datetime(9999, 12, 31, 23, 59, 59, 999999)),  # noqa: DTZ001 it has none
    "ts": ("TIMESTAMP", "TIMESTAMP '1969-12-31 23:59:59.999999+00'", dt.datetime(1969, 12, 31, 23, 59, 59, 999999, dt.UTC)),
    "iv": ("INTERVAL", "INTERVAL '1-2 3 4:5:6.789' YEAR TO SECOND", (14, 3, 14_706_789_000_000)),
    "j": ("JSON", """JSON '{"a":[1,null,"x"]}'""", '{"a":[1,null,"x"]}'),
    "a": ("ARRAY<INT64>", "[3, 1, 2]", [3, 1, 2]),
    "e": ("ARRAY<STRING>", "CAST([] AS ARRAY<STRING>)", []),
    "st": ("STRUCT<x INT64, y ARRAY<TIME>>", "STRUCT(1 AS x, [TIME '01:02:03'] AS y)", {"x": 1, "y": [dt.time(1, 2, 3)]}),
    "sa": ("ARRAY<STRUCT<k STRING, v NUMERIC>>", "[STRUCT('p' AS k, NUMERIC '1.5' AS v)]", [{"k": "p", "v": Decimal("1.5")}]),
}
SELECTED = "SELECT " + ", ".join(f"{text} AS {name}" for name, (_, text, _) in VALUES.items())
NULLS = "SELECT " + ", ".join(f"CAST(NULL AS {type_}) AS {name}" for name, (type_, _, _) in VALUES.items())


def exactly(table: pa.Table) -> list[dict[str, Any]]:
    """The rows, once the columns are known to be of exactly the types that carry GoogleSQL's."""
    assert {field.name: field.type for field in table.schema} == {
        name: to_arrow(parse_type(type_)) for name, (type_, _, _) in VALUES.items()
    }
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def test_values_of_every_type_come_out_exactly(engine: Engine) -> None:
    [row] = exactly(engine.execute(SELECTED).arrow())
    assert row == {name: value for name, (_, _, value) in VALUES.items()}


def test_a_null_array_is_an_empty_one_and_other_nulls_stay(engine: Engine) -> None:
    [row] = exactly(engine.execute(NULLS).arrow())
    assert row == {name: [] if type_.startswith("ARRAY") else None for name, (type_, _, _) in VALUES.items()}


def test_a_table_gives_back_what_was_stored(engine: Engine) -> None:
    engine.execute(f"CREATE TABLE shop.t AS {SELECTED} UNION ALL {NULLS}")
    whole, empty = exactly(engine.execute("SELECT * FROM shop.t ORDER BY i IS NULL").arrow())
    assert whole == {name: value for name, (_, _, value) in VALUES.items()}
    assert empty == {name: [] if type_.startswith("ARRAY") else None for name, (type_, _, _) in VALUES.items()}
    assert engine.execute("SELECT COUNT(*) FROM shop.t").rows() == [(2,)]


def test_rows_are_in_the_order_that_is_asked_for(engine: Engine) -> None:
    query = "SELECT x FROM UNNEST([2, NULL, 3, 1]) AS x ORDER BY x DESC LIMIT 3 OFFSET 1"
    assert engine.execute(query).rows() == [(2,), (1,), (None,)]


def test_queries_are_more_than_scans(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.t AS SELECT x, MOD(x, 3) AS k FROM UNNEST(GENERATE_ARRAY(1, 9)) AS x")
    query = """WITH sums AS (SELECT k, SUM(x) AS s, ARRAY_AGG(x ORDER BY x DESC LIMIT 2) AS top FROM shop.t GROUP BY k)
        SELECT k, s, top, RANK() OVER (ORDER BY s DESC) AS place, (SELECT MAX(t.x) FROM shop.t AS t WHERE t.k = sums.k) AS most,
            TIMESTAMP_DIFF(TIMESTAMP '2020-01-02 01:00:00+00', TIMESTAMP '2020-01-01 02:00:00+00', DAY) AS days
        FROM sums QUALIFY place < 3 ORDER BY k"""
    assert engine.execute(query).rows() == [(0, 18, [9, 6], 1, 9, 0), (2, 15, [8, 5], 2, 8, 0)]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT 1 / x FROM UNNEST([1, 0]) AS x", "division by zero"),
        ("SELECT x + 1 FROM UNNEST([9223372036854775807]) AS x", "int64 overflow"),
        ("SELECT [1, NULL]", "Array cannot have a null element"),
        ("SELECT (SELECT x FROM UNNEST([1, 2]) AS x)", "ore than one element"),
        ("SELECT ERROR(CONCAT('mine', '!')) AS x", "mine!"),
    ],
)
def test_what_fails_is_an_error_of_sql(engine: Engine, query: str, message: str) -> None:
    with pytest.raises(SqlError, match=message):
        engine.execute(query).arrow()


def test_what_does_not_run_here_says_so(engine: Engine) -> None:
    with pytest.raises(UnsupportedSqlError):
        engine.execute("CREATE TEMP TABLE t (x INT64); INSERT OR IGNORE t VALUES (1)")


def test_parameters_and_variables_are_values(engine: Engine) -> None:
    given = {"s": "it's ' a \\ test", "n": Decimal("1.000000001"), "at": dt.datetime(2020, 1, 1, tzinfo=dt.UTC), "a": [1, 2], "none": None}
    query = "SELECT @s AS s, @n AS n, @at AS `at`, @a AS a, COALESCE(@none, 'null') AS none"
    assert engine.execute(query, given).arrow().to_pylist() == [{**given, "none": "null"}]
    assert engine.execute("SELECT ? - ?", [5, 3]).rows() == [(2,)]
    script = "DECLARE x INT64 DEFAULT 2; DECLARE d ARRAY<DATE> DEFAULT [DATE '2020-01-01']; SET x = x * 3; SELECT x, d"
    assert engine.execute(script).rows() == [(6, [dt.date(2020, 1, 1)])]


def test_later_statements_of_a_script_read_what_earlier_ones_stored(engine: Engine) -> None:
    script = """CREATE TEMP TABLE t AS SELECT x FROM UNNEST([1, 2]) AS x;
        INSERT INTO t SELECT x + 10 FROM t;
        SELECT ARRAY_AGG(x ORDER BY x) FROM t"""
    assert engine.execute(script).rows() == [([1, 2, 11, 12],)]
    with pytest.raises(SqlError, match="must be qualified"):
        engine.execute("SELECT * FROM t")


def test_changes_are_of_the_rows_that_a_statement_says(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.t (k INT64 NOT NULL, s STRING, a ARRAY<INT64>)")
    engine.execute("INSERT INTO shop.t (s, k) VALUES ('a', 1), (DEFAULT, 2), ('c', 3)")
    engine.execute("INSERT INTO shop.t SELECT k + 10, s, [k] FROM shop.t")
    assert engine.execute("UPDATE shop.t SET s = CONCAT(s, '!'), a = NULL WHERE k >= 11").rows_affected == 3
    assert engine.execute("UPDATE shop.t SET s = u.s FROM (SELECT 2 AS k, 'two' AS s) AS u WHERE u.k = t.k").rows_affected == 1
    assert engine.execute("DELETE FROM shop.t WHERE k = (SELECT MAX(k) FROM shop.t)").rows_affected == 1
    assert engine.execute("DELETE FROM shop.t WHERE s = 'nobody'").rows_affected == 0
    rows = engine.execute("SELECT k, s, a FROM shop.t ORDER BY k").rows()
    assert rows == [(1, "a", []), (2, "two", []), (3, "c", []), (11, "a!", []), (12, None, [])]
    with pytest.raises(SqlError, match="Required field k cannot be null"):
        engine.execute("INSERT INTO shop.t (s) VALUES ('x')")
    with pytest.raises(SqlError, match="must match at most one source row"):
        engine.execute("UPDATE shop.t SET s = u.s FROM UNNEST([STRUCT('x' AS s), STRUCT('y')]) AS u WHERE k = 1")
    assert engine.execute("SELECT COUNT(*) FROM shop.t").rows() == [(5,)]


def test_views_wildcards_and_the_catalog_are_read_like_tables(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.log_1 AS SELECT 1 AS x")
    engine.execute("CREATE TABLE shop.log_2 AS SELECT 2 AS x, 'new' AS s")
    engine.execute("CREATE VIEW shop.v AS SELECT x * 2 AS y, 'v' AS s FROM shop.log_2")
    assert engine.execute("SELECT s, y FROM shop.v").rows() == [("v", 4)]
    assert engine.execute("SELECT COUNT(*) FROM shop.v").rows() == [(1,)]
    assert engine.execute("SELECT x, _TABLE_SUFFIX FROM `shop.log_*` ORDER BY x").rows() == [(1, "1"), (2, "2")]
    names = engine.execute("SELECT table_name FROM shop.INFORMATION_SCHEMA.TABLES ORDER BY table_name").rows()
    assert names == [("log_1",), ("log_2",), ("v",)]


def test_a_table_function_is_given_the_rows_of_its_argument(engine: Engine) -> None:
    query = """WITH outer_ AS (SELECT 1 AS x), both AS (SELECT x, [x] AS a FROM outer_ UNION ALL SELECT 5, [7])
        SELECT d.x, d.a, d.copy FROM ML.DOUBLED(TABLE both) AS d, outer_ WHERE d.x >= outer_.x ORDER BY x, copy"""
    assert engine.execute(query).rows() == [(1, [1], 1), (1, [1], 2), (5, [7], 1), (5, [7], 2)]


def test_rows_of_files_and_of_the_tail_have_the_catalogs_columns(side: Side) -> None:
    ref = Ref("shop", "events")
    side.lake.create(ref, pa.schema([("x", pa.int64())]))
    side.lake.append(ref, pa.table({"x": [1, 2]}).to_reader())
    columns = [Column("n", FLOAT64), Column("x", FLOAT64), Column("s", STRING)]
    tail = pa.table({"x": pa.array([3, None], pa.int64())})
    backend = side.make_backend(SqlSettings())
    with_tail = StoredRows(side.lake, replace(side.lake.snapshot(ref), tail=tail), columns)
    run = backend.run()
    rows = run.stream(with_tail).read_all()
    run.close()
    backend.close()
    assert rows.schema == pa.schema([("n", pa.float64()), ("x", pa.float64()), ("s", pa.string())])
    assert rows.sort_by("x").to_pylist() == [{"n": None, "x": x, "s": None} for x in (1.0, 2.0, 3.0, None)]


def test_a_query_of_a_name_that_a_backend_does_not_know_is_refused(engine: Engine) -> None:
    with pytest.raises(UnsupportedSqlError, match=r"ML\.UNKNOWN is not supported"):
        engine.execute("SELECT * FROM ML.UNKNOWN((SELECT 1 AS x))")


_MANY = "UNNEST(GENERATE_ARRAY(1, 9999))"
ENDLESS = f"SELECT COUNTIF(x * y * z = 0) FROM {_MANY} AS x, {_MANY} AS y, {_MANY} AS z"


def test_a_query_ends_when_it_is_cancelled(engine: Engine) -> None:
    cancelling = threading.Timer(0.5, lambda: engine.cancel("q"))
    cancelling.start()
    with pytest.raises(QueryCancelledError, match="The query q was cancelled"):
        engine.execute(ENDLESS, query_id="q").arrow()
    cancelling.join()
    assert engine.running() == []
    assert engine.execute("SELECT 1").rows() == [(1,)]


def test_a_query_ends_with_its_time(side: Side) -> None:
    with open_engine(side, SqlSettings(timeout_seconds=0.5)) as engine, pytest.raises(QueryCancelledError, match=r"time limit of 0\.5 s"):
        engine.execute(ENDLESS).arrow()


def test_a_run_that_was_cancelled_starts_nothing(side: Side) -> None:
    with open_engine(side) as engine:
        backend = side.make_backend(SqlSettings())
        run = backend.run()
        assert run.temporary_catalog is None
        assert run.temporary.catalog is run.temporary_catalog
        analysis = engine.analyzer.analyze("SELECT 1 AS x")
        session = Session(engine.catalog, side.lake, OnlyCommitted(side.lake), engine.analyzer, run=run, analysis=analysis)
        query: Query = session.query(analysis.node.output_column_list, analysis.node.query)
        assert run.stream(query).read_all().to_pylist() == [{"x": 1}]
        assert run.explain(query)
        run.cancel("enough")
        with pytest.raises(QueryCancelledError, match="enough"):
            run.stream(query)
        run.close()
        run.close()
        backend.close()


def test_a_plan_names_what_it_would_do_and_does_nothing(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.t AS SELECT 1 AS quite_a_name")
    [(plan,)] = engine.execute("EXPLAIN SELECT ERROR('no') FROM shop.t WHERE quite_a_name >= 1").rows()
    assert "quite_a_name" in plan
    with pytest.raises(UnsupportedSqlError, match="EXPLAIN"):
        engine.execute("EXPLAIN CREATE TABLE shop.u AS SELECT 1 AS x")
