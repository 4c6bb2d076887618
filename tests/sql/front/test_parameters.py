"""Values of query parameters: the type holds all values, no value changes, and an error names what is impossible."""

from __future__ import annotations

import array
import collections
import datetime as dt
import decimal
import enum
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sokuji.errors import SqlError
from sokuji.lake.delta.tables import DeltaLake
from sokuji.meta.store import SqlCatalog
from sokuji.sql.duckdb.backend import DuckDb
from sokuji.sql.engine import Engine

D = decimal.Decimal
DAY, NOON = dt.date(2026, 1, 2), dt.datetime(2026, 1, 2, 12)  # noqa: DTZ001 DATETIME has no zone
INSTANT = dt.datetime(2026, 1, 2, 12, 0, 0, 5, tzinfo=dt.timezone(dt.timedelta(hours=9)))


class Number(enum.IntEnum):
    SEVEN = 7


@pytest.fixture(scope="module", name="engine")
def make_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder: Path = tmp_path_factory.mktemp("engine")
    with (
        SqlCatalog(f"sqlite:///{folder}/catalog.db") as catalog,
        Engine(catalog, DeltaLake(folder / "lake"), DuckDb([folder / "lake"], folder / "spill")) as engine,
    ):
        catalog.create_dataset("shop")
        engine.execute("CREATE TABLE shop.t (s STRING, n INT64, x FLOAT64, d DATE, xs ARRAY<STRING>)")
        yield engine


CASES: list[tuple[Any, str, Any]] = [
    ([1, 1.5], "ARRAY<FLOAT64>", [1.0, 1.5]),
    ([None, 2.7], "ARRAY<FLOAT64>", [None, 2.7]),
    ([1.5, None, 2], "ARRAY<FLOAT64>", [1.5, None, 2.0]),
    ([1, D("0.5")], "ARRAY<NUMERIC>", [D(1), D("0.5")]),
    ([D("0.5"), 2.5], "ARRAY<FLOAT64>", [0.5, 2.5]),
    ([1, 2**63], "ARRAY<NUMERIC>", [D(1), D(2**63)]),
    (-(2**63), "INT64", -(2**63)),
    (2**63, "NUMERIC", D(2**63)),
    ([2**53 + 1, D("1.5")], "ARRAY<NUMERIC>", [D(2**53 + 1), D("1.5")]),
    ([DAY, NOON], "ARRAY<DATETIME>", [dt.datetime(2026, 1, 2), NOON]),  # noqa: DTZ001
    ([INSTANT, None], "ARRAY<TIMESTAMP>", [INSTANT, None]),
    ((True, None), "ARRAY<BOOL>", [True, None]),
    (
        [{"b": 1, "a": 2}, {"a": 1, "b": 2}],
        "ARRAY<STRUCT<b INT64, a INT64>>",
        [{"b": 1, "a": 2}, {"b": 2, "a": 1}],
    ),
    (
        [{"a": 1}, None, {"A": 2.5, "b": "x"}],
        "ARRAY<STRUCT<a FLOAT64, b STRING>>",
        [{"a": 1.0, "b": None}, None, {"a": 2.5, "b": "x"}],
    ),
    (
        [{"xs": [1]}, {"xs": []}, {"xs": [2, 0.5]}],
        "ARRAY<STRUCT<xs ARRAY<FLOAT64>>>",
        [{"xs": [1.0]}, {"xs": []}, {"xs": [2.0, 0.5]}],
    ),
    ({"o": {"p": None}}, "STRUCT<o STRUCT<p INT64>>", {"o": {"p": None}}),
    ([], "ARRAY<INT64>", []),
    ([None], "ARRAY<INT64>", [None]),
    (Number.SEVEN, "INT64", 7),
    (bytearray(b"\0x"), "BYTES", b"\0x"),
    (memoryview(b"x"), "BYTES", b"x"),
    (memoryview(array.array("i", [1, 2])), "ARRAY<INT64>", [1, 2]),
    ("nul\0 'quoted'\n", "STRING", "nul\0 'quoted'\n"),
    (np.int32(7), "INT64", 7),
    (np.float32(0.5), "FLOAT64", 0.5),
    (np.bool_(False), "BOOL", False),
    (np.str_("x"), "STRING", "x"),
    (np.array([1, 2], np.uint8), "ARRAY<INT64>", [1, 2]),
    (np.datetime64("2026-01-02"), "DATE", DAY),
    (np.datetime64("2026-01-02T12:00:00.000000000"), "DATETIME", NOON),
    (np.array(["2026-01-02T12", "NaT"], "datetime64[ns]"), "ARRAY<DATETIME>", [NOON, None]),
    (pa.scalar(3, pa.int8()), "INT64", 3),
    (pa.array(["x", None]), "ARRAY<STRING>", ["x", None]),
    (pa.chunked_array([[{"b": 1}], [{"b": None}]]), "ARRAY<STRUCT<b INT64>>", [{"b": 1}, {"b": None}]),
    (pa.scalar(D("1.25")), "NUMERIC", D("1.25")),
]


@pytest.mark.parametrize(("value", "type_", "expected"), CASES, ids=[f"{type(case[0]).__name__} as {case[1]}" for case in CASES])
def test_the_type_holds_all_values(engine: Engine, value: Any, type_: str, expected: Any) -> None:
    for parameters, name in (({"P": value}, "@p"), ([value], "?")):
        is_array = type_.startswith("ARRAY")  # of which a result may have no NULL in it
        result = engine.execute(f"SELECT x FROM UNNEST({name}) AS x WITH OFFSET o ORDER BY o" if is_array else f"SELECT {name}", parameters)
        found = [row[0] for row in result.rows()]
        assert str(result.schema[0].type) == type_.removeprefix("ARRAY<").removesuffix(">" if is_array else "")
        assert found == (expected if is_array else [expected])
        assert [type(item) for item in found] == [type(item) for item in (expected if is_array else [expected])]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, "a"], r"@p\[\] mixes INT64 \('1'\) and STRING \('a'\)"),
        ([True, 1], r"@p\[\] mixes BOOL \('True'\) and INT64 \('1'\)"),
        (["x", b"x"], r"@p\[\] mixes STRING .* and BYTES"),
        ([{"a": 1}, {"a": "x"}], r"@p\[\]\.a mixes INT64 \('1'\) and STRING \('x'\)"),
        ([{"a": 1}, 1], r"@p\[\] mixes STRUCT .* and INT64"),
        ([NOON, INSTANT], r"@p\[\] mixes DATETIME .* and TIMESTAMP"),
        ([[1], [2]], r"@p is a list of lists; GoogleSQL has no ARRAY of ARRAY"),
        (np.zeros((2, 2)), r"@p is a list of lists"),
        ([2**53 + 1, 0.5], r"@p\[\] mixes floats and 9007199254740993, which FLOAT64 does not hold exactly"),
        (10**30, r"@p: 1000000000000000000000000000000 is beyond INT64 and NUMERIC"),
        (D("0.0000000001"), r"@p: 1E-10 is not a NUMERIC"),
        (D("1e29"), r"@p: 1E\+29 is not a NUMERIC"),
        (D("NaN"), r"@p: NaN is not a NUMERIC"),
        (D("sNaN"), r"@p: sNaN is not a NUMERIC"),
        ({"a": 1, "A": 2}, r"@p has two fields of one name.*: a, A"),
        (dt.time(1, tzinfo=dt.UTC), r"@p: 01:00:00\+00:00 has a zone, which TIME has not"),
        (dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=9))), r"@p: 0001-01-01 .* is before the year 1"),
        ("\ud800", r"@p is not valid Unicode"),
        (dt.timedelta(1), r"@p: timedelta has no GoogleSQL type"),
        (np.timedelta64(5, "ns"), r"@p: timedelta64 has no GoogleSQL type"),
        ({1, 2}, r"@p: set has no GoogleSQL type"),
        (collections.UserString("x"), r"@p is nested too deeply, or holds itself"),  # each of its characters is one
        (np.datetime64("2026-01-02T00:00:00.000000001"), r"@p: GoogleSQL's times are from year 1 to 9999 and to the microsecond"),
        (np.datetime64("12026-01-02"), r"@p: GoogleSQL's times are from year 1"),
        (pa.scalar(1, pa.timestamp("ns")), r"@p: Nanosecond"),
    ],
)
def test_what_no_type_holds_is_an_error_that_names_it(engine: Engine, value: Any, message: str) -> None:
    with pytest.raises(SqlError, match=f"Query parameter {message}"):
        engine.execute("SELECT @p", {"p": value})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"a": 1, "A": 2}, "'A' is given twice"),
        ({1: 1}, "1: names are str"),
        ("x", "a mapping of names or a list for positions, not str"),
        (7, "not int"),
    ],
)
def test_parameters_that_are_none(engine: Engine, parameters: Any, message: str) -> None:
    with pytest.raises(SqlError, match=message):
        engine.execute("SELECT 1", parameters)


@pytest.mark.parametrize(
    ("sql", "parameters", "expected"),
    [
        ("SELECT 'x' = @p, COALESCE(@p, 'y')", {"p": None}, (None, "y")),
        ("SELECT 'x' IN UNNEST(@p), @q", {"p": [], "q": "z"}, (False, "z")),
        ("SELECT 'x' IN UNNEST(@p)", {"p": [None]}, (None,)),
        ("SELECT DATE '2026-01-02' = ?, ?", [None, "x"], (None, "x")),
        ("SELECT @p, @p IS NULL", {"p": None}, (None, True)),
        ("SELECT ARRAY_LENGTH(@p) FROM UNNEST(@p)", {"p": [None]}, (1,)),
        ("SELECT @q.a, @p", {"p": None, "q": {"a": 1}}, (1, None)),
        ("EXECUTE IMMEDIATE \"SELECT ? = 'x'\" USING CAST(NULL AS STRING)", None, (None,)),
    ],
)
def test_null_and_empty_arrays_take_the_type_that_is_wanted(engine: Engine, sql: str, parameters: Any, expected: tuple[Any, ...]) -> None:
    assert engine.execute(sql, parameters).rows() == [expected]


def test_a_change_takes_them_too(engine: Engine) -> None:
    row: list[Any] = [None, 3, None, None, []]
    engine.execute("INSERT INTO shop.t (s, n, x, d, xs) VALUES (?, ?, ?, ?, ?)", row)
    engine.execute("UPDATE shop.t SET d = @d, n = @n WHERE n = 3", {"d": None, "n": 4})
    assert engine.execute("SELECT * FROM shop.t").rows() == [(None, 4, None, None, [])]


A_B, B_A = {"a": 1, "b": 2}, {"b": 2, "a": 1}


@pytest.mark.parametrize(
    ("sql", "parameters", "expected"),
    [
        ("SELECT ? = ?", [A_B, B_A], True),
        ("SELECT @p IN UNNEST(@q)", {"p": A_B, "q": [B_A]}, True),
        ("SELECT STRUCT(1 AS a, 2 AS b) = @p", {"p": B_A}, True),
        ("SELECT STRUCT(1 AS a, 2 AS b) IN UNNEST(?)", [[B_A]], True),
        ("SELECT CASE WHEN FALSE THEN ? ELSE ? END", [B_A, A_B], A_B),
        ("SELECT ARRAY_CONCAT(?, ?)", [[B_A], [A_B]], [A_B, A_B]),
        ("SELECT s FROM (SELECT ? AS s UNION ALL SELECT ?) LIMIT 1 OFFSET 1", [B_A, A_B], A_B),
        ("SELECT IF(FALSE, STRUCT(0 AS a, 0.5 AS b), ?)", [B_A], A_B),
        ("SELECT @p = @q", {"p": {"o": A_B}, "q": {"O": {"B": 2, "A": 1}}}, True),
        ("SELECT @p.a", {"p": B_A}, 1),
        ("CREATE TEMP FUNCTION f(s STRUCT<a INT64, b INT64>) AS (10 * s.a + s.b); SELECT f(@p)", {"p": B_A}, 12),
        ("DECLARE v STRUCT<a INT64, b INT64> DEFAULT @p; SELECT 10 * v.a + v.b", {"p": B_A}, 12),
    ],
)
def test_fields_are_told_by_their_names_wherever_a_dict_goes(engine: Engine, sql: str, parameters: Any, expected: Any) -> None:
    assert engine.execute(sql, parameters).rows() == [(expected,)]


def test_fields_of_a_dict_go_where_a_column_has_them(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.pairs (p STRUCT<a INT64, b INT64>, ps ARRAY<STRUCT<a INT64, b INT64>>)")
    engine.execute("INSERT INTO shop.pairs (p, ps) VALUES (?, ?), (?, NULL)", [B_A, [B_A, {"b": 3}], A_B])
    engine.execute("UPDATE shop.pairs SET p = @p WHERE ps IS NULL OR ARRAY_LENGTH(ps) = 0", {"p": {"b": 4, "a": 3}})
    rows = engine.execute("SELECT * FROM shop.pairs ORDER BY p.a").rows()
    assert rows == [(A_B, [A_B, {"a": None, "b": 3}]), ({"a": 3, "b": 4}, [])]
    engine.execute("INSERT INTO shop.pairs SELECT @p, [@p]", {"p": {"b": 6, "a": 5}})
    engine.execute("MERGE shop.pairs USING (SELECT ? AS p) AS n ON FALSE WHEN NOT MATCHED THEN INSERT (p) VALUES (n.p)", [{"b": 8, "a": 7}])
    rows = engine.execute("SELECT * FROM shop.pairs WHERE p.a > 4 ORDER BY p.a").rows()
    assert rows == [({"a": 5, "b": 6}, [{"a": 5, "b": 6}]), ({"a": 7, "b": 8}, [])]
