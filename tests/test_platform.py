"""The embedded platform: an event in, an answer out, in one process and without a server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import sokuji
from sokuji.config import Config
from sokuji.errors import DamagedFileError, InvalidRequestError, SokujiError, SqlError
from sokuji.platform import Platform
from sokuji.project.doctor import examine
from tests.private import readable_by_others


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    with sokuji.open(tmp_path) as opened:
        yield opened


def _buy(visitor: str, revenue: object) -> dict[str, object]:
    return {"type": "track", "event": "buy", "anonymousId": visitor, "properties": {"revenue": revenue}}


def test_a_tracked_event_is_in_the_next_query(platform: Platform) -> None:
    for number in range(3):
        platform.track(_buy("v1", 10 * number))
        rows = platform.sql("SELECT COUNT(*), SUM(revenue) FROM main.events WHERE keys.visitor_id = 'v1'").rows()
        assert rows == [(number + 1, sum(10.0 * each for each in range(number + 1)))]


def test_a_property_seen_first_has_a_typed_column_at_once(platform: Platform) -> None:
    platform.track(_buy("v1", 1))
    platform.track({"type": "page", "anonymousId": "v1", "name": "Home", "properties": {"url": "https://shop/1", "logged_in": True}})
    result = platform.sql("SELECT event_name, url, logged_in, revenue FROM main.events ORDER BY event_name")
    assert [str(field.type) for field in result.schema] == ["STRING", "STRING", "BOOL", "FLOAT64"]
    assert result.rows() == [("buy", None, None, 1.0), ("page", "https://shop/1", True, None)]


def test_numbers_of_any_kind_are_numbers(platform: Platform) -> None:
    for revenue in (Decimal("9.99"), np.int64(7), np.float32(0.5), 2**70):
        platform.track(_buy("v1", revenue))
    result = platform.sql("SELECT revenue FROM main.events ORDER BY 1")
    assert [str(field.type) for field in result.schema] == ["FLOAT64"]
    assert result.rows() == [(0.5,), (7.0,), (9.99,), (float(2**70),)]
    for wrong in (object(), "\ud800", Decimal("NaN"), np.datetime64("2026-01-01T00:00:00.000000001")):
        with pytest.raises(InvalidRequestError, match="cannot be written as JSON"):
            platform.track(_buy("v1", wrong))


def test_datasets_are_apart(platform: Platform) -> None:
    platform.track(_buy("v1", 1), dataset="a")
    platform.track(_buy("v1", 2), dataset="b")
    assert platform.sql(
        "SELECT a.revenue, b.revenue FROM a.events AS a JOIN b.events AS b ON a.keys.visitor_id = b.keys.visitor_id"
    ).rows() == [(1.0, 2.0)]


def test_a_dataset_has_its_tables_before_the_first_event(platform: Platform) -> None:
    for table in ("events", "bad_events", "identities"):
        assert platform.sql(f"SELECT COUNT(*) FROM main.{table}").rows() == [(0,)]
    platform.track(_buy("v1", 1), dataset="other")
    for table, count in {"events": 1, "bad_events": 0, "identities": 0}.items():
        assert platform.sql(f"SELECT COUNT(*) FROM other.{table}").rows() == [(count,)]
    platform.sql("DROP SCHEMA other CASCADE")
    with pytest.raises(SqlError, match=r"Table not found: other\.identities"):
        platform.sql("SELECT COUNT(*) FROM other.identities")
    platform.track(_buy("v1", 1), dataset="other")
    with pytest.raises(InvalidRequestError):
        platform.track({"type": "track", "event": "buy"}, dataset="third")
    for dataset, counts in {"other": (1, 0, 0), "third": (0, 1, 0)}.items():
        for table, count in zip(("events", "bad_events", "identities"), counts, strict=True):
            assert platform.sql(f"SELECT COUNT(*) FROM {dataset}.{table}").rows() == [(count,)]


def test_an_event_that_is_refused_raises_and_is_kept_with_its_reason(platform: Platform) -> None:
    with pytest.raises(InvalidRequestError, match="anonymousId"):
        platform.track({"type": "track", "event": "buy"})
    [(code, payload)] = platform.sql("SELECT code, payload FROM main.bad_events").rows()
    assert code == "missing_id"
    assert '"buy"' in payload


def test_a_second_platform_on_the_folder_sees_the_same(platform: Platform, tmp_path: Path) -> None:
    platform.track(_buy("v1", 5))
    with sokuji.open(tmp_path) as other:
        assert other.sql("SELECT revenue FROM main.events").rows() == [(5.0,)]
        other.track(_buy("v2", 6))
    assert platform.sql("SELECT revenue FROM main.events ORDER BY 1").rows() == [(5.0,), (6.0,)]


def test_segments_from_events_to_an_answer(platform: Platform) -> None:
    for visitor in range(40):
        for _ in range(1 if visitor % 2 else 8):
            platform.track(_buy(f"v{visitor}", 3 if visitor % 2 else 50))
    platform.sql("""
        CREATE OR REPLACE MODEL `main.rfm` OPTIONS (model_type = 'kmeans', num_clusters = 2) AS
        SELECT COUNT(*) AS frequency, SUM(revenue) AS monetary
        FROM `main.events` WHERE event_name = 'buy' GROUP BY keys.visitor_id
    """)
    rows = platform.sql("""
        SELECT DISTINCT CENTROID_ID, frequency FROM ML.PREDICT(MODEL `main.rfm`, (
          SELECT COUNT(*) AS frequency, SUM(revenue) AS monetary FROM main.events GROUP BY keys.visitor_id))
        ORDER BY frequency
    """).rows()
    assert [frequency for _, frequency in rows] == [1, 8]
    assert len({centroid for centroid, _ in rows}) == 2


def test_an_error_shows_its_place(platform: Platform) -> None:
    with pytest.raises(SqlError) as caught:
        platform.sql("SELECT 1 +\n  nothing")
    assert caught.value.pretty().splitlines()[-2:] == ["  nothing", "  ^"]


def test_a_training_set_has_the_features_as_they_were_at_each_label(platform: Platform, tmp_path: Path) -> None:
    declared = 'from sokuji.features import events, view\nview("shopper", entity="visitor", spend=events("buy").sum("revenue"))\n'
    (tmp_path / "features.py").write_text(declared)
    times = [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3)]
    for time in times:
        platform.track({**_buy("v1", 10), "timestamp": time.isoformat(), "context": {}})
    now = datetime.now(UTC) + timedelta(minutes=1)
    labels = pa.table(
        {"entity_id": ["v1", "v1", "v2"], "time": pa.array([now, times[2], now], pa.timestamp("us", "UTC")), "bought": [1, 0, 0]}
    )
    made = platform.features.training(labels)
    # At the second label's time none of the events had been received yet.
    assert made.select(["entity_id", "bought", "spend"]).to_pylist() == [
        {"entity_id": "v1", "bought": 1, "spend": 30.0},
        {"entity_id": "v1", "bought": 0, "spend": 0.0},
        {"entity_id": "v2", "bought": 0, "spend": 0.0},
    ]


def test_what_a_lost_database_knew_is_not_deleted(tmp_path: Path) -> None:
    statements = [
        "CREATE TABLE main.kept AS SELECT x FROM UNNEST([1, 2, 3]) AS x",
        "CREATE MODEL main.segments OPTIONS(model_type='kmeans', num_clusters=2) AS SELECT x, x * x AS y FROM main.kept",
    ]
    with sokuji.open(tmp_path) as platform:
        platform.track(_buy("v1", 1))
        for statement in statements:
            platform.sql(statement)
        predicted = platform.sql("SELECT CENTROID_ID FROM ML.PREDICT(MODEL main.segments, (SELECT 1.0 AS x, 1.0 AS y))").rows()
    files = {path.relative_to(tmp_path) for path in (tmp_path / ".sokuji").rglob("*") if path.is_file()}
    for path in (tmp_path / ".sokuji").glob("meta.db*"):
        path.unlink()

    with sokuji.open(tmp_path) as platform:
        with pytest.raises(SokujiError, match=r"meta\.db is damaged: it has seen 0 of the \d+ changes .*`sokuji adopt`"):
            platform.sql("SELECT revenue FROM main.events")
        findings = {finding.subject: finding for finding in examine(Config(data=tmp_path / ".sokuji"), is_running=True)}
        assert "meta.db" in findings["stores"].found
    with sokuji.open(tmp_path) as platform:
        said = list(platform.adopt())
        assert "registered table main.kept (1 columns)" in said
        assert "registered model main.segments version 1" in said
        assert platform.sql("SELECT revenue FROM main.events").rows() == [(1.0,)]
        assert platform.sql("SELECT * FROM main.kept ORDER BY x").rows() == [(1,), (2,), (3,)]
        again = platform.sql("SELECT CENTROID_ID FROM ML.PREDICT(MODEL main.segments, (SELECT 1.0 AS x, 1.0 AS y))").rows()
        assert again == predicted
        assert {path for path in files if not (tmp_path / path).exists() and "meta.db" not in path.name} == set()
        assert len(list(platform.adopt())) == 1


def test_a_database_that_cannot_be_adopted_lets_no_older_copy_pass(tmp_path: Path) -> None:
    database = tmp_path / ".sokuji" / "meta.db"
    with sokuji.open(tmp_path) as platform:
        platform.sql("CREATE VIEW main.v AS SELECT 1 AS x")
    older = database.read_bytes()
    with sokuji.open(tmp_path) as platform:
        platform.sql("CREATE OR REPLACE VIEW main.v AS SELECT 2 AS x")
    database.write_bytes(b"garbage" * 1000)
    with sokuji.open(tmp_path) as platform, pytest.raises(DamagedFileError, match=r"meta\.db"):
        list(platform.adopt())
    database.write_bytes(older)
    with sokuji.open(tmp_path) as platform, pytest.raises(DamagedFileError, match=r"it has seen \d+ of the \d+ changes"):
        platform.sql("SELECT x FROM main.v")


def test_what_is_stored_is_the_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)  # what a careless host process may have
    try:
        with sokuji.open(tmp_path) as platform:
            platform.track(_buy("v1", 30))
            platform.sql("CREATE SCHEMA other; CREATE TABLE other.t AS SELECT 1 AS x; DELETE FROM other.t WHERE x = 1")
            platform.sql("SELECT * FROM main.events")
    finally:
        os.umask(before)
    data = tmp_path / ".sokuji"
    assert readable_by_others(data) == []
    assert {"meta.db", "log", "lake"} <= {path.name for path in data.iterdir()}
    data.chmod(0o755)
    [found] = [finding for finding in examine(Config(data=data)) if finding.subject == "privacy"]
    assert found.fix == f"chmod -R go= {data}"
