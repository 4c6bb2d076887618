"""Expressions over events see the same values as SQL on the events table, and one bad row does not stop the others."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sokuji.errors import SqlError
from sokuji.sql.duckdb.functions import reference
from sokuji.sql.front.analyzer import Analyzer
from sokuji.sql.scalar import failures
from sokuji.sql.scalar.expressions import Evaluated, Expressions
from sokuji.sql.scalar.failures import Guarded
from sokuji.types import BOOL, FLOAT64, STRING
from tests.lake.platform import log_rows
from tests.searching import examples

Compile = Callable[..., Expressions]


@pytest.fixture
def compile_() -> Iterator[Compile]:
    made: list[Expressions] = []

    def compile_(*texts: str, **options: Any) -> Expressions:
        made.append(Expressions(texts, **options))
        return made[-1]

    yield compile_
    for each in made:
        each.close()


def events(*properties: Mapping[str, Any] | str, **fixed: Any) -> pa.RecordBatch:
    return log_rows([{"message_id": str(number), "properties": each, **fixed} for number, each in enumerate(properties)])


def column(evaluated: Evaluated, place: int = 0) -> list[Any]:
    values: list[Any] = evaluated.values.column(place).to_pylist()
    return values


def test_the_columns_of_the_events_table_are_there(compile_: Compile) -> None:
    expressions = compile_(
        "event_name = 'buy'", "CONCAT(keys.visitor_id, '!')", "EXTRACT(YEAR FROM _date)", "JSON_VALUE(context, '$.locale')", "source"
    )
    evaluated = expressions.evaluate(events({}, context='{"locale": "ja"}'))
    assert evaluated.values.to_pylist() == [
        {
            "event_name = 'buy'": True,
            "CONCAT(keys.visitor_id, '!')": "v1!",
            "EXTRACT(YEAR FROM _date)": 2026,
            "JSON_VALUE(context, '$.locale')": "ja",
            "source": "web",
        }
    ]


def test_whether_a_program_sent_an_event_can_be_asked(compile_: Compile) -> None:
    evaluated = compile_("is_bot").evaluate(events({}, context='{"userAgent": "Googlebot/2.1"}'))
    assert column(evaluated) == [True]


def test_where_an_event_stands_in_the_log_cannot_be_asked(compile_: Compile) -> None:
    with pytest.raises(SqlError, match="Unrecognized name: log_offset"):
        compile_("log_offset > 5")


def test_properties_are_typed_columns_as_in_the_lake(compile_: Compile) -> None:
    expressions = compile_("revenue", "coupon", "vip", properties={"revenue": FLOAT64, "coupon": STRING, "vip": BOOL})
    rows = events(
        {"revenue": 3, "coupon": "A", "vip": True}, {"revenue": "3", "coupon": 3, "vip": "true"}, {"Revenue": 2.5}, "[1]", "1e999"
    )
    evaluated = expressions.evaluate(rows)
    assert [column(evaluated, place) for place in range(3)] == [
        [3.0, None, 2.5, None, None],
        ["A", None, None, None, None],
        [True, None, None, None, None],
    ]


def test_a_property_with_a_name_that_no_column_can_have_is_found_by_its_column(compile_: Compile) -> None:
    expressions = compile_("order_id", properties={"order_id": STRING})
    assert column(expressions.evaluate(events({"order id": "a"}, {"order-id": "b"}, {"ORDER_ID": "c", "order id": None}))) == [
        "a",
        "b",
        "c",
    ]


def test_a_property_nobody_has_seen_gets_the_type_that_fits(compile_: Compile) -> None:
    expressions = compile_("revenue > 10 AND currency = 'JPY'", "revenue", "url", "NOT vip")
    assert [str(expressions.types[text]) for text in ("revenue", "url", "NOT vip")] == ["FLOAT64", "STRING", "BOOL"]
    assert compile_("price", numbers=frozenset({"price"})).types["price"] == FLOAT64


def test_columns_of_the_batch_can_be_named(compile_: Compile) -> None:
    expressions = compile_("scores.buy > 0.5 AND spend >= 2", columns={"spend": pa.int64(), "scores": pa.struct([("buy", pa.float64())])})
    batch = events({}, {}).append_column("spend", pa.array([1, 2])).append_column("scores", pa.array([{"buy": 0.7}, {"buy": 0.9}]))
    assert column(expressions.evaluate(batch)) == [False, True]


def test_a_row_that_fails_is_told_and_the_others_go_on(compile_: Compile) -> None:
    expressions = compile_("100 / price", "url", properties={"price": FLOAT64, "url": STRING})
    evaluated = expressions.evaluate(events(*({"price": number % 7, "url": "x"} for number in range(100))))
    assert sorted(evaluated.failed) == list(range(0, 100, 7))
    assert "division by zero" in evaluated.failed[0]
    assert column(evaluated)[:3] == [None, 100.0, 50.0]
    assert column(evaluated, 1)[:2] == [None, "x"]


FAILING = (
    "100 / price",
    "IF(price > 3, ERROR(CONCAT('no ', word)), price)",
    "CAST(word AS INT64)",
    "CAST(CAST(price AS INT64) * 4611686018427387904 AS STRING)",  # DuckDB itself raises
    "SAFE.PARSE_DATE('%Y-%m-%d', word)",
    "COALESCE(EXTRACT(YEAR FROM PARSE_DATE('%Y-%m-%d', word)), 0) + 1 / (price - 1)",
    "price <> 2 OR ERROR('error(it\\'s two)') IS NULL",
    "REGEXP_CONTAINS('a(', word)",
    "FROM_BASE32(word) IS NULL",
    "(SELECT MAX(100 / (price - x)) FROM UNNEST([1, 2]) AS x)",
    "(SELECT MAX(x + CAST(price AS INT64) * 4611686018427387904) FROM UNNEST([1, 2]) AS x)",
    "INT64(properties.word) > 1",
    "SPLIT(word, '-')[OFFSET(1)]",
    "word",
    "'fixed'",
)
WORDS = ("12", "x", "(", "2026-01-02", "MFRGG===", None)


@settings(max_examples=examples(15), deadline=None)
@given(
    texts=st.lists(st.sampled_from(FAILING), min_size=1, max_size=4, unique=True),
    said=st.lists(st.fixed_dictionaries({"price": st.integers(0, 5), "word": st.sampled_from(WORDS)}), min_size=1, max_size=12),
)
def test_a_batch_gives_what_its_rows_give_one_by_one(texts: list[str], said: list[dict[str, Any]]) -> None:
    expressions = Expressions(texts, properties={"price": FLOAT64, "word": STRING})
    rows = events(*said)
    together = expressions.evaluate(rows)
    alone = [expressions.evaluate(rows.slice(row, 1)) for row in range(rows.num_rows)]
    expressions.close()
    assert together.values.to_pylist() == [each.values.to_pylist()[0] for each in alone]
    assert sorted(together.failed) == [row for row, each in enumerate(alone) if each.failed]
    reasons = [together.failed[row] for row in sorted(together.failed)]
    assert [_why(reason, texts) for reason in reasons] == [_why(each.failed[0], texts) for each in alone if each.failed]


def _why(reason: str, texts: list[str]) -> str:
    """Without the expression, which is not known of what DuckDB raises in a subquery."""
    for text in texts:
        reason = reason.removeprefix(f"{text}: ")
    return reason


@pytest.mark.parametrize("text", ["100 / price", "PARSE_DATE('%Y', word)", "ERROR('always')"])
def test_many_rows_that_fail_cost_a_few_queries(text: str, compile_: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []
    for owner in (Expressions, Guarded):
        monkeypatch.setattr(owner, "run", _counting(owner.run, ran))
    expressions = compile_(text, "word", properties={"price": FLOAT64, "word": STRING})
    evaluated = expressions.evaluate(events(*({"price": number % 10, "word": f"20{number % 10:-2d}"} for number in range(20_000))))
    assert len(evaluated.failed) >= 2_000
    assert all(reason.startswith(f"{text}: ") for reason in evaluated.failed.values())
    whole = [rows for rows in ran if rows > 1]
    assert len(whole) <= 3  # as it is, all errors at once, and without the rows that fail
    assert ran.count(1) <= 100  # asked alone for their reasons


def _counting(run: Callable[..., Any], ran: list[int]) -> Callable[..., Any]:
    def counted(self: object, rows: pa.Table) -> Any:
        ran.append(rows.num_rows)
        return run(self, rows)

    return counted


def test_large_batches_keep_their_order(compile_: Compile) -> None:
    rows = events(*({"n": number} for number in range(20_000)))
    assert column(compile_("n", properties={"n": FLOAT64}).evaluate(rows)) == [float(number) for number in range(20_000)]


def test_no_expressions_and_no_rows(compile_: Compile) -> None:
    assert compile_().evaluate(events({})).values.num_columns == 0
    assert compile_("revenue").evaluate(events()).values.num_rows == 0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("SUM(revenue)", "SUM|aggregates"),
        ("ROW_NUMBER() OVER ()", "windows"),
        ("COUNT(*)", "aggregates"),
        ("revenue >", "Syntax error"),
        ("keys.nothing", "nothing"),
        ("SOUNDS_LIKE(url)", "Function not found"),
    ],
)
def test_what_is_no_expression_over_one_event_is_refused(text: str, problem: str, compile_: Compile) -> None:
    with pytest.raises(SqlError, match=problem):
        compile_(text)


def test_an_error_shows_its_place_in_the_expression(compile_: Compile) -> None:
    with pytest.raises(SqlError) as caught:
        compile_("event_name = 'buy'\n  AND keys.nothing = 1")
    assert caught.value.pretty().splitlines()[-2:] == ["  AND keys.nothing = 1", "           ^"]


def test_what_is_not_closed_is_freed() -> None:
    """What DuckDB calls must not hold a connection to it: the process would say at its end what leaked."""

    def alive() -> int:
        gc.collect()
        return sum(isinstance(each, reference._Evaluator | failures._Notes) for each in gc.get_objects())

    before = alive()
    expressions = Expressions(("FORMAT('%d', CAST(a AS INT64))",), properties={"a": FLOAT64})
    assert column(expressions.evaluate(events({"a": 1}))) == ["1"]
    assert alive() > before
    del expressions
    assert alive() == before


def test_expressions_have_no_threads_of_their_own(compile_: Compile) -> None:
    """A worker has some for each of its datasets."""
    threads = Path("/proc/self/task")
    compile_("CONCAT(source, '')").evaluate(events({}))  # the analyzer's, which are there once
    before = len(list(threads.iterdir()))
    for number in range(3):
        compile_(f"CONCAT(source, '{number}')").evaluate(events({}))
    assert len(list(threads.iterdir())) - before < 8  # there were eight in each of six databases


def test_a_database_is_opened_by_the_first_batch_that_needs_one(compile_: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 datasets would open 3,000 of them, of 5 MB each."""
    opened: list[str] = []

    def connect(*arguments: Any, **options: Any) -> Any:
        opened.append("database")
        return actual(*arguments, **options)

    actual = duckdb.connect
    monkeypatch.setattr(duckdb, "connect", connect)
    computed, queried = compile_("1 / a", properties={"a": FLOAT64}), compile_("CONCAT(source, '!')")
    assert column(computed.evaluate(events({"a": 2}))) == [0.5]
    assert opened == []
    assert column(queried.evaluate(events({}))) == ["web!"]
    assert len(opened) == 1
    assert computed.evaluate(events({"a": 0}, {"a": 1})).failed.keys() == {0}
    assert len(opened) == 3  # the query that fails, and the one that says where


def test_datasets_whose_properties_have_the_same_types_compile_once(compile_: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def analyzer(*arguments: Any) -> Any:
        made.append("analyzer")
        return actual(*arguments)

    actual = Analyzer
    monkeypatch.setattr("sokuji.sql.scalar.expressions.Analyzer", analyzer)
    text = "once_compiled IS NULL"  # in no other test
    first = compile_(text, properties={"once_compiled": BOOL, "other": STRING})
    second = compile_(text, properties={"other": FLOAT64, "once_compiled": BOOL, "third": BOOL})
    assert len(made) == 1
    typed = compile_(text, properties={"once_compiled": FLOAT64})
    assert len(made) == 2
    batch = events({"once_compiled": 1})
    assert [column(each.evaluate(batch)) for each in (first, second, typed)] == [[True], [True], [False]]
    assert [each.properties for each in (first, second, typed)] == [{"once_compiled": BOOL}] * 2 + [{"once_compiled": FLOAT64}]
