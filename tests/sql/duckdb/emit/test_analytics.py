"""Statements as analysts write them for BigQuery: the same rows as GoogleSQL's reference implementation."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.sql.duckdb.emit.oracle import Oracle, sorted_rows, table

_PARAMETER = "STRUCT<key STRING, value STRUCT<string_value STRING, int_value INT64, double_value FLOAT64>>"
_ITEM = "STRUCT<item_name STRING, price FLOAT64, quantity INT64>"
_EVENTS = (
    "event_date STRING, event_timestamp INT64, event_name STRING, user_pseudo_id STRING, "
    f"event_params ARRAY<{_PARAMETER}>, device STRUCT<category STRING, os STRING>, geo STRUCT<country STRING>, "
    f"ecommerce STRUCT<purchase_revenue FLOAT64, total_item_quantity INT64>, items ARRAY<{_ITEM}>"
)
_START = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z


def _event(minute: float, name: str, user: str, session: int | None, page: str | None, items: list[Any] | None = None) -> tuple[Any, ...]:
    parameters = [("ga_session_id", (None, session, None)), ("page_location", (page, None, None)), ("value", (None, None, minute / 4))]
    revenue = (sum(price * count for _, price, count in items), sum(count for _, _, count in items)) if items else None
    device = ("mobile", "iOS") if user == "u1" else ("desktop", None)
    known = [parameter for parameter in parameters if any(value is not None for value in parameter[1])]
    at = _START + round(minute * 60_000_000)
    return ("20260101", at, name, user, known, device, ("JP",) if user != "u3" else None, revenue, items or [])


def _order(
    id_: int, customer: str | None, day: str, hours: float, amount: str | None, price: float | None, status: str, details: str
) -> Any:
    days = dt.date.fromisoformat(day).toordinal() - dt.date(1970, 1, 1).toordinal()
    at = round((days * 24 + hours) * 3_600_000_000) + 123_456
    return (id_, customer, days, at, amount and Decimal(amount), price, status, details)


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    page = "https://shop.example.com/p?utm_source=mail&x=1"
    return Oracle(
        {
            "events": table(
                _EVENTS,
                _event(0, "page_view", "u1", 1, page),
                _event(3.5, "add_to_cart", "u1", 1, "https://shop.example.com/cart"),
                _event(5, "purchase", "u1", 1, None, [("mug", 9.5, 2), ("cap", 20.0, 1)]),
                _event(60, "page_view", "u1", 2, "http://other.example.org/"),
                _event(61, "purchase", "u1", 2, None, [("mug", 9.5, 1)]),
                _event(1, "page_view", "u2", 7, page),
                _event(31, "page_view", "u2", 7, None),
                _event(1500, "scroll", "u3", None, None),
            ),
            "orders": table(
                "id INT64, customer STRING, day DATE, placed TIMESTAMP, amount NUMERIC, price FLOAT64, status STRING, details JSON",
                _order(1, "ann", "2026-01-01", 1.5, "10.50", 10.5, "paid", '{"coupon":"X1","qty":2,"tags":["a","b"]}'),
                _order(2, "ann", "2026-01-02", 23.99, "20", 20.0, "paid", '{"qty":"3","tags":[]}'),
                _order(3, "bob", "2026-01-05", 12, "99.999999999", 55.25, "cancelled", '{"coupon":null}'),
                _order(4, "bob", "2026-01-31", 0, None, None, "paid", "{}"),
                _order(5, "cyd", "2025-12-29", 8, "-5", -5.0, "refund", '{"coupon":"Y","qty":1.5}'),
                _order(6, None, "2026-02-28", 16.25, "7.25", 7.25, "paid", '{"tags":["c"]}'),
            ),
            "customers": table("customer STRING, name STRING", ("ann", "Ann"), ("bob", "Bob"), ("dee", "Dee"), (None, "Nobody")),
        }
    )


FOLDER = Path(__file__).with_name("analytics")
STATEMENTS = [line for file in sorted(FOLDER.glob("*.sql")) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("sql", STATEMENTS)
def test_rows_are_those_of_the_reference_implementation(oracle: Oracle, sql: str) -> None:
    expected, actual = oracle.reference(sql), oracle.run(sql)
    if "ORDER BY" not in sql.rpartition(")")[2]:
        expected, actual = sorted_rows(expected), sorted_rows(actual)
    assert len(actual) == len(expected)
    for wanted, got in zip(expected, actual, strict=True):
        assert close(got, wanted), f"{got}\nis not\n{wanted}\nfor\n{oracle.emitted(sql)}"


def close(got: Any, wanted: Any) -> bool:
    """Equality in which NaN is itself, an int is no float, and a float may differ by what the order of summation makes."""
    if isinstance(wanted, list | tuple):
        return isinstance(got, type(wanted)) and len(got) == len(wanted) and all(map(close, got, wanted))
    if isinstance(wanted, float) and isinstance(got, float):
        return got == pytest.approx(wanted, rel=1e-12, nan_ok=True)
    return type(got) is type(wanted) and bool(got == wanted)
