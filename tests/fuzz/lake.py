"""From the bytes of a request to rows of the lake: the sent events are there, in their place, as the oracle says."""

from __future__ import annotations

import time
from random import Random
from typing import Any

import pyarrow as pa

from sokuji.lake.events import Columns, property_columns
from sokuji.sink.shape import Shaper
from sokuji.track.check import Limits
from sokuji.track.columns import to_arrow
from sokuji.track.parse import parse_batch
from sokuji.track.skew import ClockOffsets
from sokuji.web.write_keys import EventSource
from tests import hostile, json_oracle

_PYTHON = {pa.float64(): float, pa.string(): str, pa.bool_(): bool}
_EVENTS = 20
_NOW_US = 1_767_225_600_000_000


def fuzz(seed: int, seconds: float) -> int:
    """Batches of events of all types."""
    random, deadline, count = Random(seed), time.monotonic() + seconds, 0
    with Shaper() as shaper:
        while time.monotonic() < deadline:
            compare(shaper, [event(random, number) for number in range(_EVENTS)])
            count += _EVENTS
    return count


def event(random: Random, number: int) -> str:
    """An event that is to be accepted unless it is too large."""
    objects = [f'"{name}":{hostile.object_(random)}' for name in ("context", "properties", "traits") if random.randrange(4)]
    named = random.choice([[], [f'"name":{hostile.string(random, "Name")}']])
    type_ = random.choice(["track", "page", "identify", "group", "alias"])
    fields = [f'"type":"{type_}","event":"e","anonymousId":"v","userId":"u","groupId":"g","previousId":"p","messageId":"{number}"']
    parts = fields + objects + named
    random.shuffle(parts)
    return "{" + ",".join(parts) + "}"


def compare(shaper: Shaper, events: list[str]) -> None:
    """Hold the collector and the sink to the oracle.

    Raises:
        AssertionError: a row is not what was sent.
    """
    request = parse_batch(f'{{"batch":[{",".join(events)}]}}'.encode())
    request.source, request.received_at = EventSource("web", "shop"), _NOW_US
    batches = to_arrow([request], 1, Limits(), ClockOffsets(0))
    assert {refused.refusal.code for refused in request.refused} <= {"too_large"}
    if not batches:
        return
    columns: Columns = {}
    table = shaper.shape(pa.table(batches[0]), columns).read_all()
    wanted = {name.lower(): _PYTHON[type_] for name, type_ in columns.items()}
    names = list(property_columns(table.schema))
    found = {row["message_id"]: row for row in table.to_pylist()}
    assert found.keys() == {str(number) for number in range(len(events))} - {refused.message_id for refused in request.refused}
    for message_id, row in found.items():
        properties, context = stored(json_oracle.pairs(events[int(message_id)]))
        for column, said in (("properties", properties), ("context", context)):
            is_there = None if row[column] is None else json_oracle.pairs(row[column])
            assert is_there == said, f"{column} of {events[int(message_id)]}: {row[column]}"
        typed = json_oracle.columns(row["properties"], wanted)
        assert repr({name.lower(): row[name] for name in names}) == repr(typed), f"columns of {row['properties']}"


def stored(event: tuple[tuple[str, Any], ...]) -> tuple[Any, Any]:
    """The properties and the context that a row has of an event, as `json_oracle.pairs` gives them; None if there are none."""
    fields = dict(event)
    type_, context = fields["type"], _finite(fields.get("context"))
    if type_ == "identify":
        traits = next((value for key, value in fields.get("context", ()) if key == "traits"), None)
        return _finite(fields.get("traits", traits if isinstance(traits, tuple) else None)), context
    moved = {
        "group": {"group_id": "g"},
        "alias": {"previous_id": "p"},
        "page": {"name": fields["name"]} if "name" in fields else {},
    }.get(type_, {})
    properties = fields.get("traits" if type_ == "group" else "properties")
    if not moved:
        return _finite(properties), context
    members: dict[str, Any] = {}
    for key, value in _finite(properties) or ():
        members.setdefault(key, value)
    return tuple((members | moved).items()), context


def _finite(value: Any) -> Any:
    """With null for what FLOAT64 does not hold."""
    if isinstance(value, json_oracle.Number):
        return None if json_oracle.meaning(value) is None else value
    if isinstance(value, tuple):
        return tuple((key, _finite(item)) for key, item in value)
    return [_finite(item) for item in value] if isinstance(value, list) else value
