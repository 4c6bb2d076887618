"""Windows of time, as features name them: "90s", "1h", "7d", "session", "previous session", "today in Asia/Tokyo", "all".

A sliding window is stored as a ring of tiles, each `hop` long. A value at time t covers the events with
`floor(t - length, hop) <= event_time`: exact at the head, and up to one hop too long at the tail.
"""

from __future__ import annotations

import enum
import re
import zoneinfo
from dataclasses import dataclass

from sokuji.errors import FeatureError

SECOND_US = 1_000_000
_UNITS_US = {"s": SECOND_US, "m": 60 * SECOND_US, "h": 3600 * SECOND_US, "d": 86_400 * SECOND_US}
_HOPS_US = tuple(
    count * _UNITS_US[unit]
    for unit, counts in {"s": (1, 2, 5, 10, 15, 30), "m": (1, 2, 5, 10, 15, 30), "h": (1, 2, 3, 4, 6, 12), "d": (1, 2, 7)}.items()
    for count in counts
)
_TILES_MAX = 254  # a tile's place in its ring is stored in one byte for distinct values
_LENGTH = re.compile(r"([1-9][0-9]*) ?([smhd])")
_TODAY = re.compile(r"today(?: in ([A-Za-z0-9_+\-/]+))?")


class WindowKind(enum.IntEnum):
    """How a window moves. The kernel uses these numbers."""

    ALL = 0
    SLIDING = 1
    TODAY = 2
    SESSION = 3
    PREVIOUS_SESSION = 4


@dataclass(frozen=True, slots=True)
class Window:
    """One window. `length_us` and `hop_us` are for sliding windows, `zone` (a name of the tz database) is for "today"."""

    kind: WindowKind
    text: str
    length_us: int = 0
    hop_us: int = 0
    zone: str = ""

    @property
    def tiles(self) -> int:
        """The number of tiles that the ring needs, so that the window fits wherever in a tile it begins."""
        if self.kind is WindowKind.SLIDING:
            return -(-self.length_us // self.hop_us) + 1
        return 2 if self.kind in {WindowKind.SESSION, WindowKind.PREVIOUS_SESSION} else 1

    @property
    def suffix(self) -> str:
        """The suffix of a feature's name for this window: `_1h`, `_previous_session`, empty for all time."""
        if self.kind is WindowKind.ALL:
            return ""
        return "_today" if self.kind is WindowKind.TODAY else f"_{self.text.replace(' ', '_')}"


ALL = Window(WindowKind.ALL, "all")
SESSION = Window(WindowKind.SESSION, "session")
PREVIOUS_SESSION = Window(WindowKind.PREVIOUS_SESSION, "previous session")
_NAMED = {window.text: window for window in (ALL, SESSION, PREVIOUS_SESSION)}


def length(text: str, what: str) -> int:
    """A duration such as "30m", in microseconds.

    Raises:
        FeatureError: it is not a duration; `what` names the argument.
    """
    match = _LENGTH.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise FeatureError(f'{what} is {text!r}; write a number and a unit: "90s", "30m", "1h" or "7d"')
    return int(match.group(1)) * _UNITS_US[match.group(2)]


def window(text: str | Window) -> Window:
    """The window that a text names.

    Raises:
        FeatureError: there is no such window, its time zone is unknown, or it is too long for tiles.
    """
    if isinstance(text, Window):
        return text
    if not isinstance(text, str):
        raise FeatureError(f'windows are texts, such as over("1h", "7d"); got {text!r}')
    if text in _NAMED:
        return _NAMED[text]
    today = _TODAY.fullmatch(text)
    if today is not None:
        return Window(WindowKind.TODAY, text, zone=_zone(today.group(1) or "UTC"))
    if _LENGTH.fullmatch(text) is None:
        fix = _meant(text)
        if fix is not None:
            raise FeatureError(f'there is no window {text!r}; write "{fix}"')
        raise FeatureError(f'there is no window {text!r}; use "90s", "1h", "7d", "session", "previous session", "today in UTC" or "all"')
    length_us = length(text, "the window")
    sliding = Window(WindowKind.SLIDING, text.replace(" ", ""), length_us, _hop(length_us))
    if sliding.tiles > _TILES_MAX:
        raise FeatureError(f'the window "{text}" is longer than 4 years; use "all"')
    return sliding


def _meant(text: str) -> str | None:
    """A duration in another spelling, converted to a window's spelling."""
    match = re.fullmatch(r"([1-9][0-9]*) ?([a-z]+)", text.strip().lower())
    if match is None:
        return None
    number, word = int(match[1]), match[2].removesuffix("s")
    if word in {"w", "week", "wk"}:
        return f"{7 * number}d"
    unit = {"sec": "s", "second": "s", "min": "m", "minute": "m", "hr": "h", "hour": "h", "day": "d"}.get(word, word)
    return f"{number}{unit}" if unit in _UNITS_US else None


def _hop(length_us: int) -> int:
    return max((hop for hop in _HOPS_US if hop * 12 <= length_us), default=_HOPS_US[0])


def _zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
        raise FeatureError(f'there is no time zone {name!r}; write a name such as "today in Asia/Tokyo"') from error
    return name


def duration(us: int) -> str:
    """A duration in a window's spelling: "90s", "5m", "12h"."""
    for unit in ("d", "h", "m"):
        if us % _UNITS_US[unit] == 0:
            return f"{us // _UNITS_US[unit]}{unit}"
    return f"{us // SECOND_US}s"
