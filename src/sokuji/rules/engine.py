"""Decides, for micro-batches of events, what is done for whom."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sokuji.rules.decision import Decision
from sokuji.rules.meaning import Deciding
from sokuji.rules.merge import carry, merge
from sokuji.rules.prepared import plan
from sokuji.rules.spec import Actions
from sokuji.rules.state import Segment, State, dtype_from, dtype_of, field_of, layout_of
from sokuji.rules.steps import EventArrays, take_steps

TIMER_SLACK_US = 1_000_000
"""An event received before a timer was due may still be on its way through the collector. `due` waits this long for it."""


class Rules:
    """The rules of a project, compiled. It keeps no state: all of that is in the rows of the profiles it is given.

    Everything is a function of its arguments: the same events give the same decisions and the same bytes of state, wherever a batch
    begins and ends, in any process.
    """

    def __init__(self, actions: Actions) -> None:
        self.actions = actions
        self.conditions: tuple[str, ...] = tuple(dict.fromkeys(rule.condition for rule in actions.rules if rule.condition is not None))
        """The distinct GoogleSQL conditions, to be evaluated once a batch for all rows: the columns of `truth`."""
        self.rechecks: tuple[str, ...] = tuple(dict.fromkeys(rule.still for rule in actions.rules if rule.still is not None))
        """The distinct GoogleSQL conditions over features alone that `eligibility.ineligible` asks about when something is shown."""
        self.by_name = {rule.name: rule for rule in actions.rules}
        self.names: frozenset[str] = frozenset(name for rule in actions.rules for field in rule.fields for name in heads(field.name))
        """The columns that templates may ask for, as far as there are such columns."""
        self._dtype = dtype_of(actions)
        self._plans = plan(actions, self.conditions)
        self.width: int = self._dtype.itemsize
        """Bytes of state a profile."""
        self.layout: str = layout_of(self._dtype)
        """What the bytes mean, as text. Rows stored under another layout are brought along by `carry`."""

    def decide(
        self,
        segment: Segment,
        profiles: Sequence[str],
        *,
        profile_of_event: NDArray[np.int32],
        events: pa.RecordBatch,
        truth: NDArray[np.bool_],
        silent: NDArray[np.bool_],
    ) -> list[Decision]:
        """Take the events in their order: change `segment` in place and return the decisions in the order in which they are taken.

        A timer that is due at or before an event's `received_at` fires before that event.

        Args:
            segment: uint8[profiles, width], one row a profile.
            profiles: the profiles' keys, by which arms are dealt; one a row of `segment`.
            profile_of_event: the row of each event's profile.
            events: the columns of EVENT_SCHEMA, and in columns of their own whatever else templates name: features, scores, properties.
                A template field that is no column is looked for in `properties`.
            truth: bool[events, conditions], row n with the features as event n left them; NULL is False. Columns in Fortran order
                are read faster.
            silent: bool[events]: history imports and bots, which trigger, stop and count nothing.
        """
        state = State(segment, self._dtype)
        deciding = Deciding(self.actions.project, self._plans, state, profiles)
        take_steps(EventArrays(events, profile_of_event, truth, silent), self.actions.project, self._plans, state, deciding)
        return deciding.decisions

    def due(self, segment: Segment, profiles: Sequence[str], now_us: int) -> list[Decision]:
        """Fire the timers that were due `TIMER_SLACK_US` before `now_us`, profile by profile.

        The decisions are as of when the timers were due, and the same as if an event had come first.
        """
        due, until_us = self.next_due(segment), now_us - TIMER_SLACK_US
        rows = np.flatnonzero((due != 0) & (due <= until_us)).tolist()
        if not rows:
            return []
        deciding = Deciding(self.actions.project, self._plans, State(segment, self._dtype), profiles)
        for row in rows:
            deciding.fire(row, until_us)
        return deciding.decisions

    def next_due(self, segment: Segment) -> NDArray[np.int64]:
        """When each profile's next timer is due, in microseconds; 0 where none is armed."""
        due = np.zeros(len(segment), dtype=np.int64)
        rows = segment.view(self._dtype)[:, 0]
        for each in self._plans:
            if each.rule.timer is not None:
                own = rows[field_of(each.rule.name)]["due_us"]
                due = np.where((own != 0) & ((due == 0) | (own < due)), own, due)
        return due

    def stopped_us(self, segment: Segment, rule: str) -> NDArray[np.int64]:
        """When the last event of the rule's `unless` was received, a profile; 0 where none was, or where the rule has no `unless`."""
        own = segment.view(self._dtype)[:, 0][field_of(rule)]
        return own["stopped_us"] if "stopped_us" in (own.dtype.names or ()) else np.zeros(len(segment), dtype=np.int64)

    def merge(self, into: Segment, from_: Segment) -> None:
        """Merge the profiles of `from_` into those of `into`, row by row, in place. See `merge.merge`."""
        merge(self._plans, State(into, self._dtype), State(from_, self._dtype))

    def carry(self, segment: Segment, layout: str, *, with_timers: bool = True) -> Segment:
        """The state of rows stored under `layout` in today's: of rules that are still there, what still means the same."""
        return carry(np.ascontiguousarray(segment), dtype_from(layout), self._dtype, with_timers=with_timers)


def heads(field: str) -> tuple[str, str]:
    """The column of that name, and the one it may be a member of."""
    return field, field.partition(".")[0]
