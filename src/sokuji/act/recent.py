"""The decisions that can still be delivered, in memory."""

from __future__ import annotations

from collections import deque
from typing import Literal

import msgspec

from sokuji.act.decision import Audience, Decision

# A decision's objects and its places in the tables, beside its action (by tracemalloc).
_OVERHEAD_BYTES = 1536

Obstacle = Literal["unknown", "nothing_to_show", "expired", "superseded"]
"""Why a decision is not to be shown."""


class Recent:
    """The newest decisions within a bound of memory, by id and by audience.

    Of one rule's decisions for the same audience only the last one holds: it supersedes the others.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._all: deque[tuple[Decision, int]] = deque()  # with its bytes, oldest first
        self._bytes = 0
        self._by_id: dict[str, Decision] = {}
        self._last: dict[Audience, dict[str, Decision]] = {}  # by rule

    def __len__(self) -> int:
        return len(self._all)

    def add(self, decision: Decision) -> bool:
        """Add the next decision of the log; False if one with its id is there already."""
        if decision.id in self._by_id:
            return False
        size = _OVERHEAD_BYTES + len(msgspec.json.encode(decision.action))
        self._all.append((decision, size))
        self._by_id[decision.id] = decision
        for audience in decision.audiences:
            self._last.setdefault(audience, {})[decision.rule] = decision
        self._bytes += size
        while self._bytes > self._bytes_max:
            oldest, size = self._all.popleft()
            self._bytes -= size
            self._forget(oldest)
        return True

    def deliverable(self, audience: Audience, after: int, now_us: int) -> list[Decision]:
        """What is to be shown to `audience` of the rows past offset `after`, oldest first."""
        found = [
            decision
            for decision in self._last.get(audience, {}).values()
            if decision.offset > after and decision.is_for_page and not decision.is_expired(now_us)
        ]
        return sorted(found, key=lambda decision: decision.offset)

    def obstacle(self, decision_id: str, audience: Audience, now_us: int) -> tuple[Decision | None, Obstacle | None]:
        """The decision, and what speaks against showing it to `audience`; None if nothing does that is known here."""
        decision = self._by_id.get(decision_id)
        if decision is None or audience not in decision.audiences:
            return None, "unknown"  # the same answer for another's decision: ids tell nothing
        if not decision.is_for_page:
            return decision, "nothing_to_show"
        if decision.is_expired(now_us):
            return decision, "expired"
        if self._last[audience].get(decision.rule) is not decision:
            return decision, "superseded"
        return decision, None

    def _forget(self, decision: Decision) -> None:
        del self._by_id[decision.id]
        for audience in decision.audiences:
            rules = self._last[audience]
            if rules.get(decision.rule) is decision:
                del rules[decision.rule]
            if not rules:
                del self._last[audience]
