"""What brings one dataset's rows of a log into one table, each exactly once."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa

from sokuji.config import LakeSettings
from sokuji.errors import AlreadyExistsError, LakeError, NotFoundError
from sokuji.lake import backlog
from sokuji.lake.backlog import Backlog
from sokuji.lake.base import Lake, Snapshot
from sokuji.lake.events import EVENTS, FIXED_SCHEMA, TIME_COLUMN, Shaper, property_columns, table_definition
from sokuji.lake.seen import Ids, Seen
from sokuji.log.base import Log
from sokuji.meta.base import Catalog, Ref, TableKind


class Written(NamedTuple):
    """What became of the rows given to a writer; rows that the table had before are neither."""

    rows: int
    duplicates: int


class Writer(ABC):
    """Writes to one table and nobody else's commits to it carry offsets of this log."""

    def __init__(self, ref: Ref, log: Log, lake: Lake, catalog: Catalog, schema: pa.Schema, *, day_of: str) -> None:
        """Make the table, its dataset and its definition if they are not there."""
        self.ref, self.lake, self.catalog = ref, lake, catalog
        self.applications = backlog.applications(log)
        make_table(lake, ref, schema, day_of=day_of)
        self._check(log)
        self.define()

    def _check(self, log: Log) -> None:
        """That the table was committed from this log: the rows of another one would be taken for rows that it has."""
        for partition, offset in committed_offsets(self.snapshot(), self.applications).items():
            if offset > log.end(partition):
                raise LakeError(
                    f"table {self.ref} has {offset:,} rows of partition {partition} of the log {log.name!r}, which ends at"
                    f" {log.end(partition):,}: it is another log; restore the old one, or DROP SCHEMA {self.ref.dataset} CASCADE"
                )

    def snapshot(self) -> Snapshot:
        """The table's newest version with the offsets committed."""
        return self.lake.snapshot(self.ref, applications=list(self.applications.values()))

    def define(self) -> None:
        """Bring the catalog up to the table's columns."""
        define(self.catalog, self.ref, self.snapshot().schema)

    def transactions(self, following: Mapping[int, int]) -> dict[str, int]:
        """Offsets by partition as the table's commits name them."""
        return {self.applications[partition]: offset for partition, offset in following.items()}

    def write(self, rows: Backlog, following: Mapping[int, int]) -> Written:
        """Commit the rows that the table does not have, and that all before `following` are there.

        Raises:
            LakeError: the table was changed meanwhile in a way that needs a new writer. Nothing was committed.
        """
        committed = committed_offsets(self.snapshot(), self.applications)
        further = {partition: offset for partition, offset in following.items() if offset > committed.get(partition, 0)}
        return self._write(rows, rows.from_offsets(committed), self.transactions(further))

    @abstractmethod
    def _write(self, rows: Backlog, new: backlog.Mask, transactions: Mapping[str, int]) -> Written:
        """Commit those of the rows that are `new` to the table, with these offsets unless there are none."""


class EventsWriter(Writer):
    """The `events` table: shaped rows, without duplicates."""

    def __init__(
        self, dataset: str, log: Log, lake: Lake, catalog: Catalog, *, shaper: Shaper, folder: Path, settings: LakeSettings
    ) -> None:
        super().__init__(Ref(dataset, EVENTS), log, lake, catalog, FIXED_SCHEMA, day_of=TIME_COLUMN)
        self._shaper = shaper
        self._columns = property_columns(self.snapshot().schema)
        self._seen = open_seen(folder, dataset, settings)
        transactions = self.snapshot().transactions
        if not self._seen.reflects(transactions):
            self._seen.clear()
        if self._seen.offsets is None:
            self._recall(settings)

    def _recall(self, settings: LakeSettings) -> None:
        """Learn the messages in the window from the table, for want of files."""
        snapshot = self.snapshot()
        if snapshot.files:
            table = "read_parquet($files, union_by_name = true)"
            hours = math.ceil(settings.deduplication_hours) + 1  # what comes next may be an hour older than the newest
            start = f"SELECT max(received_at) - to_hours({hours}) FROM {table}"
            query = f"SELECT source, message_id, received_at FROM {table} WHERE received_at >= ({start}) ORDER BY received_at"
            with duckdb.connect() as connection:
                for batch in connection.sql(query, params={"files": list(snapshot.files)}).to_arrow_reader(1_000_000):
                    rows = pa.table(batch)
                    self._seen.add(self._shaper.ids(rows), _newest_us(rows))
        self._seen.save(snapshot.transactions)

    def write(self, rows: Backlog, following: Mapping[int, int]) -> Written:
        """As `Writer.write`."""
        written = super().write(rows, following)
        # Not the table's transactions: after a crash they can lie further on than what was read again so far.
        self._seen.save(self.transactions(following))
        self.define()
        return written

    def _write(self, rows: Backlog, new: backlog.Mask, transactions: Mapping[str, int]) -> Written:
        ids, newest_us = self._shaper.ids(rows.rows), _newest_us(rows.rows)
        offsets = self._seen.offsets or {}
        saved = ~rows.from_offsets({partition: offsets.get(name, 0) for partition, name in self.applications.items()})
        self._learn(ids.take(~new & ~saved), newest_us)
        fresh = new.copy()
        fresh[new] = self._seen.is_new(ids.take(new))
        if transactions:
            placed = rows.placed()
            chosen = placed if fresh.all() else placed.filter(pa.array(fresh))
            self.lake.append(self.ref, self._shaper.shape(chosen, self._columns), transactions=transactions)
            self._seen.add(ids.take(fresh), newest_us)
        return Written(int(fresh.sum()), int(new.sum() - fresh.sum()))

    def _learn(self, ids: Ids, newest_us: int) -> None:
        """Remember the messages of rows that a sink committed and was killed before it could save them."""
        self._seen.add(ids.take(self._seen.is_new(ids)), newest_us)


class DecisionsWriter(Writer):
    """What was decided, as rows of the `events` table. Each decision is in its log once."""

    def __init__(self, dataset: str, log: Log, lake: Lake, catalog: Catalog, *, shaper: Shaper) -> None:
        super().__init__(Ref(dataset, EVENTS), log, lake, catalog, FIXED_SCHEMA, day_of=TIME_COLUMN)
        self._shaper = shaper

    def _write(self, rows: Backlog, new: backlog.Mask, transactions: Mapping[str, int]) -> Written:
        if transactions:
            columns = property_columns(self.snapshot().schema)  # the events' writer may have added some
            self.lake.append(self.ref, self._shaper.shape(rows.rows.filter(pa.array(new)), columns), transactions=transactions)
            self.define()
        return Written(int(new.sum()), 0)


class PlainWriter(Writer):
    """A table whose rows are as they are in the log, but for the dataset."""

    def __init__(self, ref: Ref, log: Log, lake: Lake, catalog: Catalog, *, day_of: str) -> None:
        schema = log.schema.remove(log.schema.get_field_index("dataset"))
        super().__init__(ref, log, lake, catalog, schema, day_of=day_of)

    def _write(self, rows: Backlog, new: backlog.Mask, transactions: Mapping[str, int]) -> Written:
        if transactions:
            chosen = rows.rows.filter(pa.array(new)).drop_columns("dataset")
            self.lake.append(self.ref, chosen.to_reader(), transactions=transactions)
        return Written(int(new.sum()), 0)


def make_table(lake: Lake, ref: Ref, schema: pa.Schema, *, day_of: str) -> None:
    """Make a table that is fed from a log, unless it is there."""
    try:
        lake.snapshot(ref)
    except NotFoundError:
        with suppress(AlreadyExistsError):  # another process may want it, too
            lake.create(ref, schema, day_of=day_of)


def define(catalog: Catalog, ref: Ref, schema: pa.Schema) -> None:
    """Bring the definition of an events table up to `schema`; make it, and its dataset, if they are not there.

    Raises:
        LakeError: the name is taken by a table that is not fed from the log.
    """
    try:
        known = catalog.table(ref)
    except NotFoundError:
        known = None
        catalog.create_dataset(ref.dataset, if_not_exists=True)
    if known is not None and known.kind is not TableKind.EVENTS:
        raise LakeError(f"{ref} is a {known.kind}, but the dataset's events belong there; rename or drop it")
    table = table_definition(ref, schema, known)
    if table is not known:
        catalog.put_table(table, replace=True)


def committed_offsets(snapshot: Snapshot, applications: Mapping[int, str]) -> dict[int, int]:
    """By partition, the offset before which all rows are in the table; partitions it has no commit of are absent."""
    return {partition: snapshot.transactions[name] for partition, name in applications.items() if name in snapshot.transactions}


def open_seen(folder: Path, dataset: str, settings: LakeSettings) -> Seen:
    """The messages in a dataset's events table."""
    window = max(1, round(settings.deduplication_hours * 60))
    return Seen(folder / "seen" / dataset, window_minutes=window, ids_max=settings.deduplication_ids)


def _newest_us(rows: pa.Table) -> int:
    return int(np.max(rows.column("received_at").cast(pa.int64()).to_numpy(), initial=0))
