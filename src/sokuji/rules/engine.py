"""Apply the rules to micro-batches of events."""

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
    """The compiled rules of a project. They keep no state: all state is in the rows of the profiles passed in.

    All results depend only on the arguments. The same events give the same decisions and the same bytes of state, with any batch boundaries
    and in any process.
    """

    def __init__(self, actions: Actions) -> None:
        self.actions = actions
        self.conditions: tuple[str, ...] = tuple(dict.fromkeys(rule.condition for rule in actions.rules if rule.condition is not None))
        """The distinct GoogleSQL conditions, evaluated once a batch for all rows: the columns of `truth`."""
        self.rechecks: tuple[str, ...] = tuple(dict.fromkeys(rule.still for rule in actions.rules if rule.still is not None))
        """The distinct GoogleSQL conditions over features alone that `eligibility.ineligible` needs when a decision is shown."""
        self.by_name = {rule.name: rule for rule in actions.rules}
        self.names: frozenset[str] = frozenset(name for rule in actions.rules for field in rule.fields for name in heads(field.name))
        """The columns that templates may use, as far as they exist."""
        self._dtype = dtype_of(actions)
        self._plans = plan(actions, self.conditions)
        self.width: int = self._dtype.itemsize
        """Bytes of state per profile."""
        self.layout: str = layout_of(self._dtype)
        """The layout of these bytes, as text. `carry` converts rows stored under another layout."""

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
        """Apply the events in their order. Changes `segment` in place and returns the decisions in the order they are made.

        A timer due at or before an event's `received_at` fires before that event.

        Args:
            segment: uint8[profiles, width], one row per profile.
            profiles: the profiles' keys, which decide their arms; one per row of `segment`.
            profile_of_event: the row of each event's profile.
            events: the columns of EVENT_SCHEMA, plus columns for everything else that templates name: features, scores, properties. A
                template field without a column is looked up in `properties`.
            truth: bool[events, conditions]; row n is evaluated with the features right after event n; NULL is False. Reading is faster in
                Fortran order.
            silent: bool[events]: history imports and bots, which trigger, stop and count nothing.
        """
        state = State(segment, self._dtype)
        deciding = Deciding(self.actions.project, self._plans, state, profiles)
        take_steps(EventArrays(events, profile_of_event, truth, silent), self.actions.project, self._plans, state, deciding)
        return deciding.decisions

    def due(self, segment: Segment, profiles: Sequence[str], now_us: int) -> list[Decision]:
        """Fire the timers that were due `TIMER_SLACK_US` before `now_us`, profile by profile.

        The decisions carry the times when the timers were due, and are the same as if an event had fired the timers.
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
        """When each profile's next timer is due, in microseconds; 0 if none is armed."""
        due = np.zeros(len(segment), dtype=np.int64)
        rows = segment.view(self._dtype)[:, 0]
        for each in self._plans:
            if each.rule.timer is not None:
                own = rows[field_of(each.rule.name)]["due_us"]
                due = np.where((own != 0) & ((due == 0) | (own < due)), own, due)
        return due

    def stopped_us(self, segment: Segment, rule: str) -> NDArray[np.int64]:
        """When the last event of the rule's `unless` was received, per profile; 0 for never, or if the rule has no `unless`."""
        own = segment.view(self._dtype)[:, 0][field_of(rule)]
        return own["stopped_us"] if "stopped_us" in (own.dtype.names or ()) else np.zeros(len(segment), dtype=np.int64)

    def merge(self, into: Segment, from_: Segment) -> None:
        """Merge the profiles of `from_` into those of `into`, row by row, in place. See `merge.merge`."""
        merge(self._plans, State(into, self._dtype), State(from_, self._dtype))

    def carry(self, segment: Segment, layout: str, *, with_timers: bool = True) -> Segment:
        """Convert the state of rows stored under `layout` to the current layout: fields of remaining rules that mean the same."""
        return carry(np.ascontiguousarray(segment), dtype_from(layout), self._dtype, with_timers=with_timers)


def heads(field: str) -> tuple[str, str]:
    """The column with this name, and the column that the name may be a member of."""
    return field, field.partition(".")[0]
