"""The paths of the protocol: those of the Segment specification, of RudderStack's SDKs, and variants seen in practice."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from sokuji.events import EventType
from sokuji.track.parse import careful_batch, careful_event, plain_batch, plain_event
from sokuji.track.request import Request


class Parser(NamedTuple):
    """Parses bodies. `plain` makes one fast pass and returns None if that is not enough; `careful` handles every body."""

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
"""How to parse the body of a POST to this path."""

PIXELS = {"/pixel/v1/track": EventType.TRACK.value, "/pixel/v1/page": EventType.PAGE.value}
"""The event type of a GET of this path."""

SETTINGS = re.compile(r"(?:/v1)?(?:/projects)+/([^/]+)/settings")
"""The path where browsers and phones ask for their settings. A misconfigured host makes them repeat `/projects`."""
