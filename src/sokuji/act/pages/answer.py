"""The decisions in the answer to a collector request: those for receivers whose identity the request proves."""

from __future__ import annotations

from typing import Any

import msgspec

from sokuji.act.decision import Audience, Recorded, audiences
from sokuji.act.pages.token import Tokens
from sokuji.act.pages.waiter import Waiter
from sokuji.act.secret import Secret
from sokuji.clock import Clock, now_us
from sokuji.config import ActSettings
from sokuji.errors import InvalidRequestError
from sokuji.log.base import Log
from sokuji.proof import is_signature, proves
from sokuji.track.request import Request, WireEvent
from sokuji.web.query import parameter

# Events per request; a larger one is answered without a wait. Checking the proofs takes some microseconds each on the event loop.
_EVENTS_MAX = 1_000


class _Context(msgspec.Struct, rename="camel"):
    user_signature: str | None = None


_CONTEXT = msgspec.json.Decoder(_Context)


class Answering:
    """Gives requests with `decisions=wait` the decisions on their events. For the event loop of one process."""

    def __init__(
        self, waiter: Waiter, events_log: Log, secret: Secret, settings: ActSettings, *, seconds: float, clock: Clock = now_us
    ) -> None:
        """Create the answering; it waits up to `seconds`."""
        self._waiter, self._log, self._secret, self._seconds, self._clock = waiter, events_log, secret, seconds, clock
        self._tokens = Tokens(secret.key("token"), settings.token_seconds)
        self._unsigned_users = settings.unsigned_users

    async def decided(self, request: Request, query: str) -> list[dict[str, Any]]:
        """The decisions on the durable events of a request that are for receivers whose identity the request proves."""
        senders = self._senders(request, query) if len(request.events) <= _EVENTS_MAX else set()
        if not senders:
            return []  # and do not wait for decisions that nobody may see
        ends = {partition: self._log.end(partition) for partition in range(self._log.partitions)}
        messages = [str(event.message_id) for event in request.events]

        def is_for_sender(recorded: Recorded) -> bool:  # by receiver, not by event: the request may repeat another visitor's message id
            if recorded.is_expired(self._clock()):  # of a message that is sent again
                return False
            return not senders.isdisjoint(recorded.audiences(unsigned_users=self._unsigned_users))

        decisions = await self._waiter.wait(request.source.dataset, messages, ends, self._seconds, is_for_sender)
        return [each.message() for each in decisions]

    def _senders(self, request: Request, query: str) -> set[Audience]:
        """Everyone whose identity the request proves: by a token, by the secrets of visitors' ids, or by signed user ids.

        The site's own server, which shows its key, may speak for everyone it names.
        """
        dataset = request.source.dataset
        if request.source.is_server:
            return {each for event in request.events for each in audiences(dataset, event.anonymous_id, event.user_id)}
        senders = {audience for audience in self._granted(query) if audience.dataset == dataset}
        key = self._secret.server_key(dataset)
        for event in request.events:
            visitor = event.anonymous_id if event.anonymous_id and event.proof and proves(event.proof, event.anonymous_id) else None
            user = event.user_id if event.user_id and is_signature(key, event.user_id, _signature(event)) else None
            senders.update(audiences(dataset, visitor, user))
        return senders

    def _granted(self, query: str) -> list[Audience]:
        try:
            return self._tokens.check(parameter(query, "token"), self._clock()).audiences
        except InvalidRequestError:  # no token, or an expired one: the events are accepted nevertheless
            return []


def _signature(event: WireEvent) -> str:
    """The signature of the user's id: beside the id, or in the context, where every SDK can put it."""
    if event.user_signature or not event.context:
        return event.user_signature or ""
    try:
        return _CONTEXT.decode(event.context).user_signature or ""
    except (msgspec.ValidationError, RecursionError):  # another type of value; or nested too deeply, and refused for that
        return ""
