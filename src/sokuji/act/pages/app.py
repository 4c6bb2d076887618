"""The `api` role: tokens, streams, pulls and checks for pages, and the tag that uses them."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import msgspec
from msgspec import Struct

from sokuji.act.decision import Recorded, iso
from sokuji.act.follow import PARTITION, DecisionFollower
from sokuji.act.pages.gate import Eligibility
from sokuji.act.pages.metrics import ActMetrics
from sokuji.act.pages.recent import Recent
from sokuji.act.pages.shown import Shown, ShownTail
from sokuji.act.pages.stream import Client, Streams
from sokuji.act.pages.tag import Tag
from sokuji.act.pages.token import Grant, Tokens
from sokuji.act.secret import Secret
from sokuji.clock import Clock, now_us
from sokuji.config import ActSettings
from sokuji.errors import InvalidRequestError
from sokuji.log.base import Log
from sokuji.proof import is_signature, proves
from sokuji.service.proxies import Proxies, unit
from sokuji.track.tasks import Tasks
from sokuji.web import answers
from sokuji.web.answers import Answer
from sokuji.web.body import Bodies
from sokuji.web.connection import Exchange
from sokuji.web.http1 import Head
from sokuji.web.query import parameter
from sokuji.web.stream import Stream
from sokuji.web.write_keys import EventSource, WriteKeys

# Decisions read at the start, so that returning pages find theirs. Takes about 1 s.
_BACK_ROWS = 100_000
_BODY_BYTES_MAX = 8 * 1024
_TOKEN, _PULL, _STREAM, _TAG = "/v1/actions/token", "/v1/actions", "/v1/actions/stream", "/sokuji.js"
_HEALTH, _READY = "/health", "/ready"
_ELIGIBLE = re.compile(r"/v1/actions/([^/]{1,512})/eligible")
_STREAM_HEADERS = [
    ("content-type", "text/event-stream"),
    ("cache-control", "no-store"),
    ("x-accel-buffering", "no"),  # a proxy that buffers the answer would delay the actions
    ("access-control-allow-origin", "*"),
]


class TokenRequest(Struct, rename="camel"):
    """The body of `POST /v1/actions/token`: for whom the token is, and the proofs."""

    write_key: str | None = None
    anonymous_id: str | None = None
    user_id: str | None = None
    proof: str | None = None  # the secret that the visitor's id was made from
    user_signature: str | None = None  # what the site's server computed from the user's id
    dataset: str | None = None  # with a server key


_TOKEN_REQUEST = msgspec.json.Decoder(TokenRequest)


class Act:
    """Answers the requests of one process."""

    def __init__(
        self,
        sources: Mapping[str, EventSource],
        events_log: Log,
        decisions_log: Log,
        secret: Secret,
        settings: ActSettings,
        *,
        eligibility: Eligibility,
        clock: Clock = now_us,
        proxies: Proxies | None = None,
    ) -> None:
        """Serve decisions of `decisions_log` to visitors of `sources` (by write key), without those that `events_log` says were shown."""
        self._keys, self._log, self._clock, self._eligibility = WriteKeys(sources), decisions_log, clock, eligibility
        self._server_keys = {secret.server_key(source.dataset): source.dataset for source in sources.values()}
        self._signing_keys = {dataset: key for key, dataset in self._server_keys.items()}
        self._tokens = Tokens(secret.key("token"), settings.token_seconds)
        self._unsigned_users = settings.unsigned_users
        self._metrics = ActMetrics()
        self._recent = Recent(settings.memory_mib * 1024 * 1024, unsigned_users=settings.unsigned_users)
        self._streams = Streams(self._recent, eligibility, settings, self._metrics, clock)
        self._metrics.watch(lambda: self._streams.count, lambda: len(self._recent))
        self._shown = ShownTail(events_log, self._receive_shown)
        eligibility.wait_for(self._shown.progress)
        self._tail = DecisionFollower(decisions_log, self._receive, back=_BACK_ROWS)
        self._tag = Tag()
        self._tasks = Tasks()
        self._draining = False
        self.bodies, self.proxies = Bodies(_BODY_BYTES_MAX), proxies or Proxies()

    def start(self) -> None:
        """Start to follow the logs."""
        self._tail.start()
        self._shown.start(lambda: self._recent.oldest_us(self._clock()), self._tail.caught_up)

    def admit(self, exchange: Exchange) -> None:
        """Refuse a request that cannot be answered, before its body is read."""
        method, path = exchange.head.method, _path(exchange.head)
        if method == "OPTIONS":
            return
        if path not in {_TOKEN, _PULL, _STREAM, _TAG, _HEALTH, _READY} and not _ELIGIBLE.fullmatch(path):
            raise InvalidRequestError(404, "not_found", f"{path or '/'} is not a path of the api role")
        expected = "POST" if path == _TOKEN else "GET"
        if method != expected and not (method == "HEAD" and expected == "GET" and path != _STREAM):
            raise InvalidRequestError(405, "method_not_allowed", f"{path} takes {expected}")
        if self._draining and path != _HEALTH:
            raise InvalidRequestError(503, "unavailable", "the api role is shutting down; send the same request again")

    def handle(self, exchange: Exchange) -> None:
        """Answer one request."""
        head = exchange.head
        path = _path(head)
        if head.method == "OPTIONS":
            self._answer(exchange, answers.preflight(head.headers.get("access-control-request-headers", "")))
        elif path == _TOKEN:
            self._answer(exchange, self._token(head, exchange.body))
        elif path == _STREAM:
            after = self._after(head, "last_event_id")
            self._tasks.spawn(self._stream(exchange, self._streams.open(self._grant(head), unit(exchange.client)), after), exchange)
        elif path == _PULL:
            work = self._pull(self._grant(head), self._after(head, "after"), unit(exchange.client))
            self._tasks.spawn(self._answer_later(exchange, work), exchange)
        elif checked := _ELIGIBLE.fullmatch(path):
            work = self._check(self._grant(head), unquote(checked.group(1)), unit(exchange.client))
            self._tasks.spawn(self._answer_later(exchange, work), exchange)
        elif path == _TAG:
            self._answer(exchange, self._tag.answer(head.headers))
        elif path == _READY and not self.is_ready:
            raise InvalidRequestError(503, "unavailable", "the decisions log is not read yet, or cannot be")
        else:
            self._answer(exchange, answers.json({"status": "ready" if path == _READY else "ok"}))

    def refused(self, problem: InvalidRequestError) -> None:
        """Count a request that the server answered with `problem`."""
        self._metrics.answered(problem.status)

    def drain(self) -> None:
        """Refuse new requests (503), and end the streams, whose clients reconnect elsewhere or later."""
        self._draining = True
        self._streams.close()

    def close(self) -> None:
        """Stop following the logs. The logs stay open: their owner closes them."""
        self._tasks.cancel()
        self._tail.close()
        self._shown.close()
        self._eligibility.close()

    @property
    def is_ready(self) -> bool:
        """Whether it has read the decisions log."""
        return self._tail.is_current

    def render_metrics(self) -> str:
        """The metrics in Prometheus' text format."""
        return self._metrics.render()

    def _receive(self, decisions: Sequence[Recorded]) -> None:
        self._streams.publish([recorded for recorded in decisions if self._recent.add(recorded)])

    def _receive_shown(self, reports: Sequence[Shown]) -> None:
        for decision_id, people in reports:
            self._recent.show(decision_id, people)

    def _answer(self, exchange: Exchange, answer: Answer) -> None:
        self._metrics.answered(answer[0])
        exchange.answer(*answer)

    async def _answer_later(self, exchange: Exchange, work: Coroutine[Any, Any, Answer]) -> None:
        try:
            answer = await work
        except InvalidRequestError as problem:
            answer = answers.error(problem)
        self._answer(exchange, answer)

    def _token(self, head: Head, body: bytes) -> Answer:
        try:
            request = _TOKEN_REQUEST.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequestError(400, "invalid_json", f'{error}; expected {{"writeKey", "anonymousId", "proof"}}') from error
        dataset = self._dataset(head.headers.get("authorization"), request)
        now = self._clock()
        token, expires_at = self._tokens.issue(dataset, request.anonymous_id, request.user_id, now)
        # The client's clock may be wrong, so the answer also has the remaining time.
        left = {"expires_at": iso(expires_at), "seconds": (expires_at - now) / 1_000_000}
        return _private({"token": token, **left, "unsigned_users": self._unsigned_users})

    def _dataset(self, authorization: str | None, request: TokenRequest) -> str:
        """The dataset of a client that has proven to be, or to speak for, everyone it names."""
        if not request.user_id and not request.anonymous_id:
            raise InvalidRequestError(400, "missing_id", "neither anonymousId nor userId is there; a token needs one of them, or both")
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() == "bearer":
            dataset = self._server_keys.get(key.strip())
            if dataset is None or request.dataset not in {None, dataset}:
                raise InvalidRequestError(401, "unknown_server_key", "the Bearer key is not the server key of this dataset")
            return dataset
        dataset = self._keys.source(authorization, request.write_key, "").dataset
        if request.anonymous_id and not proves(request.proof or "", request.anonymous_id):
            raise InvalidRequestError(
                403, "proof_required", "`proof` is not what `anonymousId` was made from; for other ids the site's server asks, with its key"
            )
        if request.user_id and not is_signature(self._signing_keys[dataset], request.user_id, request.user_signature or ""):
            raise InvalidRequestError(
                403, "signature_required", "`userSignature` is not what the site's server makes of `userId` (`sokuji keys --sign USER_ID`)"
            )
        return dataset

    def _grant(self, head: Head) -> Grant:
        scheme, _, token = (head.headers.get("authorization") or "").partition(" ")
        if scheme.lower() != "bearer":
            token = parameter(head.query, "token") or ""  # EventSource sends no headers
        return self._tokens.check(token.strip(), self._clock())

    async def _pull(self, grant: Grant, after: int, address: str) -> Answer:
        decisions = await self._streams.deliverable(grant, after, address)
        self._metrics.pulled(len(decisions))
        actions = [recorded.message() | {"cursor": str(recorded.offset)} for recorded in decisions]
        return _private({"actions": actions})

    async def _check(self, grant: Grant, decision_id: str, address: str) -> Answer:
        recorded, obstacle = self._recent.obstacle(decision_id, grant.audiences, self._clock())
        reason: str | None = obstacle
        if recorded is not None and obstacle is None:
            [reason] = await self._eligibility.reasons([recorded.decision], address, grant.users(unsigned_users=self._unsigned_users))
            reason = reason or self._recent.obstacle(decision_id, grant.audiences, self._clock())[1]  # with displays reported meanwhile
        elif recorded is not None and recorded.is_for_page and obstacle != "shown":
            await self._eligibility.record(recorded.decision, str(obstacle), address)
        self._metrics.checked(reason)
        return _private({"eligible": reason is None, "reason": reason})

    async def _stream(self, exchange: Exchange, client: Client, after: int) -> None:
        def begin(changed: Callable[[], None]) -> Stream:
            self._metrics.answered(200)
            return exchange.stream(_STREAM_HEADERS, changed)

        try:
            await self._streams.serve(client, after, begin)
        except InvalidRequestError as problem:
            self._answer(exchange, answers.error(problem))

    def _after(self, head: Head, name: str) -> int:
        """The offset that a client has seen; -1 if it has none, or one that this log never gave."""
        text = head.headers.get("last-event-id") or parameter(head.query, name) or ""
        seen = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
        return seen if seen < self._log.end(PARTITION) else -1


def _path(head: Head) -> str:
    return head.path.rstrip("/")


def _private(value: object) -> Answer:
    status, headers, body = answers.json(value)
    return status, [*headers, ("cache-control", "no-store")], body
