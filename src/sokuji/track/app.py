"""The collector as an RSGI application: Segment's protocol over HTTP. A 200 means that the events are on disk."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from granian.rsgi import HTTPProtocol, Scope  # type: ignore[attr-defined]

from sokuji import metrics
from sokuji.clock import Clock, now_us
from sokuji.config import TrackSettings
from sokuji.errors import InvalidRequestError
from sokuji.log.base import Log
from sokuji.track import answers
from sokuji.track.answers import Answer
from sokuji.track.body import BodyReader, BrokenGzipError
from sokuji.track.check import Limits
from sokuji.track.committer import Committer
from sokuji.track.group import GroupCommit
from sokuji.track.keys import Keys
from sokuji.track.metrics import TrackMetrics
from sokuji.track.parse import find_write_key, refused
from sokuji.track.pixel import parse_pixel
from sokuji.track.request import Refusal, Request, Source
from sokuji.track.routes import PARSERS, PIXELS, SETTINGS, Parser

logger = logging.getLogger(__name__)


Decided = Callable[[str, Sequence[str]], Awaitable[list[dict[str, Any]]]]
"""What was decided on durable messages of a dataset, after a bounded wait, as the page is told of it."""

_WAIT = "decisions=wait"


class Track:
    """Answers the requests of one worker."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        events_log: Log,
        bad_events_log: Log,
        settings: TrackSettings,
        *,
        clock: Clock = now_us,
        decided: Decided | None = None,
    ) -> None:
        """Collect for `sources` (by write key) into the two logs; `decided` answers requests with `decisions=wait`."""
        self._decided = decided
        limits = Limits(settings.max_event_bytes, settings.max_depth)
        self._keys, self._clock = Keys(sources), clock
        self._bodies = BodyReader(settings.max_request_bytes)
        self._metrics = TrackMetrics()
        committer = Committer(events_log, bad_events_log, limits, settings.skew_threshold_seconds)
        self._group = GroupCommit(committer, settings.queue_events, self._metrics)
        self._metrics.watch(lambda: self._group.queued_events, lambda: self._bodies.held_bytes)
        self._draining = False
        self._open = 0
        self._drained = asyncio.Event()

    async def __rsgi__(self, scope: Scope, proto: HTTPProtocol) -> None:
        """Answer one request."""
        parser = PARSERS.get(scope.path)
        self._open += 1
        try:
            if parser is not None and scope.method == "POST":
                status, headers, body = await self._collect(scope, proto, parser)
            else:
                status, headers, body = await self._answer(scope, proto)
        except InvalidRequestError as problem:
            self._metrics.refused(problem.code)
            status, headers, body = answers.error(problem)
        finally:
            self._open -= 1
            if self._draining and not self._open:
                self._drained.set()
        self._metrics.answered(status)
        proto.response_bytes(status, headers, body)

    async def drain(self, timeout_seconds: float) -> None:
        """Refuse what comes from now on (503), and return when all that came before is answered, or the time is up."""
        self._draining = True
        if not self._open:
            return
        try:
            await asyncio.wait_for(self._drained.wait(), timeout_seconds)
        except TimeoutError:
            logger.warning("%d requests are cut off: their clients did not finish sending in %g s", self._open, timeout_seconds)

    def close(self) -> None:
        """Release what is held, once nothing is served any more. The logs stay open: they are their owner's."""
        self._group.close()

    async def _collect(self, scope: Scope, proto: HTTPProtocol, parser: Parser) -> Answer:
        started = time.perf_counter()
        self._check_capacity()
        body = b""
        try:
            try:
                body = await self._bodies.read(scope, proto)
                request, problem = self._parse(scope, parser, body)
            except BrokenGzipError as broken:
                request, problem = self._unreadable(scope, broken.body, broken), broken
            await self._group.commit(request)
        finally:
            self._bodies.release(len(body))
        if problem is not None:
            return answers.error(problem)
        self._metrics.acknowledged(len(body), time.perf_counter() - started)
        if request.refused and not request.batch:
            return answers.error(InvalidRequestError(400, *request.refused[0].refusal))
        if self._decided is not None and _WAIT in scope.query_string:
            messages = [str(event.message_id) for event in request.events]
            return answers.accepted(request.refused, await self._decided(request.source.dataset, messages))
        return answers.accepted(request.refused) if request.refused else answers.ACCEPTED

    def _check_capacity(self) -> None:
        if self._draining:
            raise InvalidRequestError(503, "unavailable", "the collector is shutting down; send the same request again")
        self._group.check_room(1)

    def _parse(self, scope: Scope, parser: Parser, body: bytes) -> tuple[Request, InvalidRequestError | None]:
        """The request. Of one that cannot be read: what is kept of it as a bad event, and how it is answered."""
        try:
            request = parser(body)
        except InvalidRequestError as problem:
            return self._unreadable(scope, body, problem), problem
        self._stamp(request, scope)
        if len(request.events) > 1:
            request.sender = scope.headers.get("x-forwarded-for") or scope.client.rpartition(":")[0]
        return request, None

    def _unreadable(self, scope: Scope, body: bytes, problem: InvalidRequestError) -> Request:
        """What is kept, as a bad event, of a body that cannot be read. Raises `problem` where nobody knows whose it is."""
        request = Request(body, [], find_write_key(body), refused=[refused(0, Refusal(problem.code, problem.message), body)])
        try:
            self._stamp(request, scope)
        except InvalidRequestError:
            raise problem from None
        return request

    def _stamp(self, request: Request, scope: Scope) -> None:
        request.source = self._keys.source(scope.headers.get("authorization"), request.write_key, scope.query_string)
        request.received_at = self._clock()

    async def _answer(self, scope: Scope, proto: HTTPProtocol) -> Answer:
        """What is not a POST of events."""
        method, path = scope.method, scope.path.rstrip("/")
        if method == "OPTIONS":
            return answers.preflight(scope.headers.get("access-control-request-headers", ""))
        if method == "POST" and path in PARSERS:
            return await self._collect(scope, proto, PARSERS[path])
        if method == "POST" and path == "/v1/m":  # the browser SDK's own metrics
            self._bodies.release(len(await self._bodies.read(scope, proto)))
            return answers.ACCEPTED
        if method == "GET" and path in PIXELS:
            return await self._collect_pixel(scope, PIXELS[path])
        if method in {"GET", "HEAD"}:
            return self._get(scope, path)
        raise InvalidRequestError(405, "method_not_allowed", f"{method} {scope.path} is not part of the protocol")

    async def _collect_pixel(self, scope: Scope, type_: str) -> Answer:
        self._check_capacity()
        request = parse_pixel(scope.query_string, type_)
        self._stamp(request, scope)
        await self._group.commit(request)
        if request.refused:
            return answers.error(InvalidRequestError(400, *request.refused[0].refusal))
        return answers.GIF

    def _get(self, scope: Scope, path: str) -> Answer:
        if path == "/health":
            return answers.json({"status": "ok"})
        if path == "/ready":
            if self._draining or self._group.full() or self._group.failing():
                raise InvalidRequestError(503, "unavailable", "shutting down, the queue is full, or the log cannot be written")
            return answers.json({"status": "ready"})
        if path == "/metrics":
            return answers.text(self._metrics.render(), metrics.CONTENT_TYPE)
        if settings := SETTINGS.fullmatch(path):
            key = unquote(settings.group(1))
            self._keys.of_key(key)
            headers = scope.headers
            scheme = headers.get("x-forwarded-proto", scope.scheme).partition(",")[0].strip()  # the first of several proxies met the client
            return answers.segment_settings(key, scheme, headers.get("host", scope.authority or ""))
        if path == "/sourceConfig":
            source = self._keys.source(scope.headers.get("authorization"), None, scope.query_string)
            return answers.rudder_config(source.name)
        if path in PARSERS or path in PIXELS:
            raise InvalidRequestError(405, "method_not_allowed", f"{path} takes {'POST' if path in PARSERS else 'GET'}")
        raise InvalidRequestError(404, "not_found", f"{path or '/'} is not an address of the collector")
