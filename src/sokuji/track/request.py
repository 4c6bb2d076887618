"""One request to the collector: its sender, its events, and the refused events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from msgspec import Raw

from sokuji.web.write_keys import NOBODY, EventSource

PAYLOAD_BYTES = 64 * 1024
"""Kept bytes of a refused event or request."""

REFUSALS_MAX = 1_000
"""Refused events of one request that are kept and named in its answer."""


class WireEvent(msgspec.Struct, rename="camel", gc=False):
    """One event as a client sends it (the common fields of the Segment specification). An absent field is None or an empty `Raw`.

    Text is decoded. JSON objects stay as they came: this class does not parse `context`, `properties` and `traits`.
    """

    type: str | None = None
    message_id: str | None = None
    anonymous_id: str | None = None
    user_id: str | None = None
    event: str | None = None
    timestamp: str | None = None
    original_timestamp: str | None = None
    sent_at: str | None = None
    context: Raw = Raw()
    properties: Raw = Raw()
    traits: Raw = Raw()
    name: str | None = None
    category: str | None = None
    group_id: str | None = None
    previous_id: str | None = None
    write_key: str | None = None
    historical: bool = False
    # Not stored: whoever has one of these can receive messages.
    proof: str | None = None  # the secret that `anonymousId` was made from
    user_signature: str | None = None  # what the site's server computed from `userId`; SDKs send it in `context`


class Refusal(NamedTuple):
    """Why an event or a request is not accepted: a code for machines, a reason for people."""

    code: str
    reason: str


class Refused(NamedTuple):
    """A refused event: its place in the batch, and the part of it that is kept."""

    place: int
    refusal: Refusal
    message_id: str | None
    payload: bytes


class Request(msgspec.Struct, eq=False):
    """One parsed request. `refused` grows when its events are checked."""

    body: bytes
    events: list[WireEvent]
    write_key: str | None = None
    sent_at: str | None = None  # ISO 8601, or whatever the client sent
    historical: bool = False
    refused: list[Refused] = []
    positions: list[int] | None = None  # of `events` in the client's batch, if not all of the batch could be read
    batch: bool = True  # or a single event
    stored: int = 0  # number of `events` that are durable
    refusals: int = 0  # number of refused events, including those that `refused` does not name
    texts: list[bytes] | None = None  # the client's batch split into events, once that was needed
    whole: Request | None = None  # the request that this is a part of

    # Set by the receiver of the request.
    source: EventSource = NOBODY
    sender: str = ""  # the sender's network address
    received_at: int = 0  # microseconds UTC

    def position(self, index: int) -> int:
        """The place of `events[index]` in the client's batch."""
        return index if self.positions is None else self.positions[index]

    def parts(self, size: int) -> list[Request]:
        """Split this request into requests of at most `size` events. Events refused so far go with the first part."""
        parts: list[Request] = []
        for first in range(0, len(self.events), size):
            events = self.events[first : first + size]
            positions = list(range(first, first + len(events))) if self.positions is None else self.positions[first : first + size]
            refused = [] if parts else self.refused
            parts.append(msgspec.structs.replace(self, events=events, positions=positions, refused=refused, whole=self))
        return parts

    def join(self, parts: Sequence[Request]) -> None:
        """Take over the outcomes of `parts`."""
        self.stored = sum(part.stored for part in parts)
        self.refused = [refused for part in parts for refused in part.refused]
