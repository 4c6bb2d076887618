"""Calendar parts of a TIMESTAMP feature, as in BigQuery: each is a feature `_TS_<part>_<column>`.

Every formula is written once, for both numpy arrays and tensors of an ONNX graph: both have `+ - * /`, and the caller passes `floor`. All
numbers are whole and far below 2**53, so float64 is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Floor = Callable[[Any], Any]

_DAY = 86400.0
_EPOCH_FROM_MARCH_0000 = 719468.0
_EPOCH_FROM_0001 = 719162.0


def _days(seconds: Any, floor: Floor) -> Any:
    return floor(seconds / _DAY)


def _hour(seconds: Any, floor: Floor) -> Any:
    return floor(_modulo(seconds, _DAY, floor) / 3600.0)


def _minute(seconds: Any, floor: Floor) -> Any:
    return floor(_modulo(seconds, 3600.0, floor) / 60.0)


def _modulo(value: Any, divisor: float, floor: Floor) -> Any:
    return value - floor(value / divisor) * divisor


def _weekday(seconds: Any, floor: Floor) -> Any:
    """The day of the week. 1 is Sunday, as in EXTRACT(DAYOFWEEK)."""
    return _modulo(_days(seconds, floor) + 4.0, 7.0, floor) + 1.0


def _civil(seconds: Any, floor: Floor) -> tuple[Any, Any, Any]:
    """Year, month, day of the proleptic Gregorian calendar, computed in eras of 400 years that start on 1 March."""
    shifted = _days(seconds, floor) + _EPOCH_FROM_MARCH_0000
    era = floor(shifted / 146097.0)
    day_of_era = shifted - era * 146097.0
    leap_days = floor(day_of_era / 1460.0) - floor(day_of_era / 36524.0) + floor(day_of_era / 146096.0)
    year_of_era = floor((day_of_era - leap_days) / 365.0)
    day_of_year = day_of_era - (year_of_era * 365.0 + floor(year_of_era / 4.0) - floor(year_of_era / 100.0))
    month_from_march = floor((day_of_year * 5.0 + 2.0) / 153.0)
    day = day_of_year - floor((month_from_march * 153.0 + 2.0) / 5.0) + 1.0
    next_year = floor(month_from_march / 10.0)  # 1 in January and February
    return year_of_era + era * 400.0 + next_year, month_from_march + 3.0 - next_year * 12.0, day


def _week(seconds: Any, floor: Floor) -> Any:
    """The week, 0 to 53, as in EXTRACT(WEEK). Weeks begin on Sunday; days before the first Sunday are in week 0."""
    before = _civil(seconds, floor)[0] - 1.0
    new_year = before * 365.0 + floor(before / 4.0) - floor(before / 100.0) + floor(before / 400.0) - _EPOCH_FROM_0001
    day_of_year = _days(seconds, floor) - new_year
    return floor((day_of_year + 8.0 - _weekday(seconds, floor)) / 7.0)


PARTS: dict[str, Callable[[Any, Floor], Any]] = {
    "DOM": lambda seconds, floor: _civil(seconds, floor)[2],
    "DOW": _weekday,
    "MOY": lambda seconds, floor: _civil(seconds, floor)[1],
    "HOD": _hour,
    "MOH": _minute,
    "WOY": _week,
    "YEAR": lambda seconds, floor: _civil(seconds, floor)[0],
}
"""Calendar part -> function of seconds since 1970 UTC."""
