"""Find the few steps of a batch that change more than a counter, with array operations over the whole batch, and take them in order.

For every rule, a column of the batch says which events trigger it, and which of these find its condition true. Then:

- A rule that fires each time its condition is true: most triggers are blocked by its own cap or the project's gap as of before the
  batch. Nothing in the batch can unblock these. So they are counted without a step, unless the suppression is due to be recorded.
- A rule that fires when its condition becomes true needs steps only for profiles in which it may become true in this batch.
- A timer needs steps for events that arm it, for events that stop it while it is armed, and for events at which it is due.

An unneeded step costs time; a missing step is an error. So in doubt, the step is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sokuji.events import EventType
from sokuji.rules import sessions
from sokuji.rules.meaning import SUPPRESSED_EVERY_US, Deciding, Step
from sokuji.rules.prepared import ALWAYS, Plan, counts_views
from sokuji.rules.sessions import SessionTimes
from sokuji.rules.spec import Project
from sokuji.rules.state import State
from sokuji.rules.trigger import TriggerReader

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

_VIEWS = (EventType.PAGE.value, EventType.SCREEN.value)
_NEVER_US = np.iinfo(np.int64).max

# The actions at one event, in this order.
_FIRE, _VIEW, _STOP, _OBSERVE = range(4)


class EventArrays:
    """A batch of events as arrays."""

    def __init__(self, events: pa.RecordBatch, profile_of_event: NDArray[np.int32], truth: Mask, silent: Mask) -> None:
        self.events, self.profile, self.truth, self.live = events, profile_of_event, truth, ~silent
        self.received_us = _column(events, "received_at").cast(pa.int64()).to_numpy(zero_copy_only=False)
        names = _column(events, "event_name").dictionary_encode()
        self._name_code: NDArray[np.int32] = names.indices.to_numpy(zero_copy_only=False)
        self._code_of = {name: code for code, name in enumerate(names.dictionary.to_pylist())}
        self._all_live = bool(self.live.all())

    def named(self, wanted: Sequence[str]) -> Mask | None:
        """The live events with one of these names; None if there are none."""
        codes = [self._code_of[name] for name in wanted if name in self._code_of]
        if not codes:
            return None
        of_code = np.zeros(len(self._code_of), dtype=np.bool_)
        of_code[codes] = True
        return self._live(of_code[self._name_code])

    def views(self) -> Indices:
        """The live page and screen views."""
        kinds = _column(self.events, "type").dictionary_encode()
        of_kind = np.fromiter((kind in _VIEWS for kind in kinds.dictionary.to_pylist()), dtype=np.bool_)
        return np.flatnonzero(self._live(of_kind[kinds.indices.to_numpy(zero_copy_only=False)]))

    def _live(self, mask: Mask) -> Mask:
        return mask if self._all_live else mask & self.live


class Steps:
    """The steps of a batch, as parallel lists of arrays with one element per rule that has steps."""

    def __init__(self) -> None:
        self._events: list[Indices] = []
        self._keys: list[tuple[int, int, int]] = []  # what, rank, rule

    def add(self, events: Indices, what: int, plan: Plan | None = None) -> None:
        """Do `what` at `events`, for the rule or for the profile as a whole."""
        if len(events):
            self._events.append(events)
            self._keys.append((what, plan.rank if plan else 0, plan.index if plan else 0))

    def in_order(self) -> list[tuple[int, int, int]]:
        """(event, what, rule), sorted by event, then by action, then by priority."""
        if not self._events:
            return []
        keys = np.repeat(np.array(self._keys), [len(each) for each in self._events], axis=0)
        events = np.concatenate(self._events)
        order = np.lexsort((keys[:, 1], keys[:, 0], events))
        return list(zip(events[order].tolist(), keys[order, 0].tolist(), keys[order, 2].tolist(), strict=True))


class Finder:
    """Finds the steps of one batch, and immediately does the work that needs no step."""

    def __init__(self, batch: EventArrays, project: Project, plans: Sequence[Plan], state: State) -> None:
        self._batch, self._project, self._plans, self._state = batch, project, plans, state
        self._profiles = len(state.bucket)
        self._last_us = int(batch.received_us.max())
        self._views = batch.views() if counts_views(project, plans) else np.zeros(0, dtype=np.int64)
        self._views_added = np.bincount(batch.profile[self._views], minlength=self._profiles).astype(np.int32)
        self._due = np.full(self._profiles, _NEVER_US)  # when the profile's first timer may be due
        self.sessions = self._find_sessions()
        self._steps = Steps()

    def find(self) -> list[tuple[int, int, int]]:
        """(event, what, rule), in order."""
        for plan in self._plans:
            self._find_triggers(plan)
            if plan.rule.timer is not None:
                due = self._state.rules[plan.index].due_us
                np.minimum(self._due, due, out=self._due, where=due != 0)
        for plan in self._plans:
            self._find_stops(plan)
        batch = self._batch
        if self._due.min(initial=_NEVER_US) <= self._last_us:
            self._steps.add(np.flatnonzero(batch.live & (batch.received_us >= self._due[batch.profile])), _FIRE)
        return self._with_views(self._steps.in_order())

    def _find_sessions(self) -> SessionTimes | None:
        """The sessions of the events, if a cap needs them; silent events have none."""
        batch, known = self._batch, self._state.sessions
        if known is None:
            return None
        live = np.flatnonzero(batch.live)
        times = np.zeros((4, len(batch.received_us)), dtype=np.int64)
        if len(live):
            times[:, live] = sessions.find(batch.profile[live], batch.received_us[live], *known)
        return SessionTimes(*times)

    def _find_triggers(self, plan: Plan) -> None:
        batch, rule = self._batch, plan.rule
        triggered = batch.named(rule.on) if rule.on else batch.live
        if triggered is None:
            return
        holds = triggered if plan.condition == ALWAYS else triggered & batch.truth[:, plan.condition]
        events = np.flatnonzero(triggered if rule.edge else holds)
        if rule.schedule is not None and len(events):
            events = events[rule.schedule.contains_each(batch.received_us[events])]
        if not len(events):
            return
        if rule.edge:
            events = self._open_edges(plan, events, holds[events])
        elif rule.timer is None:
            events = self._not_blocked(plan, events)
        self._steps.add(events, _OBSERVE, plan)
        if rule.timer is not None:
            np.minimum.at(self._due, batch.profile[events], batch.received_us[events] + rule.timer.delay_us)

    def _open_edges(self, plan: Plan, events: Indices, holds: Mask) -> Indices:
        """The triggers in profiles where the condition may become true here.

        In other profiles, the edge may only open, which is done here.
        """
        used, profile = self._state.rules[plan.index].used, self._batch.profile[events]
        was_used = used[profile] != 0
        opens, touched = np.zeros((2, self._profiles), dtype=np.bool_)
        opens[profile[~holds & was_used]] = True
        touched[profile[holds & (~was_used | opens[profile])]] = True
        used[opens & ~touched] = 0
        return events[touched[profile]]

    def _not_blocked(self, plan: Plan, events: Indices) -> Indices:
        """The events at which the rule may fire or must record a suppression. The others are surely suppressed, and are only counted."""
        state, profile, at_us = self._state.rules[plan.index], self._batch.profile[events], self._batch.received_us[events]
        recorded = state.suppressed_us[profile]
        silent = (recorded != 0) & (self._last_us - recorded < SUPPRESSED_EVERY_US)
        if not silent.any():
            return events
        views = self._state.views[profile] + self._views_added[profile]  # the most views possible at the event
        blocked = np.zeros(len(events), dtype=np.bool_)
        if plan.total_cap is not None:
            blocked |= state.total[profile] >= plan.total_cap
        for cap in plan.time_caps:
            before = state.decided_us[profile, cap.count - 1]
            blocked |= (before != 0) & (at_us - before < cap.window_us)
        for view_cap in plan.view_caps:
            decided = state.decided_us[profile, view_cap.count - 1] != 0
            blocked |= decided & (views - state.decided_views[profile, view_cap.count - 1] < view_cap.views)
        if plan.session_cap is not None and self.sessions is not None:
            blocked |= state.decided_us[profile, plan.session_cap - 1] >= self.sessions.begun_us[events]
        if plan.competes:
            acted_us = self._state.acted_us[profile]
            near = views - self._state.acted_views[profile] < self._project.gap_views
            if self._project.gap_us > 0:
                near |= at_us - acted_us < self._project.gap_us
            blocked |= (acted_us != 0) & near
        blocked &= silent
        np.add.at(state.occasions, profile[blocked], np.uint32(1))
        return events[~blocked]

    def _find_stops(self, plan: Plan) -> None:
        rule, batch = plan.rule, self._batch
        stopping = batch.named(rule.unless) if rule.unless else None
        if stopping is None:
            return
        events = np.flatnonzero(stopping)
        np.maximum.at(self._state.rules[plan.index].stopped_us, batch.profile[events], batch.received_us[events])
        if rule.timer is not None:
            self._steps.add(events[self._due[batch.profile[events]] != _NEVER_US], _STOP, plan)

    def _with_views(self, steps: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        """Count page views: as steps in profiles that have other steps, at once in all others."""
        profile = self._batch.profile
        stepping = np.zeros(self._profiles, dtype=np.bool_)
        stepping[profile[[event for event, _, _ in steps]] if steps else []] = True
        self._state.views += np.where(stepping, 0, self._views_added)
        between = self._views[stepping[profile[self._views]]]
        return sorted([*steps, *((event, _VIEW, 0) for event in between.tolist())], key=lambda step: step[:2]) if len(between) else steps


def take_steps(batch: EventArrays, project: Project, plans: Sequence[Plan], state: State, deciding: Deciding) -> None:
    """Find and take all steps of the batch."""
    if not batch.events.num_rows:
        return
    finder = Finder(batch, project, plans, state)
    steps = finder.find()
    reader = TriggerReader(batch.events, sorted({event for event, what, _ in steps if what == _OBSERVE}))
    events = [event for event, _, _ in steps]
    profiles, times = batch.profile[events].tolist(), batch.received_us[events].tolist()
    for (event, what, rule), profile, at_us in zip(steps, profiles, times, strict=True):
        if finder.sessions is not None:
            _set_session(state, profile, finder.sessions, event, is_before=what == _FIRE)
        if what == _FIRE:
            deciding.fire(profile, at_us)
        elif what == _VIEW:
            state.views[profile] += 1
        elif what == _STOP:
            deciding.stop(plans[rule], profile)
        else:
            plan = plans[rule]
            holds = plan.condition == ALWAYS or bool(batch.truth[event, plan.condition])
            deciding.observe(plan, Step(profile, at_us, event), holds, partial(reader.read, event, plan.names))
    if finder.sessions is not None and state.sessions is not None:
        live = np.flatnonzero(batch.live)
        for each, latest in zip(state.sessions, finder.sessions[2:], strict=True):
            each[batch.profile[live]] = latest[live]  # of several events of a profile, the last one wins


def _set_session(state: State, profile: int, of_event: SessionTimes, event: int, *, is_before: bool) -> None:
    """Write the session as it is before or after an event into the state."""
    session = of_event[:2] if is_before else of_event[2:]
    for each, times in zip(state.sessions or (), session, strict=True):
        each[profile] = times[event]


def _column(events: pa.RecordBatch, name: str) -> pa.Array:
    return events.column(events.schema.get_field_index(name))
