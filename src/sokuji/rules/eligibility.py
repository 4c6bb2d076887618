"""Asked again when a decision is about to be shown: does it still hold? Minutes may have passed, and the visitor may have bought."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

from sokuji.rules.decision import Decision
from sokuji.rules.spec import Rule

Ineligible = Literal["nothing_to_show", "expired", "off", "quiet_hours", "stopped", "no_longer_true", "unproven_user"]
"""Why a decision is not shown after all."""


class Question(NamedTuple):
    """Whether a decision still holds, and who asks."""

    decision: Decision
    users: Collection[str] | None
    """The user ids that who asks has shown to be; None: the answer may tell of any user.

    The profile of a visitor who became a user since is that user's. Whoever says to be the user makes it so, and must not learn from the
    answer what is true of them.
    """


def ineligible(decision: Decision, rule: Rule | None, *, stopped_us: int, holds: bool, now_us: int) -> Ineligible | None:
    """Why the decision must not be shown at `now_us`; None: it may be. A pure function.

    Args:
        decision: what is to be shown.
        rule: the rule that decided it, as it is declared now; None where there is no rule of that name any more.
        stopped_us: when the profile's last event of the rule's `unless` was received, 0 for never (`Rules.stopped_us`).
        holds: whether the rule's `still` is true of the latest features; True where it has none.
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
