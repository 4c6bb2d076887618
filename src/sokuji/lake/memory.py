"""The lake in the memory of one process, for tests that need no disk."""

from __future__ import annotations

import datetime as dt
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from sokuji.errors import AlreadyExistsError, LakeError, NotFoundError
from sokuji.lake.base import Kept, Lake, Snapshot
from sokuji.lake.columns import changed, check_columns, visible
from sokuji.lake.stored import stored, stored_schema
from sokuji.meta.objects import Ref


@dataclass(frozen=True, slots=True)
class _Version:
    written_at: dt.datetime
    columns: pa.Schema  # includes columns that readers do not see
    files: tuple[str, ...] = ()
    transactions: Mapping[str, int] = field(default_factory=dict)
    kept: Mapping[str, Kept] = field(default_factory=dict)

    @property
    def schema(self) -> pa.Schema:
        return visible(self.columns, self.kept)


class MemoryLake(Lake):
    """Tables that exist as long as this object. Thread-safe: one commit at a time. A file is the rows of one commit."""

    def __init__(self, *, time_travel_hours: float = 168.0) -> None:
        """Create an empty lake. Old versions are kept for `time_travel_hours`."""
        self._retention = dt.timedelta(hours=time_travel_hours)
        self._lock = threading.RLock()
        self._tables: dict[Ref, list[_Version]] = {}
        self._files: dict[str, pa.Table] = {}
        self._names = itertools.count()

    def create(self, ref: Ref, schema: pa.Schema, *, day_of: str | None = None) -> None:  # noqa: ARG002 nobody sees partitions
        """See `Lake.create`."""
        with self._lock:
            if ref in self._tables:
                raise AlreadyExistsError(f"table {ref} already exists in the lake")
            self._tables[ref] = [_Version(dt.datetime.now(dt.UTC), stored_schema(schema))]

    def drop(self, ref: Ref) -> None:
        """See `Lake.drop`."""
        with self._lock:
            for version in self._versions(ref):
                for file in version.files:
                    self._files.pop(file, None)
            del self._tables[ref]

    def snapshot(self, ref: Ref, *, at: dt.datetime | None = None, applications: Sequence[str] = ()) -> Snapshot:
        """See `Lake.snapshot`."""
        with self._lock:
            versions = self._versions(ref)
            number = len(versions) - 1 if at is None else self._at(ref, at)
            found = versions[number]
        transactions = {name: found.transactions[name] for name in applications if name in found.transactions}
        return Snapshot(found.files, found.schema, number, transactions=transactions, kept=found.kept)

    def _at(self, ref: Ref, at: dt.datetime) -> int:
        if at < dt.datetime.now(dt.UTC) - self._retention:
            hours = self._retention.total_seconds() / 3600
            raise LakeError(f"table {ref} cannot be read as of {at.isoformat()}: old versions are kept for {hours:g} hours")
        found = [number for number, version in enumerate(self._versions(ref)) if version.written_at <= at]
        if not found:
            raise LakeError(f"table {ref} cannot be read as of {at.isoformat()}: it did not exist yet")
        return found[-1]

    def scan(self, snapshot: Snapshot, columns: Sequence[str] | None = None, where: pc.Expression | None = None) -> pa.RecordBatchReader:
        """See `Lake.scan`."""
        schema = pa.schema([snapshot.schema.field(name) for name in (snapshot.schema.names if columns is None else columns)])
        tables = [self._files[file] for file in snapshot.files] + ([] if snapshot.tail is None else [snapshot.tail])

        def batches() -> Iterator[pa.RecordBatch]:
            for table in tables:
                rows = _in(table, schema)
                yield from (rows if where is None else rows.filter(where)).to_batches()

        return pa.RecordBatchReader.from_batches(schema, batches())

    def append(
        self, ref: Ref, rows: pa.RecordBatchReader, *, transactions: Mapping[str, int] | None = None, expected: pa.Schema | None = None
    ) -> int:
        """See `Lake.append`."""
        self._check_expected(ref, expected)
        added, numbers = stored(rows).read_all(), transactions or {}
        with self._lock:
            before = self._check_expected(ref, expected)
            for name, number in numbers.items():
                if before.transactions.get(name, number - 1) >= number:
                    raise LakeError(f"table {ref}: {name} has committed {before.transactions[name]} already; {number} does not follow it")
            files = (*before.files, *self._put(added))
            columns, known = self._with(ref, before, added.schema), {**before.transactions, **numbers}
            return self._commit(ref, replace(before, columns=columns, files=files, transactions=known))

    def add_columns(self, ref: Ref, columns: pa.Schema, *, expected: pa.Schema) -> int:
        """See `Lake.add_columns`."""
        with self._lock:
            before = self._check_expected(ref, expected)
            return self._commit(ref, replace(before, columns=self._with(ref, before, stored_schema(columns))))

    def replace(self, ref: Ref, rows: pa.RecordBatchReader, *, read_version: int | None = None) -> int:
        """See `Lake.replace`."""
        self._versions(ref)
        new = stored(rows).read_all()
        with self._lock:
            before = self._check_version(ref, read_version)
            return self._commit(ref, replace(before, columns=new.schema, files=self._put(new)))

    def rewrite(self, ref: Ref, files: Sequence[str], rows: pa.RecordBatchReader, *, read_version: int | None = None) -> int:
        """See `Lake.rewrite`."""
        self._versions(ref)
        new = stored(rows).read_all()
        with self._lock:
            before = self._check_version(ref, read_version)
            check_columns(ref, before.columns, before.kept, new.schema)
            if not set(before.files).issuperset(files):
                raise changed(ref)
            others = (file for file in before.files if file not in set(files))
            return self._commit(ref, replace(before, files=(*others, *self._put(new))))

    def keep(self, ref: Ref, properties: Mapping[str, Kept]) -> None:
        """See `Lake.keep`."""
        with self._lock:
            before = self._versions(ref)[-1]
            kept = {**before.kept, **{name.lower(): said for name, said in properties.items()}}
            if kept != before.kept:
                self._commit(ref, replace(before, kept=kept))

    def remake(self, ref: Ref, columns: Mapping[str, pa.DataType], values: Callable[[pa.Table], Mapping[str, pa.Array]]) -> int:
        """See `Lake.remake`."""
        with self._lock:
            before = self._versions(ref)[-1]
            others = [each for each in before.schema if each.name not in columns]
            schema = pa.schema([*others, *columns.items()])
            files: list[str] = []
            for table in (self._files[file] for file in before.files):
                made = values(table)
                kept = _in(table, pa.schema(others))
                files += self._put(pa.table([*kept.columns, *(made[name] for name in columns)], schema=schema))
            return self._commit(ref, replace(before, columns=schema, files=tuple(files)))

    def maintain(self, refs: Iterable[Ref]) -> None:
        """See `Lake.maintain`. Joins all files into one. A table that no longer exists is skipped."""
        with self._lock:
            for ref in self._tables.keys() & set(refs):
                before = self._tables[ref][-1]
                if len(before.files) > 1:
                    joined = pa.concat_tables([_in(self._files[file], before.schema) for file in before.files])
                    self._commit(ref, replace(before, files=self._put(joined)))
                kept = dt.datetime.now(dt.UTC) - self._retention
                needed = {file for now, then in itertools.pairwise(self._tables[ref]) if then.written_at >= kept for file in now.files}
                needed.update(self._tables[ref][-1].files)
                for file in {file for version in self._tables[ref] for file in version.files} - needed:
                    self._files.pop(file, None)

    def _versions(self, ref: Ref) -> list[_Version]:
        if ref not in self._tables:
            raise NotFoundError(f"table {ref} is not in the lake")
        return self._tables[ref]

    def _check_expected(self, ref: Ref, expected: pa.Schema | None) -> _Version:
        newest = self._versions(ref)[-1]
        if expected is not None and not newest.schema.equals(expected, check_metadata=True):
            raise changed(ref)
        return newest

    def _check_version(self, ref: Ref, read_version: int | None) -> _Version:
        versions = self._versions(ref)
        if read_version is not None and read_version != len(versions) - 1:
            raise changed(ref)
        return versions[-1]

    def _with(self, ref: Ref, before: _Version, schema: pa.Schema) -> pa.Schema:
        check_columns(ref, before.columns, before.kept, schema)
        return pa.schema([*before.columns, *(each for each in schema if each.name not in before.columns.names)])

    def _put(self, rows: pa.Table) -> tuple[str, ...]:
        if not rows.num_rows:
            return ()
        name = f"memory:{next(self._names)}"
        self._files[name] = rows
        return (name,)

    def _commit(self, ref: Ref, version: _Version) -> int:
        self._tables[ref].append(replace(version, written_at=dt.datetime.now(dt.UTC)))
        return len(self._tables[ref]) - 1


def _in(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows in these columns; NULL where the table lacks a column."""
    columns = [table.column(each.name) if each.name in table.column_names else pa.nulls(table.num_rows, each.type) for each in schema]
    return pa.table(columns, schema=schema)
