"""The `api` role as an RSGI application: tokens, streams, pulls and checks for pages, and the tag that does it for them."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence

import msgspec
from granian.rsgi import HTTPProtocol, ProtocolClosed, Scope  # type: ignore[attr-defined]
from msgspec import Struct

from sokuji.act.decision import Decision, iso
from sokuji.act.eligibility import Eligibility
from sokuji.act.metrics import ActMetrics
from sokuji.act.recent import Recent
from sokuji.act.secret import Secret
from sokuji.act.shown import Shown, ShownTail
from sokuji.act.stream import Streams, Transport
from sokuji.act.tag import Tag
from sokuji.act.tail import PARTITION, Tail
from sokuji.act.token import Grant, Tokens
from sokuji.clock import Clock, now_us
from sokuji.config import ActSettings
from sokuji.errors import InvalidRequestError
from sokuji.log.base import Log
from sokuji.proof import is_signature, proves
from sokuji.track import answers
from sokuji.track.answers import Answer
from sokuji.track.keys import Keys
from sokuji.track.query import parameter
from sokuji.track.request import Source

logger = logging.getLogger(__name__)

# Decisions read back at the start, so that pages that come back find theirs. About 1 s.
_BACK_ROWS = 100_000
_BODY_BYTES_MAX = 8 * 1024
_BODY_SECONDS_MAX = 10.0
_ELIGIBLE = re.compile(r"/v1/actions/([^/]{1,512})/eligible")
_STREAM_HEADERS = [
    ("content-type", "text/event-stream"),
    ("cache-control", "no-store"),
    ("x-accel-buffering", "no"),  # a proxy that collects the answer would hold the actions back
    ("access-control-allow-origin", "*"),
]


class TokenRequest(Struct, rename="camel"):
    """`POST /v1/actions/token`: for whom, and what proves it."""

    write_key: str | None = None
    anonymous_id: str | None = None
    user_id: str | None = None
    proof: str | None = None  # what the visitor's id was made from
    user_signature: str | None = None  # what the site's server made of the user's id
    dataset: str | None = None  # with a server key


_TOKEN_REQUEST = msgspec.json.Decoder(TokenRequest)


class Act:
    """Answers the requests of one process."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        events_log: Log,
        decisions_log: Log,
        secret: Secret,
        settings: ActSettings,
        *,
        eligibility: Eligibility,
        clock: Clock = now_us,
    ) -> None:
        """Deliver from `decisions_log` to the visitors of `sources` (by write key) what `events_log` does not say that they were shown."""
        self._keys, self._log, self._clock, self._eligibility = Keys(sources), decisions_log, clock, eligibility
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
        self._tail = Tail(decisions_log, self._receive, back=_BACK_ROWS)
        self._tag = Tag()
        self._open = 0
        self._drained = asyncio.Event()

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to follow the log; called by the server before the first request."""
        loop.call_soon(self._tail.start)
        loop.call_soon(self._shown.start, lambda: self._recent.oldest_us(self._clock()), self._tail.caught_up)

    async def __rsgi__(self, scope: Scope, proto: HTTPProtocol) -> None:
        """Answer one request."""
        self._open += 1
        self._drained.clear()
        try:
            answer = await self._answer(scope, proto)
        except InvalidRequestError as problem:
            answer = answers.error(problem)
        finally:
            self._open -= 1
            if not self._open:
                self._drained.set()
        if answer is not None:
            self._metrics.answered(answer[0])
            proto.response_bytes(*answer)

    async def drain(self, timeout_seconds: float) -> None:
        """End the streams, whose clients come back elsewhere or later, and return when all is answered, or the time is up."""
        self._streams.close()
        if self._open:
            try:
                await asyncio.wait_for(self._drained.wait(), timeout_seconds)
            except TimeoutError:
                logger.warning("%d requests are cut off: their clients did not finish in %g s", self._open, timeout_seconds)

    def close(self) -> None:
        """Stop following the log, which stays open: it is its owner's."""
        self._tail.close()
        self._shown.close()
        self._eligibility.close()

    @property
    def is_ready(self) -> bool:
        """Whether it has read the decisions log."""
        return self._tail.is_current

    def render_metrics(self) -> str:
        """What was counted, in Prometheus' text format."""
        return self._metrics.render()

    def _receive(self, decisions: Sequence[Decision]) -> None:
        self._streams.publish([decision for decision in decisions if self._recent.add(decision)])

    def _receive_shown(self, found: Sequence[Shown]) -> None:
        for decision_id, people in found:
            self._recent.show(decision_id, people)

    async def _answer(self, scope: Scope, proto: HTTPProtocol) -> Answer | None:
        """None: answered already, by a stream."""
        _check_host(scope)
        method, path = scope.method, scope.path.rstrip("/")
        if method == "OPTIONS":
            return answers.preflight(scope.headers.get("access-control-request-headers", ""))
        if path == "/v1/actions/token":
            _expect(method, path, "POST")
            return self._token(scope, await _body(proto))
        known = path in {"/v1/actions/stream", "/v1/actions", "/sokuji.js", "/health", "/ready"}
        if not known and not _ELIGIBLE.fullmatch(path):
            raise InvalidRequestError(404, "not_found", f"{path or '/'} is not an address of the api role")
        _expect(method, path, "GET")
        if path == "/v1/actions/stream":
            await self._stream(scope, proto)
            return None
        return await self._get(scope, path)

    async def _get(self, scope: Scope, path: str) -> Answer:
        if path == "/v1/actions":
            return await self._pull(scope)
        if checked := _ELIGIBLE.fullmatch(path):
            return await self._check(scope, checked.group(1))
        if path == "/sokuji.js":
            return self._tag.answer(scope.headers)
        if path == "/ready" and not self.is_ready:
            raise InvalidRequestError(503, "unavailable", "the decisions log is not read yet, or cannot be")
        return answers.json({"status": "ready" if path == "/ready" else "ok"})

    def _token(self, scope: Scope, body: bytes) -> Answer:
        try:
            request = _TOKEN_REQUEST.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequestError(400, "invalid_json", f'{error}; expected {{"writeKey", "anonymousId", "proof"}}') from error
        dataset = self._dataset(scope.headers.get("authorization"), request)
        now = self._clock()
        token, expires_at = self._tokens.issue(dataset, request.anonymous_id, request.user_id, now)
        # The clock of a client need not be right, so it also gets the time that is left.
        left = {"expires_at": iso(expires_at), "seconds": (expires_at - now) / 1_000_000}
        return _private({"token": token, **left, "unsigned_users": self._unsigned_users})

    def _dataset(self, authorization: str | None, request: TokenRequest) -> str:
        """Of a client that has shown to be, or to speak for, everyone it names."""
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

    def _grant(self, scope: Scope) -> Grant:
        scheme, _, token = (scope.headers.get("authorization") or "").partition(" ")
        if scheme.lower() != "bearer":
            token = parameter(scope.query_string, "token") or ""  # EventSource sends no headers
        return self._tokens.check(token.strip(), self._clock())

    async def _pull(self, scope: Scope) -> Answer:
        grant = self._grant(scope)
        found = await self._streams.deliverable(grant, self._after(scope, "after"))
        self._metrics.pulled(len(found))
        actions = [decision.message() | {"cursor": str(decision.offset)} for decision in found]
        return _private({"actions": actions})

    async def _check(self, scope: Scope, decision_id: str) -> Answer:
        grant = self._grant(scope)
        decision, obstacle = self._recent.obstacle(decision_id, grant.audiences, self._clock())
        reason: str | None = obstacle
        if decision is not None and obstacle is None:
            [reason] = await self._eligibility.reasons([decision])
            reason = reason or self._recent.obstacle(decision_id, grant.audiences, self._clock())[1]  # by all that was acknowledged
        elif decision is not None and decision.is_for_page and obstacle != "shown":
            await self._eligibility.record(decision, str(obstacle))
        self._metrics.checked(reason)
        return _private({"eligible": reason is None, "reason": reason})

    async def _stream(self, scope: Scope, proto: HTTPProtocol) -> None:
        grant = self._grant(scope)
        self._streams.check_capacity(grant)
        gone = asyncio.ensure_future(proto.client_disconnect())

        def begin() -> Transport:
            self._metrics.answered(200)
            return proto.response_stream(200, _STREAM_HEADERS)

        try:
            await self._streams.serve(grant, self._after(scope, "last_event_id"), begin, gone)
        except ProtocolClosed:
            self._metrics.ended("gone")
        finally:
            gone.cancel()

    def _after(self, scope: Scope, name: str) -> int:
        """The offset a client has seen; -1 for nothing, or for a number that this log never gave."""
        text = scope.headers.get("last-event-id") or parameter(scope.query_string, name) or ""
        seen = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
        return seen if seen < self._log.end(PARTITION) else -1


def _expect(method: str, path: str, expected: str) -> None:
    if method != expected and not (method == "HEAD" and expected == "GET" and path != "/v1/actions/stream"):
        raise InvalidRequestError(405, "method_not_allowed", f"{path} takes {expected}")


def _check_host(scope: Scope) -> None:
    """RFC 9112, 3.2: exactly one."""
    hosts = scope.headers.get_all("host")  # type: ignore[attr-defined]
    if len(hosts) != 1 and not (scope.http_version == "1" and not hosts):
        raise InvalidRequestError(400, "invalid_http", f"the request has {len(hosts)} Host headers; expected one")


def _private(value: object) -> Answer:
    status, headers, body = answers.json(value)
    return status, [*headers, ("cache-control", "no-store")], body


async def _body(proto: HTTPProtocol) -> bytes:
    """The body, within bounds.

    Raises:
        InvalidRequestError: 413 it is too large, 408 it came too slowly, 400 the connection ended before it.
    """
    body = b""
    try:
        async with asyncio.timeout(_BODY_SECONDS_MAX):
            async for chunk in proto:
                body += chunk
                if len(body) > _BODY_BYTES_MAX:
                    raise InvalidRequestError(413, "request_too_large", f"the request has more than {_BODY_BYTES_MAX} bytes")
    except TimeoutError as error:
        raise InvalidRequestError(408, "timeout", f"the body took more than {_BODY_SECONDS_MAX:g} s") from error
    except ProtocolClosed as error:
        raise InvalidRequestError(400, "incomplete_body", "the connection ended before the body did") from error
    return body
