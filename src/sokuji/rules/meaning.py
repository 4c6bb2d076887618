"""What happens at one moment for one profile: the semantics of the rules, one step at a time.

The engine calls this module for the few steps of a batch that can matter, in the order of events. Nothing here depends on the arm of a
profile, nor on the holdout: caps, gaps and edges advance equally in all arms, so that the arms stay comparable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sokuji.rules import sessions
from sokuji.rules.bucket import bucket_id, choose, is_held_out
from sokuji.rules.content import content
from sokuji.rules.decision import Decision, Reason, decision_id
from sokuji.rules.prepared import Plan
from sokuji.rules.spec import CONTROL, Project
from sokuji.rules.state import RuleState, State
from sokuji.rules.template import missing
from sokuji.rules.trigger import Trigger, held, hold

SUPPRESSED_EVERY_US = 3_600_000_000
"""A rule that is suppressed for a profile repeatedly is recorded at most this often, with the number of occasions since."""

Read = Callable[[], Trigger]
"""Reads the current event, as far as the current rule needs it."""


class Step(Struct, frozen=True):
    """When and for whom something is decided. Steps with the same `moment` happen at once, so priority decides among them."""

    profile: int  # row of the segment
    at_us: int
    moment: int


class Deciding:
    """Applies rules to profiles step by step, and collects the decisions."""

    def __init__(self, project: Project, plans: Sequence[Plan], state: State, profiles: Sequence[str]) -> None:
        self._project, self._plans, self._state, self._profiles = project, plans, state, profiles
        self._timers = sorted((plan for plan in plans if plan.rule.timer is not None), key=lambda plan: plan.rank)
        self._acted: tuple[int, int] | None = None  # profile and moment of the last decided message
        self.decisions: list[Decision] = []

    def fire(self, profile: int, until_us: int) -> None:
        """Fire the profile's timers due at or before `until_us`, in the order of their due times, then of priority."""
        due = [(int(self._state.rules[plan.index].due_us[profile]), plan.rank, plan) for plan in self._timers]
        for at_us, _, plan in sorted((each for each in due if 0 < each[0] <= until_us), key=lambda each: each[:2]):
            state = self._state.rules[plan.index]
            trigger = held(state.held[profile], int(state.held_bytes[profile]))
            _disarm(state, profile)
            if plan.rule.schedule is None or plan.rule.schedule.contains(at_us):
                self._attempt(plan, Step(profile, at_us, -at_us), _known(trigger))

    def stop(self, plan: Plan, profile: int) -> None:
        """Handle an event of the rule's `unless`."""
        if plan.rule.timer is not None:
            _disarm(self._state.rules[plan.index], profile)

    def observe(self, plan: Plan, step: Step, holds: bool, read: Read) -> None:
        """Handle a trigger of the rule while it is on; `holds` says whether its condition was true."""
        state = self._state.rules[plan.index]
        if plan.rule.edge and not holds:
            state.used[step.profile] = 0
        if not holds or (plan.rule.edge and state.used[step.profile]):
            return
        if plan.rule.timer is None:
            self._attempt(plan, step, read)
        else:
            self._arm(plan, step, plan.rule.timer.delay_us, read)

    def _arm(self, plan: Plan, step: Step, delay_us: int, read: Read) -> None:
        state = self._state.rules[plan.index]
        length = hold(read(), state.held[step.profile])
        if not length:
            _disarm(state, step.profile)
            self._suppress(plan, step, "does_not_fit", read)
            return
        state.held_bytes[step.profile] = length
        state.due_us[step.profile] = step.at_us + delay_us
        if plan.rule.edge:
            state.used[step.profile] = 1

    def _attempt(self, plan: Plan, step: Step, read: Read) -> None:
        state = self._state.rules[plan.index]
        edge = plan.rule.edge and plan.rule.timer is None  # a timer's edge was used up when the timer was armed
        reason = self._capped(plan, step) or self._crowded(plan, step) or self._unfit(plan, step, read)
        if reason is not None:
            if edge and reason == "cap":
                state.used[step.profile] = 1  # the rule's own cap uses up the occasion; a block by others does not
            self._suppress(plan, step, reason, read)
            return
        if edge:
            state.used[step.profile] = 1
        self._count(plan, step)
        self._decide(plan, step, read())

    def _capped(self, plan: Plan, step: Step) -> Reason | None:
        state, row = self._state.rules[plan.index], step.profile
        if plan.total_cap is not None and state.total[row] >= plan.total_cap:
            return "cap"
        for cap in plan.time_caps:
            before = int(state.decided_us[row, cap.count - 1])
            if before and step.at_us - before < cap.window_us:
                return "cap"
        if plan.session_cap is not None and self._state.sessions is not None:
            begun_us, seen_us = (int(each[row]) for each in self._state.sessions)
            if int(state.decided_us[row, plan.session_cap - 1]) >= sessions.begun_at(step.at_us, begun_us, seen_us):
                return "cap"
        views = int(self._state.views[row])
        for view_cap in plan.view_caps:
            if state.decided_us[row, view_cap.count - 1] and views - int(state.decided_views[row, view_cap.count - 1]) < view_cap.views:
                return "cap"
        return None

    def _crowded(self, plan: Plan, step: Step) -> Reason | None:
        """The reason if another message prevents this one."""
        if not plan.competes:
            return None
        if self._acted == (step.profile, step.moment):
            return "priority"
        project, acted_us = self._project, int(self._state.acted_us[step.profile])
        views = int(self._state.views[step.profile]) - int(self._state.acted_views[step.profile])
        # Events may arrive out of order, so the time since then can be below 0. Without a gap setting, that must not count as near.
        is_near = (project.gap_us > 0 and step.at_us - acted_us < project.gap_us) or views < project.gap_views
        return "gap" if acted_us and is_near else None

    def _unfit(self, plan: Plan, step: Step, read: Read) -> Reason | None:
        """The reason if quiet hours or a missing field prevents it."""
        quiet = plan.rule.quiet
        if quiet is not None and quiet.contains(step.at_us, read().zone if quiet.visitor else None):
            return "quiet_hours"
        return "missing_field" if plan.fields and missing(plan.fields, read().values) is not None else None

    def _count(self, plan: Plan, step: Step) -> None:
        state, row = self._state.rules[plan.index], step.profile
        if plan.total_cap is not None:
            state.total[row] += 1
        if plan.counts_decisions:
            # Newest first by time, regardless of the order of arrival, so each entry can only become later.
            _insert(state.decided_us[row], int(np.count_nonzero(state.decided_us[row] > step.at_us)), step.at_us)
            if plan.view_caps:
                _insert(state.decided_views[row], 0, int(self._state.views[row]))
        if plan.competes:
            self._state.acted_us[row], self._state.acted_views[row] = step.at_us, self._state.views[row]
            self._acted = (row, step.moment)

    def _decide(self, plan: Plan, step: Step, trigger: Trigger) -> None:
        rule, project = plan.rule, self._project
        bucket = self._bucket(step.profile)
        arm = choose(rule.arms, rule.seed, bucket)
        holdout = is_held_out(project.holdout, project.holdout_seed, bucket)
        reason: Reason = "event" if rule.timer is None else "timer"
        action = None if holdout or arm.action is None else content(arm.action, trigger.values, project.image_hosts)
        self._record(plan, step, trigger, reason, arm=arm.name, control=arm.name == CONTROL, holdout=holdout, action=action)

    def _suppress(self, plan: Plan, step: Step, reason: Reason, read: Read) -> None:
        state, row = self._state.rules[plan.index], step.profile
        state.occasions[row] += 1
        recorded_us = int(state.suppressed_us[row])
        if recorded_us and step.at_us - recorded_us < SUPPRESSED_EVERY_US:
            return
        self._record(plan, step, read(), reason, suppressed=True, occasions=int(state.occasions[row]))
        state.suppressed_us[row], state.occasions[row] = step.at_us, 0

    def _record(
        self,
        plan: Plan,
        step: Step,
        trigger: Trigger,
        reason: Reason,
        *,
        suppressed: bool = False,
        arm: str | None = None,
        control: bool = False,
        holdout: bool = False,
        action: Mapping[str, Any] | None = None,
        occasions: int = 1,
    ) -> None:
        rule = plan.rule
        self.decisions.append(
            Decision(
                id=decision_id(rule.name, suppressed=suppressed, trigger=trigger),
                rule=rule.name,
                reason=reason,
                suppressed=suppressed,
                arm=arm,
                control=control,
                holdout=holdout,
                action=action,
                at_us=step.at_us,
                expires_us=step.at_us + rule.expires_us,
                trigger_id=trigger.message_id,
                profile=self._profiles[step.profile],
                dataset=trigger.dataset,
                visitor_id=trigger.visitor_id,
                user_id=trigger.user_id,
                zone=trigger.zone,
                occasions=occasions,
            )
        )

    def _bucket(self, row: int) -> int:
        # Stored at the first decision, so that an identity merge, which renames the profile, does not change its arms.
        if not self._state.bucket[row]:
            self._state.bucket[row] = bucket_id(self._profiles[row])
        return int(self._state.bucket[row])


def _known(trigger: Trigger) -> Read:
    return lambda: trigger


def _disarm(state: RuleState, row: int) -> None:
    state.due_us[row], state.held_bytes[row] = 0, 0
    state.held[row] = 0  # a visitor's data is kept no longer than needed


def _insert(ring: NDArray[Any], place: int, value: int) -> None:
    """Insert `value` at `place`; the last entry drops out."""
    if place < len(ring):
        ring[place + 1 :] = ring[place:-1].copy()
        ring[place] = value
