"""Process one dataset's micro-batches: compute features, decisions and rows of state from events.

Everything here is a function of the batch and of the state, without clock or randomness. So a batch that is processed again after a crash
has the same outcome.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.analyze.compile import Compiled
from sokuji.analyze.conditions import Judged
from sokuji.analyze.excluded import NOBODY, Excluded
from sokuji.analyze.state.base import DatasetState
from sokuji.analyze.state.layout import Rows
from sokuji.dedup.hashing import hash_messages
from sokuji.dedup.rule import Places
from sokuji.events import EVENT_SCHEMA
from sokuji.features.spec import Entity
from sokuji.identity.base import Link, is_counted, visitors
from sokuji.identity.resolve import ProfileKeys, Resolution
from sokuji.json_text import decode
from sokuji.proof import UNPROVEN
from sokuji.rules.decision import Decision
from sokuji.rules.engine import TIMER_SLACK_US
from sokuji.sql.scalar.properties import PropertyReader

_NOWHERE = Places(np.zeros(0, np.int32), np.zeros(0, np.int64))
_TIMERS_MAX = 10_000  # profiles whose timers fire in one batch; after a long pause there may be very many
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Poison:
    """An event on which an expression failed."""

    event: int  # the row in `BatchOutcome.events`
    reason: str


@dataclass(slots=True)
class BatchOutcome:
    """The outcome of a batch. It is published before its state is committed."""

    events: pa.RecordBatch  # of the dataset, deduplicated
    places: Places  # of these events in the log; empty for history from the lake
    duplicates: int
    links: list[Link] = field(default_factory=list)
    poison: list[Poison] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    keys: pa.StringArray = field(default_factory=lambda: pa.array([], pa.string()))  # the touched profiles
    profiles: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))  # by event, an index into `keys`
    numbers: list[Floats] = field(default_factory=list)  # by view, the features at each event as the kernel's numbers
    rows: Rows | None = None  # the new rows of `keys`
    unfit: Counter[str] = field(default_factory=Counter)  # the number of values whose type is not their property's, by property


class Pipeline:
    """Features, rules and identity of one dataset."""

    def __init__(self, compiled: Compiled, state: DatasetState, excluded: Excluded = NOBODY) -> None:
        """Create a pipeline that works with `state`, which is for the compiled declarations. The caller closes `state`."""
        self.kernels, self.rules, self.conditions = compiled.kernels, compiled.rules, compiled.conditions
        self.scores, self.layout, self._expressions = compiled.scores, state.layout, compiled.expressions
        self._compiled = compiled
        self.types = compiled.properties
        """The types of the properties, by name."""
        self._state, self._excluded = state, excluded
        self._room: Rows = np.empty((0, state.layout.width), np.uint8)
        # Read once for both. If filters and conditions give a property different types, conditions read it themselves.
        self._properties = PropertyReader({**compiled.conditions.properties, **compiled.expressions.properties})

    def work(self, rows: pa.RecordBatch, places: Places | None, now_us: int, *, want_features: bool = True) -> BatchOutcome:
        """Process the events of a batch: everything except `commit`, which makes the new rows visible.

        `places` are the positions in the log. None: the events are known not to be repeats, because they come from the lake.

        Without `want_features`, the features at each event are NaN, which saves half the time. Nobody needs them for history.
        """
        new = np.ones(rows.num_rows, np.bool_) if places is None else self._state.deduplicator.first(hash_messages(rows), places)
        duplicates = rows.num_rows - int(new.sum())
        if len(self._excluded):
            new &= ~self._excluded.mask(rows)
        where = _NOWHERE if places is None else places.take(new)
        resolution = self._resolve(rows := rows if new.all() else rows.filter(pa.array(new)))
        outcome = BatchOutcome(rows, where, duplicates, resolution.links)
        due = pa.array(self._state.timers.due(now_us - TIMER_SLACK_US, _TIMERS_MAX), pa.string())
        others = due.filter(pc.invert(pc.is_in(due, resolution.keys.array)))
        outcome.keys = pa.concat_arrays([resolution.keys.array, others])
        if len(outcome.keys):
            outcome.rows = self._state.get_many(outcome.keys, self._room_for(len(outcome.keys)))
            self._take_in(outcome, outcome.rows, resolution, now_us, want_features=want_features)
        return outcome

    def commit(self, outcome: BatchOutcome, now_us: int) -> None:
        """Store the rows that `work` made. The outcome of the batch is already published."""
        if outcome.rows is not None:
            self._state.put_many(outcome.keys, outcome.rows, now_us)

    def warm_up(self) -> None:
        """Load or compile what the first batch needs, which takes half a minute on a new machine. Changes nothing."""
        nothing = pa.RecordBatch.from_pylist([{}], schema=EVENT_SCHEMA)
        properties = self._properties.read(pa.array(["{}"]))
        evaluated, _ = self._expressions.evaluate(nothing, properties)
        for kernel in self.kernels:
            row = np.zeros((1, kernel.width), np.uint8)
            kernel.update(row, np.zeros(1, np.int32), np.zeros(1, np.int64), kernel.columns(evaluated))
            kernel.merge(row, np.zeros_like(row))
        self._state.get_many(pa.array([""], pa.string()))

    def _room_for(self, profiles: int) -> Rows:
        """Memory for rows, reused by every batch: a batch stores its rows before the next batch reads any."""
        if len(self._room) < profiles:
            self._room = np.empty((2 * profiles, self.layout.width), np.uint8)
        return self._room

    def close(self) -> None:
        """Close the compiled declarations."""
        self._compiled.close()

    def _resolve(self, events: pa.RecordBatch) -> Resolution:
        contexts, users = events.column("context"), cast("pa.StringArray", events.column("user_id"))
        return self._state.identity.resolve(visitors(events), users, lambda row: _is_unproven(contexts[row].as_py()))

    def _take_in(self, outcome: BatchOutcome, rows: Rows, resolution: Resolution, now_us: int, *, want_features: bool) -> None:
        events, keys, segment = outcome.events, ProfileKeys(outcome.keys), rows[:, self.layout.rules]
        properties = self._properties.read(events.column("properties"))
        outcome.unfit, self._properties.unfit = self._properties.unfit, Counter()
        evaluated, failed = self._expressions.evaluate(events, properties)
        outcome.poison = [Poison(row, reason) for row, reason in sorted(failed.items())]
        counted = is_counted(events)
        counted[list(failed)] = False
        due_us = self.rules.next_due(segment)
        outcome.profiles = resolution.profiles
        outcome.numbers = numbers = self._update(rows, resolution, events, evaluated, counted, want_features=want_features)
        silent = ~counted | events.column("historical").to_numpy(zero_copy_only=False)
        judged = self.conditions.evaluate(events, properties, partial(self._features, numbers), ~silent)
        outcome.poison += [Poison(row, reason) for row, reason in sorted(judged.failed.items())]
        outcome.decisions = self._decide(rows, keys, resolution, judged, silent)
        outcome.decisions += self.rules.due(segment, keys, now_us)
        changed_us = self.rules.next_due(segment)
        for row in np.flatnonzero(changed_us != due_us).tolist():
            self._state.timers.set(keys[row], int(changed_us[row]))

    def _update(
        self, rows: Rows, resolution: Resolution, events: pa.RecordBatch, evaluated: pa.RecordBatch, counted: Mask, *, want_features: bool
    ) -> list[Floats]:
        """The features at each event as the kernels' numbers; NaN at events that are not counted."""
        profiles = resolution.profiles
        times = events.column("event_time").cast(pa.int64()).to_numpy()
        found = []
        for kernel, where in zip(self.kernels, self.layout.views, strict=True):
            segment, columns = rows[:, where], kernel.columns(evaluated)
            chosen = counted & resolution.is_user[profiles] if kernel.view.entity is Entity.USER else counted
            numbers = np.empty((len(times), kernel.columns_count))
            numbers[~chosen if want_features else slice(None)] = np.nan
            for sources, targets, which in _rounds(resolution):
                _merge(kernel.merge, segment, sources, targets)
                part = np.flatnonzero(which & chosen)
                if not want_features:
                    kernel.update(segment, profiles[part], times[part], columns.take(part), want_values=False)
                elif len(part) == len(times):
                    numbers = kernel.update(segment, profiles, times, columns).numbers
                else:
                    numbers[part] = kernel.update(segment, profiles[part], times[part], columns.take(part)).numbers
            found.append(numbers)
        return found

    def _features(self, numbers: Sequence[Floats], which: Indices, names: Collection[str]) -> pa.RecordBatch:
        """The features with these names, of all views, at some events."""
        batches = [kernel.decode(each[which], names=names) for kernel, each in zip(self.kernels, numbers, strict=True)]
        columns = [column for batch in batches for column in batch.columns]
        names = [name for batch in batches for name in batch.schema.names]
        # A batch without columns would have no rows.
        return pa.RecordBatch.from_arrays(columns or [pa.nulls(len(which))], names=names or [""])

    def _decide(self, rows: Rows, keys: Sequence[str], resolution: Resolution, judged: Judged, silent: Mask) -> list[Decision]:
        profiles = resolution.profiles
        segment = rows[:, self.layout.rules]
        decisions: list[Decision] = []
        for sources, targets, which in _rounds(resolution):
            _merge(self.rules.merge, segment, sources, targets)
            part = np.flatnonzero(which)
            decisions += self.rules.decide(
                segment,
                keys,
                profile_of_event=profiles[part],
                events=judged.events if len(part) == len(which) else judged.events.take(pa.array(part)),
                truth=np.asfortranarray(judged.truth[part]),
                silent=silent[part],
            )
        for pairs in resolution.merges.values():
            rows[[source for source, _ in pairs]] = 0
        return decisions


def _rounds(resolution: Resolution) -> Iterator[tuple[Indices, Indices, Mask]]:
    """The rounds of a batch in order: the profiles merged before the round (from, into), and a mask of its events."""
    for number in range(max(int(resolution.rounds.max(initial=0)), *resolution.merges, 0) + 1):
        sources, targets = np.array(resolution.merges.get(number, []), np.intp).reshape(-1, 2).T
        yield sources, targets, resolution.rounds == number


def _merge(merge: Callable[[Rows, Rows], None], segment: Rows, sources: Indices, targets: Indices) -> None:
    """Merge rows into other rows. No row may occur twice."""
    if len(sources):
        into = segment[targets]
        merge(into, segment[sources])
        segment[targets] = into


def _is_unproven(context: str | None) -> bool:
    return context is not None and UNPROVEN in context and decode(context).get(UNPROVEN) is True
