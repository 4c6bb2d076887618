"""Schedules and quiet hours, also at changes to and from daylight saving time."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sokuji.rules import quiet_hours, schedule
from sokuji.rules.calendar import Schedule, to_us, zone_named

BERLIN = "Europe/Berlin"  # 2027: forward on 28 March at 02:00, back on 31 October at 03:00


def at(text: str, zone: str = "UTC", *, fold: int = 0) -> int:
    return to_us(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold))


def test_days_in_until_are_the_last_day_and_times_the_first_instant_off() -> None:
    by_day = schedule(since="2027-03-01", until="2027-03-02", zone="Asia/Tokyo")
    assert [by_day.contains(at(text, "Asia/Tokyo")) for text in ("2027-02-28 23:59:59.999999", "2027-03-01", "2027-03-02 23:59:59")] == [
        False,
        True,
        True,
    ]
    assert not by_day.contains(at("2027-03-03", "Asia/Tokyo"))
    assert schedule(since="2027-03-01t10:00:00z") == schedule(since="2027-03-01T10:00:00Z") == schedule(since="2027-03-01 10:00")
    by_time = schedule(since="2027-03-01 10:00", until="2027-03-02 18:00")
    assert by_time.contains(at("2027-03-02 17:59:59.999999"))
    assert not by_time.contains(at("2027-03-02 18:00"))


def test_days_and_hours_are_those_of_the_zone() -> None:
    weekdays = schedule(days="mon-fri", hours="10:00-22:00", zone="Asia/Tokyo")
    assert weekdays.contains(at("2027-01-01 01:00"))  # Friday 10:00 in Tokyo
    assert not weekdays.contains(at("2027-01-01 00:59:59"))
    assert not weekdays.contains(at("2027-01-01 13:00"))
    assert not weekdays.contains(at("2027-01-02 01:00"))
    assert schedule(days="sat,mon-tue").days == {5, 0, 1}
    assert schedule(days="sat-mon").days == {5, 6, 0}


def test_hours_past_midnight_belong_to_the_day_on_which_they_begin() -> None:
    friday_night = schedule(days="fri", hours="22:00-02:00")
    times = ("2027-01-01 01:00", "2027-01-01 21:59", "2027-01-01 22:00", "2027-01-02 01:59", "2027-01-02 02:00", "2027-01-02 22:00")
    assert [friday_night.contains(at(time)) for time in times] == [False, False, True, True, False, False]


def test_where_the_clock_is_put_forward_the_skipped_hour_never_comes() -> None:
    hours = schedule(hours="02:00-03:00", zone=BERLIN)
    day = range(at("2027-03-28", BERLIN), at("2027-03-29", BERLIN), 60_000_000)
    assert len(day) == 23 * 60
    assert not any(hours.contains(minute) for minute in day)
    around = schedule(hours="01:30-03:30", zone=BERLIN)
    assert sum(around.contains(minute) for minute in day) == 60


def test_where_the_clock_is_put_back_the_repeated_hour_counts_twice() -> None:
    hours = schedule(hours="02:00-03:00", zone=BERLIN)
    day = range(at("2027-10-31", BERLIN), at("2027-11-01", BERLIN), 60_000_000)
    assert len(day) == 25 * 60
    assert [minute for minute in day if hours.contains(minute)] == list(
        range(at("2027-10-31 02:00", BERLIN), at("2027-10-31 02:00", BERLIN, fold=1) + 3_600_000_000, 60_000_000)
    )


def test_since_and_until_stand_for_their_own_offset_from_utc() -> None:
    summer = schedule(since="2027-03-28", until="2027-03-28", zone=BERLIN)
    assert (summer.until_us or 0) - (summer.since_us or 0) == 23 * 3_600_000_000


def test_quiet_hours_are_the_visitors_where_the_event_names_a_zone_that_exists() -> None:
    quiet = quiet_hours("22:00-08:00", zone="visitor")
    project = quiet.__class__(quiet.hours, "UTC", visitor=True)
    noon = at("2027-06-01 12:00")
    assert not project.contains(noon, None)
    assert project.contains(noon, "Asia/Tokyo") is False  # 21:00
    assert project.contains(at("2027-06-01 13:00"), "Asia/Tokyo")
    for unknown in ("Nowhere/Here", "../../etc/passwd", "", "Asia", "x" * 5000, "UTC\0"):
        assert zone_named(unknown) is None
        assert not project.contains(noon, unknown)
    fixed = quiet.__class__(quiet.hours, BERLIN, visitor=False)
    assert not fixed.contains(noon, "America/Los_Angeles")


def test_quiet_hours_follow_a_change_of_the_clock() -> None:
    quiet = quiet_hours("22:00-08:00", zone=BERLIN)
    for day, offset in (("2027-03-27", 1), ("2027-03-28", 2), ("2027-10-31", 1)):
        eight = at(f"{day} 08:00") - offset * 3_600_000_000
        assert quiet.contains(eight - 1, None)
        assert not quiet.contains(eight, None)


@given(
    st.lists(st.datetimes(datetime(2026, 1, 1), datetime(2028, 12, 31), timezones=st.just(UTC)), min_size=1),  # noqa: DTZ001 - they get a zone
    st.sampled_from(
        [
            schedule(days="mon-fri", hours="22:00-02:00", zone=BERLIN),
            schedule(since="2026-06-01", until="2027-03-28", hours="02:00-03:30", zone=BERLIN),
            schedule(days="sun", zone="Asia/Kathmandu"),
            Schedule(zone="UTC"),
        ]
    ),
)
def test_many_instants_at_once_are_as_each_alone(times: list[datetime], rule: Schedule) -> None:
    instants = np.array([to_us(time) for time in times], dtype=np.int64)
    assert rule.contains_each(instants).tolist() == [rule.contains(int(instant)) for instant in instants]


@pytest.mark.parametrize("name", ["UTC", "Asia/Tokyo", "America/Argentina/ComodRivadavia"])
def test_zones_are_found(name: str) -> None:
    assert zone_named(name) is not None
