"""The rules' state of a profile: a fixed-width segment of its row. Zero bytes mean a profile never seen.

Header: the number that assigns arms, the count of page views, and when (and at which view) a message was last decided. If a cap counts
by sessions, also when the latest session began and when the profile was last seen.

Each rule has only the fields it needs: whether its edge is used up, its latest decisions for caps, its timer and the trigger that armed
it, when an event of its `unless` last came, and its suppressed decisions. Times are microseconds since 1970; 0 is never.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.format import descr_to_dtype, dtype_to_descr
from numpy.typing import NDArray

from sokuji.rules.spec import Actions, Rule, SessionCap, TimeCap, TotalCap, ViewCap
from sokuji.rules.trigger import HELD_BYTES, HELD_FIELD_BYTES

_RULE_PREFIX = "rule:"

Segment = NDArray[np.uint8]
"""[profiles, width]. The last axis is contiguous; rows may be parts of longer rows."""


def dtype_of(actions: Actions) -> np.dtype[np.void]:
    """The layout of a profile's state under these rules."""
    header: list[Any] = [("bucket", "<u8"), ("acted_us", "<i8"), ("acted_views", "<i4"), ("views", "<i4")]
    if counts_sessions(actions.rules):
        header += [("begun_us", "<i8"), ("seen_us", "<i8")]
    rules = [(field_of(rule.name), _rule_dtype(rule)) for rule in actions.rules]
    return np.dtype(header + rules, align=True)


def counts_sessions(rules: Sequence[Rule]) -> bool:
    """Whether a cap counts by sessions."""
    return any(isinstance(cap, SessionCap) for rule in rules for cap in rule.caps)


def field_of(rule: str) -> str:
    """The field with a rule's state. Its prefix avoids clashes with the header's names."""
    return _RULE_PREFIX + rule


def _rule_dtype(rule: Rule) -> np.dtype[np.void]:
    fields: list[Any] = [("suppressed_us", "<i8"), ("occasions", "<u4")]
    ring = max((cap.count for cap in rule.caps if isinstance(cap, TimeCap | ViewCap | SessionCap)), default=0)
    if ring:
        fields.append(("decided_us", "<i8", (ring,)))
    if any(isinstance(cap, ViewCap) for cap in rule.caps):
        fields.append(("decided_views", "<i4", (ring,)))
    if any(isinstance(cap, TotalCap) for cap in rule.caps):
        fields.append(("total", "<u4"))
    if rule.edge:
        fields.append(("used", "u1"))
    if rule.unless:
        fields.append(("stopped_us", "<i8"))
    if rule.timer is not None:
        size = HELD_BYTES + HELD_FIELD_BYTES * len({field.name for field in rule.fields})
        fields += [("due_us", "<i8"), ("held_bytes", "<u2"), ("held", "u1", (size,))]
    return np.dtype(fields, align=True)


class RuleState:
    """One rule's state for all current profiles: arrays that write through to the segment. Only the fields of its layout are set."""

    suppressed_us: NDArray[np.int64]  # when a suppressed decision was last recorded
    occasions: NDArray[np.uint32]  # suppressed since then
    decided_us: NDArray[np.int64]  # [profiles, ring], newest first
    decided_views: NDArray[np.int32]  # [profiles, ring], the page views at those times
    total: NDArray[np.uint32]
    used: NDArray[np.uint8]  # 1: the condition was true at the last trigger, and that occasion is used up
    stopped_us: NDArray[np.int64]  # the last event of `unless`
    due_us: NDArray[np.int64]  # 0: no timer is armed
    held_bytes: NDArray[np.uint16]
    held: NDArray[np.uint8]  # [profiles, size], the Trigger as JSON in its first held_bytes

    def __init__(self, array: NDArray[np.void]) -> None:
        for name in array.dtype.names or ():
            setattr(self, name, array[name])


class State:
    """The segment as arrays over profiles that write through to it."""

    def __init__(self, segment: Segment, dtype: np.dtype[np.void]) -> None:
        rows = segment.view(dtype)[:, 0]
        self.bucket: NDArray[np.uint64] = rows["bucket"]
        self.acted_us: NDArray[np.int64] = rows["acted_us"]
        self.acted_views: NDArray[np.int32] = rows["acted_views"]
        self.views: NDArray[np.int32] = rows["views"]
        self.sessions = (rows["begun_us"], rows["seen_us"]) if "begun_us" in (dtype.names or ()) else None
        """When each profile's latest session began, and when the profile was last seen; None if no cap counts by sessions."""
        self.rules = [RuleState(rows[name]) for name in dtype.names or () if name.startswith(_RULE_PREFIX)]


def layout_of(dtype: np.dtype[np.void]) -> str:
    """The layout as text, to be stored with the rows."""
    return json.dumps(dtype_to_descr(dtype))


def dtype_from(layout: str) -> np.dtype[np.void]:
    """The layout from a text of `layout_of`."""
    return descr_to_dtype(_tuples(json.loads(layout)))


def _tuples(descr: Any) -> Any:
    """Convert JSON lists to the tuples that numpy expects for fields and shapes; the list of fields stays a list."""
    if isinstance(descr, str):
        return descr
    return [(name, _tuples(kind), *map(tuple, shape)) for name, kind, *shape in descr]
