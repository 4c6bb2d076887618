"""Whether what was served is what the history says: served rows against the same features computed again from the events."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.features.kernel import Kernel
from sokuji.features.point_in_time import Events, Labels, numbers_at

KEY, OFFSET, TIME = "key", "offset", "time"
"""Columns of events and of served rows: the profile, the event's place in the order of arrival, and the event's time in us."""

_TOLERANCE = 1e-9  # a sum over tiles is the same in any run, but one that came through SQL or JSON may differ in the last digit


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found. `missing` events were not served, `extra` rows were served for no event; the rest was compared."""

    rows: int
    features: int
    mismatches: int
    missing: int
    extra: int
    by_feature: dict[str, int] = field(default_factory=dict)  # mismatches, those without any left out
    examples: tuple[str, ...] = ()

    def json(self) -> dict[str, int]:
        """The counts alone."""
        return {name: getattr(self, name) for name in ("rows", "features", "mismatches", "missing", "extra")}


def verify(kernel: Kernel, events: pa.Table, served: pa.Table, *, examples: int = 10) -> Verification:
    """Compare.

    Args:
        kernel: of the view that was served, with the stream's vocabulary.
        events: all events of the profiles looked at that the stream counted: `key`, `offset`, `time`, and a column for each of
            `kernel.view.expressions`.
        served: rows as they were served at an event: `key`, `offset`, and a column for each feature.
    """
    keys = pc.unique(events.column(KEY))
    codes = pc.index_in(events.column(KEY), value_set=keys).to_numpy().astype(np.int32)
    offsets = events.column(OFFSET).to_numpy().astype(np.int64)
    times = events.column(TIME).to_numpy().astype(np.int64)
    said = events.select(list(kernel.view.expressions))
    happened = Events(codes, times, offsets, kernel.columns(said))
    numbers = numbers_at(kernel, happened, Labels(codes, offsets, times), profiles=len(keys))
    wanted = kernel.decode(numbers)

    places = {place: row for row, place in enumerate(zip(events.column(KEY).to_pylist(), offsets.tolist(), strict=True))}
    pairs: list[tuple[int, int]] = []
    extra = 0
    for row, place in enumerate(zip(served.column(KEY).to_pylist(), served.column(OFFSET).to_pylist(), strict=True)):
        found = places.pop(place, None)
        if found is None:
            extra += 1
        else:
            pairs.append((found, row))
    by_feature, shown = _compare(wanted, served, pairs, examples)
    return Verification(len(pairs), len(kernel.fields), sum(by_feature.values()), len(places), extra, by_feature, tuple(shown))


def _compare(wanted: pa.RecordBatch, served: pa.Table, pairs: list[tuple[int, int]], examples: int) -> tuple[dict[str, int], list[str]]:
    by_feature: dict[str, int] = {}
    shown: list[str] = []
    for name in wanted.schema.names:
        expected, found = wanted.column(name).to_pylist(), served.column(name).to_pylist()
        for event, row in pairs:
            if _same(found[row], expected[event]):
                continue
            by_feature[name] = by_feature.get(name, 0) + 1
            if len(shown) < examples:
                place = f"{served.column(KEY)[row]} at {served.column(OFFSET)[row]}"
                shown.append(f"{name} of {place}: served {found[row]!r}, computed again {expected[event]!r}")
    return by_feature, shown


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(found, float) and isinstance(wanted, float):
        return math.isclose(found, wanted, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(_same, found, wanted))
    if isinstance(found, dict) and isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(_same(found[key], wanted[key]) for key in wanted)
    return bool(found == wanted)
