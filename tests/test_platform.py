"""The embedded platform: an event in, an answer out, in one process and without a server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

import sokuji
from sokuji.errors import InvalidRequestError, SqlError
from sokuji.platform import Platform


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


def test_datasets_are_apart(platform: Platform) -> None:
    platform.track(_buy("v1", 1), dataset="a")
    platform.track(_buy("v1", 2), dataset="b")
    assert platform.sql(
        "SELECT a.revenue, b.revenue FROM a.events AS a JOIN b.events AS b ON a.keys.visitor_id = b.keys.visitor_id"
    ).rows() == [(1.0, 2.0)]


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
