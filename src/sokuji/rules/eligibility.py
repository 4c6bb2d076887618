"""Check again whether a decision still holds when it is about to be shown. Since the decision, the visitor may have bought."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

from sokuji.rules.decision import Decision
from sokuji.rules.spec import Rule

Ineligible = Literal["nothing_to_show", "expired", "off", "quiet_hours", "stopped", "no_longer_true", "unproven_user"]
"""Why a decision is not shown after all."""


class Question(NamedTuple):
    """The question whether a decision still holds, and who asks it."""

    decision: Decision
    users: Collection[str] | None
    """The user ids that the asking client has proven; None: the answer may reveal facts about any user.

    If a visitor became a user, the visitor's profile is now the user's. Anyone can claim to be a user and so cause this, but must not learn
    from the answer what is true of the user.
    """


def ineligible(decision: Decision, rule: Rule | None, *, stopped_us: int, holds: bool, now_us: int) -> Ineligible | None:
    """Why the decision must not be shown at `now_us`; None if it may be shown. A pure function.

    Args:
        decision: the decision to show.
        rule: the rule of the decision as declared now; None if there is no rule with this name any more.
        stopped_us: when the profile's last event of the rule's `unless` was received, 0 for never (`Rules.stopped_us`).
        holds: whether the rule's `still` is true of the latest features; True if the rule has none.
        now_us: the time of display.
    """
    if decision.action is None:
        return "nothing_to_show"
    if now_us >= decision.expires_us:
        return "expired"
    if rule is None or (rule.schedule is not None and not rule.schedule.contains(now_us)):
        return "off"
    if stopped_us >= decision.at_us:
        return "stopped"
    if not holds:
        return "no_longer_true"
    return "quiet_hours" if rule.quiet is not None and rule.quiet.contains(now_us, decision.zone) else None
