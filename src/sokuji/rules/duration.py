"""Durations as they are written in declarations: "45s", "30m", "24h", "7d", "2w"."""

from __future__ import annotations

import re

_UNITS_US = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000, "w": 604_800_000_000}
_DURATION = re.compile(r"([1-9]\d{0,8})([smhdw])")


def parse_us(text: str) -> int | None:
    """Microseconds of a duration, or None if `text` is not one."""
    found = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    return int(found[1]) * _UNITS_US[found[2]] if found else None
