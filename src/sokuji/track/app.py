"""The collector: Segment's protocol over HTTP. A 200 means that the events are on disk."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote
from weakref import WeakValueDictionary

from sokuji.clock import Clock, now_us
from sokuji.config import TrackSettings
from sokuji.errors import InvalidRequestError
from sokuji.log.base import Log
from sokuji.service.proxies import Proxies, unit
from sokuji.track import segment_answers
from sokuji.track.check import Limits
from sokuji.track.committer import Committer
from sokuji.track.group import GroupCommit
from sokuji.track.metrics import TrackMetrics
from sokuji.track.parse import refuse
from sokuji.track.pixel import parse_pixel
from sokuji.track.request import Refusal, Request
from sokuji.track.routes import PARSERS, PIXELS, SETTINGS, Parser
from sokuji.track.tasks import Tasks
from sokuji.web import answers
from sokuji.web.answers import Answer
from sokuji.web.body import GZIP_MAGIC, Bodies, BrokenGzipError
from sokuji.web.connection import Exchange
from sokuji.web.http1 import Head
from sokuji.web.turns import Beside
from sokuji.web.write_keys import EventSource, WriteKeys, find_write_key

Decided = Callable[[Request, str], Awaitable[list[dict[str, Any]]]]
"""Returns the decisions on a request's durable events, after a bounded wait; only those that its sender (with this query) may see."""

_WAIT = "decisions=wait"
_METRICS_BODY_PATH = "/v1/m"  # the browser SDK's own metrics
# Decompressed bodies up to these limits (bytes, and JSON objects in them) are parsed on the event loop: handing one to another thread
# would take longer than parsing it. A body that must be read event by event takes a hundred times as long, so its limit is lower.
_PLAIN_BYTES_MAX = 256 * 1024
_PLAIN_OBJECTS_MAX = 5_000
_ODD_BYTES_MAX = 4 * 1024
# Large requests that may wait per address. They are processed one after the other, and each waiting one holds a connection.
_HEAVY_MAX = 32


class Track:
    """Answers the requests of one worker."""

    def __init__(
        self,
        sources: Mapping[str, EventSource],
        events_log: Log,
        bad_events_log: Log,
        settings: TrackSettings,
        *,
        server_keys: Mapping[str, str] = MappingProxyType({}),
        clock: Clock = now_us,
        decided: Decided | None = None,
        proxies: Proxies | None = None,
    ) -> None:
        """Collect events for `sources` (by write key) into the two logs.

        `server_keys` gives the dataset of each key that may import history. `decided` answers requests with `decisions=wait`.
        """
        self.proxies = proxies or Proxies()
        self._decided = decided
        limits = Limits(settings.max_event_bytes, settings.max_depth)
        self._keys, self._clock = WriteKeys(sources, server_keys), clock
        self.bodies = Bodies(settings.max_request_bytes)
        self._metrics = TrackMetrics()
        committer = Committer(events_log, bad_events_log, limits, settings.skew_threshold_seconds)
        self._group = GroupCommit(committer, settings.queue_events, self._metrics)
        self._metrics.watch(lambda: self._group.queued_events, lambda: self.bodies.held_bytes)
        self._draining = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="track-read")
        self._beside = Beside(self._thread)
        self._heavy = WeakValueDictionary[str, asyncio.Lock]()  # one heavy request per address at a time
        self._heavy_waiting: Counter[str] = Counter()
        self._tasks = Tasks()

    def start(self) -> None:
        """Do nothing: the collector is ready once it is constructed."""

    def admit(self, exchange: Exchange) -> None:
        """Refuse a request that cannot be accepted, before its body is read."""
        head = exchange.head
        if head.method == "POST":
            self._check_capacity(exchange)
            if head.path in PARSERS or head.path.rstrip("/") in PARSERS:
                self._keys.check_header(head.headers.get("authorization"))
            elif head.path != _METRICS_BODY_PATH:
                raise _not_allowed(head)

    def handle(self, exchange: Exchange) -> None:
        """Answer one request."""
        head = exchange.head
        parser = PARSERS.get(head.path)
        try:
            if parser is not None and head.method == "POST":
                self._collect(exchange, parser)
            else:
                self._handle_other(exchange)
        except InvalidRequestError as problem:
            self._refuse(exchange, problem)

    def refused(self, problem: InvalidRequestError) -> None:
        """Count a request that the server answered with `problem`."""
        self._metrics.refused(problem.code)
        self._metrics.answered(problem.status)

    def drain(self) -> None:
        """Refuse all new requests (503)."""
        self._draining = True

    def close(self) -> None:
        """Release the threads, once no request is served any more. The logs stay open: their owner closes them."""
        self._tasks.cancel()
        self._thread.shutdown()
        self._group.close()

    def render_metrics(self) -> str:
        """The collector's metrics in Prometheus' text format."""
        return self._metrics.render()

    @property
    def is_ready(self) -> bool:
        """Whether the collector accepts requests now."""
        return not (self._draining or self._group.full() or self._group.failing())

    def _answer(self, exchange: Exchange, answer: Answer) -> None:
        self._metrics.answered(answer[0])
        exchange.answer(*answer)

    def _refuse(self, exchange: Exchange, problem: InvalidRequestError) -> None:
        self._metrics.refused(problem.code)
        self._answer(exchange, answers.error(problem))

    def _collect(self, exchange: Exchange, parser: Parser) -> None:
        text: bytes | None = exchange.body
        if exchange.body.startswith(GZIP_MAGIC):
            text = self._small_text(exchange)
        if text is not None and _is_light(text):
            request = parser.plain(text)
            if request is not None:
                self._stamp(request, exchange)
                self._commit(exchange, request, None)
                return
            if len(text) <= _ODD_BYTES_MAX:
                self._commit(exchange, *self._read(exchange, parser, text))
                return
        address = unit(exchange.client)
        if self._heavy_waiting[address] >= _HEAVY_MAX:
            raise InvalidRequestError(429, "busy", f"{_HEAVY_MAX} large requests of this address wait already; send this one again")
        self._heavy_waiting[address] += 1
        self._tasks.spawn(self._collect_heavy(exchange, parser, text, address), exchange)

    def _small_text(self, exchange: Exchange) -> bytes | None:
        """The decompressed body; None where it must be decompressed on another thread."""
        body = exchange.body
        if len(body) > _PLAIN_BYTES_MAX:
            return None
        try:
            text = self.bodies.decompress(body, _PLAIN_BYTES_MAX)
        except InvalidRequestError:
            return None
        exchange.hold(max(0, len(text) - len(body)))
        return text

    async def _collect_heavy(self, exchange: Exchange, parser: Parser, text: bytes | None, address: str) -> None:
        """Read and commit a large request beside the event loop. The next one of the same address starts when this one is durable."""
        problem: InvalidRequestError | None
        async with self._heavy.setdefault(address, asyncio.Lock()):
            try:
                if text is None:
                    text = await self._beside.run(address, partial(self.bodies.decompress, exchange.body))
                    exchange.hold(max(0, len(text) - len(exchange.body)))
                request, problem = await self._beside.run(address, partial(self._read, exchange, parser, text))
                durable = asyncio.get_running_loop().create_future()
                self._group.commit(request, durable.set_result)
                self._committed(exchange, request, problem, await durable)
            except BrokenGzipError as broken:
                self._refuse_unreadable(exchange, broken)
            except InvalidRequestError as refusal:
                self._refuse(exchange, refusal)
            finally:
                self._heavy_waiting[address] -= 1
                if not self._heavy_waiting[address]:
                    del self._heavy_waiting[address]

    def _refuse_unreadable(self, exchange: Exchange, broken: BrokenGzipError) -> None:
        try:
            self._commit(exchange, self._unreadable(exchange, broken.body, broken), broken)
        except InvalidRequestError as problem:
            self._refuse(exchange, problem)

    def _commit(self, exchange: Exchange, request: Request, problem: InvalidRequestError | None) -> None:
        self._group.commit(request, partial(self._committed, exchange, request, problem))

    def _committed(
        self, exchange: Exchange, request: Request, problem: InvalidRequestError | None, failure: InvalidRequestError | None
    ) -> None:
        """Answer a request after its commit.

        `failure` says why it is not durable, or is None. `problem` says why it could not be read and was stored as a bad event, or is None.
        """
        if failure is not None:
            self._refuse(exchange, failure)
        elif problem is not None:
            self._answer(exchange, answers.error(problem))
        else:
            self._metrics.acknowledged(len(request.body), time.monotonic() - exchange.started)
            if request.refused and not request.batch:
                self._answer(exchange, answers.error(InvalidRequestError(400, *request.refused[0].refusal)))
            elif self._decided is not None and _WAIT in exchange.head.query:
                self._tasks.spawn(self._answer_decided(exchange, request, self._decided), exchange)
            else:
                self._answer(exchange, segment_answers.accepted(request.refused) if request.refused else segment_answers.ACCEPTED)

    async def _answer_decided(self, exchange: Exchange, request: Request, decided: Decided) -> None:
        decisions: list[dict[str, Any]] = []
        try:
            decisions = await decided(request, exchange.head.query)
        finally:  # also after an error: the events are durable
            self._answer(exchange, segment_answers.accepted(request.refused, decisions))

    def _check_capacity(self, exchange: Exchange) -> None:
        if self._draining:
            raise InvalidRequestError(503, "unavailable", "the collector is shutting down; send the same request again")
        self._group.check_room(1, exchange.client)

    def _read(self, exchange: Exchange, parser: Parser, body: bytes) -> tuple[Request, InvalidRequestError | None]:
        """Parse the request. For a body that cannot be parsed: the bad event to store, and the error to answer with."""
        head = exchange.head
        self._keys.check_body(head.headers.get("authorization"), body, head.query)
        try:
            request = parser.careful(body)
        except InvalidRequestError as problem:
            return self._unreadable(exchange, body, problem), problem
        self._stamp(request, exchange)
        return request, None

    def _unreadable(self, exchange: Exchange, body: bytes, problem: InvalidRequestError) -> Request:
        """The bad event to store for a body that cannot be parsed. Raises `problem` if the body's source is unknown."""
        request = Request(body, [], find_write_key(body))
        refuse(request, 0, Refusal(problem.code, problem.message), body)
        try:
            self._stamp(request, exchange)
        except InvalidRequestError:
            raise problem from None
        return request

    def _stamp(self, request: Request, exchange: Exchange) -> None:
        head = exchange.head
        request.source = self._keys.source(head.headers.get("authorization"), request.write_key, head.query)
        request.sender, request.received_at = exchange.client, self._clock()

    def _handle_other(self, exchange: Exchange) -> None:
        """Answer every request that is not a POST of events."""
        head = exchange.head
        method, path = head.method, head.path.rstrip("/")
        if method == "OPTIONS":
            self._answer(exchange, answers.preflight(head.headers.get("access-control-request-headers", "")))
        elif method == "POST" and path in PARSERS:
            self._collect(exchange, PARSERS[path])
        elif method == "POST" and path == _METRICS_BODY_PATH:
            self._answer(exchange, segment_answers.ACCEPTED)
        elif method == "GET" and path in PIXELS:
            self._collect_pixel(exchange, PIXELS[path])
        elif method in {"GET", "HEAD"}:
            self._answer(exchange, self._get(exchange, path))
        else:
            raise _not_allowed(head)

    def _collect_pixel(self, exchange: Exchange, type_: str) -> None:
        self._check_capacity(exchange)
        request = parse_pixel(exchange.head.query, type_)
        if request.write_key is not None:
            self._keys.of_key(request.write_key)  # a URL must not carry a server key
        self._stamp(request, exchange)

        def committed(failure: InvalidRequestError | None) -> None:
            if failure is not None:
                self._refuse(exchange, failure)
            elif request.refused:
                self._answer(exchange, answers.error(InvalidRequestError(400, *request.refused[0].refusal)))
            else:
                self._answer(exchange, segment_answers.GIF)

        self._group.commit(request, committed)

    def _get(self, exchange: Exchange, path: str) -> Answer:
        head = exchange.head
        if path == "/health":
            return answers.json({"status": "ok"})
        if path == "/ready":
            if not self.is_ready:
                raise InvalidRequestError(503, "unavailable", "shutting down, the queue is full, or the log cannot be written")
            return answers.json({"status": "ready"})
        if settings := SETTINGS.fullmatch(path):
            key = unquote(settings.group(1))
            self._keys.of_key(key)
            return segment_answers.segment_settings(key, self.proxies.scheme(exchange.peer, head.headers), head.headers.get("host", ""))
        if path == "/sourceConfig":
            source = self._keys.source(head.headers.get("authorization"), None, head.query)
            return segment_answers.rudder_config(source.name)
        if path in PARSERS or path in PIXELS:
            raise InvalidRequestError(405, "method_not_allowed", f"{path} takes {'POST' if path in PARSERS else 'GET'}")
        raise InvalidRequestError(404, "not_found", f"{path or '/'} is not a path of the collector")


def _is_light(text: bytes) -> bool:
    """Whether a body is read at once: by its size, and where it is not tiny, by its objects."""
    return len(text) <= _PLAIN_OBJECTS_MAX or (len(text) <= _PLAIN_BYTES_MAX and text.count(b"{") <= _PLAIN_OBJECTS_MAX)


def _not_allowed(head: Head) -> InvalidRequestError:
    return InvalidRequestError(405, "method_not_allowed", f"{head.method} {head.path} is not part of the protocol")
