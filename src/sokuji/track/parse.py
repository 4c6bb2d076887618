"""Parse the bytes of a request into events.

The common case costs one pass of msgspec. Only a body that fails this pass is parsed again, slowly and event by event, so that one bad
event does not spoil its batch.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Raw

from sokuji.errors import InvalidRequestError
from sokuji.track.repair import repaired
from sokuji.track.request import PAYLOAD_BYTES, REFUSALS_MAX, Refusal, Refused, Request, WireEvent
from sokuji.web.write_keys import find_write_key


class _Batch(msgspec.Struct, rename="camel", gc=False):
    batch: list[WireEvent]
    sent_at: str | None = None
    write_key: str | None = None
    historical: bool = False


class _Envelope(msgspec.Struct, rename="camel"):
    batch: list[Raw]
    sent_at: Raw = Raw()
    write_key: str | None = None
    historical: bool = False


class _MessageId(msgspec.Struct, rename="camel"):
    message_id: str | int | None = None


_BATCH = msgspec.json.Decoder(_Batch)
_EVENT = msgspec.json.Decoder(WireEvent)
_EVENTS = msgspec.json.Decoder(list[WireEvent])
_ENVELOPE = msgspec.json.Decoder(_Envelope)
_ID = msgspec.json.Decoder(_MessageId)
_FIELDS = msgspec.json.Decoder(dict[str, Raw])
_MESSAGE_ID = re.compile(rb'"messageId"\s*:\s*"([^"\\]{1,200})"')
_PROOF = re.compile(rb'("(?:proof|userSignature)"\s*:\s*"|"sk_)[^"\\]*"?')

EVENTS_MAX = 100_000
"""Most events in a request. Without a limit, 5 MB could hold two million times `{}`, each refused with its own reason while others wait."""

_STEP_EVENTS = 500

_ID_FIELDS = ("messageId", "anonymousId", "userId", "groupId", "previousId")


def parse_batch(body: bytes) -> Request:
    """The events of `{"batch": [...], "sentAt": ..., "writeKey": ...}`.

    Raises:
        InvalidRequestError: the body is not such an object, or has more than `EVENTS_MAX` events.
    """
    return plain_batch(body) or careful_batch(body)


def parse_event(body: bytes, type_: str | None = None) -> Request:
    """The single event in the body. `type_`, if the request's path gives it, wins over the body's type.

    Raises:
        InvalidRequestError: the body is not a JSON object.
    """
    return plain_event(body, type_) or careful_event(body, type_)


def plain_batch(body: bytes) -> Request | None:
    """Parse like `parse_batch`; None where each event must be checked by itself."""
    try:
        if not body.isascii():
            body.decode()
        batch = _BATCH.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    events = batch.batch
    _check_count(len(events))
    first = events[0] if events else WireEvent()
    return Request(body, events, batch.write_key or first.write_key, batch.sent_at or first.sent_at, batch.historical)


def plain_event(body: bytes, type_: str | None = None) -> Request | None:
    """Parse like `parse_event`; None where a closer check is needed."""
    try:
        if not body.isascii():
            body.decode()
        event = _EVENT.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return _of_event(body, event, type_)


def careful_event(body: bytes, type_: str | None) -> Request:
    """Parse like `parse_event`, step by step, so that a bad event is told apart from a bad body."""
    body = repaired(body)
    event = _event(body)
    if isinstance(event, Refusal):
        request = Request(body, [], find_write_key(body), batch=False)
        refuse(request, 0, event, body)
        return request
    return _of_event(body, event, type_)


def _of_event(body: bytes, event: WireEvent, type_: str | None) -> Request:
    if type_ is not None:
        event.type = type_
    return Request(body, [event], event.write_key, event.sent_at, event.historical, batch=False)


def refuse(request: Request, place: int, refusal: Refusal, text: bytes) -> None:
    """Record that the event at `place` in the client's batch, `text`, is refused. Refusals above `REFUSALS_MAX` a request are only counted.

    Proofs of the sender are removed from the kept text: a proof may be a server key.
    """
    whole = request.whole or request
    whole.refusals += 1
    if whole.refusals <= REFUSALS_MAX:
        request.refused.append(Refused(place, refusal, _message_id(text), _PROOF.sub(rb'\1"', text[:PAYLOAD_BYTES])))
    elif whole.refusals == REFUSALS_MAX + 1:
        reason = f"more than {REFUSALS_MAX} events of the request are refused; what is wrong with this and further ones is not kept"
        request.refused.append(Refused(place, Refusal("too_many_refused", reason), None, b""))


def text_at(request: Request, place: int) -> bytes:
    """The event at `place` in the client's batch, as it came; the whole request if the batch cannot be split."""
    whole = request.whole or request
    if whole.texts is None:
        try:
            whole.texts = [bytes(raw) for raw in _ENVELOPE.decode(whole.body).batch] if whole.batch else []
        except RecursionError:  # the first parse had fewer calls on the stack
            whole.texts = []
    return whole.texts[place] if whole.texts else whole.body


def careful_batch(body: bytes) -> Request:
    """Parse like `parse_batch`, some events at a time: a bad event does not spoil the others, and other threads can run in between."""
    body = repaired(body)
    try:
        envelope = _ENVELOPE.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(400, "invalid_batch", f'{error}; expected {{"batch": [events], ...}}') from error
    _check_count(len(envelope.batch))
    positions: list[int] = []
    request = Request(body, [], envelope.write_key, _text(envelope.sent_at), envelope.historical, positions=positions)
    request.texts = [bytes(raw) for raw in envelope.batch]
    for first in range(0, len(request.texts), _STEP_EVENTS):
        _add_events(request, positions, first, request.texts[first : first + _STEP_EVENTS])
    if request.events:
        request.write_key = request.write_key or request.events[0].write_key
        request.sent_at = request.sent_at or request.events[0].sent_at
    return request


def _add_events(request: Request, positions: list[int], first: int, events: list[bytes]) -> None:
    """Add the events of a batch that begin at place `first`, or refuse them. The places of the added events go to `positions`."""
    joined = b"[%b]" % b",".join(events)
    try:
        joined.decode()
        request.events += _EVENTS.decode(joined)
    except (msgspec.DecodeError, UnicodeDecodeError):
        for place, text in enumerate(events, first):
            event = _event(text)
            if isinstance(event, Refusal):
                refuse(request, place, event, text)
            else:
                request.events.append(event)
                positions.append(place)
    else:
        positions += range(first, first + len(events))


def _check_count(events: int) -> None:
    if events > EVENTS_MAX:
        raise InvalidRequestError(413, "too_many_events", f"the batch has {events} events; at most {EVENTS_MAX} are taken")


def _message_id(text: bytes) -> str | None:
    """The event's own message id; for a text that is not an event, the first message id visible in its kept part."""
    try:
        id_ = _ID.decode(text).message_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        seen = _MESSAGE_ID.search(text, 0, PAYLOAD_BYTES)
        return seen.group(1).decode("utf-8", "replace") if seen else None
    return None if id_ is None else str(id_)


def _text(raw: Raw) -> str | None:
    try:
        return msgspec.json.decode(raw, type=str | None) if raw else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _event(text: bytes) -> WireEvent | Refusal:
    """The event in `text`, which is well-formed JSON."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return Refusal("invalid_utf8", f"the event is not UTF-8: {error.reason} at byte {error.start}")
    try:
        return _EVENT.decode(text)
    except msgspec.ValidationError:
        pass
    try:
        return _EVENT.decode(_with_text_ids(text))
    except msgspec.ValidationError as error:
        return Refusal("wrong_type", str(error))


def _with_text_ids(text: bytes) -> bytes:
    """The same event with numeric ids as text: clients in untyped languages send both forms."""
    fields = _FIELDS.decode(text)
    for name in _ID_FIELDS:
        if name in fields and bytes(fields[name])[:1] in b"-0123456789":
            fields[name] = Raw(b'"%b"' % bytes(fields[name]))
    return msgspec.json.encode(fields)
