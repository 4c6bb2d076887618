"""One client's connection. Its requests come one after the other; each is read within limits and answered before the next."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from http import HTTPStatus
from operator import attrgetter
from typing import Protocol, cast

from sokuji.errors import InvalidRequestError
from sokuji.service.proxies import Proxies, unit
from sokuji.web import answers, body
from sokuji.web.body import Bodies
from sokuji.web.http1 import CONTINUE, HEAD_BYTES_MAX, HEAD_END, Chunks, Head, answer_text, parse_head, stream_head
from sokuji.web.refusals import Refusals
from sokuji.web.stream import Stream
from sokuji.web.turns import Turns

IDLE_SECONDS_MAX = 75.0
"""An idle connection is closed after this time. Load balancers close theirs earlier (60 s), so none sends on a closed connection."""

HEAD_SECONDS_MAX = 30.0
"""The head of a request must be complete this long after its first byte."""

UNREAD_SECONDS_MAX = 60.0
"""A client that does not read its answers is cut off after this time."""

_LINGER_SECONDS = 2.0
# When no connection is free, a connection that has been idle or slow to send a request for this long is closed for the next client.
_SLOW_SECONDS_MIN = 1.0
# Up to this many bytes of an unwanted body are read to keep the connection. For a longer body, the connection is closed.
_DISCARDED_BYTES_MAX = 1024 * 1024
_READ_AHEAD_BYTES = 64 * 1024
_SINCE = attrgetter("since")


class Application(Protocol):
    """An application that answers requests. Its methods are called on the event loop and must not block it."""

    @property
    def bodies(self) -> Bodies:
        """The limits of the bodies of its requests."""

    @property
    def proxies(self) -> Proxies:
        """The trusted proxies, which tell whom a request is from."""

    def start(self) -> None:
        """Prepare. Called before the first request."""

    def admit(self, exchange: Exchange) -> None:
        """Check a request before its body is read. Raises InvalidRequestError to refuse it."""

    def handle(self, exchange: Exchange) -> None:
        """Answer a complete request, now or later. A raised InvalidRequestError becomes the answer."""

    def refused(self, problem: InvalidRequestError) -> None:
        """Note that a request was answered with `problem` without `handle`."""

    def drain(self) -> None:
        """Refuse requests from now on."""

    def close(self) -> None:
        """Release all resources, once no request is served any more."""


class Exchange:
    """A request and its answer."""

    __slots__ = ("_connection", "body", "client", "head", "held_bytes", "peer", "started")

    def __init__(self, connection: Connection, head: Head, peer: str, client: str, started: float) -> None:
        """Create the exchange of a request whose head was complete at the time `started` (monotonic)."""
        self._connection = connection
        self.head = head
        self.peer, self.client = peer, client  # network addresses: the other end of the connection, and the client (behind a proxy)
        self.body = b""
        self.held_bytes = 0  # of the body, as `Bodies` counts them
        self.started = started

    def hold(self, size: int) -> None:
        """Count `size` more bytes in memory for this request until it is answered, like `Bodies.hold`."""
        self._connection.hold(self, size)

    def answer(self, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        """Answer the request, once. Does nothing if the client is gone."""
        self._connection.answer(self, status, headers, body)

    def stream(self, headers: Iterable[tuple[str, str]], changed: Callable[[], None]) -> Stream:
        """Begin a 200 answer whose body is sent in parts, once, instead of `answer`.

        `changed` is called when the stream's state changes.
        """
        return self._connection.stream(self, headers, changed)

    def abort(self) -> None:
        """Close the connection without an answer."""
        self._connection.give_up(self)


class Connections:
    """The open connections of a server. One address gets at most half of them, unless it is a trusted proxy, which serves many clients."""

    def __init__(self, limit: int, proxies: Proxies) -> None:
        """Create room for `limit` connections."""
        self._limit, self._proxies = limit, proxies
        self._open: dict[str, set[Connection]] = {}  # by the address that shares limits
        self._count = 0
        self._left = asyncio.Event()
        self.turns, self.refusals = Turns(), Refusals()

    def __iter__(self) -> Iterator[Connection]:
        return iter([connection for of_one in self._open.values() for connection in of_one])

    def add(self, connection: Connection) -> None:
        """Add an open connection."""
        self._open.setdefault(unit(connection.peer), set()).add(connection)
        self._count += 1

    def discard(self, connection: Connection) -> None:
        """Remove a closed connection."""
        address = unit(connection.peer)
        of_one = self._open.get(address, set())
        if connection in of_one:
            of_one.discard(connection)
            self._count -= 1
            if not of_one:
                del self._open[address]
        self._left.set()

    async def room(self, peer: str) -> bool:
        """Wait until there is room for one more connection from `peer`; False if there is none for this peer.

        Room is made by closing the connection that has been idle or slow for the longest time. If another address has more connections than
        `peer`, one of its connections is closed at once, without waiting until it is slow.
        """
        of_peer = self._open.get(unit(peer), set())
        is_proxy = self._proxies.trusts(peer)
        if len(of_peer) >= max(1, self._limit // 2) and not is_proxy:
            return _end_slowest(of_peer)
        while self._count >= self._limit:
            self._left.clear()
            most = max(self._of_strangers(), key=len, default=of_peer)
            has_ended = (len(most) > len(of_peer) + 1 and _end_slowest(most, 0.0)) or _end_slowest(self)
            if not has_ended and len(of_peer) > 1 and not is_proxy:
                return False
            with suppress(TimeoutError):
                async with asyncio.timeout(_SLOW_SECONDS_MIN / 5):
                    await self._left.wait()
        return True

    def end_slow_body(self, for_: Connection) -> bool:
        """Close the connection with the largest slow body, to free its bytes. Returns whether there was one."""
        now = time.monotonic()
        others = (connection for connection in self if connection is not for_ and connection.partial_bytes)
        slow = (connection for connection in others if now - connection.since > _SLOW_SECONDS_MIN)
        largest = max(slow, key=lambda connection: connection.partial_bytes, default=None)
        if largest is not None:
            largest.abort()
        return largest is not None

    def _of_strangers(self) -> Iterator[set[Connection]]:
        """The connections of each address, without those of trusted proxies."""
        return (of_one for of_one in self._open.values() if not self._proxies.trusts(next(iter(of_one)).peer))

    async def close(self, timeout_seconds: float) -> None:
        """Close all connections, and wait until all written bytes are sent or the time is up."""
        for connection in self:
            connection.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while self._count:
                    self._left.clear()
                    await self._left.wait()
        for connection in self:
            connection.abort()


def _end_slowest(connections: Iterable[Connection], seconds: float | None = None) -> bool:
    """Close the connection that has made the server wait longest, if longer than `seconds`. Returns whether one was closed."""
    slowest = min(connections, key=_SINCE)
    if time.monotonic() - slowest.since <= (_SLOW_SECONDS_MIN if seconds is None else seconds):
        return False
    slowest.abort()
    return True


class Connection(asyncio.Protocol):
    """Reads requests and writes answers. During a request, at most `_READ_AHEAD_BYTES` and one packet of the next one are read."""

    def __init__(self, app: Application, opened: Connections) -> None:
        """Create a connection that is in `opened` while it is open."""
        self._app, self._opened = app, opened
        self._transport: asyncio.Transport | None = None  # None: the connection is lost
        self.peer = self._own_address = ""
        self.address = ""  # the address charged for the time; each connection of a trusted proxy has its own until a client is known
        self._unread = b""
        self._exchange: Exchange | None = None
        self._stream: Stream | None = None  # the exchange's answer, if it is a stream
        self._whole = False  # the exchange's body is complete
        self._partial = bytearray()  # the part of the body that has arrived, if incomplete
        self._missing = 0  # missing bytes of the body
        self._chunks: Chunks | None = None
        self._discarding = 0  # bytes of an answered request's body still to skip
        self._advancing = self._in_line = self._ended = self._closing = self._paused = False
        self.since = 0.0  # since when the server waits for a whole request or for the close (monotonic); inf while the client waits
        self._unread_answer_since: float | None = None

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the connection."""
        self._transport = cast("asyncio.Transport", transport)
        self.peer = (transport.get_extra_info("peername") or ("",))[0]
        self.address = self._own_address = unit(self.peer) if not self._app.proxies.trusts(self.peer) else f"{self.peer}#{id(self)}"
        self.since = time.monotonic()
        self._opened.add(self)

    def data_received(self, data: bytes) -> None:
        """Process received bytes."""
        if self._closing:
            if self._stream is not None:  # the client of a stream has nothing more to say; otherwise it could send without end
                self.abort()
            return
        if self._unread:
            self._unread += data
        else:
            self._unread = data
            if self._exchange is None:
                self.since = time.monotonic()
        self._advance()

    def eof_received(self) -> bool:
        """Note that the client sends no more; the client may still read."""
        self._ended = True
        self._advance()
        return not self._closing

    def connection_lost(self, _: Exception | None) -> None:
        """Clean up: the client is gone."""
        self._transport = None
        self._opened.discard(self)
        if self._exchange is not None and not self._whole:
            self._release(self._exchange)
        if self._stream is not None:
            self._stream.lose()

    def pause_writing(self) -> None:
        """Stop reading requests, because the client does not read its answers."""
        self._unread_answer_since = time.monotonic()
        if self._stream is not None:
            self._stream.pause()

    def resume_writing(self) -> None:
        """Read requests again, because the client reads its answers again."""
        self._unread_answer_since = None
        if self._stream is not None:
            self._stream.resume()
        self._advance()

    # Called by the server.

    @property
    def is_busy(self) -> bool:
        """Whether a request is being read or answered."""
        return self._exchange is not None

    @property
    def partial_bytes(self) -> int:
        """Bytes that have arrived of an incomplete body."""
        return len(self._partial)

    def cut_off_late(self, now: float) -> None:
        """Refuse or close what has taken too long at the time `now` (monotonic)."""
        waited = now - self.since
        if self._unread_answer_since is not None and now - self._unread_answer_since > UNREAD_SECONDS_MAX:
            self.abort()
        elif self._closing:
            if self._stream is None and waited > _LINGER_SECONDS:
                self.abort()
        elif self._exchange is not None:
            if not self._whole and waited > body.BODY_SECONDS_MAX:
                self._exchange.head.keep_alive = False
                self._refuse(InvalidRequestError(408, "timeout", f"the body took more than {body.BODY_SECONDS_MAX:g} s; send it again"))
        elif self._unread and not self._discarding:
            if waited > HEAD_SECONDS_MAX:
                self._refuse(InvalidRequestError(408, "timeout", f"the headers took more than {HEAD_SECONDS_MAX:g} s; send it again"))
        elif waited > IDLE_SECONDS_MAX:
            self.close()

    def close(self) -> None:
        """Close the connection once all written bytes are sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once, and drop a partly received request."""
        if self._exchange is not None and not self._whole:
            self._release(self._exchange)
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    # Reading.

    def go_on(self, until: float) -> None:
        """See `turns.Walker`."""
        self._in_line = False
        self._advance(until)

    def _advance(self, until: float | None = None) -> None:
        """Read as far as possible: to the end of the received bytes, to a request that must be answered first, or to the turn's end."""
        if self._in_line or self._transport is None:
            self._pause()
            return
        self._advancing = True
        try:
            self._in_line = not self._opened.turns.serve(self, until)
        except Exception:  # a bug, but no client may be left waiting, nor its bytes kept
            if self._exchange is not None:
                self._release(self._exchange)
            self.abort()
            raise
        finally:
            self._advancing = False
        if self._ended and not (self._in_line or self._whole or self._closing):
            self._end()
        if self._unread or self._paused:
            self._pause()

    def _pause(self) -> None:
        """Stop reading from the socket while received bytes must wait and enough are there; else read again."""
        must_wait = self._in_line or self._whole or self._unread_answer_since is not None
        waiting = must_wait and len(self._unread) > _READ_AHEAD_BYTES
        if self._transport is not None and waiting != self._paused:
            self._paused = waiting
            if waiting:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def step(self) -> bool:
        """Read the next request, or the received part of it. Returns False if no more bytes are there, or they must wait."""
        if self._whole or self._closing or self._unread_answer_since is not None:
            return False
        if self._discarding:
            length = min(self._discarding, len(self._unread))
            self._unread, self._discarding = self._unread[length:], self._discarding - length
            return self._discarding == 0
        try:
            exchange = self._exchange or self._read_head()
            return exchange is not None and self._read_body(exchange)
        except InvalidRequestError as problem:
            self._refuse(problem)
            return True

    def _read_head(self) -> Exchange | None:
        text = self._unread
        if text.startswith((b"\r", b"\n")):  # some clients send an empty line after a body
            text = text.lstrip(b"\r\n")
        end = text.find(HEAD_END, 0, HEAD_BYTES_MAX)
        if end < 0:
            if len(self._unread) >= HEAD_BYTES_MAX:  # also for empty lines, which would otherwise pile up without limit
                raise InvalidRequestError(431, "headers_too_large", f"the request's headers have more than {HEAD_BYTES_MAX} bytes")
            return None
        end += len(HEAD_END)
        head = parse_head(text[:end])
        self._unread = text[end:]
        self.since = time.monotonic()
        client = self._app.proxies.client(self.peer, head.headers)
        if client != self.peer:
            self.address = unit(client)
        exchange = self._exchange = Exchange(self, head, self.peer, client, self.since)
        self._missing, self._chunks = (0, Chunks()) if head.length is None else (head.length, None)
        self._app.admit(exchange)
        self._app.bodies.check(self._missing)
        if not self._unread and self._transport is not None and head.headers.get("expect", "").lower() == "100-continue":
            self._transport.write(CONTINUE)
        return exchange

    def _read_body(self, exchange: Exchange) -> bool:
        if self._chunks is not None:
            pieces, self._unread = self._chunks.take(self._unread)
            self.hold(exchange, sum(map(len, pieces)))
            self._partial += b"".join(pieces)
            if not self._chunks.done:
                return self._chunks.has_more
        elif self._missing > len(self._unread):
            self.hold(exchange, len(self._unread))
            self._partial += self._unread
            self._missing -= len(self._unread)
            self._unread = b""
            return False
        size = self._missing
        self.hold(exchange, size)
        last, self._unread = self._unread[:size], self._unread[size:]
        self._missing = 0
        if self._partial:
            last = bytes(self._partial) + last
            self._partial = bytearray()
        exchange.body = last
        self._whole, self.since = True, math.inf
        self._app.handle(exchange)
        return bool(self._unread)

    def hold(self, exchange: Exchange, size: int) -> None:
        """See `Exchange.hold`. If too many bytes are in memory, slow bodies are dropped to make room."""
        while self._app.bodies.is_full(size) and self._opened.end_slow_body(self):
            pass
        self._app.bodies.hold(size, exchange.held_bytes + size, exchange.client)
        exchange.held_bytes += size

    def _release(self, exchange: Exchange) -> None:
        self._app.bodies.release(exchange.held_bytes, exchange.client)
        exchange.held_bytes = 0
        if self._partial:
            self._partial = bytearray()

    def give_up(self, exchange: Exchange) -> None:
        """See `Exchange.abort`."""
        self._release(exchange)
        self.abort()

    # Answering.

    def answer(self, exchange: Exchange, status: int, headers: Iterable[tuple[str, str]], text: bytes) -> None:
        """See `Exchange.answer`."""
        self._release(exchange)
        if self._transport is None:
            return
        if status >= HTTPStatus.BAD_REQUEST:
            self._opened.refusals.add(str(status), exchange.client)
        left = self._missing
        keep_alive = exchange.head.keep_alive and (self._whole or (self._chunks is None and left <= _DISCARDED_BYTES_MAX))
        answer = answer_text(status, headers, text, keep_alive=keep_alive)
        self._transport.write(answer[: len(answer) - len(text)] if exchange.head.method == "HEAD" else answer)
        self._exchange, self._whole, self._discarding = None, False, left
        self.address = self._own_address
        self.since = time.monotonic()
        if not keep_alive or (self._ended and not self._unread):
            self._close()
        elif self._unread and not self._advancing:
            # Later, not at once: the caller has other requests to answer first, whatever the next request here does.
            asyncio.get_running_loop().call_soon(self._advance)

    def stream(self, exchange: Exchange, headers: Iterable[tuple[str, str]], changed: Callable[[], None]) -> Stream:
        """See `Exchange.stream`."""
        self._release(exchange)
        transport = self._transport
        if transport is None:
            return Stream.ended()
        stream = self._stream = Stream(transport.write, self._end_stream, changed)
        self._closing, self._unread = True, b""
        transport.write(stream_head(headers))
        self._pause()
        if self._ended:  # a stream's reader must keep the connection open in both directions
            transport.close()
        return stream

    def _end_stream(self) -> None:
        self._exchange = self._stream = None
        self._whole = False
        self._close()

    def _refuse(self, problem: InvalidRequestError) -> None:
        """Answer an invalid request, or one that the application will not handle."""
        self._app.refused(problem)
        answer = answers.error(problem)
        if self._exchange is not None:
            self.answer(self._exchange, *answer)
        elif self._transport is not None:
            self._opened.refusals.add(str(problem.status), self.peer)
            self._transport.write(answer_text(*answer, keep_alive=False))
            self._close()

    def _end(self) -> None:
        """Handle the end of the client's input."""
        if self._exchange is not None:
            self._refuse(InvalidRequestError(400, "incomplete_body", "the connection ended before the body did"))
        elif self._unread.strip(b"\r\n"):
            self._refuse(InvalidRequestError(400, "incomplete_headers", "the connection ended before the headers did"))
        self._close()

    def _close(self) -> None:
        """Close the connection once the client has read the answer. Closing at once could destroy the answer if the client still sends."""
        self._closing, self._unread, self.since = True, b"", time.monotonic()
        if self._ended:
            self.close()
        elif self._transport is not None:
            self._transport.write_eof()
