"""The addresses of the protocol: those of the Segment specification, of RudderStack's SDKs, and forms seen in the field."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from sokuji.events import EventType
from sokuji.track.parse import careful_batch, careful_event, plain_batch, plain_event
from sokuji.track.request import Request


class Parser(NamedTuple):
    """Reads bodies: `plain` in one quick pass, or None where that is not enough, and `careful` whatever they are."""

    plain: Callable[[bytes], Request | None]
    careful: Callable[[bytes], Request]


def _parsers() -> dict[str, Parser]:
    batches = ("/v1/batch", "/v1/b", "/v1/batch/b", "/v1/import", "/beacon/v1/batch")
    parsers = dict.fromkeys(batches, Parser(plain_batch, careful_batch))
    for type_ in EventType:
        parser = Parser(partial(plain_event, type_=type_.value), partial(careful_event, type_=type_.value))
        parsers |= dict.fromkeys((f"/v1/{type_.value}", f"/v1/{type_.value[0]}"), parser)
    return parsers


PARSERS = _parsers()
"""How the body of a POST to this path is read."""

PIXELS = {"/pixel/v1/track": EventType.TRACK.value, "/pixel/v1/page": EventType.PAGE.value}
"""The type of the event that a GET of this path is."""

SETTINGS = re.compile(r"(?:/v1)?(?:/projects)+/([^/]+)/settings")
"""Where browsers and phones ask for their settings; a misconfigured host makes them say `/projects` twice."""
