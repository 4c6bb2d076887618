"""The lake as Delta tables on a local disk: `<root>/<dataset>/<name>`."""

from __future__ import annotations

import datetime as dt
import logging
import math
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from sokuji.errors import AlreadyExistsError, LakeError, NotFoundError
from sokuji.lake import commits
from sokuji.lake.base import Lake, Snapshot
from sokuji.lake.commits import Version
from sokuji.lake.files import DAY, with_day, without_day, write_files
from sokuji.lake.physical import stored
from sokuji.log.files import exclusive, make_folder, shared
from sokuji.meta.base import Ref

_COMMIT_ATTEMPTS = 100
_DAY_OF = "sokuji.dayOf"  # the table property that names the column whose day the files are partitioned by
_DROPPED = ".dropped"  # where folders of dropped tables go until they are deleted
_VACUUM_SECONDS = 3600.0
# Compaction in two steps, (file size, how many smaller ones make it worth it): a byte is rewritten a few times, not at each round.
_COMPACTION = ((16 * 1024 * 1024, 20), (256 * 1024 * 1024, 8))


_LOG = logging.getLogger(__name__)


class DeltaLake(Lake):
    """Tables that any number of processes may use at the same time: commits are optimistic. Thread-safe."""

    def __init__(self, root: Path | str, *, time_travel_hours: float = 168.0) -> None:
        """Use the folder `root`. `time_travel_hours` is how long the files of old versions are kept."""
        self._root = Path(root)
        make_folder(self._root)
        # Shared by those who commit, exclusive for who drops: a commit to a table that was just dropped would leave a broken one.
        self._lock = self._root / ".lock"
        self._retention = dt.timedelta(hours=time_travel_hours)
        # Opening reads the whole table log, so tables are kept. Two threads cannot share one: whoever uses it takes it out.
        self._idle: dict[Ref, tuple[Version, DeltaTable]] = {}
        self._snapshots: dict[Ref, tuple[Version, Snapshot]] = {}
        self._vacuumed: dict[Ref, float] = {}

    def create(self, ref: Ref, schema: pa.Schema, *, day_of: str | None = None) -> None:
        """As `Lake.create`."""
        folder = self._folder(ref)
        if DeltaTable.is_deltatable(str(folder)):
            raise AlreadyExistsError(f"table {ref} already exists in the lake")
        seconds = int(self._retention.total_seconds())
        configuration = {_DAY_OF: day_of} if day_of is not None else {}
        configuration |= {
            "delta.deletedFileRetentionDuration": f"interval {seconds} seconds",
            "delta.enableExpiredLogCleanup": "false",  # it would delete versions that time travel needs: see commits.forget
        }
        with _lake_errors(ref), shared(self._lock):
            DeltaTable.create(
                str(folder),
                with_day(stored(schema.empty_table().to_reader()), day_of).schema,
                partition_by=None if day_of is None else [DAY],
                configuration=configuration,
                raise_if_key_not_exists=False,  # Delta does not know _DAY_OF
            )

    def drop(self, ref: Ref) -> None:
        """As `Lake.drop`. A query that is reading the files fails."""
        grave = self._root / _DROPPED / uuid.uuid4().hex
        grave.parent.mkdir(exist_ok=True)
        with _lake_errors(ref), exclusive(self._lock):
            self._folder(ref).rename(grave)  # the table is gone at once; deleting its files takes a while
        shutil.rmtree(grave)

    def snapshot(self, ref: Ref, *, at: dt.datetime | None = None, applications: Sequence[str] = ()) -> Snapshot:
        """As `Lake.snapshot`. Costs microseconds while the table does not change."""
        if at is not None:
            return self._at(ref, at, applications)
        known = self._snapshots.get(ref)
        if known is not None and known[0].is_newest() and known[1].transactions.keys() >= set(applications):
            return known[1]
        with self._table(ref) as table:
            snapshot = _snapshot(table, applications)
            self._snapshots[ref] = (Version.of(self._folder(ref), table.version()), snapshot)
        return snapshot

    def settle(self, ref: Ref) -> None:
        """As `Lake.settle`: nothing is in a log here."""

    def append(self, ref: Ref, rows: pa.RecordBatchReader, *, transactions: Mapping[str, int] | None = None) -> int:
        """As `Lake.append`."""
        transactions = transactions or {}
        with self._table(ref) as table:
            before = table.version()
            prepared = _prepared(ref, table, rows)
            present = set(pa.schema(table.schema()).names)
            added = [field for field in prepared.schema if field.name not in present]
            if added:
                table.alter.add_columns(list(Schema.from_arrow(pa.schema(added)).fields))
        files = self._write_files(ref, prepared)

        def commit(table: DeltaTable) -> None:
            for name, number in transactions.items():
                committed = table.transaction_version(name)
                if committed is not None and committed >= number:
                    raise LakeError(f"table {ref}: {name} has committed {committed} already; {number} does not follow it")
            _check_columns(ref, table, prepared.schema)
            _commit(table, files, "append", table.schema(), transactions)

        return self._commit_next(ref, commit, before)

    def replace(self, ref: Ref, rows: pa.RecordBatchReader, *, read_version: int | None = None) -> int:
        """As `Lake.replace`."""
        with self._table(ref) as table:
            before = table.version()
            prepared = with_day(stored(rows), table.metadata().configuration.get(_DAY_OF))
        added = self._write_files(ref, prepared)

        def commit(table: DeltaTable) -> None:
            if read_version is not None and table.version() != read_version:
                raise _changed(ref)
            _commit(table, added, "overwrite", prepared.schema)

        return self._commit_next(ref, commit, before)

    def rewrite(self, ref: Ref, files: Sequence[str], rows: pa.RecordBatchReader, *, read_version: int) -> int:
        """As `Lake.rewrite`."""
        folder = self._folder(ref)
        with self._table(ref) as table:
            before = table.version()
            prepared = _prepared(ref, table, rows)
        added = self._write_files(ref, prepared)

        def commit(table: DeltaTable) -> None:
            if table.version() < read_version or not set(table.file_uris()).issuperset(files):
                raise _changed(ref)
            now_ms = time.time_ns() // 1_000_000
            removed = [RemoveAction(str(Path(file).relative_to(folder)), data_change=True, deletion_timestamp=now_ms) for file in files]
            _commit(table, [*removed, *added], "append", table.schema())

        return self._commit_next(ref, commit, before)

    def _write_files(self, ref: Ref, rows: pa.RecordBatchReader) -> list[AddAction]:
        with _lake_errors(ref):
            return write_files(self._folder(ref), rows)

    def _commit_next(self, ref: Ref, commit: Callable[[DeltaTable], None], before: int) -> int:
        """Call `commit` with the newest version until it is the one to make the next; return that, all after `before` being durable.

        Delta's own resolution of conflicts is not enough for a commit that removes files: it does not see that a compaction has
        replaced them, so that their rows would be there twice.
        """
        for _ in range(_COMMIT_ATTEMPTS):
            with self._table(ref) as table:
                try:
                    commit(table)
                except CommitFailedError:
                    continue
                table.update_incremental()
                version = int(table.version())
                commits.sync(self._folder(ref), range(before + 1, version + 1))
                return version
        raise _changed(ref)

    def maintain(self, refs: Iterable[Ref]) -> None:
        """As `Lake.maintain`. A table that someone else rewrites or drops meanwhile is left for the next time."""
        for ref in refs:
            try:
                with self._table(ref) as table:
                    _compact(table)
                with _lake_errors(ref), exclusive(self._lock):
                    commits.archive(self._folder(ref))
                if time.monotonic() - self._vacuumed.get(ref, -math.inf) >= _VACUUM_SECONDS:
                    self._vacuum(ref)
            except (LakeError, NotFoundError) as error:
                _LOG.warning("a table could not be maintained", extra={"table": str(ref), "error": str(error)})

    def _vacuum(self, ref: Ref) -> None:
        hours = math.ceil(self._retention.total_seconds() / 3600)
        with self._table(ref) as table:
            table.vacuum(retention_hours=hours, dry_run=False, enforce_retention_duration=False, full=True)
        commits.forget(self._folder(ref), time.time() - self._retention.total_seconds())
        self._vacuumed[ref] = time.monotonic()

    def _folder(self, ref: Ref) -> Path:
        for part in ref:
            if not part or part.startswith(".") or "/" in part:
                raise LakeError(f"{part!r} cannot name a table's folder")
        return self._root / ref.dataset / ref.name

    @contextmanager
    def _table(self, ref: Ref) -> Iterator[DeltaTable]:
        """The newest version of a table, for one thread, not dropped meanwhile. After an error it is not used again."""
        with _lake_errors(ref), shared(self._lock):
            known = self._idle.pop(ref, None)
            if known is not None and known[0].exists():
                table = known[1]
                if not known[0].is_newest():
                    table.update_incremental()
            else:
                table = DeltaTable(str(self._folder(ref)))
            yield table
            self._idle[ref] = (Version.of(self._folder(ref), table.version()), table)

    def _at(self, ref: Ref, at: dt.datetime, applications: Sequence[str]) -> Snapshot:
        if at < dt.datetime.now(dt.UTC) - self._retention:
            hours = self._retention.total_seconds() / 3600
            raise LakeError(f"table {ref} cannot be read as of {at.isoformat()}: old versions are kept for {hours:g} hours")
        folder = self._folder(ref)
        with _lake_errors(ref), shared(self._lock):
            for root in (folder, *commits.history(folder)):
                table = DeltaTable(str(root))
                table.load_as_version(at)
                if commits.written_at(root, table.version()) <= at:
                    snapshot = _snapshot(table, applications)
                    return replace(snapshot, files=tuple(str(folder / Path(file).relative_to(root)) for file in snapshot.files))
        raise LakeError(f"table {ref} cannot be read as of {at.isoformat()}: it did not exist yet")


def _snapshot(table: DeltaTable, applications: Sequence[str]) -> Snapshot:
    numbers = ((name, table.transaction_version(name)) for name in applications)
    return Snapshot(
        files=tuple(table.file_uris()),
        schema=without_day(pa.schema(table.schema())),
        version=table.version(),
        transactions={name: number for name, number in numbers if number is not None},
    )


def _prepared(ref: Ref, table: DeltaTable, rows: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """Rows to be added, as the files have them."""
    rows = with_day(stored(rows), table.metadata().configuration.get(_DAY_OF))
    _check_columns(ref, table, rows.schema)
    return rows


def _check_columns(ref: Ref, table: DeltaTable, schema: pa.Schema) -> None:
    columns = {field.name: field.type for field in pa.schema(table.schema())}
    for field in schema:
        if columns.get(field.name, field.type) != field.type:
            raise LakeError(f"table {ref}: column {field.name!r} holds {columns[field.name]}, not {field.type}")
    taken = {name.lower() for name in columns}
    for name in schema.names:
        if name not in columns and name.lower() in taken:
            raise LakeError(f"table {ref}: column {name!r} differs from another one only in case")
        taken.add(name.lower())


def _compact(table: DeltaTable) -> None:
    for target_bytes, count_min in _COMPACTION:
        for partition, count in _small_files(table, target_bytes).items():
            if count >= count_min:
                table.optimize.compact(
                    partition_filters=[(name, "=", value) for name, value in partition] or None,
                    target_size=target_bytes,
                    max_concurrent_tasks=1,
                )


def _small_files(table: DeltaTable, below_bytes: int) -> dict[tuple[tuple[str, str], ...], int]:
    """How many files are smaller, by partition."""
    names = table.metadata().partition_columns
    found: dict[tuple[tuple[str, str], ...], int] = {}
    for action in pa.table(table.get_add_actions(flatten=True)).to_pylist():
        if action["size_bytes"] < below_bytes:
            partition = tuple((name, str(action[f"partition.{name}"])) for name in names)
            found[partition] = found.get(partition, 0) + 1
    return found


def _commit(
    table: DeltaTable, actions: Sequence[AddAction | RemoveAction], mode: str, schema: Any, transactions: Mapping[str, int] | None = None
) -> None:
    """Raises CommitFailedError unless this makes the version after the table's."""
    applications = [Transaction(name, number) for name, number in (transactions or {}).items()]
    properties = CommitProperties(max_commit_retries=0, app_transactions=applications)
    table.create_write_transaction(list(actions), mode, schema, table.metadata().partition_columns, commit_properties=properties)


def _changed(ref: Ref) -> LakeError:
    return LakeError(f"table {ref} was changed by someone else meanwhile; run the statement again")


@contextmanager
def _lake_errors(ref: Ref) -> Iterator[None]:
    try:
        yield
    except CommitFailedError as error:
        raise _changed(ref) from error
    except (TableNotFoundError, FileNotFoundError) as error:
        raise NotFoundError(f"table {ref} is not in the lake") from error
    except DeltaError as error:
        raise LakeError(f"table {ref}: {error}") from error
