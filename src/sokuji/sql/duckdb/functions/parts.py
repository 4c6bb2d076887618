"""Date parts: the length and the beginning of each, and conversions to and from time zones."""

from __future__ import annotations

import re
import zoneinfo

from sokuji.duckdb_text import quote_text
from sokuji.sql.duckdb.functions.base import SqlCall

MICROSECONDS = {
    "MICROSECOND": 1,
    "MILLISECOND": 1_000,
    "SECOND": 1_000_000,
    "MINUTE": 60_000_000,
    "HOUR": 3_600_000_000,
    "DAY": 86_400_000_000,
    "WEEK": 7 * 86_400_000_000,
}
MONTHS = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}

# Days from the first day of a week of this kind to Thursday 1970-01-01.
_WEEKS = {
    "WEEK": 4,
    "WEEK_MONDAY": 3,
    "WEEK_TUESDAY": 2,
    "WEEK_WEDNESDAY": 1,
    "WEEK_THURSDAY": 0,
    "WEEK_FRIDAY": 6,
    "WEEK_SATURDAY": 5,
    "ISOWEEK": 3,
}
_BEFORE_ANY = 7 * 110_000  # in days; keeps dividends positive from year 1, because DuckDB's // rounds towards zero


def is_week(part: str) -> bool:
    """Whether a part is a kind of week."""
    return part in _WEEKS


def day_number(date: str) -> str:
    """Days from 1970-01-01 to a DATE."""
    return f"({date} - DATE '1970-01-01')"


def week_number(date: str, part: str) -> str:
    """A number that increases by one at the beginning of each week of this kind."""
    return f"(({day_number(date)} + {_WEEKS[part] + _BEFORE_ANY}) // 7)"


def days_into_week(date: str, part: str) -> str:
    """Days from the beginning of a week of this kind to the date."""
    return f"(({day_number(date)} + {_WEEKS[part] + _BEFORE_ANY}) % 7)"


def constant(call: SqlCall, position: int) -> str | None:
    """The value of a constant STRING or enum argument; None for other arguments."""
    value = call.constants[position] if position < len(call.constants) else None
    return value if isinstance(value, str) else None


_OFFSET = re.compile(r"([+-])(\d{1,2})(?::(\d{2}))?")


def zone(call: SqlCall, position: int) -> str | None:
    """The time zone argument of a call, UTC by default; None if DuckDB does not know the zone as GoogleSQL does."""
    if position >= len(call.arguments):
        return "UTC"
    name = constant(call, position)
    known = name is not None and (name in zoneinfo.available_timezones() or _OFFSET.fullmatch(name) is not None)
    return name if known else None


def to_local(timestamp: str, name: str) -> str:
    """The DATETIME on clocks in a zone at a TIMESTAMP."""
    offset = _offset_us(name)
    return f"timezone({quote_text(name)}, {timestamp})" if offset is None else f"(timezone('UTC', {timestamp}) + to_microseconds({offset}))"


def from_local(datetime: str, name: str) -> str:
    """The TIMESTAMP at which clocks in a zone show a DATETIME."""
    offset = _offset_us(name)
    return f"timezone({quote_text(name)}, {datetime})" if offset is None else f"timezone('UTC', {datetime} - to_microseconds({offset}))"


def _offset_us(name: str) -> int | None:
    match = _OFFSET.fullmatch(name)
    if match is None:
        return None
    sign, hours, minutes = match.groups()
    return (1 if sign == "+" else -1) * (int(hours) * 3600 + int(minutes or 0) * 60) * 1_000_000
