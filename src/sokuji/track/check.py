"""The exact rules for accepting an event, applied to one event at a time.

`columns` screens whole batches first and calls this module only for events that fail the screen.
"""

from __future__ import annotations

import os
import re
import uuid
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from msgspec import Raw

from sokuji.events import EventType
from sokuji.json_text import members
from sokuji.track.request import Refusal, WireEvent

TYPES = frozenset(EventType)
_WITH_TRAITS = {EventType.IDENTIFY, EventType.GROUP}

# What clients send when they have no id: JavaScript's and Python's ways to print "nothing", and objects printed by accident. Taken as
# ids, they would merge many visitors into one. The same is true of white space. The empty text is not in this list: some SDKs send it for
# "none", and it is read as "none".
_NOT_IDS = ("null", "undefined", "none", "nil", "nan", "[object Object]", "true", "false", "anonymous", "guest")
ILLEGAL_IDS = frozenset(form for text in _NOT_IDS for form in (text, text.lower(), text.upper(), text.title(), f'"{text}"', f"'{text}'"))

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_BRACKETS = re.compile(rb"[{}\[\]]")

_ID_BYTES, _IDS_DRAWN = 16, 500
_RANDOM: deque[bytes] = deque()  # random bytes for message ids; each entry is used once
os.register_at_fork(after_in_child=_RANDOM.clear)


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest accepted event: total stored bytes, and nesting depth of its JSON objects."""

    event_bytes: int = 32 * 1024
    depth: int = 64


def check(event: WireEvent, limits: Limits) -> Refusal | None:
    """Normalize `event` in place; the reason if the event cannot be accepted, else None.

    An accepted event then has a unique message id, None for empty ids, a timestamp that Arrow reads, empty objects for null ones, and all
    fields without a column of their own in `properties`.
    """
    return _check_type(event) or _check_ids(event) or _check_objects(event, limits) or _check_timestamp(event) or _check_size(event, limits)


def _check_type(event: WireEvent) -> Refusal | None:
    if event.type not in TYPES:
        return Refusal("unknown_type", f"type is {_shown(event.type)}; expected one of {', '.join(EventType)}")
    if event.type != EventType.TRACK:
        event.event = event.type
    elif not event.event:
        return Refusal("missing_event", f"event is {_shown(event.event)}; a track call needs the event's name in it")
    return None


def _check_ids(event: WireEvent) -> Refusal | None:
    if not event.message_id or _is_illegal(event.message_id):
        event.message_id = _random_id()  # Replace "null" and the like: all such events but the first would be dropped as repeats.
    event.anonymous_id = event.anonymous_id or None
    event.user_id = event.user_id or None
    previous_id = event.previous_id if event.type == EventType.ALIAS else None
    group_id = event.group_id if event.type == EventType.GROUP else None
    ids = {"anonymousId": event.anonymous_id, "userId": event.user_id, "previousId": previous_id, "groupId": group_id}
    for name, value in ids.items():
        if value is not None and _is_illegal(value):
            return Refusal("illegal_id", f"{name} is {_shown(value)}, which clients send when they have no id; leave it out instead")
    if event.anonymous_id is None and event.user_id is None:
        return Refusal("missing_id", "neither anonymousId nor userId is there; an event needs one of them")
    if event.type == EventType.GROUP and not event.group_id:
        return Refusal("missing_group_id", f"groupId is {_shown(event.group_id)}; a group call needs it")
    if event.type == EventType.ALIAS and not (event.previous_id and event.user_id):
        return Refusal("missing_previous_id", "an alias call needs both previousId and userId")
    return None


def _random_id() -> str:
    """A random id like `uuid.uuid4`, without a system call for each: a call lets a busy thread take the interpreter for 5 ms."""
    if not _RANDOM:
        drawn = os.urandom(_ID_BYTES * _IDS_DRAWN)
        _RANDOM.extend(drawn[start : start + _ID_BYTES] for start in range(0, len(drawn), _ID_BYTES))
    try:
        drawn = _RANDOM.popleft()
    except IndexError:  # another thread took the last one
        drawn = os.urandom(_ID_BYTES)
    return str(uuid.UUID(bytes=drawn, version=4))


def _is_illegal(id_: str) -> bool:
    return id_ in ILLEGAL_IDS or id_.isspace()


def _check_objects(event: WireEvent, limits: Limits) -> Refusal | None:
    names = ("context", "properties", "traits") if event.type in _WITH_TRAITS else ("context", "properties")
    for name in names:
        text = bytes(getattr(event, name))
        if text == b"null":
            setattr(event, name, Raw())
        elif text and not text.startswith(b"{"):
            return Refusal("wrong_type", f"{name} is {text[:40].decode(errors='replace')}; expected an object")
        elif refusal := _check_text(name, text, limits):  # before any code parses it
            return refusal
    if event.type == EventType.IDENTIFY:
        event.properties = event.traits or _context_traits(event.context)
    elif event.type == EventType.GROUP:
        event.properties = with_members(event.traits, group_id=event.group_id)
    elif event.type == EventType.ALIAS:
        event.properties = with_members(event.properties, previous_id=event.previous_id)
    elif event.type != EventType.TRACK:
        event.properties = with_members(event.properties, name=event.name, category=event.category)
    return None


def _context_traits(context: Raw) -> Raw:
    """The traits of an identify call from RudderStack's SDKs, which send them in `context`."""
    traits = members(bytes(context)).get("traits", Raw()) if context else Raw()
    return traits if bytes(traits).startswith(b"{") else Raw()


def with_members(object_: Raw, **values: str | bool | None) -> Raw:
    """`object_` with `values` added. On the same name, `values` win."""
    added = {name: Raw(msgspec.json.encode(value)) for name, value in values.items() if value is not None}
    if not added:
        return object_
    return Raw(msgspec.json.encode((members(bytes(object_)) if object_ else {}) | added))


def _check_timestamp(event: WireEvent) -> Refusal | None:
    text = event.timestamp or event.original_timestamp or None
    event.timestamp, event.original_timestamp = None, None
    if text is not None:
        event.timestamp = normal_timestamp(text)
        if event.timestamp is None:
            return Refusal("bad_timestamp", f"timestamp is {_shown(text)}; expected ISO 8601, such as 2026-11-23T12:00:00.000Z")
    return None


def normal_timestamp(text: str) -> str | None:
    """ISO 8601 text as UTC with microseconds, in a form that Arrow reads; None if it is not a time. A time without a zone is UTC."""
    if text.endswith("z"):  # RFC 3339, 5.6: `T` and `Z` may be lower case
        text = text[:-1] + "Z"
    try:
        time = datetime.fromisoformat(text)
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return time.isoformat()


def _check_size(event: WireEvent, limits: Limits) -> Refusal | None:
    texts = (event.type, event.message_id, event.event, event.anonymous_id, event.user_id)
    size = len("".join(filter(None, texts)).encode()) + len(bytes(event.context)) + len(bytes(event.properties))
    if size > limits.event_bytes:
        return Refusal("too_large", f"the event has {size} bytes; at most {limits.event_bytes} are taken")
    return None


def _check_text(name: str, text: bytes, limits: Limits) -> Refusal | None:
    if len(text) > limits.event_bytes:
        return Refusal("too_large", f"{name} has {len(text)} bytes; at most {limits.event_bytes} are taken")
    # The number of opening brackets bounds the depth, so most texts need no exact count.
    if text.count(b"{") + text.count(b"[") > limits.depth and (depth := _depth(text)) > limits.depth:
        return Refusal("too_deep", f"the event's JSON is nested {depth} deep; at most {limits.depth} is taken")
    return None


def _depth(text: bytes) -> int:
    depth = deepest = 0
    for bracket in _BRACKETS.findall(_STRING.sub(b"", text)):
        depth += 1 if bracket in b"{[" else -1
        deepest = max(deepest, depth)
    return deepest


def _shown(value: str | None) -> str:
    return "missing" if value is None else repr(value if len(value) <= 80 else value[:80] + "…")
