"""DuckDB as the engine: one locked database in memory, and runs of single queries on it."""

from __future__ import annotations

import functools
import itertools
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.config import SqlSettings
from sokuji.errors import QueryCancelledError
from sokuji.meta.base import Catalog
from sokuji.sql.base import Home
from sokuji.sql.duckdb.errors import translate
from sokuji.sql.duckdb.functions.reference import FUNCTION_NAME, QUERY_VARIABLE, register
from sokuji.sql.duckdb.native_calls import NativeCalls
from sokuji.sql.duckdb.temporary import TemporaryTables
from sokuji.sql.stop import Stop, out_of_time
from sokuji.types import Field, Type, arrow_schema, field_names, to_arrow

_BATCH_ROWS = 65_536
_INSIST_SECONDS = 0.2
_CLOSED = "The query was closed before its end"

T = TypeVar("T")


class Database:
    """A DuckDB database that can read only files below `folders`, whatever SQL it runs."""

    def __init__(self, folders: Sequence[Path], temporary: Path, settings: SqlSettings) -> None:
        self.settings = settings
        self._names = itertools.count()
        self._lock = threading.Lock()
        self._functions: set[str] = set()  # functions of GoogleSQL that were added
        self._kept: list[duckdb.DuckDBPyConnection | None] = []  # connections that these functions need
        self.calls = NativeCalls()
        self._connection = duckdb.connect(":memory:")
        temporary.mkdir(parents=True, exist_ok=True)
        # DuckDB uses the same file names in every process, so each database needs its own folder.
        self._temporary = Path(tempfile.mkdtemp(dir=temporary, prefix="sql-"))
        self._tables = self._temporary / "tables"  # files below it can also be read
        for name, value in {
            "TimeZone": "UTC",
            "threads": settings.threads,
            "memory_limit": f"{settings.memory_limit_mib}MiB",
            "temp_directory": str(self._temporary),
            "preserve_insertion_order": False,
            "parquet_metadata_cache": True,
            "python_enable_replacements": False,  # a name must never find a Python variable
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
            "allowed_directories": [f"{folder.resolve()}/" for folder in (*folders, self._tables)],
            "enable_external_access": False,
            "lock_configuration": True,  # last: nothing above can be changed after it
        }.items():
            self._connection.execute(f"SET {name} = ?", [value])

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A new connection to the same database."""
        return self._connection.cursor()

    def add_functions(self, sql: str) -> None:
        """Create the functions that `sql` calls and DuckDB does not have."""
        names = set(FUNCTION_NAME.findall(sql))
        with self._lock:
            if not names <= self._functions:
                self._kept.append(register(self._connection, sql))
                self._functions |= names

    def name(self) -> str:
        """A unique name for a relation."""
        return f"_r{next(self._names)}"

    def tables(self) -> TemporaryTables:
        """Temporary tables for one run."""
        return TemporaryTables(self._tables / self.name())

    def close(self) -> None:
        """Close everything. Running queries fail. The last running call closes what it needs."""
        shutil.rmtree(self._temporary, ignore_errors=True)
        self.calls.close(self._release)

    def _release(self) -> None:
        for connection in (self._connection, *self._kept):
            if connection is not None:
                connection.close()
        shutil.rmtree(self._temporary, ignore_errors=True)


class DuckDbQueries:
    """One query while it runs: its connections, its temporary objects, its time limit, and whether it was cancelled.

    DuckDB allows one stream per connection, so each query of the run has its own connection. A caller waits for a query
    until the run is to end, and a moment more at most: see `NativeCalls`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cursors: list[duckdb.DuckDBPyConnection] = []
        self._registered: dict[str, pa.Table] = {}
        self._tables: list[str] = []
        self.stop = Stop(database.settings.memory_limit_mib)
        self._failure: BaseException | None = None  # the error of a Python source of rows; DuckDB keeps only its text
        self._closed = False
        self._calls = 0  # that run, including those whose callers have left
        self._lock = threading.Lock()
        limit = database.settings.timeout_seconds
        self._timer = threading.Timer(limit, _expire, [weakref.ref(self), limit])
        self._timer.daemon = True
        self._timer.start()

    @functools.cached_property
    def _tables_of_run(self) -> TemporaryTables:
        return self._database.tables()

    @property
    def temporary(self) -> Home:
        """See `QueryRun.temporary`."""
        return self._tables_of_run.home

    @property
    def temporary_catalog(self) -> Catalog | None:
        """See `QueryRun.temporary_catalog`."""
        return self.temporary.catalog if "_tables_of_run" in self.__dict__ else None

    def cancel(self, reason: str) -> None:
        """Stop the run as soon as possible. Readers of its rows get QueryCancelledError with `reason`. Any thread may call this."""
        self.stop.now(reason)
        self._interrupt()

    def _interrupt(self) -> None:
        with self._lock:
            if self._closed and not self._calls:
                return
            for cursor in self._cursors:
                cursor.interrupt()
        # A query that is about to start does not notice an interrupt, so it is interrupted again until the run is over.
        again = threading.Timer(_INSIST_SECONDS, self._interrupt)
        again.daemon = True
        again.start()

    def check(self) -> None:
        """Raise QueryCancelledError if the run was cancelled."""
        self.stop.check()

    def aside(self, function: Callable[[], T]) -> T:
        """Call `function` on another thread; return or raise what it does. If the run ends first, the caller leaves: see `NativeCalls`.

        The run's connections and tables stay until the function ends.
        """

        def work() -> T:
            with self._lock:
                if self._closed:
                    raise QueryCancelledError(self.stop.reason or _CLOSED)
                self._calls += 1
            try:
                return function()
            finally:
                self._leave()

        return self._database.calls.run(work, self.stop)

    def _leave(self) -> None:
        with self._lock:
            self._calls -= 1
            is_last = self._closed and not self._calls
        if is_last:
            self._release()

    def register(self, table: pa.Table) -> str:
        """The name under which queries of this run find an Arrow table."""
        name = self._database.name()
        self._registered[name] = table
        return name

    def store(self, rows: pa.RecordBatchReader) -> str:
        """The name of a new table with `rows`, in memory, or on disk if it is large. All rows are read before this returns."""
        name = self._database.name()
        self._tables.append(name)
        self.aside(lambda: self._fill(name, rows))
        return name

    def _fill(self, name: str, rows: pa.RecordBatchReader) -> None:
        cursor = self._connect()
        try:
            cursor.register("_rows", self._guarded(rows))
            cursor.execute(f"CREATE TABLE {name} AS SELECT * FROM _rows")
        except (duckdb.Error, OSError, pa.ArrowException) as error:
            raise self._error(error) from error
        finally:
            self._disconnect(cursor)

    def forget(self) -> None:
        """Drop the tables that were created for a query whose rows are read."""
        self._registered.clear()
        if self._tables:
            self.aside(self._drop)

    def _drop(self) -> None:
        with self._database.cursor() as cursor:
            for name in self._tables:
                cursor.execute(f"DROP TABLE IF EXISTS {name}")
        self._tables.clear()

    def select(self, sql: str, schema: Sequence[Field]) -> pa.RecordBatchReader:
        """Run `sql`. Its columns get the names and types of `schema`, by position.

        Raises:
            SqlError: the query fails immediately; the stream raises later errors.
        """
        target = arrow_schema(schema)
        return pa.RecordBatchReader.from_batches(target, self._batches(self.aside(lambda: self._open(sql)), target, schema))

    def _open(self, sql: str) -> _Rows:
        cursor = self._connect()
        try:
            if FUNCTION_NAME.search(sql):
                self._database.add_functions(sql)
                cursor.execute(f"SET VARIABLE {QUERY_VARIABLE} = {self.stop.number}")
            rows = _Rows(cursor, cursor.sql(sql).to_arrow_reader(_BATCH_ROWS))
        except (duckdb.Error, OSError, pa.ArrowException) as error:
            self._disconnect(cursor)
            raise self._error(error) from error
        self._read(rows)
        return rows

    def _read(self, rows: _Rows) -> None:
        """Read about a batch. A small result is opened, read and closed by one call."""
        count = 0
        try:
            while count < _BATCH_ROWS:
                rows.batches.append(rows.reader.read_next_batch())
                count += rows.batches[-1].num_rows
        except StopIteration:
            rows.at_end = True
        except (duckdb.Error, OSError, pa.ArrowException) as error:
            rows.at_end, rows.failure = True, self._error(error)
            rows.failure.__cause__ = error
        if rows.at_end:
            self._disconnect(rows.cursor)

    def _batches(self, rows: _Rows, target: pa.Schema, schema: Sequence[Field]) -> Iterator[pa.RecordBatch]:
        is_idle = True
        try:
            while True:
                batches, rows.batches = rows.batches, []
                for batch in batches:
                    self.check()
                    columns = [restore(column, field.type) for column, field in zip(batch.columns, schema, strict=True)]
                    yield pa.RecordBatch.from_arrays(columns, schema=target)
                if rows.failure is not None:
                    raise rows.failure
                if rows.at_end:
                    return
                is_idle = False  # until the call is over: its caller may leave it
                self.aside(lambda: self._read(rows))
                is_idle = True
        finally:
            if is_idle and not rows.at_end:
                self._database.calls.finish(lambda: self._disconnect(rows.cursor))

    def _connect(self) -> duckdb.DuckDBPyConnection:
        cursor = self._database.cursor()
        for name, table in self._registered.items():
            cursor.register(name, table)
        with self._lock:
            self._cursors.append(cursor)
        self.check()
        return cursor

    def _disconnect(self, cursor: duckdb.DuckDBPyConnection) -> None:
        with self._lock:  # a closed connection must not be interrupted
            if cursor in self._cursors:
                self._cursors.remove(cursor)
        cursor.close()

    def _guarded(self, rows: pa.RecordBatchReader) -> pa.RecordBatchReader:
        def batches() -> Iterator[pa.RecordBatch]:
            try:
                for batch in rows:
                    self.check()
                    yield batch
            except Exception as error:
                self._failure = error
                raise

        return pa.RecordBatchReader.from_batches(rows.schema, batches())

    def _error(self, error: Exception) -> BaseException:
        if self.stop.reason is not None:
            return QueryCancelledError(self.stop.reason)
        return self._failure or translate(error, self._database.settings)

    def close(self) -> None:
        """Drop all objects of the run. Streams that are not read to the end are aborted."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            is_idle = not self._calls
        self._timer.cancel()
        if not is_idle:
            self.cancel(_CLOSED)  # its last call releases
        elif self._cursors or self._tables or "_tables_of_run" in self.__dict__:
            self._database.calls.finish(self._release)

    def _release(self) -> None:
        if self._tables:
            self._drop()
        for cursor in self._cursors:
            cursor.close()
        if "_tables_of_run" in self.__dict__:
            self._tables_of_run.close()


@dataclass(slots=True)
class _Rows:
    """The rows of one query that are read and not returned yet."""

    cursor: duckdb.DuckDBPyConnection  # closed at the end
    reader: pa.RecordBatchReader
    batches: list[pa.RecordBatch] = field(default_factory=list)
    at_end: bool = False
    failure: BaseException | None = None  # comes after the last batch


def _expire(run: weakref.ref[DuckDbQueries], limit: float) -> None:
    alive = run()
    if alive is not None:
        alive.cancel(out_of_time(limit))


def restore(column: pa.Array, type_: Type) -> pa.Array:
    """A column from DuckDB in exactly the Arrow type of `type_`. STRUCT fields are matched by position."""
    target = to_arrow(type_)
    if column.type == target:
        return column
    if type_.fields:
        children = [restore(child, field.type) for child, field in zip(cast("pa.StructArray", column).flatten(), type_.fields, strict=True)]
        fields = [pa.field(name, child.type) for name, child in zip(field_names(type_), children, strict=True)]
        return pa.StructArray.from_arrays(children, fields=fields, mask=column.is_null())
    if type_.element is not None:
        items = restore(cast("pa.ListArray", column).flatten(), type_.element)
        lengths = pc.fill_null(pc.list_value_length(column), 0)
        offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths).cast(pa.int32())])
        return pa.ListArray.from_arrays(offsets, items, type=target, mask=column.is_null())
    return column.cast(target)
