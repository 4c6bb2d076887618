"""Expressions over events see what SQL sees of the events table, and one bad row does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pytest

from sokuji.errors import SqlError
from sokuji.features.expressions import Evaluated, Expressions
from sokuji.types import BOOL, FLOAT64, STRING
from tests.lake.platform import log_rows

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
