"""The lake plus the log's tail: a query sees every event that was acknowledged before it started."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from sokuji.dedup.rule import RepeatRule
from sokuji.errors import LakeError, NotFoundError, OffsetTrimmedError, StaleTableError
from sokuji.lake.acknowledged import Acknowledged
from sokuji.lake.base import Lake, Snapshot
from sokuji.lake.events import BAD_EVENTS, BAD_EVENTS_SCHEMA, EVENTS, FIXED_SCHEMA, IDENTITIES, property_columns
from sokuji.log.base import Log
from sokuji.meta.base import Catalog
from sokuji.meta.objects import Ref
from sokuji.sink import backlog
from sokuji.sink.backlog import Backlog, Offsets
from sokuji.sink.committed import Committed
from sokuji.sink.shape import Shaper
from sokuji.sink.sightings import Sightings
from sokuji.sink.sink import Sink
from sokuji.sink.tail import Tail
from sokuji.sink.writers import committed_offsets, define, make_tables, open_seen

# If no sink runs and the tail is longer than this, a sink is run in this process.
_INLINE_ROWS = 20_000
# If a running sink is further behind than this, the query waits for it, because the tail is in memory.
_TAIL_ROWS_MAX = 1_000_000
_WAIT_SECONDS = 60.0
_POLL_SECONDS = 0.05
_NO_TABLE = Snapshot((), FIXED_SCHEMA, -1)


class Fresh(Acknowledged):
    """The newest rows of a lake's tables: events tables end with the rows that only the log has. Thread-safe.

    Refused events and merges of identities are rare: what is in their logs is committed before a query reads their tables.
    """

    def __init__(
        self,
        lake: Lake,
        events: Log,
        bad_events: Log,
        catalog: Catalog,
        *,
        folder: Path,
        rule: RepeatRule,
        make_sink: Callable[[], Sink],
        identities: Log | None = None,
        datasets: Sequence[str] = (),
    ) -> None:
        """Add the tail of `events` to the tables of `lake`.

        Args:
            lake: the tables to which the sink commits.
            events, bad_events: the logs.
            catalog: receives the definitions of events tables and columns that only the log has so far.
            folder: the sink's folder.
            rule: the sink's rule for repeats.
            make_sink: opens a sink, or raises LakeError while one is running. Used if the tail is long and no sink runs.
            identities: the log of merges, if the reactive side runs.
            datasets: datasets whose tables exist before their first row.
        """
        self._lake, self._events, self._bad_events, self._catalog = lake, events, bad_events, catalog
        self._folder, self._rule, self._make_sink = folder, rule, make_sink
        # committed before their tables are read
        self._settled = {BAD_EVENTS: bad_events} | ({} if identities is None else {IDENTITIES: identities})
        self._applications = backlog.applications(events)
        self._datasets, self._made = datasets, set[str]()
        self._lock = threading.Lock()
        self._shaper = Shaper()
        self._place: tuple[Offsets, Offsets] = {}, {}
        self._bad_place: tuple[Offsets, Offsets] = {}, {}
        self._bad_datasets: list[str] = []
        self._tails: dict[str, Tail] = {}  # by dataset; never empty
        # by dataset, for its current tail: the snapshot without and with the tail
        self._snapshots: dict[str, tuple[Snapshot, Snapshot]] = {}

    def refresh(self) -> None:
        """Add all datasets, events tables and columns of the log to the catalog. Called before a statement is analysed."""
        with self._lock:
            self._read_tail()
            unmade = {*self._datasets, *self._tails, *self._unseen_bad_events()} - self._made
            make_tables(self._lake, self._catalog, unmade)
            self._made |= unmade
            self._datasets = ()  # tables that are dropped later stay dropped until an event comes
            for dataset in self._tails:
                ref = Ref(dataset, EVENTS)
                snapshot = self._snapshot(ref)
                define(self._catalog, ref, snapshot.schema, snapshot.kept)
            for dataset in self._unseen_bad_events():
                define(self._catalog, Ref(dataset, BAD_EVENTS), BAD_EVENTS_SCHEMA)

    def snapshot(self, ref: Ref) -> Snapshot:
        """See `Acknowledged.snapshot`."""
        if ref.name in self._settled:
            self.settle(ref)
            return self._base(ref, self._settled[ref.name])
        if ref.name != EVENTS:
            return self._lake.snapshot(ref)
        with self._lock:
            self._read_tail()
            return self._snapshot(ref)

    def settle(self, ref: Ref) -> None:
        """See `Acknowledged.settle`. Waits for the sink; if none is running, commits here."""
        log = self._events if ref.name == EVENTS else self._settled.get(ref.name)
        if log is None:
            return
        end = _ends(log)

        def settled() -> bool:
            return all(offset >= end[partition] for partition, offset in self._until(log).items())

        if not settled():
            self._wait(settled)

    def _until(self, log: Log) -> Offsets:
        return Committed.read(self._folder, log).until(log)

    def _base(self, ref: Ref, log: Log) -> Snapshot:
        """The table as it is, with all rows that were committed to it."""
        said = Committed.read(self._folder, log)  # read before the snapshot, which may have more
        names = backlog.applications(log)
        base = self._lake.snapshot(ref, applications=list(names.values()))
        if not (missing := said.missing_from(ref.dataset, committed_offsets(base, names))):
            return base
        try:
            sink = self._make_sink()
        except StaleTableError:
            raise
        except LakeError as error:  # a sink is running
            raise StaleTableError(f"table {ref} is an older copy, which lacks rows from {missing} on; start the platform again") from error
        with sink:
            sink.drain()
        return self._lake.snapshot(ref, applications=list(names.values()))

    def _unseen_bad_events(self) -> list[str]:
        """The datasets with refused events that are not committed."""
        place = self._until(self._bad_events), _ends(self._bad_events)
        if place != self._bad_place:
            found, self._bad_place = _read_until(self._bad_events, *place)
            self._bad_datasets = list(found)
        return self._bad_datasets

    def _read_tail(self) -> None:
        """Read further rows that are not committed. Rows outside the tail are in every snapshot of the tables that is taken after this."""
        said, place = self._tail_place()
        if place == self._place:
            return
        if self._events.lag(place[0]) > _INLINE_ROWS:
            self._wait(lambda: self._events.lag(self._until(self._events)) <= _TAIL_ROWS_MAX)
            said, place = self._tail_place()
        # Take the tails away meanwhile: after an interrupt all is read again, and no row occurs twice.
        (positions, ends), (known, read) = place, self._place
        tails, self._tails, self._place = self._tails, {}, ({}, {})
        if any(offset < known.get(partition, 0) for partition, offset in positions.items()):  # a table was replaced by an older copy
            tails, read = {}, {}
        if positions != known:
            self._snapshots.clear()
            for tail in tails.values():
                tail.forget(positions)
        found, (_, ends) = _read_until(self._events, {p: max(offset, read.get(p, 0)) for p, offset in positions.items()}, ends)
        for dataset, rows in said.wanted(found).items():
            self._snapshots.pop(dataset, None)
            tails.setdefault(dataset, Tail(self._shaper)).add(rows)
        self._tails, self._place = {dataset: tail for dataset, tail in tails.items() if len(tail)}, (positions, ends)

    def _tail_place(self) -> tuple[Committed, tuple[Offsets, Offsets]]:
        """The sink's record of the events log, its committed offsets, and the log's ends."""
        said = Committed.read(self._folder, self._events)
        return said, (said.until(self._events), _ends(self._events))

    def _wait(self, done: Callable[[], bool]) -> None:
        """Commit the log in this process, or if a sink is running, wait until `done`."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while True:
            try:
                sink = self._make_sink()
            except StaleTableError:
                raise
            except LakeError:  # a sink is running
                if done():
                    return
                if time.monotonic() > deadline:
                    behind = self._events.lag(self._until(self._events))
                    raise LakeError(f"the sink is {behind:,} events behind the log and did not catch up in {_WAIT_SECONDS:.0f} s") from None
                time.sleep(_POLL_SECONDS)
            else:
                with sink:
                    sink.drain()
                return

    def _snapshot(self, ref: Ref) -> Snapshot:
        tail = self._tails.get(ref.dataset)
        # Open it before the snapshot: otherwise repeats of messages seen after the snapshot's version would be missing in the tail.
        seen = open_seen(self._folder, ref.dataset, self._rule) if tail is not None else None
        try:
            base = self._base(ref, self._events)
        except NotFoundError:
            if tail is None:
                raise
            base = _NO_TABLE
        if tail is None or seen is None:
            return base
        if not seen.reflects(base.transactions):
            seen.clear()
        known = self._snapshots.get(ref.dataset)
        if known is None or known[0] is not base:
            committed, sightings = committed_offsets(base, self._applications), Sightings(self._folder, ref.dataset).counts
            rows = tail.table(property_columns(base.schema), base.kept, committed, seen, sightings)
            known = self._snapshots[ref.dataset] = base, replace(base, schema=rows.schema, tail=rows)
        return known[1]

    def forget(self, ref: Ref) -> None:
        """See `Acknowledged.forget`."""
        self._made.discard(ref.dataset)

    def close(self) -> None:
        """Close the database that shapes the tail."""
        self._shaper.close()


def _read_until(log: Log, start: Offsets, end: Offsets) -> tuple[dict[str, Backlog], tuple[Offsets, Offsets]]:
    """Like `backlog.read_until`, also returning the offsets. The start is later than `start` if rows were trimmed meanwhile."""
    while True:
        try:
            return backlog.read_until(log, start, end), (start, end)
        except OffsetTrimmedError:
            start = {partition: max(offset, start[partition]) for partition, offset in backlog.positions(log).items()}
            end = {partition: max(offset, start[partition]) for partition, offset in end.items()}


def _ends(log: Log) -> Offsets:
    return {partition: log.end(partition) for partition in range(log.partitions)}
