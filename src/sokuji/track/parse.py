"""Bytes of a request to events.

The common case costs one pass of msgspec. Only a body that fails it is read again, slowly and event by event, so that one bad event
does not take its batch along.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Raw

from sokuji.errors import InvalidRequestError
from sokuji.track.request import PAYLOAD_BYTES, Refusal, Refused, Request, WireEvent


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
_ENVELOPE = msgspec.json.Decoder(_Envelope)
_ID = msgspec.json.Decoder(_MessageId)
_FIELDS = msgspec.json.Decoder(dict[str, Raw])
_ANYTHING = msgspec.json.Decoder(Raw)
_MESSAGE_ID = re.compile(rb'"messageId"\s*:\s*"([^"\\]{1,200})"')
_WRITE_KEY = re.compile(rb'"writeKey"\s*:\s*"([^"\\]{1,200})"')

EVENTS_MAX = 100_000
"""Events in a request: 5 MB could be two million of `{}`, each refused with its own reason while all others wait."""

_ID_FIELDS = ("messageId", "anonymousId", "userId", "groupId", "previousId")

# A JSON string (to the end of the text where it is not closed, else the search would be quadratic), or what only some encoders write.
_REPAIRABLE = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|NaN|-?Infinity', re.DOTALL)
_SURROGATES = re.compile(rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})")


def parse_batch(body: bytes) -> Request:
    """The events of `{"batch": [...], "sentAt": ..., "writeKey": ...}`.

    Raises:
        InvalidRequestError: the body is not such an object, or has more than `EVENTS_MAX` events.
    """
    try:
        if not body.isascii():
            body.decode()
        batch = _BATCH.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _parse_batch_slowly(body)
    events = batch.batch
    _check_count(len(events))
    first = events[0] if events else WireEvent()
    return Request(body, events, batch.write_key or first.write_key, batch.sent_at or first.sent_at, batch.historical)


def parse_event(body: bytes, type_: str | None = None) -> Request:
    """The one event that is the body. `type_`, where the address of the request says it, wins over the body's.

    Raises:
        InvalidRequestError: the body is not a JSON object.
    """
    try:
        if not body.isascii():
            body.decode()
        event = _EVENT.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        body = _repaired(body)
        found = _event(body)
        if isinstance(found, Refusal):
            return Request(body, [], find_write_key(body), refused=[refused(0, found, body)], batch=False)
        event = found
    if type_ is not None:
        event.type = type_
    return Request(body, [event], event.write_key, event.sent_at, event.historical, batch=False)


def refused(place: int, refusal: Refusal, text: bytes) -> Refused:
    """What is kept of an event that was refused."""
    return Refused(place, refusal, _message_id(text), text[:PAYLOAD_BYTES])


def texts(request: Request) -> list[bytes]:
    """The events of a request as they came, in the order of the client's batch; one text for a request that is no batch."""
    return [bytes(raw) for raw in _ENVELOPE.decode(request.body).batch] if request.batch else [request.body]


def find_write_key(body: bytes) -> str | None:
    """The write key of a body that cannot be parsed, if it can be seen in it."""
    found = _WRITE_KEY.search(body)
    return found.group(1).decode("utf-8", "replace") if found else None


def _parse_batch_slowly(body: bytes) -> Request:
    body = _repaired(body)
    try:
        envelope = _ENVELOPE.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(400, "invalid_batch", f'{error}; expected {{"batch": [events], ...}}') from error
    _check_count(len(envelope.batch))
    request = Request(body, [], envelope.write_key, _text(envelope.sent_at), envelope.historical, positions=[])
    for index, raw in enumerate(envelope.batch):
        text = bytes(raw)
        found = _event(text)
        if isinstance(found, Refusal):
            request.refused.append(refused(index, found, text))
            continue
        request.events.append(found)
        request.positions.append(index)  # type: ignore[union-attr]
    if request.events:
        request.write_key = request.write_key or request.events[0].write_key
        request.sent_at = request.sent_at or request.events[0].sent_at
    return request


def _check_count(events: int) -> None:
    if events > EVENTS_MAX:
        raise InvalidRequestError(413, "too_many_events", f"the batch has {events} events; at most {EVENTS_MAX} are taken")


def _message_id(text: bytes) -> str | None:
    """The event's own message id, or the first that can be seen in a text that is no event."""
    try:
        found = _ID.decode(text).message_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        seen = _MESSAGE_ID.search(text)
        return seen.group(1).decode("utf-8", "replace") if seen else None
    return None if found is None else str(found)


def _text(raw: Raw) -> str | None:
    try:
        return msgspec.json.decode(raw, type=str | None) if raw else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _event(text: bytes) -> WireEvent | Refusal:
    """One event's text, which is well-formed JSON, as an event."""
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
    """The same event with ids that are numbers as text: clients in untyped languages send both."""
    fields = _FIELDS.decode(text)
    for name in _ID_FIELDS:
        if name in fields and bytes(fields[name])[:1] in b"-0123456789":
            fields[name] = Raw(b'"%b"' % bytes(fields[name]))
    return msgspec.json.encode(fields)


def _repaired(body: bytes) -> bytes:
    """`body` as well-formed JSON, except that text may still be invalid UTF-8.

    Two things that clients' encoders write and JSON does not have are put right, as JavaScript does it: NaN and infinities become
    null, halves of surrogate pairs (text cut in the middle of an emoji) become U+FFFD.

    Raises:
        InvalidRequestError: it is not JSON, or nested so deeply that it cannot be read.
    """
    if _syntax_error(body) is None:
        return body
    body = _REPAIRABLE.sub(_repair, body)
    error = _syntax_error(body)
    if error is not None:
        raise InvalidRequestError(400, "invalid_json", f"{error}; expected a JSON object")
    return body


def _syntax_error(body: bytes) -> msgspec.DecodeError | None:
    try:
        _ANYTHING.decode(body)
    except RecursionError as error:
        raise InvalidRequestError(400, "too_deep", "the JSON is nested too deeply to be read") from error
    except msgspec.DecodeError as error:
        return error
    return None


def _repair(match: re.Match[bytes]) -> bytes:
    token = match.group()
    return _SURROGATES.sub(lambda pair: b"\\ufffd" if pair.group(1) else pair.group(), token) if token.startswith(b'"') else b"null"
