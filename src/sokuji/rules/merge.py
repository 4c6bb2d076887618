"""Merge the state of two profiles that become one, and convert state after a change of the rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sokuji.rules import sessions
from sokuji.rules.prepared import Plan
from sokuji.rules.state import RuleState, Segment, State


def merge(plans: Sequence[Plan], into: State, from_: State) -> None:
    """Merge row n of `from_` into row n of `into`; `from_` is unchanged.

    Page views since a decision continue from the profile that decided later. Caps count the decisions of both. An edge that either profile
    has used is used. The timer armed later stays, unless the other profile had an event after that which stops it. Arms stay those of
    `into`, unless only `from_` has any.
    """
    into.bucket[:] = np.where(into.bucket == 0, from_.bucket, into.bucket)
    # A decision n page views ago in `from_` is n page views ago in the merged profile.
    shift = into.views - from_.views
    later = from_.acted_us > into.acted_us
    into.acted_views[:] = np.where(later, from_.acted_views + shift, into.acted_views)
    into.acted_us[:] = np.maximum(into.acted_us, from_.acted_us)
    if into.sessions is not None and from_.sessions is not None:
        sessions.merge(*into.sessions, *from_.sessions)
    for plan in plans:
        _merge_rule(plan, into.rules[plan.index], from_.rules[plan.index], shift)


def _merge_rule(plan: Plan, into: RuleState, from_: RuleState, shift: NDArray[np.int32]) -> None:
    into.suppressed_us[:] = np.maximum(into.suppressed_us, from_.suppressed_us)
    into.occasions += from_.occasions
    if plan.total_cap is not None:
        into.total += from_.total
    if plan.view_caps:
        _merge_views(into, from_, shift)
    if plan.counts_decisions:
        ring = into.decided_us.shape[1]
        into.decided_us[:] = -np.sort(-np.concatenate([into.decided_us, from_.decided_us], axis=1), axis=1)[:, :ring]
    if plan.rule.edge:
        into.used |= from_.used
    if plan.rule.unless:
        into.stopped_us[:] = np.maximum(into.stopped_us, from_.stopped_us)
    if plan.rule.timer is not None:
        _merge_timers(into, from_, plan.rule.timer.delay_us)


def _merge_views(into: RuleState, from_: RuleState, shift: NDArray[np.int32]) -> None:
    ring, none = into.decided_views.shape[1], np.iinfo(np.int32).min
    own = np.where(into.decided_us == 0, none, into.decided_views)
    other = np.where(from_.decided_us == 0, none, from_.decided_views + shift[:, np.newaxis])
    newest = np.sort(np.concatenate([own, other], axis=1), axis=1)[:, : -ring - 1 : -1]
    into.decided_views[:] = np.where(newest == none, 0, newest)


def _merge_timers(into: RuleState, from_: RuleState, delay_us: int) -> None:
    later = from_.due_us > into.due_us
    for name in ("due_us", "held_bytes", "held"):
        own, other = getattr(into, name), getattr(from_, name)
        own[later] = other[later]
    stopped = (into.due_us != 0) & (into.due_us - delay_us < into.stopped_us)
    _disarm(into, stopped)


def _disarm(state: RuleState, which: NDArray[np.bool_]) -> None:
    state.due_us[which], state.held_bytes[which], state.held[which] = 0, 0, 0


def carry(segment: Segment, old: np.dtype[np.void], new: np.dtype[np.void], *, with_timers: bool) -> Segment:
    """Convert rows of layout `old` to layout `new`: fields with the same name and type are kept, rule by rule.

    If a ring of decisions has another length, the newest decisions are kept. New fields start as for a profile never seen. A timer whose
    trigger no longer fits is dropped.
    """
    carried = np.zeros(len(segment), dtype=new)
    _carry_fields(segment.view(old)[:, 0], carried)
    for name in new.names or ():
        rule = carried[name]
        if "held" in (rule.dtype.names or ()):
            _disarm(RuleState(rule), (rule["held_bytes"] > rule["held"].shape[1]) | (not with_timers))
    return carried.view(np.uint8).reshape(len(segment), new.itemsize)


def _carry_fields(old: NDArray[Any], new: NDArray[Any]) -> None:
    for name in set(new.dtype.names or ()) & set(old.dtype.names or ()):
        before, after = old[name], new[name]
        if after.dtype.names:
            _carry_fields(before, after)
        elif before.ndim == 2:
            kept = min(before.shape[1], after.shape[1])
            after[:, :kept] = before[:, :kept]
        else:
            after[:] = before
