"""What the answer to a request of the collector may say of the decisions on its events: what is for those whom it shows to be."""

from __future__ import annotations

from typing import Any

import msgspec

from sokuji.act.decision import Audience, Decision, audiences
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

# In one request; more are answered without a wait. Their proofs are checked on the event loop, at some microseconds each.
_EVENTS_MAX = 1_000


class _Context(msgspec.Struct, rename="camel"):
    user_signature: str | None = None


_CONTEXT = msgspec.json.Decoder(_Context)


class Answering:
    """Gives requests with `decisions=wait` the decisions on their events, for the event loop of one process."""

    def __init__(
        self, waiter: Waiter, events_log: Log, secret: Secret, settings: ActSettings, *, seconds: float, clock: Clock = now_us
    ) -> None:
        """Wait for up to `seconds`."""
        self._waiter, self._log, self._secret, self._seconds, self._clock = waiter, events_log, secret, seconds, clock
        self._tokens = Tokens(secret.key("token"), settings.token_seconds)
        self._unsigned_users = settings.unsigned_users

    async def decided(self, request: Request, query: str) -> list[dict[str, Any]]:
        """The decisions on the events of a request, which are durable, that are for those whom the request shows to be."""
        senders = self._senders(request, query) if len(request.events) <= _EVENTS_MAX else set()
        if not senders:
            return []  # and nobody waits for what nobody may see
        ends = {partition: self._log.end(partition) for partition in range(self._log.partitions)}
        messages = [str(event.message_id) for event in request.events]

        def is_for_sender(decision: Decision) -> bool:  # by whose it is, not by whose event it was: another's message id may have been sent
            if decision.is_expired(self._clock()):  # of a message that is sent again
                return False
            return not senders.isdisjoint(decision.audiences(unsigned_users=self._unsigned_users))

        found = await self._waiter.wait(request.source.dataset, messages, ends, self._seconds, is_for_sender)
        return [each.message() for each in found]

    def _senders(self, request: Request, query: str) -> set[Audience]:
        """Everyone whom the request shows to be: by a token, by the secrets that visitors' ids were made from, by signed user ids.

        The site's own server, which shows its key, speaks for everyone it names.
        """
        dataset = request.source.dataset
        if request.source.is_server:
            return {each for event in request.events for each in audiences(dataset, event.anonymous_id, event.user_id)}
        found = {audience for audience in self._granted(query) if audience.dataset == dataset}
        key = self._secret.server_key(dataset)
        for event in request.events:
            visitor = event.anonymous_id if event.anonymous_id and event.proof and proves(event.proof, event.anonymous_id) else None
            user = event.user_id if event.user_id and is_signature(key, event.user_id, _signature(event)) else None
            found.update(audiences(dataset, visitor, user))
        return found

    def _granted(self, query: str) -> list[Audience]:
        try:
            return self._tokens.check(parameter(query, "token"), self._clock()).audiences
        except InvalidRequestError:  # none, or over: the events are taken all the same
            return []


def _signature(event: WireEvent) -> str:
    """That of the user's id: beside it, or in the context, where every SDK can put it."""
    if event.user_signature or not event.context:
        return event.user_signature or ""
    try:
        return _CONTEXT.decode(event.context).user_signature or ""
    except (msgspec.ValidationError, RecursionError):  # another kind of value; nested too deeply, and refused for that
        return ""
