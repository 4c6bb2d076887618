"""The collector: Segment's protocol over HTTP. A 200 means that the events are on disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import unquote

from sokuji import metrics
from sokuji.clock import Clock, now_us
from sokuji.config import TrackSettings
from sokuji.errors import InvalidRequestError
from sokuji.log.base import Log
from sokuji.track import answers
from sokuji.track.answers import Answer
from sokuji.track.body import Bodies, BrokenGzipError
from sokuji.track.check import Limits
from sokuji.track.committer import Committer
from sokuji.track.connection import Exchange
from sokuji.track.group import GroupCommit
from sokuji.track.http1 import Head
from sokuji.track.keys import Keys
from sokuji.track.metrics import TrackMetrics
from sokuji.track.parse import find_write_key, refused
from sokuji.track.pixel import parse_pixel
from sokuji.track.request import Refusal, Request, Source
from sokuji.track.routes import PARSERS, PIXELS, SETTINGS, Parser

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
        self.bodies = Bodies(settings.max_request_bytes)
        self._metrics = TrackMetrics()
        committer = Committer(events_log, bad_events_log, limits, settings.skew_threshold_seconds)
        self._group = GroupCommit(committer, settings.queue_events, self._metrics)
        self._metrics.watch(lambda: self._group.queued_events, lambda: self.bodies.held_bytes)
        self._draining = False
        self._deciding: set[asyncio.Future[None]] = set()

    def admit(self, head: Head) -> None:
        """Refuse a request that cannot be taken now, before its body is read."""
        if head.method == "POST":
            self._check_capacity()

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
        """Refuse what comes from now on (503)."""
        self._draining = True

    def close(self) -> None:
        """Release what is held, once nothing is served any more. The logs stay open: they are their owner's."""
        self._group.close()

    def _answer(self, exchange: Exchange, answer: Answer) -> None:
        self._metrics.answered(answer[0])
        exchange.answer(*answer)

    def _refuse(self, exchange: Exchange, problem: InvalidRequestError) -> None:
        self._metrics.refused(problem.code)
        self._answer(exchange, answers.error(problem))

    def _collect(self, exchange: Exchange, parser: Parser) -> None:
        head = exchange.head
        problem: InvalidRequestError | None
        try:
            body = self.bodies.decompress(exchange.body)
        except BrokenGzipError as broken:
            request, problem = self._unreadable(head, broken.body, broken), broken
        else:
            if body is not exchange.body:
                exchange.hold(len(body) - len(exchange.body))
            request, problem = self._parse(exchange, parser, body)
        self._group.commit(request, partial(self._committed, exchange, request, problem))

    def _committed(
        self, exchange: Exchange, request: Request, problem: InvalidRequestError | None, failure: InvalidRequestError | None
    ) -> None:
        """Answer a request that is durable, unless there is a `failure`; `problem`: it could not be read, and is kept as a bad event."""
        if failure is not None:
            self._refuse(exchange, failure)
        elif problem is not None:
            self._answer(exchange, answers.error(problem))
        else:
            self._metrics.acknowledged(len(request.body), time.perf_counter() - exchange.started)
            if request.refused and not request.batch:
                self._answer(exchange, answers.error(InvalidRequestError(400, *request.refused[0].refusal)))
            elif self._decided is not None and _WAIT in exchange.head.query:
                task = asyncio.ensure_future(self._answer_decided(exchange, request, self._decided))
                self._deciding.add(task)
                task.add_done_callback(self._deciding.discard)
            else:
                self._answer(exchange, answers.accepted(request.refused) if request.refused else answers.ACCEPTED)

    async def _answer_decided(self, exchange: Exchange, request: Request, decided: Decided) -> None:
        decisions: list[dict[str, Any]] = []
        try:
            decisions = await decided(request.source.dataset, [str(event.message_id) for event in request.events])
        finally:  # whatever happened: the events are durable
            self._answer(exchange, answers.accepted(request.refused, decisions))

    def _check_capacity(self) -> None:
        if self._draining:
            raise InvalidRequestError(503, "unavailable", "the collector is shutting down; send the same request again")
        self._group.check_room(1)

    def _parse(self, exchange: Exchange, parser: Parser, body: bytes) -> tuple[Request, InvalidRequestError | None]:
        """The request. Of one that cannot be read: what is kept of it as a bad event, and how it is answered."""
        head = exchange.head
        try:
            request = parser(body)
        except InvalidRequestError as problem:
            return self._unreadable(head, body, problem), problem
        self._stamp(request, head)
        if len(request.events) > 1:
            request.sender = head.headers.get("x-forwarded-for") or exchange.client
        return request, None

    def _unreadable(self, head: Head, body: bytes, problem: InvalidRequestError) -> Request:
        """What is kept, as a bad event, of a body that cannot be read. Raises `problem` where nobody knows whose it is."""
        request = Request(body, [], find_write_key(body), refused=[refused(0, Refusal(problem.code, problem.message), body)])
        try:
            self._stamp(request, head)
        except InvalidRequestError:
            raise problem from None
        return request

    def _stamp(self, request: Request, head: Head) -> None:
        request.source = self._keys.source(head.headers.get("authorization"), request.write_key, head.query)
        request.received_at = self._clock()

    def _handle_other(self, exchange: Exchange) -> None:
        """What is not a POST of events."""
        head = exchange.head
        method, path = head.method, head.path.rstrip("/")
        if method == "OPTIONS":
            self._answer(exchange, answers.preflight(head.headers.get("access-control-request-headers", "")))
        elif method == "POST" and path in PARSERS:
            self._collect(exchange, PARSERS[path])
        elif method == "POST" and path == "/v1/m":  # the browser SDK's own metrics
            self._answer(exchange, answers.ACCEPTED)
        elif method == "GET" and path in PIXELS:
            self._collect_pixel(exchange, PIXELS[path])
        elif method in {"GET", "HEAD"}:
            self._answer(exchange, self._get(head, path))
        else:
            raise InvalidRequestError(405, "method_not_allowed", f"{method} {head.path} is not part of the protocol")

    def _collect_pixel(self, exchange: Exchange, type_: str) -> None:
        self._check_capacity()
        request = parse_pixel(exchange.head.query, type_)
        self._stamp(request, exchange.head)

        def committed(failure: InvalidRequestError | None) -> None:
            if failure is not None:
                self._refuse(exchange, failure)
            elif request.refused:
                self._answer(exchange, answers.error(InvalidRequestError(400, *request.refused[0].refusal)))
            else:
                self._answer(exchange, answers.GIF)

        self._group.commit(request, committed)

    def _get(self, head: Head, path: str) -> Answer:
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
            headers = head.headers
            scheme = headers.get("x-forwarded-proto", "http").partition(",")[0].strip()  # the first of several proxies met the client
            return answers.segment_settings(key, scheme, headers.get("host", ""))
        if path == "/sourceConfig":
            source = self._keys.source(head.headers.get("authorization"), None, head.query)
            return answers.rudder_config(source.name)
        if path in PARSERS or path in PIXELS:
            raise InvalidRequestError(405, "method_not_allowed", f"{path} takes {'POST' if path in PARSERS else 'GET'}")
        raise InvalidRequestError(404, "not_found", f"{path or '/'} is not an address of the collector")
