"""Events from places where no script runs: the URL of an image carries the event."""

from __future__ import annotations

from typing import Any

import msgspec

from sokuji.track.parse import parse_event
from sokuji.track.request import Request
from sokuji.web.query import pairs

_FIELDS_MAX = 500


def parse_pixel(query: str, type_: str) -> Request:
    """The event in a query string such as `writeKey=K&anonymousId=a&event=open&properties.mail=welcome`.

    A dot in a name makes a nested object, up to eight levels deep. Every value is text.

    Raises:
        InvalidRequestError: the query has more than `_FIELDS_MAX` fields.
    """
    event: dict[str, Any] = {}
    for name, value in pairs(query, _FIELDS_MAX):
        *path, last = name.split(".", 8)
        target = event
        for part in path:
            inner = target.setdefault(part, {})
            if not isinstance(inner, dict):
                inner = target[part] = {}
            target = inner
        target[last] = value
    return parse_event(msgspec.json.encode(event), type_)
