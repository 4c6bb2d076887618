"""What the collector works on: who sent it, the events of one request, and what was refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from msgspec import Raw

from sokuji.web.write_keys import NOBODY, EventSource

PAYLOAD_BYTES = 64 * 1024
"""As much of a refused event or request is kept."""

REFUSALS_MAX = 1_000
"""So many refused events of one request are kept and named in its answer."""


class WireEvent(msgspec.Struct, rename="camel", gc=False):
    """One event as a client sends it (the Segment specification's common fields); what is absent is None or an empty `Raw`.

    Text is decoded, JSON objects are left as they came: nothing here looks inside `context`, `properties` and `traits`.
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
    # Not stored: they let whoever holds them receive messages.
    proof: str | None = None  # what `anonymousId` was made from
    user_signature: str | None = None  # what the site's server made of `userId`; SDKs carry it in `context`


class Refusal(NamedTuple):
    """Why an event or a request is not accepted: a code for machines, a reason for people."""

    code: str
    reason: str


class Refused(NamedTuple):
    """An event that was not accepted: its place in the batch, and what of it is kept."""

    place: int
    refusal: Refusal
    message_id: str | None
    payload: bytes


class Request(msgspec.Struct, eq=False):
    """One request, parsed. `refused` grows when its events are checked."""

    body: bytes
    events: list[WireEvent]
    write_key: str | None = None
    sent_at: str | None = None  # ISO 8601, or what the client took for it
    historical: bool = False
    refused: list[Refused] = []
    positions: list[int] | None = None  # of `events` in the client's batch, where not all of it could be read
    batch: bool = True  # or a single event
    stored: int = 0  # of `events`, once they are durable
    refusals: int = 0  # events that were refused, those included that `refused` does not name
    texts: list[bytes] | None = None  # the client's batch taken apart, once that was needed
    whole: Request | None = None  # the request that this is a part of

    # Set by whoever received it.
    source: EventSource = NOBODY
    sender: str = ""  # the network address it came from
    received_at: int = 0  # microseconds UTC

    def position(self, index: int) -> int:
        """The place in the client's batch of `events[index]`."""
        return index if self.positions is None else self.positions[index]

    def parts(self, size: int) -> list[Request]:
        """Requests of at most `size` events that have those of this one; what it is refused goes with the first."""
        found: list[Request] = []
        for first in range(0, len(self.events), size):
            events = self.events[first : first + size]
            positions = list(range(first, first + len(events))) if self.positions is None else self.positions[first : first + size]
            refused = [] if found else self.refused
            found.append(msgspec.structs.replace(self, events=events, positions=positions, refused=refused, whole=self))
        return found

    def join(self, parts: Sequence[Request]) -> None:
        """Take over what became of `parts`."""
        self.stored = sum(part.stored for part in parts)
        self.refused = [refused for part in parts for refused in part.refused]
