"""Events as a worker has them, and a worker's handling of rows, without the rest of the worker."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from sokuji.events import EVENT_SCHEMA
from sokuji.rules.decision import Decision
from sokuji.rules.engine import TIMER_SLACK_US, Rules
from sokuji.rules.state import Segment

START_US = 1_798_761_600_000_000  # 2027-01-01 00:00 UTC
SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US


@dataclass(frozen=True)
class Event:
    """One event of a profile; `truth` says which conditions it finds true."""

    name: str
    at_us: int
    profile: str = "ann"
    truth: frozenset[str] = frozenset()
    silent: bool = False
    properties: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] | None = None
    number: int | str = 0  # makes the message id

    @property
    def message_id(self) -> str:
        return f"m{self.number}"


def numbered(events: Sequence[Event]) -> list[Event]:
    """The events with message ids by their place."""
    return [Event(**(vars(event) | {"number": number})) for number, event in enumerate(events)]


def batch_of(events: Sequence[Event], columns: Mapping[str, Sequence[Any]] | None = None) -> pa.RecordBatch:
    """The events as rows of EVENT_SCHEMA with more columns."""
    rows = [
        {
            "dataset": "main",
            "source": "web",
            "message_id": event.message_id,
            "type": event.name if event.name in ("page", "screen") else "track",
            "event_name": event.name,
            "visitor_id": event.profile,
            "event_time": event.at_us,
            "received_at": event.at_us,
            "time_rule": "client",
            "historical": False,
            "context": None if event.context is None else json.dumps(event.context),
            "properties": json.dumps(event.properties),
        }
        for event in events
    ]
    batch = pa.RecordBatch.from_pylist(rows, schema=EVENT_SCHEMA)
    for name, values in (columns or {}).items():
        batch = batch.append_column(name, pa.array(values))
    return batch


class Worker:
    """Keeps the rows of all profiles and feeds batches to the rules, as the analyze worker does."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.rows: dict[str, bytes] = {}

    def decide(self, events: Sequence[Event], columns: Mapping[str, Sequence[Any]] | None = None) -> list[Decision]:
        """One batch."""
        return self.decide_batch(events, batch_of(events, columns))

    def decide_batch(self, events: Sequence[Event], batch: pa.RecordBatch) -> list[Decision]:
        """One batch, its rows given. The segment is a strided part of longer rows, as in the worker."""
        profiles = list(dict.fromkeys(event.profile for event in events))
        segment = self.get(profiles)
        truth = np.array([[text in event.truth for text in self.rules.conditions] for event in events], dtype=np.bool_)
        decisions = self.rules.decide(
            segment,
            profiles,
            profile_of_event=np.array([profiles.index(event.profile) for event in events], dtype=np.int32),
            events=batch,
            truth=truth.reshape(len(events), len(self.rules.conditions)),
            silent=np.array([event.silent for event in events], dtype=np.bool_),
        )
        self._put(profiles, segment)
        return decisions

    def due(self, now_us: int) -> list[Decision]:
        """What is due by now, slack included."""
        profiles = list(self.rows)
        segment = self.get(profiles)
        decisions = self.rules.due(segment, profiles, now_us + TIMER_SLACK_US)
        self._put(profiles, segment)
        return decisions

    def merge(self, into: str, from_: str) -> None:
        """`from_` turns out to be `into`."""
        segment, other = self.get([into]), self.get([from_])
        self.rules.merge(segment, other)
        self._put([into], segment)
        del self.rows[from_]

    def get(self, profiles: Sequence[str]) -> Segment:
        """Copies of the profiles' rows."""
        whole = np.full((len(profiles), self.rules.width + 24), 0xAA, dtype=np.uint8)
        segment = whole[:, 13 : 13 + self.rules.width]
        for row, profile in enumerate(profiles):
            segment[row] = np.frombuffer(self.rows.get(profile, bytes(self.rules.width)), dtype=np.uint8)
        return segment

    def _put(self, profiles: Sequence[str], segment: Segment) -> None:
        for row, profile in enumerate(profiles):
            self.rows[profile] = segment[row].tobytes()
