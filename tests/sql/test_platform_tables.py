"""The tables that the sink writes to: nothing else takes their names, and they are dropped only with their dataset."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import sokuji
from sokuji.errors import NotFoundError, SqlError
from sokuji.events import IDENTITY_SCHEMA
from sokuji.lake.base import Lake
from sokuji.meta.objects import Ref, TableKind
from sokuji.platform import Platform
from sokuji.sql.engine import Engine


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    """A platform without a sink: what is tracked stands in the log only."""
    with sokuji.open(tmp_path) as platform:
        yield platform


def count(platform: Platform) -> int:
    [(rows,)] = platform.sql("SELECT COUNT(*) FROM main.events").rows()
    assert isinstance(rows, int)
    return rows


def test_nothing_else_takes_their_names(platform: Platform) -> None:
    platform.sql("CREATE SCHEMA shop")
    for statement in (
        "CREATE TABLE shop.{} (x INT64)",
        "CREATE TABLE `project.shop.{}` AS SELECT 1 AS x",
        "CREATE OR REPLACE TABLE shop.{} AS SELECT 1 AS x",
        "CREATE TABLE IF NOT EXISTS shop.{} (x INT64)",
        "CREATE VIEW shop.{} AS SELECT 1 AS x",
        "CREATE OR REPLACE VIEW shop.{} AS SELECT 1 AS x",
        "CREATE MODEL shop.{} OPTIONS(model_type = 'kmeans') AS SELECT 1 AS x",
    ):
        for name in ("events", "bad_events", "identities"):
            with pytest.raises(SqlError, match=rf"shop\.{name} cannot be created: tables named events, .* choose another name"):
                platform.sql(statement.format(name))
    assert platform.engine.catalog.tables("shop") == []


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("CREATE SCHEMA information_schema", "information_schema is what describes all datasets; choose another name"),
        ("CREATE TABLE main._delta_log (x INT64)", r"main\._delta_log cannot be created: .* choose another name"),
        ("CREATE VIEW main._delta_log AS SELECT 1 AS x", r"main\._delta_log cannot be created: .* choose another name"),
    ],
)
def test_names_that_mean_something_else_are_refused(platform: Platform, statement: str, problem: str) -> None:
    with pytest.raises(SqlError, match=problem):
        platform.sql(statement)


def test_one_that_is_there_is_neither_replaced_nor_dropped_alone(platform: Platform) -> None:
    platform.track({"type": "track", "event": "buy", "anonymousId": "a"})
    for statement in ("CREATE TABLE main.events (x INT64)", "CREATE OR REPLACE TABLE main.events AS SELECT 1 AS x"):
        with pytest.raises(SqlError, match=r"main\.events cannot be created"):
            platform.sql(statement)
    platform.sql("CREATE TABLE IF NOT EXISTS main.events (x INT64)")
    with pytest.raises(SqlError, match="DROP SCHEMA main CASCADE"):
        platform.sql("DROP TABLE main.events")
    assert count(platform) == 1


def test_dropping_a_dataset_drops_what_only_the_log_has(platform: Platform) -> None:
    platform.track({"type": "track", "event": "buy", "anonymousId": "a"})
    assert platform.uncommitted_events() == 1
    platform.sql("DROP SCHEMA main CASCADE")
    assert platform.sql("SELECT schema_name FROM INFORMATION_SCHEMA.SCHEMATA").rows() == []
    with pytest.raises(SqlError, match=r"Table not found: main\.events"):
        count(platform)
    platform.track({"type": "track", "event": "buy", "anonymousId": "b"})
    assert count(platform) == 1


def test_a_plain_table_that_has_such_a_name_already_can_be_dropped(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.t AS SELECT 1 AS x")
    lake: Lake = engine.lake
    taken = Ref("shop", "events")
    table = engine.catalog.table(Ref("shop", "t"))
    lake.create(taken, lake.snapshot(table.ref).schema)
    engine.catalog.put_table(type(table)(taken, TableKind.TABLE, table.columns))
    engine.execute("DROP TABLE shop.events")
    with pytest.raises(NotFoundError):
        engine.catalog.table(taken)


def test_merges_that_only_the_log_has_are_seen_where_no_sink_runs(platform: Platform) -> None:
    link = {
        "dataset": "main",
        "source": "web",
        "message_id": "m1",
        "kind": "merged",
        "visitor_id": "v1",
        "user_id": "u1",
        "known_at": dt.datetime(2026, 12, 1, tzinfo=dt.UTC),
    }
    platform._backends.identities_log.append(0, pa.RecordBatch.from_pylist([link], schema=IDENTITY_SCHEMA))
    for _ in range(2):
        assert platform.sql("SELECT visitor_id, user_id FROM main.identities").rows() == [("v1", "u1")]
