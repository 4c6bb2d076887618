"""One dataset's micro-batches: from events to features, decisions and rows of state.

Everything here is a function of the batch and of the state: no clock, no randomness. So a batch that is worked on again after a crash
gives the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.analyze.conditions import Judged
from sokuji.analyze.deduplicator import Deduplicator
from sokuji.analyze.hashing import hash_pairs
from sokuji.analyze.identity import USER, Identity, Link, Resolution
from sokuji.analyze.project import Compiled
from sokuji.analyze.rows import RowLayout, Rows
from sokuji.analyze.timers import Timers
from sokuji.bots import is_bot
from sokuji.events import EventType
from sokuji.features.spec import Entity
from sokuji.online.base import OnlineStore
from sokuji.rules.decision import Decision
from sokuji.rules.engine import TIMER_SLACK_US

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Poison:
    """An event that an expression failed on."""

    event: int  # the row in `Outcome.events`
    reason: str


@dataclass(slots=True)
class Outcome:
    """What came of a batch, to be published before its state is."""

    events: pa.RecordBatch  # of the dataset, without duplicates
    duplicates: int
    links: list[Link] = field(default_factory=list)
    poison: list[Poison] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)  # the profiles touched
    rows: Rows | None = None  # and what becomes of them


class Pipeline:
    """Features, rules and identity of one dataset."""

    def __init__(
        self,
        compiled: Compiled,
        layout: RowLayout,
        *,
        store: OnlineStore,
        identity: Identity,
        deduplicator: Deduplicator,
        timers: Timers,
    ) -> None:
        self.kernels, self.rules, self.conditions = compiled.kernels, compiled.rules, compiled.conditions
        self.scores, self.layout, self._expressions = compiled.scores, layout, compiled.expressions
        self.store, self.identity, self.deduplicator, self.timers = store, identity, deduplicator, timers

    def work(self, rows: pa.RecordBatch, now_us: int) -> Outcome:
        """Take the events of a batch in: everything but `commit`, which makes the new rows visible."""
        events, duplicates = self._without_duplicates(rows)
        resolution = self._resolve(events)
        outcome = Outcome(events, duplicates, resolution.links)
        due = [key for key in self.timers.due(now_us - TIMER_SLACK_US) if key not in set(resolution.keys)]
        outcome.keys = [*resolution.keys, *due]
        if outcome.keys:
            rows = outcome.rows = self.store.get_many(pa.array(outcome.keys, pa.string())).rows
            self._take_in(outcome, rows, resolution, now_us)
        return outcome

    def commit(self, outcome: Outcome, now_us: int) -> None:
        """Put the rows that `work` made. What came of the batch has been published."""
        if outcome.rows is not None:
            self.store.put_many(pa.array(outcome.keys, pa.string()), outcome.rows, now_us)

    def _without_duplicates(self, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, int]:
        first = self.deduplicator.first(hash_pairs(rows.column("source"), rows.column("message_id")))
        events = rows if first.all() else rows.filter(pa.array(first))
        return events, rows.num_rows - events.num_rows

    def _resolve(self, events: pa.RecordBatch) -> Resolution:
        visitors = events.column("visitor_id").to_pylist()
        for row in np.flatnonzero(pc.equal(events.column("type"), EventType.ALIAS).to_numpy(zero_copy_only=False)).tolist():
            # An alias says that the one with the previous id is this user.
            previous = msgspec.json.decode(events.column("properties")[row].as_py() or "{}").get("previous_id")
            visitors[row] = previous if isinstance(previous, str) and previous else visitors[row]
        return self.identity.resolve(visitors, events.column("user_id").to_pylist())

    def _take_in(self, outcome: Outcome, rows: Rows, resolution: Resolution, now_us: int) -> None:
        events = outcome.events
        evaluated, failed = self._expressions.evaluate(events)
        outcome.poison = [Poison(row, reason) for row, reason in sorted(failed.items())]
        bots = is_bot(events.column("context")).to_numpy(zero_copy_only=False)
        counted = ~bots
        counted[list(failed)] = False
        numbers = self._update(rows, resolution, events, evaluated, counted)
        silent = ~counted | events.column("historical").to_numpy(zero_copy_only=False)
        judged = self.conditions.evaluate(events, lambda which: self._features(numbers, which), ~silent)
        outcome.poison += [Poison(row, reason) for row, reason in sorted(judged.failed.items())]
        outcome.decisions = self._decide(rows, outcome.keys, resolution, judged, silent)
        segment = rows[:, self.layout.rules]
        outcome.decisions += self.rules.due(segment, outcome.keys, now_us)
        for key, due_us in zip(outcome.keys, self.rules.next_due(segment).tolist(), strict=True):
            self.timers.set(key, due_us)

    def _update(self, rows: Rows, resolution: Resolution, events: pa.RecordBatch, evaluated: pa.RecordBatch, counted: Mask) -> list[Floats]:
        """The features at each event as the kernels' numbers; NaN at events that are not counted."""
        profiles = resolution.profile_of_event()
        times = events.column("event_time").cast(pa.int64()).to_numpy()
        is_user = np.array([key.startswith(USER) for key in resolution.keys], np.bool_)
        found = []
        for kernel, where in zip(self.kernels, self.layout.views, strict=True):
            segment, columns = rows[:, where], kernel.columns(evaluated)
            chosen = counted & is_user[profiles] if kernel.view.entity is Entity.USER else counted
            numbers = np.full((len(times), kernel.columns_count), np.nan)
            for merges, which in _rounds(resolution):
                for source, target in merges:
                    kernel.merge(segment[target : target + 1], segment[source : source + 1])
                part = np.flatnonzero(which & chosen)
                numbers[part] = kernel.update(segment, profiles[part], times[part], columns.take(part)).numbers
            found.append(numbers)
        return found

    def _features(self, numbers: Sequence[Floats], which: npt.NDArray[np.intp]) -> pa.RecordBatch:
        """The features of all views at some events, side by side."""
        batches = [kernel.decode(each[which]) for kernel, each in zip(self.kernels, numbers, strict=True)]
        columns = [column for batch in batches for column in batch.columns]
        names = [name for batch in batches for name in batch.schema.names]
        # A batch without columns would have no rows.
        return pa.RecordBatch.from_arrays(columns or [pa.nulls(len(which))], names=names or [""])

    def _decide(self, rows: Rows, keys: Sequence[str], resolution: Resolution, judged: Judged, silent: Mask) -> list[Decision]:
        profiles = resolution.profile_of_event()
        segment = rows[:, self.layout.rules]
        decisions: list[Decision] = []
        for merges, which in _rounds(resolution):
            for source, target in merges:
                self.rules.merge(segment[target : target + 1], segment[source : source + 1])
            part = np.flatnonzero(which)
            decisions += self.rules.decide(
                segment,
                keys,
                profile_of_event=profiles[part],
                events=judged.events if len(part) == len(which) else judged.events.take(pa.array(part)),
                truth=np.asfortranarray(judged.truth[part]),
                silent=silent[part],
            )
        for merges in resolution.merges.values():
            rows[[source for source, _ in merges]] = 0
        return decisions


def _rounds(resolution: Resolution) -> Iterator[tuple[list[tuple[int, int]], Mask]]:
    """The rounds of a batch in their order: the profiles merged before, and which events are in it."""
    rounds = np.array(resolution.rounds, np.int32)
    for number in range(int(rounds.max(initial=0)) + 1):
        yield resolution.merges.get(number, []), rounds == number
