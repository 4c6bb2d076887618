"""The lake as Delta tables on a local disk: `<root>/<dataset>/<name>`."""

from __future__ import annotations

import datetime as dt
import json
import logging
import math
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from sokuji.disk.files import exclusive, shared
from sokuji.disk.stored import claim
from sokuji.errors import AlreadyExistsError, DamagedFileError, FormatError, LakeError, NotFoundError
from sokuji.lake.base import Kept, Lake, Snapshot
from sokuji.lake.columns import changed, check_columns, visible
from sokuji.lake.delta import commits, compaction
from sokuji.lake.delta.commits import Version
from sokuji.lake.delta.files import DAY, by_time, joined, with_columns, with_day, without_day, write_files
from sokuji.lake.delta.scan import scan
from sokuji.lake.delta.sums import check, is_sealed
from sokuji.lake.stored import stored, stored_schema
from sokuji.meta.objects import Ref

_FORMAT = 1
_COMMIT_ATTEMPTS = 100
_DAY_OF = "sokuji.dayOf"  # the table property that names the column whose day partitions the files
_KEPT = "sokuji.properties"  # the table property with the settings of `keep`, as JSON
_DROPPED = ".dropped"  # the folder of dropped tables, until they are deleted
_NOT_DELTAS = re.compile("%[0-9A-Fa-f]{2}|[\\\\\\x00-\\x1f\\x7f]")  # these parts of a path
_NEWER = "Unsupported minimum reader version"  # Delta's error about a table's protocol
_VACUUM_SECONDS = 3600.0
_LOG = logging.getLogger(__name__)


class DeltaLake(Lake):
    """Tables that any number of processes may use at the same time. Commits are optimistic. Thread-safe."""

    def __init__(self, root: Path | str, *, time_travel_hours: float = 168.0) -> None:
        """Use the folder `root`. The files of old versions are kept for `time_travel_hours`.

        Raises:
            LakeError: the folder has a name that Delta cannot use.
            FormatError: a newer release wrote the folder.
        """
        self._root = Path(root)
        if (found := _NOT_DELTAS.search(str(self._root.absolute()))) is not None:
            raise LakeError(
                f"the lake cannot be in {str(self._root)!r}, which has {found.group()!r} in it: Delta reads a backslash as a slash, '%' "
                "and two digits for a character, and no control characters; rename the folder"
            )
        claim(self._root / ".format.json", format=_FORMAT)
        # Commits hold it shared, drops exclusive: a commit to a table that was just dropped would leave a broken table.
        self._lock = self._root / ".lock"
        self._retention = dt.timedelta(hours=time_travel_hours)
        # Opening reads the whole table log, so open tables are kept. Two threads cannot share one: a thread takes it out while it uses it.
        self._idle: dict[Ref, tuple[Version, DeltaTable]] = {}
        self._snapshots: dict[Ref, tuple[Version, Snapshot]] = {}
        self._vacuumed: dict[Ref, float] = {}

    def create(self, ref: Ref, schema: pa.Schema, *, day_of: str | None = None) -> None:
        """See `Lake.create`."""
        folder = self._folder(ref)
        if DeltaTable.is_deltatable(str(folder)):
            raise AlreadyExistsError(f"table {ref} already exists in the lake")
        seconds = int(self._retention.total_seconds())
        configuration = {_DAY_OF: day_of} if day_of is not None else {}
        configuration |= {
            "delta.deletedFileRetentionDuration": f"interval {seconds} seconds",
            "delta.enableExpiredLogCleanup": "false",  # cleanup would delete versions that time travel needs: see commits.forget
        }
        with _lake_errors(ref), shared(self._lock):
            commits.check(folder, -1)
            DeltaTable.create(
                str(folder),
                with_day(stored(schema.empty_table().to_reader()), day_of).schema,
                partition_by=None if day_of is None else [DAY],
                configuration=configuration,
                raise_if_key_not_exists=False,  # Delta does not know _DAY_OF
            )
            commits.sync(folder, [0])

    def drop(self, ref: Ref) -> None:
        """See `Lake.drop`. A query that is reading the files fails."""
        grave = self._root / _DROPPED / uuid.uuid4().hex
        grave.parent.mkdir(exist_ok=True)
        with _lake_errors(ref), exclusive(self._lock):
            self._folder(ref).rename(grave)  # the table disappears immediately; deleting its files takes time
        shutil.rmtree(grave)

    def stored(self) -> list[Ref]:
        """The tables that have files here, in the catalog or not, sorted."""
        return sorted(Ref(*log.parent.relative_to(self._root).parts) for log in self._root.glob("[!.]*/[!.]*/_delta_log"))

    def snapshot(self, ref: Ref, *, at: dt.datetime | None = None, applications: Sequence[str] = ()) -> Snapshot:
        """See `Lake.snapshot`. Takes microseconds while the table does not change."""
        if at is not None:
            return self._at(ref, at, applications)
        known = self._snapshots.get(ref)
        if known is not None and known[0].is_newest() and known[1].transactions.keys() >= set(applications):
            return known[1]
        with self._table(ref) as table:
            snapshot = _snapshot(table, self._folder(ref), applications)
            self._snapshots[ref] = (Version.of(self._folder(ref), table.version()), snapshot)
        return snapshot

    def scan(self, snapshot: Snapshot, columns: Sequence[str] | None = None, where: pc.Expression | None = None) -> pa.RecordBatchReader:
        """See `Lake.scan`."""
        return scan(snapshot, snapshot.schema.names if columns is None else columns, where)

    def append(
        self, ref: Ref, rows: pa.RecordBatchReader, *, transactions: Mapping[str, int] | None = None, expected: pa.Schema | None = None
    ) -> int:
        """See `Lake.append`."""
        transactions = transactions or {}
        with self._table(ref) as table:
            before = table.version()
            _check_expected(ref, table, expected)
            prepared, day_of = _prepared(ref, table, rows)
            present = set(pa.schema(table.schema()).names)
            added = [field for field in prepared.schema if field.name not in present]
            if added:
                table.alter.add_columns(list(Schema.from_arrow(pa.schema(added)).fields))
                expected = expected and _visible(table)
        files = self._write_files(ref, prepared, day_of)

        def commit(table: DeltaTable) -> None:
            for name, number in transactions.items():
                committed = table.transaction_version(name)
                if committed is not None and committed >= number:
                    raise LakeError(f"table {ref}: {name} has committed {committed} already; {number} does not follow it")
            _check_expected(ref, table, expected)
            _check_columns(ref, table, prepared.schema)
            _commit(table, files, "append", table.schema(), transactions)

        return self._commit_next(ref, commit, before)

    def add_columns(self, ref: Ref, columns: pa.Schema, *, expected: pa.Schema) -> int:
        """See `Lake.add_columns`. Delta refuses this if another change of the schema happens at the same time."""
        columns = stored_schema(columns)
        with self._table(ref) as table:
            before = table.version()
            _check_expected(ref, table, expected)
            _check_columns(ref, table, columns)
            table.alter.add_columns(list(Schema.from_arrow(columns).fields))
            version = int(table.version())
            commits.sync(self._folder(ref), range(before + 1, version + 1))
        return version

    def replace(self, ref: Ref, rows: pa.RecordBatchReader, *, read_version: int | None = None) -> int:
        """See `Lake.replace`."""
        with self._table(ref) as table:
            before = table.version()
            day_of = table.metadata().configuration.get(_DAY_OF)
            prepared = with_day(stored(rows), day_of)
        added = self._write_files(ref, prepared, day_of)

        def commit(table: DeltaTable) -> None:
            if read_version is not None and table.version() != read_version:
                raise changed(ref)
            _commit(table, added, "overwrite", prepared.schema)

        return self._commit_next(ref, commit, before)

    def rewrite(self, ref: Ref, files: Sequence[str], rows: pa.RecordBatchReader, *, read_version: int | None = None) -> int:
        """See `Lake.rewrite`."""
        folder = self._folder(ref)
        with self._table(ref) as table:
            before = table.version()
            prepared, day_of = _prepared(ref, table, rows)
        added = self._write_files(ref, prepared, day_of)

        def commit(table: DeltaTable) -> None:
            is_other = read_version is not None and table.version() != read_version
            if is_other or not set(_files(table, folder)).issuperset(files):
                raise changed(ref)
            now_ms = time.time_ns() // 1_000_000
            removed = [RemoveAction(str(Path(file).relative_to(folder)), data_change=True, deletion_timestamp=now_ms) for file in files]
            _commit(table, [*removed, *added], "append", table.schema())

        return self._commit_next(ref, commit, before)

    def keep(self, ref: Ref, properties: Mapping[str, Kept]) -> None:
        """See `Lake.keep`."""
        wanted = {name.lower(): kept for name, kept in properties.items()}

        def commit(table: DeltaTable) -> None:
            before = _kept(table)
            if before != before | wanted:
                text = json.dumps({name: {"type": str(kept.type), "column": kept.has_column} for name, kept in (before | wanted).items()})
                table.alter.set_table_properties({_KEPT: text}, raise_if_not_exists=False)

        self._commit_next(ref, commit, self.snapshot(ref).version)

    def remake(self, ref: Ref, columns: Mapping[str, pa.DataType], values: Callable[[pa.Table], Mapping[str, pa.Array]]) -> int:
        """See `Lake.remake`."""
        folder = self._folder(ref)
        made: dict[str, list[AddAction]] = {}  # new files by the file that they replace

        def make(table: DeltaTable) -> list[AddAction]:
            names, day_of = _visible(table).names, table.metadata().configuration.get(_DAY_OF)
            files = _files(table, folder)
            check(set(files) - made.keys())
            for file in set(files) - made.keys():
                check([file], names)
                with pq.ParquetFile(file) as parquet:
                    rows = with_columns(parquet, names, columns, values, sealed=is_sealed(file))
                    made[file] = self._write_files(ref, with_day(rows, day_of), day_of)
            return [action for file in files for action in made[file]]

        with self._table(ref) as table:
            before = table.version()
        make(DeltaTable(str(folder), version=before))  # most of the work before the commit, while other writers continue

        def commit(table: DeltaTable) -> None:
            day_of, others = table.metadata().configuration.get(_DAY_OF), [field for field in _visible(table) if field.name not in columns]
            rows = pa.schema([*others, *columns.items()]).empty_table().to_reader()
            _commit(table, make(table), "overwrite", with_day(rows, day_of).schema)

        return self._commit_next(ref, commit, before)

    def _write_files(self, ref: Ref, rows: pa.RecordBatchReader, day_of: str | None) -> list[AddAction]:
        with _lake_errors(ref):
            return write_files(self._folder(ref), rows, day_of)

    def _commit_next(self, ref: Ref, commit: Callable[[DeltaTable], None], before: int) -> int:
        """Call `commit` with the newest version, again after conflicts, until it makes the next version. Returns that version.

        All versions after `before` are then durable. Delta's own conflict resolution is not enough for a commit that removes files: it does
        not notice that a compaction has already replaced them, so their rows would be there twice.
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
        raise changed(ref)

    def maintain(self, refs: Iterable[Ref]) -> None:
        """See `Lake.maintain`. A table that another process rewrites or drops in the meantime is skipped until the next time."""
        for ref in refs:
            try:
                self._compact(ref)
                with _lake_errors(ref), exclusive(self._lock):
                    commits.archive(self._folder(ref))
                if time.monotonic() - self._vacuumed.get(ref, -math.inf) >= _VACUUM_SECONDS:
                    self._vacuum(ref)
            except (LakeError, NotFoundError, DamagedFileError) as error:
                _LOG.warning("a table could not be maintained", extra={"table": str(ref), "error": str(error)})

    def _compact(self, ref: Ref) -> None:
        """Join small files by the lake's own writer, because Delta's writer would make files without checksums."""
        with self._table(ref) as table:
            columns, day_of = _visible(table), table.metadata().configuration.get(_DAY_OF)
            merged = list(compaction.across_days(table))
        for paths in merged:
            self._join(ref, paths, lambda rows: by_time(rows, day_of), columns, day_of)
        for step in compaction.STEPS:
            with self._table(ref) as table:
                packed = list(compaction.by_partition(table, *step))
            for paths in packed:
                self._join(ref, paths, lambda rows: with_day(rows, day_of), columns, day_of)

    def _join(
        self,
        ref: Ref,
        paths: Sequence[str],
        placed: Callable[[pa.RecordBatchReader], pa.RecordBatchReader],
        columns: pa.Schema,
        day_of: str | None,
    ) -> None:
        """Replace files by their rows, which `placed` puts into partitions."""
        folder = self._folder(ref)
        before, files = self.snapshot(ref).version, [str(folder / path) for path in paths]
        added = self._write_files(ref, placed(joined(files, columns, of_log=day_of is not None)), day_of)
        now_ms = time.time_ns() // 1_000_000
        removed = [RemoveAction(path, data_change=False, deletion_timestamp=now_ms) for path in paths]

        def commit(table: DeltaTable) -> None:
            if not set(_files(table, folder)).issuperset(files):
                raise changed(ref)
            _commit(table, [*removed, *added], "append", table.schema())

        self._commit_next(ref, commit, before)

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
        """The newest version of a table, for one thread. It cannot be dropped inside the block, and is not reused after an error."""
        with _lake_errors(ref), shared(self._lock):
            known = self._idle.pop(ref, None)
            if known is not None and known[0].exists():
                table = known[1]
                if not known[0].is_newest():
                    table.update_incremental()
                    commits.check(self._folder(ref), table.version(), known[0].number)
            else:
                table = _open(self._folder(ref))
                commits.check(self._folder(ref), table.version())
            yield table
            self._idle[ref] = (Version.of(self._folder(ref), table.version()), table)

    def _at(self, ref: Ref, at: dt.datetime, applications: Sequence[str]) -> Snapshot:
        if at < dt.datetime.now(dt.UTC) - self._retention:
            hours = self._retention.total_seconds() / 3600
            raise LakeError(f"table {ref} cannot be read as of {at.isoformat()}: old versions are kept for {hours:g} hours")
        folder = self._folder(ref)
        with _lake_errors(ref), shared(self._lock):
            for root in (folder, *commits.history(folder)):
                table = _open(root)
                table.load_as_version(at)
                commits.check(root, table.version())
                if commits.written_at(root, table.version()) <= at:
                    return _snapshot(table, folder, applications)
        raise LakeError(f"table {ref} cannot be read as of {at.isoformat()}: it did not exist yet")


def _open(folder: Path) -> DeltaTable:
    """Open the table in a folder. DamagedFileError names the damaged file of its log; FormatError means a newer format."""
    try:
        return DeltaTable(str(folder))
    except TableNotFoundError:
        commits.check(folder, -1)
        raise
    except DeltaError as error:
        reason = str(error).splitlines()[0]
        if _NEWER in reason:
            raise FormatError(
                f"{folder} has a format of Delta's that this release of sokuji does not know ({reason}): install the release that wrote it,"
                " or a newer one (docs/upgrade.md)"
            ) from error
        raise DamagedFileError(commits.damaged(folder), reason, "restore the table's folder from a copy") from error


def _snapshot(table: DeltaTable, folder: Path, applications: Sequence[str]) -> Snapshot:
    numbers = ((name, table.transaction_version(name)) for name in applications)
    return Snapshot(
        files=_files(table, folder),
        schema=_visible(table),
        version=table.version(),
        transactions={name: number for name, number in numbers if number is not None},
        kept=_kept(table),
    )


def _files(table: DeltaTable, folder: Path) -> tuple[str, ...]:
    """The paths of a table's files, below `folder`. Delta encodes the table's own path as in a URL."""
    root = urlsplit(table.table_uri).path
    return tuple(str(folder / file.removeprefix(root)) for file in table.file_uris())


def _visible(table: DeltaTable) -> pa.Schema:
    """The columns that readers see: all except those that properties must no longer have."""
    kept = _kept(table)
    columns = pa.schema(table.schema())
    if _DAY_OF in table.metadata().configuration:
        columns = without_day(columns)
    return visible(columns, kept)


def _kept(table: DeltaTable) -> dict[str, Kept]:
    said = json.loads(table.metadata().configuration.get(_KEPT, "{}"))
    return {name: Kept(pa.type_for_alias(each["type"]), each["column"]) for name, each in said.items()}


def _prepared(ref: Ref, table: DeltaTable, rows: pa.RecordBatchReader) -> tuple[pa.RecordBatchReader, str | None]:
    """Rows to add, as files store them, and the column that the day comes from."""
    day_of = table.metadata().configuration.get(_DAY_OF)
    rows = with_day(stored(rows), day_of)
    _check_columns(ref, table, rows.schema)
    return rows, day_of


def _check_expected(ref: Ref, table: DeltaTable, expected: pa.Schema | None) -> None:
    if expected is not None and not _visible(table).equals(expected, check_metadata=True):
        raise changed(ref)


def _check_columns(ref: Ref, table: DeltaTable, schema: pa.Schema) -> None:
    check_columns(ref, pa.schema(table.schema()), _kept(table), schema)


def _commit(
    table: DeltaTable, actions: Sequence[AddAction | RemoveAction], mode: str, schema: Any, transactions: Mapping[str, int] | None = None
) -> None:
    """Commit the version after the table's. Raises CommitFailedError if another commit made it."""
    applications = [Transaction(name, number) for name, number in (transactions or {}).items()]
    properties = CommitProperties(max_commit_retries=0, app_transactions=applications)
    table.create_write_transaction(list(actions), mode, schema, table.metadata().partition_columns, commit_properties=properties)


@contextmanager
def _lake_errors(ref: Ref) -> Iterator[None]:
    try:
        yield
    except CommitFailedError as error:
        raise changed(ref) from error
    except (TableNotFoundError, FileNotFoundError) as error:
        raise NotFoundError(f"table {ref} is not in the lake") from error
    except DeltaError as error:
        raise LakeError(f"table {ref}: {str(error).splitlines()[0]}") from error  # the other lines are about Delta's own code
