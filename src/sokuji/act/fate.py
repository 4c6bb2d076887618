"""The outcomes of decisions, as events of the platform itself. Pages track `action_shown`, `action_clicked`, `action_closed`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, Literal, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.log.base import Log
from sokuji.rules.decision import own_events

DELIVERED: Final = "action_delivered"
FAILED: Final = "action_failed"
INELIGIBLE: Final = "action_ineligible"

_READ_ROWS = 10_000
_READ_COLUMNS = ("event_name", "message_id", "properties")


class Fate(NamedTuple):
    """One event about one decision. `reason` and `details` become further properties."""

    event: Literal["action_delivered", "action_failed", "action_ineligible"]
    decision_id: str
    dataset: str
    visitor_id: str | None
    user_id: str | None
    rule: str
    arm: str | None
    reason: str | None
    details: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The event's message id. A decision is delivered once and fails for good once, but may be ineligible for several reasons."""
        return fate_id(self.event, self.decision_id, (self.reason or "") if self.event == INELIGIBLE else "")


def fate_id(event: str, decision_id: str, reason: str = "") -> str:
    """The message id of an event about a decision."""
    return blake2b(msgspec.json.encode((event, decision_id, reason)), digest_size=16).hexdigest()


def to_events(fates: Sequence[Fate], now_us: int) -> pa.RecordBatch:
    """Rows of EVENT_SCHEMA, for the decisions log."""
    named = ("decision_id", "rule", "arm", "reason")
    properties = [{name: getattr(fate, name) for name in named} | dict(fate.details) for fate in fates]
    return own_events(
        {
            "dataset": [fate.dataset for fate in fates],
            "message_id": [fate.id for fate in fates],
            "event_name": [fate.event for fate in fates],
            "visitor_id": [fate.visitor_id for fate in fates],
            "user_id": [fate.user_id for fate in fates],
            "event_time": [now_us] * len(fates),
            "properties": [msgspec.json.encode(each).decode() for each in properties],
        },
        now_us,
    )


def recorded(log: Log, since: int) -> Iterator[tuple[str, str, str]]:
    """(event, decision id, message id) of each event about a decision from offset `since` on, as far as retention has kept them."""
    offset = max(since, log.start(0))
    while offset < log.end(0):
        batch, _, offset = log.read(0, offset, _READ_ROWS)
        about = batch.filter(pc.is_in(batch.column("event_name"), pa.array([DELIVERED, FAILED, INELIGIBLE])))
        for event, id_, properties in zip(*(about.column(name).to_pylist() for name in _READ_COLUMNS), strict=True):
            yield event, msgspec.json.decode(properties)["decision_id"], id_
