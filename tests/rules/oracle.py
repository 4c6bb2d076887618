"""The meaning of rules, written once more for readers: one event at a time, plain lists, no bytes, no batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from sokuji.rules.spec import Actions, Rule, SessionCap, TimeCap, TotalCap, ViewCap
from tests.rules.stream import Event

HOUR_US = 3_600_000_000


@dataclass(frozen=True)
class Outcome:
    """What a decision amounts to."""

    rule: str
    profile: str
    reason: str
    suppressed: bool
    at_us: int
    trigger_id: str
    occasions: int


@dataclass
class RuleMemory:
    used: bool = False
    decided: list[tuple[int, int]] = field(default_factory=list)  # (time, views)
    timer: tuple[int, Event] | None = None
    recorded_us: int | None = None
    occasions: int = 0


@dataclass
class Memory:
    views: int = 0
    acted: tuple[int, int] | None = None  # (time, views)
    session: tuple[int, int] | None = None  # (began, last seen)
    rules: dict[str, RuleMemory] = field(default_factory=dict)


class Oracle:
    """Takes one event after the other."""

    def __init__(self, actions: Actions) -> None:
        self.actions = actions
        self.memories: dict[str, Memory] = {}
        self.outcomes: list[Outcome] = []

    def take(self, event: Event) -> None:
        if event.silent:
            return
        memory = self._memory(event.profile)
        self.wake(event.profile, event.at_us)
        memory.session = (self._begun(memory, event.at_us), max(event.at_us, memory.session[1] if memory.session else 0))
        memory.views += event.name in ("page", "screen")
        for rule in self.actions.rules:
            if event.name in rule.unless:
                memory.rules[rule.name].timer = None
        acted_here = False
        for rule in self._by_priority():
            if (rule.on and event.name not in rule.on) or not _is_on(rule, event.at_us):
                continue
            own, holds = memory.rules[rule.name], rule.condition is None or rule.condition in event.truth
            fires = holds and not (rule.edge and own.used)
            own.used = own.used and holds
            if fires and rule.timer is not None:
                own.timer, own.used = (event.at_us + rule.timer.delay_us, event), rule.edge
            elif fires:
                acted_here |= self._attempt(rule, event, event.at_us, acted_here)

    def wake(self, profile: str, now_us: int) -> None:
        """Fire the timers that are due."""
        memory = self._memory(profile)
        due = [(memory.rules[rule.name].timer, rule) for rule in self._by_priority()]
        last_us, acted_here = None, False
        for timer, rule in sorted(((timer, rule) for timer, rule in due if timer and timer[0] <= now_us), key=lambda pair: pair[0][0]):
            at_us, event = timer
            memory.rules[rule.name].timer = None
            acted_here = acted_here and at_us == last_us
            last_us = at_us
            if _is_on(rule, at_us):
                acted_here |= self._attempt(rule, event, at_us, acted_here)

    def _attempt(self, rule: Rule, event: Event, at_us: int, acted_here: bool) -> bool:
        memory = self._memory(event.profile)
        own = memory.rules[rule.name]
        reason, edge = self._obstacle(rule, event, at_us, acted_here), rule.edge and rule.timer is None
        if reason is not None:
            own.used = own.used or (edge and reason == "cap")
            own.occasions += 1
            if own.recorded_us is None or at_us - own.recorded_us >= HOUR_US:
                self.outcomes.append(Outcome(rule.name, event.profile, reason, True, at_us, event.message_id, own.occasions))
                own.recorded_us, own.occasions = at_us, 0
            return False
        own.used = own.used or edge
        own.decided.append((at_us, memory.views))
        if rule.competes:
            memory.acted = (at_us, memory.views)
        reason = "event" if rule.timer is None else "timer"
        self.outcomes.append(Outcome(rule.name, event.profile, reason, False, at_us, event.message_id, 1))
        return rule.competes

    def _obstacle(self, rule: Rule, event: Event, at_us: int, acted_here: bool) -> str | None:
        memory = self._memory(event.profile)
        decided = memory.rules[rule.name].decided
        for cap in rule.caps:
            match cap:
                case TimeCap(count, window_us):
                    within = sum(at_us - time < window_us for time, _ in decided)
                case ViewCap(count, views):
                    within = sum(memory.views - then < views for _, then in decided)
                case SessionCap(count):
                    within = sum(time >= self._begun(memory, at_us) for time, _ in decided)
                case TotalCap(count):
                    within = len(decided)
            if within >= count:
                return "cap"
        if rule.competes and acted_here:
            return "priority"
        if rule.competes and memory.acted is not None:
            since_us, since_views = at_us - memory.acted[0], memory.views - memory.acted[1]
            gap_us, gap_views = self.actions.project.gap_us, self.actions.project.gap_views
            if (gap_us and since_us < gap_us) or since_views < gap_views:
                return "gap"
        if rule.quiet is not None:
            named = (event.context or {}).get("timezone") if rule.quiet.visitor else None
            at = _local(at_us, named or rule.quiet.zone)
            if _is_between(at, rule.quiet.hours.start, rule.quiet.hours.end):
                return "quiet_hours"
        return None

    def _begun(self, memory: Memory, at_us: int) -> int:
        """When the session began that this moment is in."""
        if memory.session is None or at_us - memory.session[1] > HOUR_US // 2:
            return at_us
        return memory.session[0]

    def _memory(self, profile: str) -> Memory:
        fresh = Memory(rules={rule.name: RuleMemory() for rule in self.actions.rules})
        return self.memories.setdefault(profile, fresh)

    def _by_priority(self) -> list[Rule]:
        return sorted(self.actions.rules, key=lambda rule: -rule.priority)


def _is_on(rule: Rule, at_us: int) -> bool:
    schedule = rule.schedule
    if schedule is None:
        return True
    if at_us < (schedule.since_us or 0) or (schedule.until_us is not None and at_us >= schedule.until_us):
        return False
    at = _local(at_us, schedule.zone)
    if schedule.hours is None:
        return at.weekday() in schedule.days
    start, end = schedule.hours.start, schedule.hours.end
    began = at - timedelta(days=1) if end <= start and at.hour * 60 + at.minute < end else at
    return _is_between(at, start, end) and began.weekday() in schedule.days


def _is_between(at: datetime, start: int, end: int) -> bool:
    minute = at.hour * 60 + at.minute
    return start <= minute < end if start < end else not end <= minute < start


def _local(at_us: int, zone: str) -> datetime:
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).astimezone(ZoneInfo(zone))
