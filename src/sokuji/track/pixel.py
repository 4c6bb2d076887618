"""Events from where no script runs: an image whose address says what happened."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import msgspec

from sokuji.track.parse import parse_event
from sokuji.track.request import Request


def parse_pixel(query: str, type_: str) -> Request:
    """The event in a query string such as `writeKey=K&anonymousId=a&event=open&properties.mail=welcome`.

    A dot in a name makes a nested object, up to eight deep; every value is text.
    """
    event: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        *path, last = name.split(".", 8)
        place = event
        for part in path:
            inner = place.setdefault(part, {})
            if not isinstance(inner, dict):
                inner = place[part] = {}
            place = inner
        place[last] = value
    return parse_event(msgspec.json.encode(event), type_)
