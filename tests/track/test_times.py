"""The four times of an event, and which of them is used."""

import json
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sokuji.track.check import Limits
from sokuji.track.columns import to_arrow
from sokuji.track.parse import parse_batch
from sokuji.track.skew import ClockOffsets
from sokuji.web.write_keys import EventSource

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
    request.source, request.sender = EventSource("shop", "main", is_server=True), sender
    request.received_at = int(NOON.timestamp() * 1_000_000)
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


@given(
    timestamp=st.datetimes(timezones=st.just(UTC)),
    sent_at=st.datetimes(timezones=st.just(UTC)) | st.none(),
    historical=st.booleans(),
    name=st.sampled_from(["timestamp", "originalTimestamp"]),
)
def test_no_event_is_of_the_future(timestamp: datetime, sent_at: datetime | None, historical: bool, name: str) -> None:
    row = stored(
        timestamp.isoformat() if name == "timestamp" else None,
        None if sent_at is None else sent_at.isoformat(),
        originalTimestamp=timestamp.isoformat(),
        historical=historical,
    )
    assert row["event_time"] <= row["received_at"]
    assert row["event_time"] == NOON or row["time_rule"] != "clamped"


@pytest.mark.parametrize("timestamp", [at(seconds=1), at(days=400), "9999-12-31T23:59:59Z"])
def test_history_of_the_future_is_clamped(timestamp: str) -> None:
    row = stored(timestamp, at(), historical=True)
    assert (row["event_time"].isoformat(), row["time_rule"], row["historical"]) == (at(), "clamped", True)


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


class Requests:
    """Requests of one device: what is added to the times of each, in hours."""

    def __init__(self, threshold: int = MINUTE) -> None:
        self.clocks, self.now = ClockOffsets(threshold), 0

    def send(self, *differences: float, every: int = 10) -> list[float]:
        """One with each difference in hours, this many seconds apart."""
        return [self._send(difference, every) for difference in differences]

    def _send(self, difference: float, every: int) -> float:
        self.now += every * 1_000_000
        return self.clocks.correction("phone", round(difference * HOUR), self.now) / HOUR


YEARS = 73 * 365.25 * 24


def test_one_request_with_a_wrong_clock_does_not_date_those_after_it() -> None:
    phone = Requests()
    assert phone.send(-YEARS, *[0.001] * 20) == [-YEARS] + [0] * 20
    assert phone.send(0.05, 2) == [0, 0]  # late ones of the right clock


@pytest.mark.parametrize("hours", [-3, -1, 3, 24 * 400])
def test_a_clock_that_is_put_right_is_believed_at_once(hours: float) -> None:
    phone = Requests()
    assert phone.send(*[hours] * 14) == [hours] * 14
    assert phone.send(*[0.0] * 14) == [0] * 14


def test_devices_of_one_user_and_servers_behind_one_address_do_not_disturb_each_other() -> None:
    both = Requests()
    assert both.send(*[0.0, -2.0, -5.0] * 40) == [0, -2, -5] * 40
    behind = Requests()
    assert behind.send(0, *[1.0, 0.0] * 15, every=10) == [0.0] * 31  # so far it may be late: it says 1 h ago, and an hour ago it was right
    assert behind.send(*[1.0, 0.0] * 40) == [1, 0] * 40


def test_a_clock_that_goes_wrong_is_found_out_after_minutes() -> None:
    phone = Requests()
    assert phone.send(0, *[4.0] * 30) == [0] * 31
    assert phone.send(*[4.0] * 20) == [4] * 20


def test_a_difference_that_somebody_repeats_does_not_date_a_visitor_with_a_right_clock() -> None:
    """Anyone may send in the visitor's name, for as long as confirms a clock; and with four wrong ones, to push the right one out."""
    visitor = Requests()
    visitor.send(0)
    visitor.send(*[1.0, 2.0, 3.0, 4.0, 5.0] * 40)
    assert visitor.send(9, 8.5, 8) == [0, 0, 0]  # offline files of the visitor: sent hours late, stamped by a right clock


def test_a_right_clock_of_days_ago_gives_way_to_what_the_device_shows_since() -> None:
    phone = Requests()
    phone.send(0)
    phone.send(*[3.0] * 30, every=3600)
    assert phone.send(8) == [3]  # a file closed offline, by a clock that has been three hours behind for a day


def test_files_closed_offline_are_late_and_not_of_a_wrong_clock() -> None:
    phone = Requests()
    phone.send(0)
    assert phone.send(*[8 - file / 60 for file in range(300)], every=2) == [0] * 300  # ten minutes of sending what eight hours left
    assert phone.send(24 * 14, 24 * 13) == [0, 0]
    slow = Requests()
    assert slow.send(2, 2, 9, 8.5, 2) == [2, 2, 2, 2, 2]  # a clock two hours behind, of which some files are late too


def test_differences_of_one_clock_vary_by_the_delay_of_the_network() -> None:
    phone = Requests()
    assert phone.send(-2, -1.995, -2.001, -1.999) == [-2, -2, -2.001, -2.001]


@given(st.lists(st.tuples(st.integers(-300 * HOUR, 300 * HOUR), st.integers(0, HOUR)), min_size=1, max_size=40))
def test_no_correction_is_larger_than_what_the_request_shows(requests: list[tuple[int, int]]) -> None:
    clocks, now = ClockOffsets(MINUTE), 0
    for difference, pause in requests:
        now += pause
        found = clocks.correction("phone", difference, now)
        assert found == 0 if abs(difference) <= MINUTE else difference - 2 * MINUTE <= found <= difference or 0 <= found <= difference


def test_memory_is_bounded_and_the_least_recently_seen_are_forgotten() -> None:
    clocks = ClockOffsets(MINUTE, devices_max=2)
    for device in ("a", "b", "a", "c"):
        clocks.correction(device, 0, 0)
    assert clocks.correction("a", 9 * HOUR, 0) == 0  # remembered, so this is a delay
    assert clocks.correction("b", 9 * HOUR, 0) == 9 * HOUR  # forgotten, so it may be the clock


def test_devices_with_names_as_long_as_events_take_no_more_memory() -> None:
    clocks = ClockOffsets(MINUTE)
    tracemalloc.start()
    for number in range(100):
        stored(at(hours=-1), at(hours=-1), clocks, anonymousId=f"{number}{'x' * 20_000}")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 500_000
