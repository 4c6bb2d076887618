"""The decisions that can still be delivered, in memory."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Literal

from sokuji.act.decision import Audience, Recorded

# Displays of decisions that are not here yet: a page may get one from the collector before this process has read it.
_EARLY_BYTES_MAX = 8 * 1024 * 1024
_EARLY_PEOPLE_MAX = 8
_PERSON_BYTES = 256  # besides the id

Obstacle = Literal["unknown", "nothing_to_show", "expired", "shown", "superseded"]
"""Why a decision must not be shown."""


class Recent:
    """The newest decisions within a memory limit, by id and by audience.

    Of one rule's decisions for the same audience only the last one holds: it supersedes the others.
    """

    def __init__(self, bytes_max: int, *, unsigned_users: bool) -> None:
        """Create the store. For `unsigned_users`, see `Recorded.audiences`."""
        self._bytes_max, self._unsigned_users = bytes_max, unsigned_users
        self._all: deque[tuple[Recorded, int]] = deque()  # with its bytes, oldest first
        self._bytes = 0
        self._by_id: dict[str, Recorded] = {}
        self._last: dict[Audience, dict[str, Recorded]] = {}  # by rule
        self._shown: set[str] = set()
        self._early: OrderedDict[str, list[Audience]] = OrderedDict()  # audiences that report having seen decisions that are not here
        self._early_bytes = 0

    def __len__(self) -> int:
        return len(self._all)

    def add(self, recorded: Recorded) -> bool:
        """Add the next decision of the log; False if its id is already there."""
        decision, size = recorded.decision, recorded.size
        if decision.id in self._by_id:
            return False
        self._all.append((recorded, size))
        self._by_id[decision.id] = recorded
        for audience in self.audiences(recorded):
            self._last.setdefault(audience, {})[decision.rule] = recorded
        self.show(decision.id, self._take_early(decision.id))
        self._bytes += size
        while self._bytes > self._bytes_max:
            oldest, size = self._all.popleft()
            self._bytes -= size
            self._forget(oldest)
        return True

    def show(self, decision_id: str, people: Sequence[Audience]) -> None:
        """Record that `people`, who are one person, report having seen the decision.

        A report about another person's decision is ignored.
        """
        recorded = self._by_id.get(decision_id)
        if recorded is not None:
            if not set(people).isdisjoint(recorded.audiences(unsigned_users=True)):
                self._shown.add(decision_id)
            return
        early = self._take_early(decision_id)
        self._early[decision_id] = early = [*early, *people][:_EARLY_PEOPLE_MAX]
        self._early_bytes += _early_size(decision_id, early)
        while self._early_bytes > _EARLY_BYTES_MAX:
            self._take_early(next(iter(self._early)))

    def _take_early(self, decision_id: str) -> list[Audience]:
        people = self._early.pop(decision_id, [])
        self._early_bytes -= _early_size(decision_id, people)
        return people

    def oldest_us(self, now_us: int) -> int:
        """The time of the oldest decision that can still be shown; `now_us` if there is none."""
        still = (recorded.decision.at_us for recorded, _ in self._all if recorded.is_for_page and not recorded.is_expired(now_us))
        return min(still, default=now_us)

    def audiences(self, recorded: Recorded) -> list[Audience]:
        """Everyone who may receive the decision."""
        return recorded.audiences(unsigned_users=self._unsigned_users)

    def deliverable(self, audiences: Sequence[Audience], after: int, now_us: int) -> list[Recorded]:
        """The decisions past offset `after` to show to a person who is all of `audiences`, oldest first."""
        decisions = [
            recorded
            for recorded in self._holding(audiences).values()
            if recorded.offset > after and recorded.is_for_page and not recorded.is_expired(now_us)
            if recorded.decision.id not in self._shown
        ]
        return sorted(decisions, key=lambda recorded: recorded.offset)

    def obstacle(self, decision_id: str, audiences: Sequence[Audience], now_us: int) -> tuple[Recorded | None, Obstacle | None]:
        """The decision, and the obstacle to showing it to a person who is all of `audiences`; None if no obstacle is known here."""
        recorded = self._by_id.get(decision_id)
        if recorded is None or set(audiences).isdisjoint(self.audiences(recorded)):
            return None, "unknown"  # the same answer for another person's decision: ids reveal nothing
        if not recorded.is_for_page:
            return recorded, "nothing_to_show"
        if recorded.is_expired(now_us):
            return recorded, "expired"
        if decision_id in self._shown:
            return recorded, "shown"
        if self._holding(audiences).get(recorded.decision.rule) is not recorded:
            return recorded, "superseded"
        return recorded, None

    def _holding(self, audiences: Sequence[Audience]) -> dict[str, Recorded]:
        """The last decision of each rule for any of `audiences`."""
        last_by_rule: dict[str, Recorded] = {}
        for audience in audiences:
            for rule, recorded in self._last.get(audience, {}).items():
                if rule not in last_by_rule or last_by_rule[rule].offset < recorded.offset:
                    last_by_rule[rule] = recorded
        return last_by_rule

    def _forget(self, recorded: Recorded) -> None:
        decision = recorded.decision
        del self._by_id[decision.id]
        self._shown.discard(decision.id)
        for audience in self.audiences(recorded):
            rules = self._last[audience]
            if rules.get(decision.rule) is recorded:
                del rules[decision.rule]
            if not rules:
                del self._last[audience]


def _early_size(decision_id: str, people: Sequence[Audience]) -> int:
    """The approximate bytes of memory of early reports about a decision."""
    return sum(_PERSON_BYTES + 4 * len(decision_id + each.id) for each in people)
