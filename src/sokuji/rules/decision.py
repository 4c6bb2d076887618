"""Decisions, and the events that record them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Literal

import msgspec
import pyarrow as pa
from msgspec import Struct

from sokuji.events import EVENT_SCHEMA, OWN_SOURCE, EventType, TimeRule
from sokuji.rules.trigger import Trigger

DECIDED = "action_decided"
SUPPRESSED = "action_suppressed"

Reason = Literal["event", "timer", "cap", "priority", "gap", "quiet_hours", "missing_field", "does_not_fit"]
"""What led to the decision, or what prevented it."""


class Decision(Struct, frozen=True, kw_only=True):
    """One decision of one rule for one profile.

    `action` is the rendered action to deliver. It is None for the control arm, the holdout and a suppressed decision, so none of these can
    be
    shown by accident. Its "kind" is popup, banner, webhook or call.
    """

    id: str  # depends only on the rule and the trigger, so recomputing gives the same id
    rule: str
    reason: Reason
    suppressed: bool
    arm: str | None  # the arm that the profile is assigned to, also in the holdout; None if suppressed
    control: bool
    holdout: bool
    action: Mapping[str, Any] | None
    at_us: int  # the trigger's received_at, or the time when the timer was due
    expires_us: int
    trigger_id: str  # message id of the event that triggered the rule or armed its timer
    profile: str
    dataset: str
    visitor_id: str | None
    user_id: str | None
    zone: str | None = None  # the visitor's time zone, if the trigger's context names one
    occasions: int = 1  # if suppressed: how many since the last recorded one of this rule and profile


def decision_id(rule: str, trigger: Trigger, *, suppressed: bool) -> str:
    """The message id of the event that records the decision of `rule` on `trigger`."""
    parts = (rule, suppressed, trigger.dataset, trigger.source, trigger.message_id)
    return blake2b(msgspec.json.encode(parts), digest_size=16).hexdigest()


def to_events(decisions: Sequence[Decision], now_us: int) -> pa.RecordBatch:
    """The decisions as rows of EVENT_SCHEMA, received at `now_us`, for the `decisions` log."""
    return own_events(
        {
            "dataset": [decision.dataset for decision in decisions],
            "message_id": [decision.id for decision in decisions],
            "event_name": [SUPPRESSED if decision.suppressed else DECIDED for decision in decisions],
            "visitor_id": [decision.visitor_id for decision in decisions],
            "user_id": [decision.user_id for decision in decisions],
            "event_time": [decision.at_us for decision in decisions],
            "properties": [msgspec.json.encode(_properties(decision)).decode() for decision in decisions],
        },
        now_us,
    )


def own_events(columns: Mapping[str, Sequence[Any]], now_us: int) -> pa.RecordBatch:
    """Events of the platform itself as rows of EVENT_SCHEMA, received at `now_us`. Missing columns are NULL."""
    count = len(columns["message_id"])
    same = {
        "source": OWN_SOURCE,
        "type": EventType.TRACK.value,
        "received_at": now_us,
        "time_rule": TimeRule.TRUSTED.value,
        "historical": False,
    }
    arrays = [pa.array(columns.get(field.name, [same.get(field.name)] * count), field.type) for field in EVENT_SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=EVENT_SCHEMA)


def _properties(decision: Decision) -> dict[str, Any]:
    properties = msgspec.structs.asdict(decision)
    for name in ("id", "dataset", "visitor_id", "user_id"):
        del properties[name]
    return properties
