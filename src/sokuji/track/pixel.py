"""Events from where no script runs: an image whose address says what happened."""

from __future__ import annotations

from typing import Any

import msgspec

from sokuji.track.parse import parse_event
from sokuji.track.request import Request
from sokuji.web.query import pairs

_FIELDS_MAX = 500


def parse_pixel(query: str, type_: str) -> Request:
    """The event in a query string such as `writeKey=K&anonymousId=a&event=open&properties.mail=welcome`.

    A dot in a name makes a nested object, up to eight deep; every value is text.

    Raises:
        InvalidRequestError: it has more than `_FIELDS_MAX` of them.
    """
    event: dict[str, Any] = {}
    for name, value in pairs(query, _FIELDS_MAX):
        *path, last = name.split(".", 8)
        place = event
        for part in path:
            inner = place.setdefault(part, {})
            if not isinstance(inner, dict):
                inner = place[part] = {}
            place = inner
        place[last] = value
    return parse_event(msgspec.json.encode(event), type_)
