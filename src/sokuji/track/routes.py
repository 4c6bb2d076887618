"""The addresses of the protocol: those of the Segment specification, of RudderStack's SDKs, and forms seen in the field."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from sokuji.events import EventType
from sokuji.track.parse import parse_batch, parse_event
from sokuji.track.request import Request

Parser = Callable[[bytes], Request]


def _parsers() -> dict[str, Parser]:
    parsers: dict[str, Parser] = dict.fromkeys(("/v1/batch", "/v1/b", "/v1/batch/b", "/v1/import", "/beacon/v1/batch"), parse_batch)
    for type_ in EventType:
        for name in (type_.value, type_.value[0]):
            parsers[f"/v1/{name}"] = partial(parse_event, type_=type_.value)
    return parsers


PARSERS = _parsers()
"""How the body of a POST to this path is read."""

PIXELS = {"/pixel/v1/track": EventType.TRACK.value, "/pixel/v1/page": EventType.PAGE.value}
"""The type of the event that a GET of this path is."""

SETTINGS = re.compile(r"(?:/v1)?(?:/projects)+/([^/]+)/settings")
"""Where browsers and phones ask for their settings; a misconfigured host makes them say `/projects` twice."""
