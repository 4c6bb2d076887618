"""Parse the arguments of `actions.py`. An invalid one raises an error that says what to write.

`where` is the beginning of an error message: it names the rule and the argument.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from sokuji.errors import RuleError
from sokuji.rules.calendar import Hours, to_us, zone_named
from sokuji.rules.spec import Cap, SessionCap, TimeCap, TotalCap, ViewCap

CAP_COUNT_MAX = 32  # each decision within a cap's window has a place in the profile's row
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_CAP = re.compile(r"(\d{1,9}) (?:per (?:(\d{1,9}) views?|(\w+))|(ever))")
_HOST = re.compile(r"[\w-]+(\.[\w-]+)*(:\d{1,5})?")
_HOURS = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DURATION = re.compile(r"([1-9]\d{0,4})([smhdw])")
_UNITS_US = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000, "w": 604_800_000_000}

T = TypeVar("T")


def event_names(names: str | Sequence[str], where: str) -> tuple[str, ...]:
    """One event name or several, each once."""
    each = (names,) if isinstance(names, str) else tuple(names)
    for name in each:
        if not isinstance(name, str) or not name:
            raise RuleError(f"{where}: {name!r} is not the name of an event; expected a text such as 'buy' or 'page'")
    return tuple(dict.fromkeys(each))


def condition(text: str | None, where: str) -> str | None:
    """A GoogleSQL condition. Its columns and functions are checked when it is compiled."""
    if text is not None and (not isinstance(text, str) or not text.strip()):
        raise RuleError(f"{where}={text!r}: expected a GoogleSQL condition, such as 'spend_7d > 100'")
    return None if text is None else text.strip()


def cap(text: object, where: str) -> Cap:
    """A cap such as "1 per 24h", "2 per 10 views", "1 per session", "3 ever"."""
    match = _CAP.fullmatch(text.strip()) if isinstance(text, str) else None
    is_session = match is not None and match[3] == "session"
    window = _parse_us(match[3]) if match and match[3] and not is_session else None
    if match is None or not int(match[1]) or (match[2] and not int(match[2])) or (match[3] and window is None and not is_session):
        raise RuleError(
            f"{where}: at_most={text!r}; expected '1 per 24h' (units s, m, h, d, w), '2 per 10 views', '1 per session' or '3 ever'"
        )
    count = int(match[1])
    if match[4]:
        return TotalCap(count)
    if count > CAP_COUNT_MAX:
        raise RuleError(
            f"{where}: at_most={text!r}; a cap within a window can be at most {CAP_COUNT_MAX}; use a shorter window or '{count} ever'"
        )
    if is_session:
        return SessionCap(count)
    return ViewCap(count, int(match[2])) if window is None else TimeCap(count, window)


def duration_us(text: str, where: str) -> int:
    """A duration such as "45s", "30m", "24h", "7d", "2w", in microseconds."""
    duration = _parse_us(text)
    if duration is None:
        raise RuleError(f"{where}={text!r}: expected a duration such as '45s', '30m', '24h', '7d' or '2w'")
    return duration


def share(value: float, where: str) -> float:
    """A share of profiles, from 0 to below 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise RuleError(f"{where}={value!r}: expected a share from 0 to below 1; 10 % is 0.1")
    return float(value)


def zone(name: str, where: str) -> str:
    """The IANA name of an existing time zone."""
    if not isinstance(name, str) or zone_named(name) is None:
        raise RuleError(f"{where} zone={name!r}: expected a time zone's IANA name such as 'Asia/Tokyo' or 'UTC'")
    return name


def hours(text: str, where: str) -> Hours:
    """Hours of the day such as "10:00-22:00"."""
    match = _HOURS.fullmatch(text.strip()) if isinstance(text, str) else None
    start, end = (int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])) if match else (0, 0)
    if match is None or int(match[2]) > 59 or int(match[4]) > 59 or start >= 24 * 60 or end > 24 * 60 or start == end:
        raise RuleError(f"{where} hours={text!r}: expected two different times of the day, such as '10:00-22:00' or '22:00-08:00'")
    return Hours(start, end)


def hosts(names: Sequence[str], where: str) -> tuple[str, ...]:
    """Host names, with or without a port, in lower case."""
    each = (names,) if isinstance(names, str) else tuple(names)
    for name in each:
        if not isinstance(name, str) or not _HOST.fullmatch(name):
            raise RuleError(f"{where}={name!r}: expected a host's name such as 'cdn.shop.example', without https:// and path")
    return tuple(name.lower() for name in each)


def days(text: str) -> frozenset[int]:
    """Days of the week such as "mon-fri" or "sat,sun"; Monday is 0."""
    days: set[int] = set()
    for part in text.lower().split(",") if isinstance(text, str) else [""]:
        first, _, last = part.strip().partition("-")
        if first not in _DAYS or (last or first) not in _DAYS:
            raise RuleError(f"schedule days={text!r}: expected days such as 'mon-fri' or 'sat,sun'")
        start = _DAYS.index(first)
        days |= {(start + step) % 7 for step in range((_DAYS.index(last or first) - start) % 7 + 1)}
    return frozenset(days)


def instant_us(text: str, name: str, zone: str, *, after_day: bool) -> int:
    """A day or a time in `zone`, as microseconds. With `after_day`, a day means its end."""
    try:
        moment = datetime.fromisoformat(text.upper() if isinstance(text, str) else text)  # RFC 3339 also allows `t` and `z` in lower case
    except (TypeError, ValueError) as error:
        raise RuleError(f"schedule {name}={text!r}: expected a day or a time such as '2026-12-01' or '2026-12-01 18:00'") from error
    if len(text.strip()) <= len("2026-12-01") and after_day:
        moment += timedelta(days=1)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone_named(zone))
    return to_us(moment)


def check_name(name: object, what: str) -> None:
    """Check that `name` can name a rule or an arm."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RuleError(f"{what} {name!r}: expected a name of letters, digits and _ that begins with a letter, such as 'left_cart'")


def typed(value: T | None, kind: type[T], where: str, example: str) -> T | None:
    """`value` unchanged, after a check that it is None or a `kind`."""
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise RuleError(f"{where}={value!r}: expected {example}")
    return value


def _parse_us(text: object) -> int | None:
    match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    return int(match[1]) * _UNITS_US[match[2]] if match else None
