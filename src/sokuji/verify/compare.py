"""Compare served rows with the same features computed again from the events."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.features.kernel.kernel import Kernel
from sokuji.features.kernel.rows import Floats

ID, SHOWN, KEY, OFFSET, TIME = "id", "shown", "key", "offset", "time"
COUNTED, EXPECTED = "counted", "expected"

_TOLERANCE = 1e-9  # a sum over tiles is the same in any run, but a sum that passed through SQL or JSON may differ in the last digit


class Merge(NamedTuple):
    """The profile `source` was merged into `target` just before the event of `target` at `offset`."""

    offset: int
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome. `missing` events were not served, `extra` rows were served without an event; all others were compared."""

    rows: int
    features: int
    mismatches: int
    missing: int
    extra: int
    by_feature: dict[str, int] = field(default_factory=dict)  # mismatches; features without any are left out
    examples: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()  # properties whose type ALTER TABLE has changed since the state was built

    def json(self) -> dict[str, int]:
        """The counts alone."""
        return {name: getattr(self, name) for name in ("rows", "features", "mismatches", "missing", "extra")}

    @classmethod
    def total(cls, found: Iterable[Verification]) -> Verification:
        """The sum of several outcomes."""
        result = cls(0, 0, 0, 0, 0)
        for each in found:
            counts = {name: count + getattr(each, name) for name, count in result.json().items()}
            by_feature, examples = result.by_feature | each.by_feature, result.examples + each.examples
            result = cls(**counts, by_feature=by_feature, examples=examples, outdated=result.outdated + each.outdated)
        return result


def verify(kernel: Kernel, events: pa.Table, served: pa.Table, merges: Sequence[Merge] = (), *, examples: int = 10) -> Verification:
    """Compare served rows with features computed again.

    Args:
        kernel: of the served view, with the stream's vocabulary.
        events: all events of the checked profiles, and of profiles merged into them. Columns: `id`; `shown`, the event's name in messages;
            `key`, the profile; `offset`, the position in the order of arrival of the profile's events; `time` in us; `counted`, whether the
            stream counted the event; `expected`, whether it must have been served; and one for each of `kernel.view.expressions`.
        served: rows as they were served at an event: `id`, `key`, and a column for each feature.
        merges: in any order. Merges into one profile have distinct offsets.
    """
    wanted = kernel.decode(_compute(kernel, events, merges))
    places = {place: row for row, place in enumerate(zip(events.column(ID).to_pylist(), events.column(KEY).to_pylist(), strict=True))}
    pairs: list[tuple[int, int]] = []
    extra = 0
    for row, place in enumerate(zip(served.column(ID).to_pylist(), served.column(KEY).to_pylist(), strict=True)):
        found = places.pop(place, None)
        if found is None:
            extra += 1
        else:
            pairs.append((found, row))
    left = pa.array(list(places.values()), pa.int64())
    missing = pc.sum(events.column(EXPECTED).take(left)).as_py() or 0
    by_feature, shown = _compare(wanted, events.column(SHOWN), served, pairs, examples)
    return Verification(len(pairs), len(kernel.fields), sum(by_feature.values()), missing, extra, by_feature, tuple(shown))


def _compute(kernel: Kernel, events: pa.Table, merges: Sequence[Merge]) -> Floats:
    """The kernel's numbers at each event; NaN at events that are not counted."""
    order = np.argsort(events.column(OFFSET).to_numpy(), kind="stable")
    keys, counted = events.column(KEY), events.column(COUNTED).to_numpy()
    merged = [name for merge in merges for name in (merge.source, merge.target)]
    names = pc.unique(pa.chunked_array([*keys.chunks, pa.array(merged, pa.string())]))
    codes = pc.index_in(keys, value_set=names).to_numpy().astype(np.int32)
    row_of = {name: row for row, name in enumerate(names.to_pylist())}
    times = events.column(TIME).to_numpy().astype(np.int64)
    columns = kernel.columns(events.select(list(kernel.view.expressions)))
    segment = np.zeros((len(names), kernel.width), np.uint8)
    numbers = np.full((events.num_rows, kernel.columns_count), np.nan)
    rounds, by_round = _rounds(events, merges)
    for number in range(int(rounds.max(initial=0)) + 1):
        for merge in by_round.get(number, ()):
            source, target = row_of[merge.source], row_of[merge.target]
            kernel.merge(segment[target : target + 1], segment[source : source + 1])
        part = order[(rounds[order] == number) & counted[order]]
        numbers[part] = kernel.update(segment, codes[part], times[part], columns.take(part)).numbers
    return numbers


def _rounds(events: pa.Table, merges: Sequence[Merge]) -> tuple[npt.NDArray[np.int64], dict[int, list[Merge]]]:
    """By event, the number of merges into its profile before it; and the merges by their number within their profile."""
    into: dict[str, list[Merge]] = {}
    for merge in sorted(merges):
        into.setdefault(merge.target, []).append(merge)
    offsets = {key: [merge.offset for merge in found] for key, found in into.items()}
    rounds = np.zeros(events.num_rows, np.int64)
    touched = np.flatnonzero(pc.is_in(events.column(KEY), pa.array(list(into), pa.string())).to_numpy())
    places = events.select([KEY, OFFSET]).take(pa.array(touched)).to_pylist()
    rounds[touched] = [bisect_right(offsets[place[KEY]], place[OFFSET]) for place in places]
    by_round: dict[int, list[Merge]] = {}
    for found in into.values():
        for number, merge in enumerate(found, 1):
            by_round.setdefault(number, []).append(merge)
    return rounds, by_round


def _compare(
    wanted: pa.RecordBatch, names: pa.ChunkedArray, served: pa.Table, pairs: list[tuple[int, int]], examples: int
) -> tuple[dict[str, int], list[str]]:
    by_feature: dict[str, int] = {}
    shown: list[str] = []
    for name in wanted.schema.names:
        expected, found = wanted.column(name).to_pylist(), served.column(name).to_pylist()
        for event, row in pairs:
            if _same(found[row], expected[event]):
                continue
            by_feature[name] = by_feature.get(name, 0) + 1
            if len(shown) < examples:
                place = f"{served.column(KEY)[row]} at {names[event]}"
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
