"""The four times of an event, and which is computed with."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sokuji.track.check import Limits
from sokuji.track.columns import to_arrow
from sokuji.track.parse import parse_batch
from sokuji.track.request import Source
from sokuji.track.skew import ClockOffsets

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MINUTE = 60_000_000
HOUR = 60 * MINUTE


def at(**offset: float) -> str:
    return (NOON + timedelta(**offset)).isoformat()


def stored(
    timestamp: str | None, sent_at: str | None, clocks: ClockOffsets | None = None, *, sender: str = "", visitors: int = 1, **event: Any
) -> dict[str, Any]:
    """An event that arrives at noon."""
    events = [{"type": "page", "anonymousId": f"v{number}", "timestamp": timestamp} | event for number in range(visitors)]
    request = parse_batch(json.dumps({"batch": events, "sentAt": sent_at}).encode())
    request.source, request.sender, request.received_at = Source("shop", "main"), sender, int(NOON.timestamp() * 1_000_000)
    (batch,) = to_arrow([request], 1, Limits(), clocks or ClockOffsets(MINUTE)).values()
    row: dict[str, Any] = batch.to_pylist()[0]
    return row


@pytest.mark.parametrize(
    ("timestamp", "sent_at", "event_time", "rule"),
    [
        (at(seconds=-5), at(seconds=-1), at(seconds=-5), "client"),
        (at(seconds=-5), at(seconds=-59), at(seconds=-5), "client"),  # within the threshold a clock is left alone
        (at(hours=-3, seconds=-5), at(hours=-3), at(seconds=-5), "skew"),  # a clock three hours behind
        (at(hours=3, seconds=-5), at(hours=3), at(seconds=-5), "skew"),  # and one ahead
        (at(hours=3, seconds=5), at(hours=3), at(), "clamped"),
        (at(seconds=5), at(), at(), "clamped"),
        (at(days=-400), None, at(days=-400), "client"),  # without sentAt nothing is known of the clock
        (at(days=-400), "soon", at(days=-400), "client"),
        (None, at(hours=-3), at(), "received"),
        ("0001-01-01T00:00:00Z", at(hours=1), "0001-01-01T00:00:00+00:00", "skew"),  # no time before the first that SQL has
        ("9999-12-31T23:59:59Z", at(), at(), "clamped"),
    ],
)
def test_the_rule_and_its_time(timestamp: str | None, sent_at: str | None, event_time: str, rule: str) -> None:
    row = stored(timestamp, sent_at)
    assert (row["event_time"].isoformat(), row["time_rule"]) == (event_time, rule)
    assert row["received_at"] == NOON
    assert row["original_time"] == (None if timestamp is None else datetime.fromisoformat(timestamp))
    assert row["sent_at"] == (None if sent_at in {None, "soon"} else datetime.fromisoformat(str(sent_at)))


@pytest.mark.parametrize("sent_at", ["soon", "", "0000-06-01T00:00:00Z", "9999-12-31T23:59:59-12:00"])  # SQL and Python have no year 0
def test_a_sent_at_that_is_no_time_is_as_good_as_none(sent_at: str) -> None:
    row = stored(at(days=-400), sent_at)
    assert (row["event_time"].isoformat(), row["time_rule"], row["sent_at"]) == (at(days=-400), "client", None)


def test_history_is_trusted_whatever_the_clock() -> None:
    row = stored(at(days=-900), at(hours=-3), historical=True)
    assert (row["event_time"].isoformat(), row["time_rule"]) == (at(days=-900), "trusted")


def test_a_file_closed_hours_before_it_is_sent_is_not_a_wrong_clock() -> None:
    clocks = ClockOffsets(MINUTE)
    assert stored(at(seconds=-2), at(seconds=-1), clocks)["time_rule"] == "client"
    offline = stored(at(hours=-9), at(hours=-8), clocks)
    assert (offline["event_time"].isoformat(), offline["time_rule"]) == (at(hours=-9), "client")


def test_a_batch_of_many_visitors_has_its_servers_clock() -> None:
    clocks = ClockOffsets(MINUTE)
    assert stored(at(seconds=-2), at(), clocks, sender="good", visitors=3)["time_rule"] == "client"
    assert stored(at(hours=-3), at(hours=-3), clocks, sender="behind", visitors=3)["time_rule"] == "skew"
    assert stored(at(hours=-3), at(hours=-3), clocks, sender="good", visitors=3)["time_rule"] == "client"


@given(offset=st.integers(-100 * HOUR, 100 * HOUR), delays=st.lists(st.integers(0, 10 * HOUR), min_size=1, max_size=30))
def test_the_estimate_is_the_offset_plus_the_smallest_recent_delay(offset: int, delays: list[int]) -> None:
    clocks = ClockOffsets(0)
    found = [clocks.correction("phone", offset + delay, index) for index, delay in enumerate(delays)]
    for index, estimate in enumerate(found):
        assert offset + min(delays[: index + 1]) <= estimate <= offset + min(delays[max(0, index - 7) : index + 1])


def test_a_clock_that_was_put_right_is_believed_after_a_while() -> None:
    clocks = ClockOffsets(MINUTE)
    assert [clocks.correction("phone", -HOUR, 0) for _ in range(20)] == [-HOUR] * 20
    assert [clocks.correction("phone", 0, 0) for _ in range(20)][-1] == 0
    assert clocks.correction("tablet", -HOUR, 0) == -HOUR
    clocks.correction("tablet", 0, 25 * HOUR)
    assert clocks.correction("tablet", 0, 50 * HOUR) == 0


def test_memory_is_bounded_and_the_least_recently_seen_are_forgotten() -> None:
    clocks = ClockOffsets(MINUTE, devices_max=2)
    for device in ("a", "b", "a", "c"):
        clocks.correction(device, 0, 0)
    assert clocks.correction("a", 9 * HOUR, 0) == 0  # remembered, so this is a delay
    assert clocks.correction("b", 9 * HOUR, 0) == 9 * HOUR  # forgotten, so it may be the clock
