"""Server-sent events: each open page waits here for its visitor's decisions."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

import msgspec

from sokuji.act.decision import Audience, Recorded
from sokuji.act.pages.gate import Eligibility
from sokuji.act.pages.metrics import ActMetrics
from sokuji.act.pages.recent import Recent
from sokuji.act.pages.token import Grant
from sokuji.clock import Clock
from sokuji.config import ActSettings
from sokuji.errors import InvalidRequestError

_RETRY_MS = 2_000
_HEARTBEAT = b":\n\n"

Key = TypeVar("Key")


class Transport(Protocol):
    """The connection to one client, such as `web.stream.Stream`."""

    @property
    def is_open(self) -> bool:
        """Whether the client is there."""

    @property
    def is_full(self) -> bool:
        """Whether the client does not read the sent parts."""

    def send(self, part: bytes) -> None:
        """Send a part of the answer."""

    def end(self) -> None:
        """End the answer."""


Begin = Callable[[Callable[[], None]], Transport]
"""Begins an answer. Its argument is called when `is_open` or `is_full` may have changed."""


class Client:
    """One open stream."""

    __slots__ = ("address", "changed", "end", "grant", "queue")

    def __init__(self, grant: Grant, address: str) -> None:
        self.grant, self.address = grant, address
        self.queue: deque[Recorded] = deque()
        self.end: str | None = None  # the reason to end it
        self.changed = asyncio.Event()


class Streams:
    """The open streams by audience."""

    def __init__(self, recent: Recent, eligibility: Eligibility, settings: ActSettings, metrics: ActMetrics, clock: Clock) -> None:
        self._recent, self._eligibility, self._settings, self._metrics, self._clock = recent, eligibility, settings, metrics, clock
        self._clients: dict[Audience, dict[Client, None]] = {}
        self._by_address: dict[str, dict[Client, None]] = {}  # the oldest first
        self._closing = False
        self.count = 0

    def open(self, grant: Grant, address: str) -> Client:
        """Count a stream for the holder of `grant` at `address`; then call `serve` with it.

        The limit per visitor applies if the grant names one; a user may have many devices. One address gets at most half of all streams. If
        all
        are in use and another address has more than this one, the oldest stream of the address with the most is closed for the new one.

        Raises:
            InvalidRequestError: 503 or 429, too many are open.
        """
        of_visitor = self._clients.get(grant.audiences[0], {})
        if len(of_visitor) >= self._settings.visitor_streams:
            raise InvalidRequestError(429, "too_many_streams", f"{len(of_visitor)} streams are open for this visitor already")
        of_address = self._by_address.get(address, {})
        if len(of_address) >= max(1, self._settings.streams // 2):
            raise InvalidRequestError(429, "too_many_streams", f"{len(of_address)} streams are open for this address already")
        if self._closing or not self._room(len(of_address)):
            raise InvalidRequestError(503, "unavailable", f"{self.count} streams are open; pull with GET /v1/actions, or retry later")
        client = Client(grant, address)
        self.count += 1
        self._by_address.setdefault(address, {})[client] = None
        for audience in grant.audiences:
            self._clients.setdefault(audience, {})[client] = None
        return client

    def _room(self, of_address: int) -> bool:
        """Whether there is room for one more stream of an address that has `of_address`. May close one of the address with the most."""
        if self.count < self._settings.streams:
            return True
        most = max(self._by_address.values(), key=len)
        if len(most) <= of_address + 1:
            return False
        oldest = next(iter(most))
        _end(oldest, "crowded")
        self._remove(oldest)
        return True

    async def serve(self, client: Client, after: int, begin: Begin) -> None:
        """Send the decisions past offset `after` that still hold, then new ones, until the token expires or the client is gone.

        Raises:
            InvalidRequestError: 503, before `begin` is called: it cannot be decided which decisions still hold.
        """
        try:
            # Before the decisions made meanwhile, which were true a moment ago and need no check.
            client.queue.extendleft(reversed(await self.deliverable(client.grant, after, client.address)))
            transport = begin(client.changed.set)
            self._metrics.ended(await self._send(client, transport))
            transport.end()
        finally:
            self._remove(client)

    async def deliverable(self, grant: Grant, after: int, address: str) -> list[Recorded]:
        """The decisions past offset `after` that still hold, given everything acknowledged before. Raises like `Eligibility.reasons`."""
        users = grant.users(unsigned_users=self._settings.unsigned_users)
        eligible = await self._eligibility.eligible(self._recent.deliverable(grant.audiences, after, self._clock()), address, users)
        still = self._recent.deliverable(grant.audiences, after, self._clock())  # without those shown meanwhile
        return [recorded for recorded in eligible if recorded in still]

    def publish(self, decisions: Sequence[Recorded]) -> None:
        """Pass new decisions to their streams."""
        for recorded in decisions:
            audiences = self._recent.audiences(recorded) if recorded.is_for_page else ()
            for client in {client for audience in audiences for client in self._clients.get(audience, ())}:
                if len(client.queue) >= self._settings.queue_decisions:
                    client.end = "slow"
                else:
                    client.queue.append(recorded)
                client.changed.set()

    def close(self) -> None:
        """End all streams, and open no more."""
        self._closing = True
        for client in [client for clients in self._by_address.values() for client in clients]:
            _end(client, "shutdown")

    def _remove(self, client: Client) -> None:
        """Stop counting the client, if it is still counted."""
        if client in self._by_address.get(client.address, ()):
            self.count -= 1
            _discard(self._by_address, client.address, client)
            for audience in client.grant.audiences:
                _discard(self._clients, audience, client)

    async def _send(self, client: Client, transport: Transport) -> str:
        """Send until the stream must end; returns the reason."""
        frame = b"retry: %d\n\n" % _RETRY_MS
        while True:
            if frame:
                transport.send(frame)
            left = (client.grant.expires_at - self._clock()) / 1_000_000
            if left <= 0:
                return "token"
            if transport.is_full or not client.queue:
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(self._settings.heartbeat_seconds, left)):
                        await client.changed.wait()
                client.changed.clear()
            if not transport.is_open:
                return "gone"
            if client.end:
                return client.end
            if transport.is_full:
                frame = b""
            else:
                frame = self._frame(client.queue.popleft(), client.grant.audiences) if client.queue else _HEARTBEAT

    def _frame(self, recorded: Recorded, audiences: Sequence[Audience]) -> bytes:
        now = self._clock()
        if self._recent.obstacle(recorded.decision.id, audiences, now)[1] is not None:  # expired or superseded while it waited
            return b""
        self._metrics.streamed((now - recorded.decision.at_us) / 1_000_000)
        return b"id: %d\nevent: action\ndata: %b\n\n" % (recorded.offset, msgspec.json.encode(recorded.message()))


def _end(client: Client, reason: str) -> None:
    client.end = client.end or reason
    client.changed.set()


def _discard(clients: dict[Key, dict[Client, None]], key: Key, client: Client) -> None:
    of_key = clients[key]
    del of_key[client]
    if not of_key:
        del clients[key]
