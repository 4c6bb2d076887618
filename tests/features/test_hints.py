"""A newcomer's mistakes: each error says what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from sokuji.errors import FeatureError, SqlError
from sokuji.features.load import load
from sokuji.sql.scalar.expressions import Expressions
from sokuji.types import FLOAT64, STRING

HEAD = 'from sokuji.features import events, sessions, view\nbuys = events("buy")\n'


@pytest.mark.parametrize(
    ("meaning", "fix"),
    [
        ('buys.avg("revenue")', 'write events("buy").mean("revenue")'),
        ('buys.nunique("url")', 'write events("buy").distinct("url")'),
        ('buys.cuont("url")', 'write events("buy").count()'),
        ('buys.over("1h")', 'first choose an aggregation of the events: events("buy").count().over("1h", "7d")'),
        ("buys.sum()", 'write events("buy").sum("revenue")'),
        ("buys.sum(revenue)", 'write "revenue", in quotes'),
        ("buys.where(revenue > 10).count()", 'write "revenue", in quotes'),
        ('buys.count("url")', 'write events("buy").count()'),
        ('buys["1h"]', 'a window belongs to an aggregation: events("buy").count().over("1h")'),
        ("buys", 'write n=events("buy").count().over("1h")'),
        ("buys.count", "the method count itself, not called"),
        ('buys.count().where("revenue > 10")', 'events("buy").where("revenue > 10").count()'),
        ('buys.count().mean("revenue")', 'events("buy").mean("revenue").over("1h")'),
        ('buys.count().by("shelf", 5)', 'write by("category", top=5)'),
        ('events("buy", where="revenue > 10").count()', 'events("buy", "refund").where("revenue > 10")'),
        ('events(["buy", "refund"]).count()', 'events("buy", "refund")'),
        ('buys.count().over("1 hour")', 'write "1h"'),
        ('buys.count().over("90min", "7d")', 'write "90m"'),
        ('buys.count().over("2 weeks")', 'write "14d"'),
        ('buys.count().over("1h 30m")', 'use "90s", "1h", "7d"'),
        ('buys.count().over(["1h", "7d"])', 'over("1h", "7d")'),
        ("buys.count().over(3600)", 'over("1h", "7d")'),
        ('buys.count().over("1h", "7d") / 2', 'name the window to compute with: count(...)["1h"]'),
        ("buys.count() > 3", 'rules compare them: rule(..., when="buys_7d > 3")'),
        ("sum(buys.count(), 1)", "compute with + - * /"),
        ("sessions().count()", "write sessions.count(), without brackets after sessions"),
        ("sessions.length()", "of sessions there are count(), duration(), events(), number()"),
        ('"COUNT(*)"', 'write n=events("buy").count().over("1h")'),
    ],
)
def test_a_feature_that_cannot_be_meant(meaning: str, fix: str, tmp_path: Path) -> None:
    assert fix in said_of(f'view("shopper", entity="visitor", n={meaning})', tmp_path)


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        ('view("shopper", n=buys.count())', 'write view("shopper", entity="visitor", buys='),
        ('view("shopper", "visitor", n=buys.count())', 'write view("shopper", entity="visitor", buys='),
        ('view("shopper", entity="visitors", n=buys.count())', 'write entity="visitor" or entity="user"'),
        ('view("shopper", entity="visitor", session_gap=30, n=buys.count())', 'write a number and a unit: "90s", "30m"'),
        ("from sokuji.features import event", "write from sokuji.features import events, sessions, view"),
    ],
)
def test_a_line_that_cannot_be_meant(line: str, fix: str, tmp_path: Path) -> None:
    assert fix in said_of(line, tmp_path)


def test_a_vocabulary_that_was_not_imported(tmp_path: Path) -> None:
    (tmp_path / "features.py").write_text('view("shopper", entity="visitor", n=events("buy").count())\n')
    with pytest.raises(FeatureError, match=r"write from sokuji\.features import events, sessions, view"):
        load(tmp_path / "features.py")


def said_of(line: str, folder: Path) -> str:
    """The error of a file with this line after two good ones, without the place."""
    (folder / "features.py").write_text(f"{HEAD}{line}\n")
    with pytest.raises(FeatureError) as caught:
        load(folder / "features.py")
    place, _, message = str(caught.value).partition(":3: ")
    assert place == str(folder / "features.py")
    return message


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("revenue == 10", "GoogleSQL compares by one ="),
        ("revenue > 10 && url = 'x'", "GoogleSQL writes AND, OR and NOT"),
        ("revenue is None", "revenue IS NULL"),
        ("len(url) > 3", "LENGTH(url)"),
        ("url.contains('x')", "CONTAINS_SUBSTR(url, 'x')"),
        ("url ilike 'x%'", "LOWER(url) LIKE"),
        ("properties.revenue > 10", "write revenue, not properties.revenue"),
        ("SUM(revenue)", r'events("buy").sum("revenue").over("1h")'),
        ("user_id = 'x'", "it is called keys.user_id"),
        ("event_time > TIMESTAMP '2026-01-01 00:00:00+00'", "it is called _date"),
        ("RAND() < 0.5", "FARM_FINGERPRINT(message_id)"),
        ("_date < CURRENT_TIMESTAMP()", "take a time from the event"),
        ("revenue > 10;", "an expression ends without ;"),
    ],
)
def test_an_expression_that_cannot_be_meant(text: str, fix: str) -> None:
    with pytest.raises(SqlError) as caught:
        Expressions([text], properties={"revenue": FLOAT64, "url": STRING})
    assert fix in str(caught.value)


def test_a_property_may_be_called_as_a_column_is_elsewhere() -> None:
    expressions = Expressions(["user_id = 'x'"], properties={"user_id": STRING})
    assert expressions.names == {"user_id"}
    expressions.close()
