"""Changing the tables that the sink fills from the log: columns of properties, and deleted rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sokuji
from sokuji.errors import SqlError
from sokuji.lake.delta.tables import DeltaLake
from sokuji.lake.events import COLUMNS_MAX
from sokuji.platform import Platform


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    with sokuji.open(tmp_path) as platform:
        yield platform


def track(platform: Platform, visitor: str = "v1", /, **properties: Any) -> None:
    platform.track({"type": "track", "event": "buy", "anonymousId": visitor, "properties": properties})


def revenues(platform: Platform) -> list[tuple[Any, ...]]:
    return platform.sql("SELECT revenue FROM main.events ORDER BY received_at").rows()


def commit(platform: Platform) -> None:
    with platform._backends.make_sink() as sink:
        sink.drain()


@pytest.mark.parametrize("committed", [False, True])
def test_another_type_is_read_from_the_properties_again(platform: Platform, committed: bool) -> None:
    track(platform, revenue="5 EUR")
    track(platform, revenue=12.5)
    if committed:
        commit(platform)
    assert revenues(platform) == [("5 EUR",), (None,)]
    platform.sql("ALTER TABLE main.events ALTER COLUMN revenue SET DATA TYPE FLOAT64")
    track(platform, revenue=3)
    track(platform, revenue="7")
    assert revenues(platform) == [(None,), (12.5,), (3.0,), (None,)]
    commit(platform)
    assert revenues(platform) == [(None,), (12.5,), (3.0,), (None,)]
    assert platform.sql("SELECT JSON_VALUE(properties.revenue) FROM main.events ORDER BY received_at LIMIT 1").rows() == [("5 EUR",)]


def test_a_sink_that_runs_goes_on_with_the_new_type(platform: Platform) -> None:
    with platform._backends.make_sink() as sink:
        track(platform, revenue="5 EUR")
        sink.drain()
    with platform._backends.make_sink() as sink:
        track(platform, revenue="6 EUR")
        sink.drain()
        platform.sql("ALTER TABLE main.events ALTER COLUMN revenue SET DATA TYPE FLOAT64")
        track(platform, revenue=1)
        sink.drain()
    assert revenues(platform) == [(None,), (None,), (1.0,)]


def test_a_dropped_column_stays_away_until_it_is_added(platform: Platform) -> None:
    track(platform, revenue=1, junk="a")
    with platform._backends.make_sink() as sink:
        sink.drain()
        platform.sql("ALTER TABLE main.events DROP COLUMN Junk")
        track(platform, revenue=2, junk="b")
        assert [field.name for field in platform.sql("SELECT * FROM main.events").schema][-1] == "revenue"
        sink.drain()
    with pytest.raises(SqlError, match="Unrecognized name: junk"):
        platform.sql("SELECT junk FROM main.events")
    assert [row for (row,) in platform.sql("SELECT JSON_VALUE(properties.junk) FROM main.events ORDER BY 1").rows()] == ["a", "b"]
    platform.sql("ALTER TABLE main.events ADD COLUMN junk STRING")
    track(platform, revenue=3, junk="c")
    assert platform.sql("SELECT junk FROM main.events ORDER BY 1").rows() == [("a",), ("b",), ("c",)]


def test_a_column_whose_adding_was_cut_off_is_read_again_by_its_type(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    track(platform, junk="a")
    commit(platform)
    platform.sql("ALTER TABLE main.events DROP COLUMN junk")
    track(platform, junk="b")
    commit(platform)
    with monkeypatch.context() as killed:
        killed.setattr(DeltaLake, "remake", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            platform.sql("ALTER TABLE main.events ADD COLUMN junk STRING")
    track(platform, junk="c")
    with pytest.raises(SqlError, match=r"already exists: junk; .* ALTER COLUMN junk SET DATA TYPE reads its values"):
        platform.sql("ALTER TABLE main.events ADD COLUMN junk STRING")
    platform.sql("ALTER TABLE main.events ALTER COLUMN junk SET DATA TYPE STRING")
    assert platform.sql("SELECT junk FROM main.events ORDER BY 1").rows() == [("a",), ("b",), ("c",)]


@pytest.mark.parametrize("query", ["SELECT revenue FROM main.events ORDER BY received_at", "SELECT SUM(revenue) FROM main.events"])
def test_a_change_that_was_cut_off_before_the_catalog_had_it_is_the_lakes(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    track(platform, revenue="5 EUR", junk="a")
    track(platform, revenue=8, junk="b")
    commit(platform)
    with monkeypatch.context() as killed:
        killed.setattr("sokuji.sql.statements.events_tables.define", lambda *_: 1 // 0)
        for change in ("ALTER COLUMN revenue SET DATA TYPE FLOAT64", "DROP COLUMN junk"):
            with pytest.raises(ZeroDivisionError):
                platform.sql(f"ALTER TABLE main.events {change}")
    assert platform.sql(query).rows() == ([(8.0,)] if "SUM" in query else [(None,), (8.0,)])
    with pytest.raises(SqlError, match="Unrecognized name: junk"):
        platform.sql("SELECT junk FROM main.events")


def test_several_changes_are_made_at_once(platform: Platform) -> None:
    track(platform, a=1, b="2", c=True, d="x")
    commit(platform)
    platform.sql("ALTER TABLE main.events DROP COLUMN a, DROP COLUMN c, ADD COLUMN IF NOT EXISTS d STRING, DROP COLUMN IF EXISTS e")
    assert [field.name for field in platform.sql("SELECT * FROM main.events").schema][-2:] == ["b", "d"]


def test_a_column_is_free_for_another_property_once_one_is_dropped(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sokuji.sink.shape.COLUMNS_AT_ONCE", COLUMNS_MAX)
    track(platform, "v1", **{f"p{number:04}": number for number in range(COLUMNS_MAX)})
    commit(platform)
    track(platform, wanted=1)
    with pytest.raises(SqlError, match="1,000 columns of properties, which is the most"):
        platform.sql("ALTER TABLE main.events ADD COLUMN wanted FLOAT64")
    platform.sql("ALTER TABLE main.events DROP COLUMN p0001, ADD COLUMN wanted FLOAT64")
    assert platform.sql("SELECT SUM(wanted) FROM main.events").rows() == [(1.0,)]


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        ("DROP COLUMN event_name", SqlError, "event_name is a column of every events table"),
        ("DROP COLUMN nothing", SqlError, "Column not found: nothing"),
        ("ALTER COLUMN revenue SET DATA TYPE INT64", SqlError, "cannot be INT64: a property's column is STRING, FLOAT64 or BOOL"),
        ("RENAME COLUMN revenue TO price", SqlError, "has the property's name; DROP COLUMN, ADD COLUMN"),
        ("ADD COLUMN revenue STRING", SqlError, "Column already exists|already exists"),
        ("SET OPTIONS (description = 'x')", SqlError, "fed from the log and cannot be changed this way"),
    ],
)
def test_what_cannot_be_changed_says_what_can(platform: Platform, action: str, error: type[Exception], message: str) -> None:
    track(platform, revenue=1)
    with pytest.raises(error, match=message):
        platform.sql(f"ALTER TABLE main.events {action}")


def test_deleted_rows_do_not_come_back(platform: Platform) -> None:
    for number in range(6):
        track(platform, f"v{number % 2}", revenue=number)
    commit(platform)
    track(platform, "v0", revenue=6)  # in the log only
    result = platform.sql(
        "DELETE FROM main.events WHERE keys.visitor_id IN (SELECT keys.visitor_id FROM main.events WHERE revenue = 6) AND revenue > 0"
    )
    assert result.rows_affected == 3
    assert "sokuji apply --rebuild" in (result.message or "")
    track(platform, "v0", revenue=7)
    assert revenues(platform) == [(0.0,), (1.0,), (3.0,), (5.0,), (7.0,)]
    commit(platform)
    assert revenues(platform) == [(0.0,), (1.0,), (3.0,), (5.0,), (7.0,)]
    assert platform.sql("DELETE FROM main.events WHERE revenue > 100").rows_affected == 0
    assert platform.sql("DELETE FROM main.events WHERE TRUE").rows_affected == 5
    assert revenues(platform) == []


def test_a_deleted_message_that_is_sent_again_is_a_repeat(platform: Platform) -> None:
    event = {"type": "track", "event": "buy", "anonymousId": "v1", "messageId": "m1"}
    platform.track(event)
    platform.sql("DELETE FROM main.events WHERE message_id = 'm1'")
    platform.track(event)
    assert platform.sql("SELECT COUNT(*) FROM main.events").rows() == [(0,)]


def test_refused_events_can_be_cleared_and_the_merge_log_cannot(platform: Platform) -> None:
    with pytest.raises(sokuji.errors.InvalidRequestError):
        platform.track({"type": "track", "event": "buy"})
    result = platform.sql("DELETE FROM main.bad_events WHERE code = 'missing_id'")
    assert (result.rows_affected, result.message) == (1, "Deleted 1 row from main.bad_events")
    with pytest.raises(SqlError, match="who was known as whom"):
        platform.sql("DELETE FROM main.identities WHERE TRUE")
    with pytest.raises(SqlError, match="DELETE is the only statement"):
        platform.sql("UPDATE main.events SET event_name = 'x' WHERE TRUE")
