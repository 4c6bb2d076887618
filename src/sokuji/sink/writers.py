"""Write one dataset's rows of a log into one table, each exactly once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from sokuji.dedup.rule import RepeatRule
from sokuji.dedup.runs import Seen
from sokuji.errors import AlreadyExistsError, LakeError, NotFoundError, StaleTableError
from sokuji.lake.base import Kept, Lake, Snapshot
from sokuji.lake.events import (
    BAD_EVENTS,
    BAD_EVENTS_SCHEMA,
    EVENTS,
    FIXED_SCHEMA,
    IDENTITIES,
    IDENTITIES_SCHEMA,
    NOTHING_SAID,
    TIME_COLUMN,
    property_columns,
    table_definition,
)
from sokuji.log.base import Log
from sokuji.meta.base import Catalog
from sokuji.meta.objects import Ref, TableKind
from sokuji.sink import backlog
from sokuji.sink.backlog import Backlog
from sokuji.sink.committed import Committed
from sokuji.sink.recall import recalled
from sokuji.sink.shape import Shaper
from sokuji.sink.sightings import Sightings

_TABLES = {
    EVENTS: (FIXED_SCHEMA, TIME_COLUMN),
    BAD_EVENTS: (BAD_EVENTS_SCHEMA, "received_at"),
    IDENTITIES: (IDENTITIES_SCHEMA, "known_at"),
}
"""The tables that a dataset has from the start: their columns, and the column whose day partitions the table."""


class Written(NamedTuple):
    """The number of rows written, and of repeats. Rows that the table already had count as neither."""

    rows: int
    duplicates: int


class Writer(ABC):
    """Writes to one table. Only this writer's commits to the table have offsets of this log."""

    def __init__(self, ref: Ref, log: Log, lake: Lake, catalog: Catalog, schema: pa.Schema, *, day_of: str) -> None:
        """Create the table, its dataset and its definition, unless they exist."""
        self.ref, self.lake, self.catalog = ref, lake, catalog
        self.applications = backlog.applications(log)
        make_table(lake, ref, schema, day_of=day_of)
        self._check(log)
        self.define()

    def _check(self, log: Log) -> None:
        """Check that the table was committed from this log. Otherwise rows of this log would seem to be in the table."""
        for partition, offset in committed_offsets(self.snapshot(), self.applications).items():
            if offset > log.end(partition):
                raise LakeError(
                    f"table {self.ref} has partition {partition} of the log {log.name!r} up to offset {offset:,}, which ends at"
                    f" {log.end(partition):,}: it is another log; restore the old one, or DROP SCHEMA {self.ref.dataset} CASCADE"
                )

    def snapshot(self) -> Snapshot:
        """The table's newest version, with the committed offsets."""
        return self.lake.snapshot(self.ref, applications=list(self.applications.values()))

    def define(self) -> None:
        """Update the catalog to the table's columns."""
        snapshot = self.snapshot()
        define(self.catalog, self.ref, snapshot.schema, snapshot.kept)

    def transactions(self, following: Mapping[int, int]) -> dict[str, int]:
        """Offsets by partition, under the names used in the table's commits."""
        return {self.applications[partition]: offset for partition, offset in following.items()}

    def write(self, rows: Backlog, following: Mapping[int, int], said: Committed) -> Written:
        """Commit the rows that the table lacks, and record that all rows before `following` are in the table.

        Raises:
            StaleTableError: by the sink's record `said`, the table lacks rows that it had. Nothing was committed.
            LakeError: the table was changed in a way that needs a new writer. Nothing was committed.
        """
        committed = committed_offsets(self.snapshot(), self.applications)
        if missing := said.missing_from(self.ref.dataset, committed):
            raise StaleTableError(
                f"table {self.ref} was replaced by an older copy, which lacks rows from {missing} on; start the sink again"
            )
        further = {partition: offset for partition, offset in following.items() if offset > committed.get(partition, 0)}
        return self._write(rows, rows.from_offsets(committed), self.transactions(further))

    @abstractmethod
    def _write(self, rows: Backlog, new: backlog.Mask, transactions: Mapping[str, int]) -> Written:
        """Commit the rows that are `new` to the table, with these offsets. If there are none, nothing is committed."""


class EventsWriter(Writer):
    """Writes the `events` table: shaped rows, without duplicates."""

    def __init__(self, dataset: str, log: Log, lake: Lake, catalog: Catalog, *, shaper: Shaper, folder: Path, rule: RepeatRule) -> None:
        make_tables(lake, catalog, [dataset])
        super().__init__(Ref(dataset, EVENTS), log, lake, catalog, FIXED_SCHEMA, day_of=TIME_COLUMN)
        self._shaper = shaper
        snapshot = self.snapshot()
        self._columns, self._kept = property_columns(snapshot.schema), snapshot.kept
        self._sightings = Sightings(folder, dataset)
        self._seen = open_seen(folder, dataset, rule, check=True)
        self._recall(log, rule)

    def _recall(self, log: Log, rule: RepeatRule) -> None:
        """Add messages that the files lack: all if the files are lost, the last ones if a sink was killed before it saved them."""
        snapshot = self.snapshot()
        if not self._seen.reflects(snapshot.transactions):
            self._seen.clear()
        known = self._seen.offsets or {}
        since = {partition: known.get(name, 0) for partition, name in self.applications.items()}
        committed = committed_offsets(snapshot, self.applications)
        for rows, places in recalled(self.ref.dataset, log, self.lake, snapshot, rule, committed, since):
            ids = self._shaper.ids(pa.Table.from_batches([rows]))
            new = self._seen.is_new(ids, places)
            self._seen.add(ids.take(new), places.take(new))
        self._seen.save(snapshot.transactions)

    def write(self, rows: Backlog, following: Mapping[int, int], said: Committed) -> Written:
        """See `Writer.write`."""
        written = super().write(rows, following, said)
        self._seen.save(self.transactions(following))
        self._sightings.save()
        self.define()
        return written

    def _write(self, rows: Backlog, new: backlog.Mask, transactions: Mapping[str, int]) -> Written:
        ids = self._shaper.ids(rows.rows)
        fresh = new.copy()
        fresh[new] = self._seen.is_new(ids.take(new), rows.places.take(new))
        if transactions:
            placed = rows.placed()
            chosen = placed if fresh.all() else placed.filter(pa.array(fresh))
            shaped = self._shaper.shape(chosen, self._columns, self._kept, self._sightings.counts)
            self.lake.append(self.ref, shaped, transactions=transactions)
            self._seen.add(ids.take(fresh), rows.places.take(fresh))
        return Written(int(fresh.sum()), int(new.sum() - fresh.sum()))


class DecisionsWriter(Writer):
    """Writes decisions as rows of the `events` table. Each decision is in its log once."""

    def __init__(self, dataset: str, log: Log, lake: Lake, catalog: Catalog, *, shaper: Shaper) -> None:
        super().__init__(Ref(dataset, EVENTS), log, lake, catalog, FIXED_SCHEMA, day_of=TIME_COLUMN)
        self._shaper = shaper

    def _write(self, rows: Backlog, new: backlog.Mask, transactions: Mapping[str, int]) -> Written:
        if transactions:
            snapshot = self.snapshot()  # the writer of events may have added columns
            shaped = self._shaper.shape(rows.rows.filter(pa.array(new)), property_columns(snapshot.schema), snapshot.kept)
            self.lake.append(self.ref, shaped, transactions=transactions)
            self.define()
        return Written(int(new.sum()), 0)


class PlainWriter(Writer):
    """Writes a table with the unchanged rows of the log, without the dataset."""

    def __init__(self, ref: Ref, log: Log, lake: Lake, catalog: Catalog, *, day_of: str) -> None:
        schema = log.schema.remove(log.schema.get_field_index("dataset"))
        super().__init__(ref, log, lake, catalog, schema, day_of=day_of)

    def _write(self, rows: Backlog, new: backlog.Mask, transactions: Mapping[str, int]) -> Written:
        if transactions:
            chosen = rows.rows.filter(pa.array(new)).drop_columns("dataset")
            self.lake.append(self.ref, chosen.to_reader(), transactions=transactions)
        return Written(int(new.sum()), 0)


def make_table(lake: Lake, ref: Ref, schema: pa.Schema, *, day_of: str) -> None:
    """Create a table that is fed from a log, unless it exists."""
    try:
        lake.snapshot(ref)
    except NotFoundError:
        with suppress(AlreadyExistsError):  # another process may create it at the same time
            lake.create(ref, schema, day_of=day_of)


def make_tables(lake: Lake, catalog: Catalog, datasets: Iterable[str]) -> None:
    """Create the tables that datasets have from the start, so that a query of an empty `bad_events` finds no rows instead of an error."""
    for dataset in datasets:
        catalog.create_dataset(dataset, if_not_exists=True)
        known = {table.ref for table in catalog.tables(dataset)}
        for name, (schema, day_of) in _TABLES.items():
            ref = Ref(dataset, name)
            if ref not in known:
                make_table(lake, ref, schema, day_of=day_of)
                define(catalog, ref, schema)


def define(catalog: Catalog, ref: Ref, schema: pa.Schema, kept: Mapping[str, Kept] = NOTHING_SAID) -> None:
    """Update the definition of an events table to `schema`. Create the definition and its dataset if they do not exist.

    Raises:
        LakeError: a table that is not fed from the log has this name.
    """
    try:
        known = catalog.table(ref)
    except NotFoundError:
        known = None
        catalog.create_dataset(ref.dataset, if_not_exists=True)
    if known is not None and known.kind is not TableKind.EVENTS:
        raise LakeError(f"{ref} is a {known.kind}, but the dataset's events belong there; rename or drop it")
    table = table_definition(ref, schema, known, kept)
    if table is not known:
        catalog.put_table(table, replace=True)


def committed_offsets(snapshot: Snapshot, applications: Mapping[int, str]) -> dict[int, int]:
    """By partition, the offset before which all rows are in the table. Partitions without a commit are absent."""
    return {partition: snapshot.transactions[name] for partition, name in applications.items() if name in snapshot.transactions}


def open_seen(folder: Path, dataset: str, rule: RepeatRule, *, check: bool = False) -> Seen:
    """The index of messages in a dataset's events table; see `Seen`."""
    return Seen(folder / "seen" / dataset, rule, check=check)
