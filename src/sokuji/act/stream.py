"""Server-sent events: each open page waits here for its visitor's decisions."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

import msgspec

from sokuji.act.decision import Audience, Decision
from sokuji.act.eligibility import Eligibility
from sokuji.act.metrics import ActMetrics
from sokuji.act.recent import Recent
from sokuji.act.token import Grant
from sokuji.clock import Clock
from sokuji.config import ActSettings
from sokuji.errors import InvalidRequestError

# The server takes what is sent without saying whether the client reads it. A stream that ends after so many bytes bounds what a
# client that does not read can hold; one that does reads on in the next stream.
_STREAM_BYTES_MAX = 256 * 1024
_RETRY_MS = 2_000
_HEARTBEAT = b":\n\n"


class Transport(Protocol):
    """The connection to one client."""

    async def send_bytes(self, data: bytes) -> None:
        """Send a part of the answer; raises ProtocolClosed if the client is gone."""


class _Client:
    """One open stream."""

    __slots__ = ("changed", "end", "queue")

    def __init__(self) -> None:
        self.queue: deque[Decision] = deque()
        self.end: str | None = None  # why it is to end
        self.changed = asyncio.Event()


class Streams:
    """The open streams by audience."""

    def __init__(self, recent: Recent, eligibility: Eligibility, settings: ActSettings, metrics: ActMetrics, clock: Clock) -> None:
        self._recent, self._eligibility, self._settings, self._metrics, self._clock = recent, eligibility, settings, metrics, clock
        self._clients: dict[Audience, set[_Client]] = {}
        self._closing = False
        self.count = 0

    def check_capacity(self, grant: Grant) -> None:
        """Whether the holder of `grant` may open one more: the visitor, where it names one, as a user may have many devices.

        Raises:
            InvalidRequestError: 503 or 429, too many are open.
        """
        if self._closing or self.count >= self._settings.streams:
            raise InvalidRequestError(503, "unavailable", f"{self.count} streams are open; pull with GET /v1/actions, or come again")
        if len(self._clients.get(grant.audiences[0], ())) >= self._settings.visitor_streams:
            raise InvalidRequestError(
                429, "too_many_streams", f"{self._settings.visitor_streams} streams are open for this visitor already"
            )

    async def serve(self, grant: Grant, after: int, begin: Callable[[], Transport], gone: asyncio.Future[None]) -> None:
        """Send what still holds past offset `after`, then what is decided, until the token's time is over or `gone`.

        Raises:
            InvalidRequestError: before `begin` is called: 503, it cannot be told what still holds.
        """
        client = _Client()
        gone.add_done_callback(lambda _: _end(client, "gone"))
        for audience in grant.audiences:
            self._clients.setdefault(audience, set()).add(client)
        self.count += 1
        try:
            # In front of what is decided meanwhile, which was true a moment ago and is not asked about.
            client.queue.extendleft(reversed(await self.deliverable(grant, after)))
            self._metrics.ended(await self._send(client, grant, begin()))
        finally:
            self.count -= 1
            for audience in grant.audiences:
                others = self._clients[audience]
                others.discard(client)
                if not others:
                    del self._clients[audience]

    async def deliverable(self, grant: Grant, after: int) -> list[Decision]:
        """What still holds past offset `after`, by everything that was acknowledged before. Raises as `Eligibility.reasons`."""
        found = await self._eligibility.eligible(self._recent.deliverable(grant.audiences, after, self._clock()))
        still = self._recent.deliverable(grant.audiences, after, self._clock())  # without what was shown by then
        return [decision for decision in found if decision in still]

    def publish(self, decisions: Sequence[Decision]) -> None:
        """Hand new decisions to the streams they are for."""
        for decision in decisions:
            audiences = self._recent.audiences(decision) if decision.is_for_page else ()
            for client in {client for audience in audiences for client in self._clients.get(audience, ())}:
                if len(client.queue) >= self._settings.queue_decisions:
                    client.end = "slow"
                else:
                    client.queue.append(decision)
                client.changed.set()

    def close(self) -> None:
        """End all streams, and open no more."""
        self._closing = True
        for client in [client for clients in self._clients.values() for client in clients]:
            _end(client, "shutdown")

    async def _send(self, client: _Client, grant: Grant, transport: Transport) -> str:
        """Send until the stream is to end; returns why."""
        frame, sent = b"retry: %d\n\n" % _RETRY_MS, 0
        while True:
            if frame:
                await transport.send_bytes(frame)
                sent += len(frame)
            now = self._clock()
            if now >= grant.expires_at:
                return "token"
            if not client.queue:
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(self._settings.heartbeat_seconds, (grant.expires_at - now) / 1_000_000)):
                        await client.changed.wait()
                client.changed.clear()
            if client.end:
                return client.end
            if sent >= _STREAM_BYTES_MAX:
                return "bytes"
            frame = self._frame(client.queue.popleft(), grant.audiences) if client.queue else _HEARTBEAT

    def _frame(self, decision: Decision, audiences: Sequence[Audience]) -> bytes:
        now = self._clock()
        if self._recent.obstacle(decision.id, audiences, now)[1] is not None:  # expired or superseded while it waited
            return b""
        self._metrics.streamed((now - decision.at_us) / 1_000_000)
        return b"id: %d\nevent: action\ndata: %b\n\n" % (decision.offset, msgspec.json.encode(decision.message()))


def _end(client: _Client, reason: str) -> None:
    client.end = client.end or reason
    client.changed.set()
