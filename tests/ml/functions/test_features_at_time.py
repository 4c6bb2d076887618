"""ML.FEATURES_AT_TIME and ML.ENTITY_FEATURES_AT_TIME against a search through all rows."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sokuji.errors import SqlError, UnsupportedSqlError
from sokuji.ml.functions.features_at_time import FUNCTIONS
from sokuji.sql.engine import Engine
from tests.searching import examples
from tests.sql.opening import opened

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class Feature(NamedTuple):
    """A row of the feature table. Times are minutes after START."""

    entity: str | None
    x: int | None
    y: str | None
    minute: int | None


class Asked(NamedTuple):
    """A row of the entity time table."""

    entity: str | None
    minute: int | None


def moment(minute: int | None) -> dt.datetime | None:
    return None if minute is None else START + dt.timedelta(minutes=minute)


def literal(value: str | int | None) -> str:
    return "NULL" if value is None else repr(value)


def timestamp(minute: int | None) -> str:
    return "NULL" if minute is None else f"TIMESTAMP '{moment(minute)}'"


def features(rows: Sequence[Feature]) -> str:
    items = (f"({literal(row.entity)}, {literal(row.x)}, {literal(row.y)}, {timestamp(row.minute)})" for row in rows)
    types = "entity_id STRING, x INT64, Y STRING, Feature_Timestamp TIMESTAMP"
    return f"(SELECT * FROM UNNEST(ARRAY<STRUCT<{types}>>[{', '.join(items)}]))"


def entity_times(rows: Sequence[Asked]) -> str:
    items = (f"({timestamp(row.minute)}, 'label', {literal(row.entity)})" for row in rows)
    return f"(SELECT * FROM UNNEST(ARRAY<STRUCT<time TIMESTAMP, label STRING, Entity_Id STRING>>[{', '.join(items)}]))"


def known(rows: Sequence[Feature], entity: str | None, minute: int, num_rows: int, *, fill: bool) -> Iterator[tuple[Any, ...]]:
    """What is to be found for one entity and time: the answer by its definition."""
    history = sorted(
        (row for row in rows if row.entity == entity and row.minute is not None and row.minute <= minute), key=lambda row: row.minute or 0
    )
    for number in range(max(0, len(history) - num_rows), len(history)):
        before = history[number::-1] if fill else [history[number]]
        x = next((row.x for row in before if row.x is not None), None)
        y = next((row.y for row in before if row.y is not None), None)
        yield entity, x, y, moment(minute)


FEATURES = st.lists(
    st.builds(
        Feature,
        st.sampled_from(["a", "b", None]),
        st.none() | st.integers(0, 9),
        st.none() | st.sampled_from(["u", "v"]),
        st.none() | st.integers(0, 20),
    ),
    max_size=12,
    unique_by=lambda row: (row.entity, row.minute),
)
ASKED = st.lists(st.builds(Asked, st.sampled_from(["a", "b", "c", None]), st.none() | st.integers(-1, 21)), max_size=6)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with opened(tmp_path, FUNCTIONS) as engine:
        yield engine


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One engine for all examples."""
    with opened(tmp_path_factory.mktemp("features"), FUNCTIONS) as engine:
        yield engine


@settings(deadline=None, max_examples=examples(40))
@given(table=FEATURES, minute=st.integers(-1, 21), num_rows=st.integers(1, 4), fill=st.booleans())
def test_features_at_one_time(shared: Engine, table: list[Feature], minute: int, num_rows: int, fill: bool) -> None:
    call = f"ML.FEATURES_AT_TIME({features(table)}, time => {timestamp(minute)}, num_rows => {num_rows}, ignore_feature_nulls => {fill})"
    wanted = (row for entity in ("a", "b", None) for row in known(table, entity, minute, num_rows, fill=fill))
    assert Counter(shared.execute(f"SELECT * FROM {call}").rows()) == Counter(wanted)


@settings(deadline=None, max_examples=examples(40))
@given(table=FEATURES, asked=ASKED, num_rows=st.integers(1, 4), fill=st.booleans())
def test_features_at_each_entitys_times(shared: Engine, table: list[Feature], asked: list[Asked], num_rows: int, fill: bool) -> None:
    call = f"ML.ENTITY_FEATURES_AT_TIME({features(table)}, {entity_times(asked)}, num_rows => {num_rows}, ignore_feature_nulls => {fill})"
    answered = (row for row in asked if row.entity is not None and row.minute is not None)
    wanted = (found for row in answered for found in known(table, row.entity, row.minute or 0, num_rows, fill=fill))
    assert Counter(shared.execute(f"SELECT * FROM {call}").rows()) == Counter(wanted)


TABLE = [Feature("a", 1, "u", 0), Feature("a", None, "v", 10), Feature("a", 3, None, 20), Feature("b", 4, None, 5)]


def rows(engine: Engine, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    return sorted(engine.execute(sql, parameters).rows(), key=str)


@pytest.fixture
def tables(engine: Engine) -> Engine:
    engine.execute(f"CREATE TABLE shop.f AS SELECT * FROM {features(TABLE)}")
    engine.execute(f"CREATE TABLE shop.e AS SELECT * FROM {entity_times([Asked('a', 10), Asked('a', 30), Asked('b', 4)])}")
    return engine


def test_columns_keep_names_types_and_order(tables: Engine) -> None:
    for call in ("ML.FEATURES_AT_TIME(TABLE shop.f)", "ML.ENTITY_FEATURES_AT_TIME(TABLE shop.f, TABLE shop.e)"):
        schema = tables.execute(f"SELECT * FROM {call}").schema
        assert [f"{field.name} {field.type}" for field in schema] == [
            "entity_id STRING",
            "x INT64",
            "Y STRING",
            "Feature_Timestamp TIMESTAMP",
        ]


def test_the_time_is_now_and_one_row_is_given_unless_said_otherwise(tables: Engine) -> None:
    sql = "SELECT entity_id, x, Y, feature_timestamp = CURRENT_TIMESTAMP() FROM ML.FEATURES_AT_TIME(TABLE shop.f)"
    assert rows(tables, sql) == [("a", 3, None, True), ("b", 4, None, True)]


def test_arguments_are_expressions_and_parameters(tables: Engine) -> None:
    call = "SELECT entity_id, x, Y FROM ML.FEATURES_AT_TIME(TABLE shop.f, {})"
    assert rows(tables, call.format("TIME => '2026-01-01 00:10:00+00'")) == [("a", None, "v"), ("b", 4, None)]
    assert rows(tables, call.format("time => (SELECT MIN(time) FROM shop.e)")) == [("a", 1, "u")]
    arguments = "ignore_feature_nulls => @fill, time => TIMESTAMP_ADD(@time, INTERVAL 5 MINUTE), num_rows => 1 + @more"
    wanted = [("a", 1, "u"), ("a", 1, "v"), ("b", 4, None)]
    assert rows(tables, call.format(arguments), {"fill": True, "time": moment(5), "more": 1}) == wanted
    assert rows(tables, call.format("num_rows => ?"), [1]) == [("a", 3, None), ("b", 4, None)]


def test_calls_stand_wherever_a_table_does(tables: Engine) -> None:
    nested = "ML.FEATURES_AT_TIME((SELECT * FROM ML.ENTITY_FEATURES_AT_TIME(TABLE shop.f, TABLE shop.e)))"
    with_ = "WITH f AS (SELECT * FROM shop.f), e AS (SELECT * FROM shop.e)"
    assert rows(tables, f"SELECT entity_id, x FROM {nested}") == [("a", 3)]
    twice = f"{with_}, p AS (SELECT * FROM ML.ENTITY_FEATURES_AT_TIME(TABLE f, TABLE e)) SELECT COUNT(*) FROM p AS l, p AS r, f, e"
    assert rows(tables, twice) == [(2 * 2 * 4 * 3,)]
    tables.execute("CREATE VIEW shop.v AS SELECT * FROM ML.FEATURES_AT_TIME(TABLE shop.f, time => '2026-01-01 00:00:00+00')")
    assert rows(tables, "SELECT x, (SELECT COUNT(*) FROM shop.v) FROM shop.v") == [(1, 1)]


def test_of_rows_of_one_time_one_is_taken_whole(engine: Engine) -> None:
    same = [Feature("a", number, literal(number), 7) for number in range(5)]
    for call in ("ML.FEATURES_AT_TIME({}", "ML.ENTITY_FEATURES_AT_TIME({}, (SELECT 'a' AS entity_id, CURRENT_TIMESTAMP() AS time)"):
        table = call.format(features(same))
        assert rows(engine, f"SELECT CAST(x AS STRING) = Y FROM {table}, ignore_feature_nulls => TRUE)") == [(True,)]
        assert rows(engine, f"SELECT COUNT(DISTINCT x), COUNT(*) FROM {table}, num_rows => 3)") == [(3, 3)]
        assert rows(engine, f"SELECT COUNT(DISTINCT x), COUNT(*) FROM {table}, num_rows => 9)") == [(5, 5)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            "ML.FEATURES_AT_TIME(TABLE shop.f, tim => '2026-01-01')",
            "has no argument tim; it takes a table or query, then any of time => TIMESTAMP",
        ),
        ("ML.FEATURES_AT_TIME(TABLE shop.f, num_rows => 1, NUM_ROWS => 2)", "num_rows is given twice"),
        ("ML.FEATURES_AT_TIME(TABLE shop.f, '2026-01-01')", "takes a table or query, then any of"),
        ("ML.FEATURES_AT_TIME(TABLE shop.f, TABLE shop.e)", "takes a table or query, then any of"),
        ("ML.FEATURES_AT_TIME(num_rows => 1)", "takes a table or query, then any of"),
        (
            "ML.FEATURES_AT_TIME(TABLE shop.f, time => [CURRENT_TIMESTAMP()])",
            r"ML\.FEATURES_AT_TIME\n.*\n.*\n.*Unable to coerce type ARRAY<TIMESTAMP>",
        ),
        ("ML.FEATURES_AT_TIME(TABLE shop.f, num_rows => 0)", "num_rows must be at least 1"),
        ("ML.FEATURES_AT_TIME(TABLE shop.f, num_rows => NULL)", "num_rows must be at least 1"),
        (
            "ML.FEATURES_AT_TIME((SELECT 1 AS entity_id, CURRENT_TIMESTAMP() AS feature_timestamp))",
            "entity_id of the feature table must be STRING, not INT64",
        ),
        (
            "ML.FEATURES_AT_TIME((SELECT '1' AS entity_id, CURRENT_DATE() AS feature_timestamp))",
            "feature_timestamp .* must be TIMESTAMP, not DATE",
        ),
        ("ML.FEATURES_AT_TIME((SELECT '1' AS entity_id))", "feature table must have one column feature_timestamp TIMESTAMP"),
        (
            "ML.ENTITY_FEATURES_AT_TIME(TABLE shop.f)",
            "takes 2 tables or queries, then any of num_rows => INT64, ignore_feature_nulls => BOOL",
        ),
        ("ML.ENTITY_FEATURES_AT_TIME(TABLE shop.f, TABLE shop.f)", "entity time table must have one column time TIMESTAMP"),
        ("ML.ENTITY_FEATURES_AT_TIME(TABLE shop.f, TABLE shop.e, time => CURRENT_TIMESTAMP())", "has no argument time"),
    ],
)
def test_what_does_not_fit_is_named(tables: Engine, call: str, message: str) -> None:
    with pytest.raises(SqlError, match=message):
        tables.execute(f"SELECT * FROM {call}")


def test_what_does_not_run_here_is_refused(tables: Engine) -> None:
    for number in ("n", "CAST(1 + RAND() AS INT64)"):
        with pytest.raises(UnsupportedSqlError, match="depends on other rows or on chance"):
            tables.execute(f"SELECT (SELECT MAX(x) FROM ML.FEATURES_AT_TIME(TABLE shop.f, num_rows => {number})) FROM UNNEST([1, 2]) AS n")
    with pytest.raises(UnsupportedSqlError, match="calls a table function"):
        tables.execute("CREATE FUNCTION shop.g() AS ((SELECT COUNT(*) FROM ML.FEATURES_AT_TIME(TABLE shop.f)))")
