"""Rules, prepared for the engine."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from sokuji.rules.spec import Actions, Project, Rule, SessionCap, TimeCap, TotalCap, ViewCap
from sokuji.rules.template import TemplateField

ALWAYS = -1  # the condition of rules without one


class Plan(Struct, frozen=True, kw_only=True):
    """One rule, compiled."""

    rule: Rule
    index: int  # in the file's order
    rank: int  # in the order of priority
    condition: int  # the column of the truth matrix, or ALWAYS
    competes: bool
    fields: tuple[TemplateField, ...]
    names: tuple[str, ...]  # of the fields, each once
    time_caps: tuple[TimeCap, ...]
    view_caps: tuple[ViewCap, ...]
    session_cap: int | None
    total_cap: int | None

    @property
    def counts_decisions(self) -> bool:
        """Whether the state stores the times of the last decisions."""
        return bool(self.time_caps or self.view_caps or self.session_cap)


def plan(actions: Actions, conditions: tuple[str, ...]) -> tuple[Plan, ...]:
    """The plans of the rules, in the file's order. `conditions` are the distinct condition texts, in the order of the truth matrix."""
    by_priority = sorted(range(len(actions.rules)), key=lambda index: -actions.rules[index].priority)  # stable: then the file's order
    return tuple(
        Plan(
            rule=rule,
            index=index,
            rank=by_priority.index(index),
            condition=ALWAYS if rule.condition is None else conditions.index(rule.condition),
            competes=rule.competes,
            fields=rule.fields,
            names=tuple(dict.fromkeys(field.name for field in rule.fields)),
            time_caps=tuple(cap for cap in rule.caps if isinstance(cap, TimeCap)),
            view_caps=tuple(cap for cap in rule.caps if isinstance(cap, ViewCap)),
            session_cap=min((cap.count for cap in rule.caps if isinstance(cap, SessionCap)), default=None),
            total_cap=min((cap.count for cap in rule.caps if isinstance(cap, TotalCap)), default=None),
        )
        for index, rule in enumerate(actions.rules)
    )


def counts_views(project: Project, plans: Sequence[Plan]) -> bool:
    """Whether any cap or gap depends on page views."""
    return project.gap_views > 0 or any(each.view_caps for each in plans)
