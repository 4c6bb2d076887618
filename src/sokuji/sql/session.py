"""One statement while it runs: the meaning of its names, and its queries."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import pyarrow as pa

from sokuji.errors import QueryCancelledError, SqlError, UnsupportedSqlError
from sokuji.lake.acknowledged import Acknowledged
from sokuji.lake.base import Lake, Snapshot
from sokuji.meta.base import Catalog
from sokuji.meta.objects import Column, Ref, Table, TableKind
from sokuji.sql.base import Home, QueryRun, RowChanges
from sokuji.sql.definitions import changed, columns_of, follow, is_current, members_at
from sokuji.sql.front.analyzer import Analysis, Analyzer
from sokuji.sql.front.lookup import INFORMATION_SCHEMA, SESSION, TABLE_SUFFIX, members, ref
from sokuji.sql.front.parameters import Parameter
from sokuji.sql.front.protos import from_type, from_value, leaf, nodes, span
from sokuji.sql.front.table_functions import ResolvedCall
from sokuji.sql.front.variables import Variable
from sokuji.sql.query import Query, StoredRows, SuffixedRows, TableRows, ViewRows, computed, single_row
from sokuji.sql.result import Result
from sokuji.sql.statements.information_schema import rows
from sokuji.types import FLOAT64, INT64, NUMERIC, Field

T = TypeVar("T")

_COERCED = {INT64: (NUMERIC, FLOAT64), NUMERIC: (FLOAT64,)}
_REMEDY = "make it again with CREATE OR REPLACE VIEW"


class Session:
    """The `Queries` of statement handlers and the `StatementNames` of the backend, for one analysed statement.

    A view in the statement gets its own session on the same run; `within` are the views around it.
    """

    def __init__(
        self,
        catalog: Catalog,
        lake: Lake,
        acknowledged: Acknowledged,
        analyzer: Analyzer,
        *,
        run: QueryRun,
        analysis: Analysis,
        variables: Mapping[str, Variable] | None = None,
        within: tuple[Ref, ...] = (),
        snapshots: dict[tuple[Ref, dt.datetime | None], Snapshot] | None = None,
    ) -> None:
        self.catalog, self.lake, self.acknowledged, self.run, self.analysis = catalog, lake, acknowledged, run, analysis
        self._analyzer, self._within = analyzer, within
        self._snapshots = {} if snapshots is None else snapshots
        self.parameters: Mapping[str, Parameter] = analysis.parameters.values
        self.variables: Mapping[str, Variable] = variables or {}

    def query(self, output_columns: Sequence[Any], scan: Any) -> Query:
        """A query of the statement, for the backend."""
        return Query(output_columns, scan, output_schema(output_columns), self)

    def run_query(self, output_columns: Sequence[Any], scan: Any) -> Result:
        """Run a resolved query (`ResolvedOutputColumnProto` list and `AnyResolvedScanProto`) with the statement's parameters."""
        query = self.query(output_columns, scan)
        return Result(query.schema, self.run.stream(query))

    def holds(self, condition: Any) -> bool:
        """Whether a resolved expression over no columns is TRUE."""
        return self._evaluate(condition) is True

    def _evaluate(self, expression: Any) -> Any:
        """The value of a resolved expression over no columns."""
        rows: pa.Table = self.run.stream(computed(single_row(), (), [expression], self)).read_all()
        return rows.column(0)[0].as_py()

    def changes(self, node: Any, table: Table) -> RowChanges:
        """The changes that the statement (INSERT, UPDATE, DELETE or MERGE) makes to the newest rows of a table."""
        snapshot = self.snapshot(table.ref) if table.kind is TableKind.EVENTS else self.newest(table)
        return self.run.change(node, self._stored(table, snapshot, table.columns), self)

    def rows(self, table: Table, columns: Sequence[Column]) -> pa.RecordBatchReader:
        """The rows of a table in its newest version, with these columns."""
        return self.run.stream(self._stored(table, self.newest(table), columns))

    def _stored(self, table: Table, snapshot: Snapshot, columns: Sequence[Column]) -> StoredRows:
        return StoredRows(self.home(table.ref).lake, snapshot, columns, of_events=table.kind is TableKind.EVENTS)

    def option_values(self, options: Sequence[Any]) -> dict[str, Any]:
        """`OPTIONS(...)` as Python values by lower-case name. ARRAY is a list, STRUCT a dict."""
        return {option.name.lower(): self._value(option.value) for option in options}

    def located(self, node: Any, error: SqlError) -> SqlError:
        """The same error, with the position of a node of the resolved statement."""
        return self.analysis.source.part(*span(node)).error_at(error.message, 0, type(error))

    def check(self) -> None:
        """Raise QueryCancelledError if the statement was cancelled, or its time limit is reached."""
        self.run.check()

    def aside(self, function: Callable[[], T]) -> T:
        """Call `function` on another thread, which the caller leaves at the end of the statement."""
        return self.run.aside(function)

    def _value(self, expression: Any) -> Any:
        kind, node = leaf(expression)
        if kind == "resolved_literal_node":
            return from_value(node.value.value, from_type(node.value.type))
        if kind == "resolved_parameter_node":
            return self.analysis.parameters.values[node.name.lower() or str(node.position)].value
        if kind == "resolved_constant_node":
            return self.variables[node.constant.name.lower()].value
        part = self.analysis.source.part(*span(expression))
        named = None if self.analysis.parameters.is_positional else self.analysis.parameters
        value, _ = self._analyzer.constant(part, named, self.variables)
        return value

    def _time(self, expression: Any) -> dt.datetime:
        """The time of FOR SYSTEM_TIME AS OF. It may be in the body of a function, so the statement's text may not have it."""
        if any(nodes(expression, "ResolvedColumnRefProto")):
            raise SqlError("FOR SYSTEM_TIME AS OF needs a constant TIMESTAMP: an argument of a function cannot stand there, nor a column")
        at = self._evaluate(expression)
        if at is None:
            raise self.located(expression, SqlError("FOR SYSTEM_TIME AS OF needs a TIMESTAMP, and not NULL"))
        assert isinstance(at, dt.datetime)  # noqa: S101 as any TIMESTAMP
        return at

    def home(self, table: Ref) -> Home:
        """The catalog and the lake of a table."""
        return self.run.temporary if table.dataset == SESSION else Home(self.catalog, self.lake, self.acknowledged)

    def ref(self, path: Sequence[str]) -> Ref:
        """The table that a path names. A path without a dataset names a temporary table, if there is one with this name.

        Raises:
            SqlError: the path names no table.
        """
        known = self.run.temporary_catalog
        if known is not None and len(path) == 1 and any(table.ref.name == path[0] for table in known.tables()):
            return Ref(SESSION, path[0])
        return ref(path)

    def snapshot(self, ref: Ref, at: dt.datetime | None = None) -> Snapshot:
        """The snapshot of a table for this statement: the same at every call."""
        key = (ref, at)
        if key not in self._snapshots:
            home = self.home(ref)
            self._snapshots[key] = home.acknowledged.snapshot(ref) if at is None else home.lake.snapshot(ref, at=at)
        return self._snapshots[key]

    def newest(self, table: Table) -> Snapshot:
        """The snapshot of a table in its newest version, for this statement.

        Raises:
            ConflictError: the columns differ from those that the statement was analysed with. The catalog is updated now.
        """
        snapshot = self.snapshot(table.ref)
        if not is_current(snapshot, table):
            self.follow(table.ref)
            raise changed(table.ref)
        return snapshot

    def follow(self, ref: Ref) -> Table:
        """The definition of a table, which the catalog has brought up to its newest columns."""
        home = self.home(ref)
        return follow(home.catalog, home.acknowledged, ref)

    def _old(self, table: Table, columns: Sequence[Column], at: dt.datetime) -> Snapshot:
        snapshot = self.snapshot(table.ref, at)
        then = {column.name: column.type for column in columns_of(snapshot.schema, table)}
        for column in columns:
            if then.get(column.name) != column.type:
                raise SqlError(
                    f"{table.ref} had no column {column.name} of type {column.type} at {at.isoformat()}; the body of a function reads "
                    "old versions with today's columns, so read them in the statement that calls it"
                )
        return snapshot

    def renew(self) -> None:
        """Let the statement read the newest versions from here on, like a statement that starts again."""
        self._snapshots.clear()

    def table(self, scan: Any) -> TableRows:
        """See `StatementNames.table`."""
        table = self.analysis.table(scan.table.full_name)
        wanted = {column.name for column in scan.parent.column_list}
        columns = [column for column in table.columns if column.name in wanted]
        at = self._time(scan.for_system_time_expr) if scan.HasField("for_system_time_expr") else None
        if at is not None and (table.kind is TableKind.VIEW or table.ref.dataset.endswith(INFORMATION_SCHEMA)):
            raise UnsupportedSqlError(f"FOR SYSTEM_TIME AS OF on the view {table.ref}: use it on the tables inside the view")
        if table.ref.dataset.endswith(INFORMATION_SCHEMA):
            return rows(self.catalog, table)
        if table.ref.name.endswith("*"):
            return self._wildcard(table, columns, at)
        if table.kind is not TableKind.VIEW:
            snapshot = self.newest(table) if at is None else self._old(table, columns, at)
            return self._stored(table, snapshot, columns)
        return self._view(table, columns)

    def _wildcard(self, table: Table, columns: Sequence[Column], at: dt.datetime | None) -> SuffixedRows:
        read = [column for column in columns if column.name != TABLE_SUFFIX]
        there = members(self.catalog, table.ref) if at is None else members_at(self.catalog, self.lake, table.ref, at)
        tables = {}
        for member in there:
            snapshot = self.newest(member) if at is None else self.snapshot(member.ref, at)
            _check_types(table, member, read)
            suffix = member.ref.name.removeprefix(table.ref.name.removesuffix("*"))
            tables[suffix] = self._stored(member, snapshot, read)
        return SuffixedRows(TABLE_SUFFIX, tables)

    def _view(self, view: Table, columns: Sequence[Column]) -> ViewRows:
        if view.ref in self._within or view.query is None:
            raise SqlError(f"The view {view.ref} refers to itself: {' -> '.join(map(str, (*self._within, view.ref)))}")
        try:
            analysis = self._analyzer.analyze(view.query)
        except QueryCancelledError:
            raise
        except SqlError as error:
            raise SqlError(f"Invalid view {view.ref}: {error}") from error
        within = (*self._within, view.ref)
        inner = Session(
            self.catalog,
            self.lake,
            self.acknowledged,
            self._analyzer,
            run=self.run,
            analysis=analysis,
            within=within,
            snapshots=self._snapshots,
        )
        place = _places(view, _outputs(analysis))
        query = inner.query(analysis.node.output_column_list, analysis.node.query)
        return ViewRows(query, {column.name: place(column) for column in columns})

    def query_names(self, query: str) -> tuple[str, ...]:
        """The names of the columns of a query that becomes a view."""
        return tuple(field.name for field in _outputs(self._analyzer.analyze(query)))

    def call(self, scan: Any) -> ResolvedCall:
        """See `StatementNames.call`."""
        return self.analysis.calls[scan.tvf.name]


def _check_types(wildcard: Table, member: Table, columns: Sequence[Column]) -> None:
    """Raise SqlError if a table of a wildcard has a column whose type GoogleSQL does not coerce to the newest table's."""
    types = {column.name.lower(): column.type for column in member.columns}
    for column in columns:
        type_ = types.get(column.name.lower(), column.type)
        if type_ != column.type and column.type not in _COERCED.get(type_, ()):
            raise SqlError(
                f"{wildcard.ref}: column {column.name} of {member.ref} is {type_}, and {column.type} in the newest of these tables; "
                "UNION ALL the tables with a CAST instead"
            )


def _places(view: Table, outputs: Sequence[Field]) -> Callable[[Column], int]:
    """Find a view's columns in its query's current columns, which may differ from the columns at the view's creation.

    The returned function raises SqlError for a column that no longer exists, or has another type.
    """
    places = {key: place for place, key in enumerate(_told_apart([field.name for field in outputs]))}
    made = view.query_names or [column.name for column in view.columns]
    keys = dict(zip([column.name for column in view.columns], _told_apart(made), strict=True))

    def place(column: Column) -> int:
        key = keys[column.name]
        if key not in places:
            raise SqlError(f"Invalid view {view.ref}: its query has no column {key[0]} any more; {_REMEDY}")
        type_ = outputs[places[key]].type
        if type_ != column.type:
            raise SqlError(f"Invalid view {view.ref}: its column {key[0]} was {column.type} when it was made, and is {type_}; {_REMEDY}")
        return places[key]

    return place


def _outputs(query: Analysis) -> list[Field]:
    """A query's columns. Columns without a name have ZetaSQL's name."""
    return [Field(column.name, from_type(column.column.type)) for column in query.node.output_column_list]


def _told_apart(names: Sequence[str]) -> list[tuple[str, int]]:
    """Names in any case, each with the number of earlier occurrences."""
    lowered = [name.lower() for name in names]
    return [(name, lowered[:place].count(name)) for place, name in enumerate(lowered)]


def output_schema(output_columns: Sequence[Any]) -> tuple[Field, ...]:
    """The names and types of a query's columns. Columns without a name are named f0_, f1_, ... as in BigQuery."""
    unnamed = itertools.count()
    return tuple(
        Field(f"f{next(unnamed)}_" if column.name.startswith("$") else column.name, from_type(column.column.type))
        for column in output_columns
    )
