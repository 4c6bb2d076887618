"""One statement while it runs: what its tables, table functions and parameters are, and its queries."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sokuji.duckdb_text import quote, quote_text
from sokuji.errors import ConflictError, QueryCancelledError, SqlError, UnsupportedSqlError
from sokuji.lake.base import Lake, Snapshot
from sokuji.meta.base import Catalog
from sokuji.meta.objects import Column, Ref, Table, TableKind
from sokuji.sql.definitions import changed, columns_of, follow, is_current, members_at
from sokuji.sql.duckdb.emit import Emitter, emit_query, emitter
from sokuji.sql.duckdb.emit.expressions import variable_name
from sokuji.sql.duckdb.emit.literals import Constant
from sokuji.sql.duckdb.relations import relation
from sokuji.sql.duckdb.run import QueryRun
from sokuji.sql.duckdb.temporary import SESSION, Home
from sokuji.sql.extension import RelationalFunction
from sokuji.sql.front.analyzer import Analysis, Analyzer
from sokuji.sql.front.lookup import INFORMATION_SCHEMA, TABLE_SUFFIX, members, ref
from sokuji.sql.front.protos import from_type, from_value, leaf, nodes, span
from sokuji.sql.front.variables import Variable
from sokuji.sql.result import Result
from sokuji.sql.statements.information_schema import rows
from sokuji.types import BOOL, FLOAT64, INT64, NUMERIC, TIMESTAMP, Field, to_arrow

_COERCED = {INT64: (NUMERIC, FLOAT64), NUMERIC: (FLOAT64,)}
_REMEDY = "make it again with CREATE OR REPLACE VIEW"


class Session:
    """The `Queries` of statement handlers and the `Relations` of the emitter, for one analysed statement.

    A view inside it gets a session of its own on the same run; `within` are the views around it.
    """

    def __init__(
        self,
        catalog: Catalog,
        lake: Lake,
        analyzer: Analyzer,
        *,
        run: QueryRun,
        analysis: Analysis,
        variables: Mapping[str, Variable] | None = None,
        within: tuple[Ref, ...] = (),
        snapshots: dict[tuple[Ref, dt.datetime | None], Snapshot] | None = None,
    ) -> None:
        self.catalog, self.lake, self.run, self.analysis = catalog, lake, run, analysis
        self._analyzer, self._within = analyzer, within
        self._snapshots = {} if snapshots is None else snapshots
        # Literals: text that no value can break out of, and that DuckDB can fold.
        self.parameters = {name: Constant(*parameter) for name, parameter in analysis.parameters.values.items()}
        self._variables = variables or {}
        self.parameters |= {variable_name(name): Constant(item.value, item.type) for name, item in self._variables.items()}

    def run_query(self, output_columns: Sequence[Any], scan: Any) -> Result:
        """Run a resolved query (`ResolvedOutputColumnProto` list and `AnyResolvedScanProto`) with the statement's parameters."""
        schema = output_schema(output_columns)
        return Result(schema, self.run.stream(emit_query(output_columns, scan, self, self.parameters), schema))

    def holds(self, condition: Any) -> bool:
        """Whether a resolved expression over no columns is TRUE."""
        value = emitter(self, self.parameters).expression(condition)
        [row] = self.run.stream(f"SELECT {value}", [Field("holds", BOOL)]).read_all().to_pylist()
        return row["holds"] is True

    def option_values(self, options: Sequence[Any]) -> dict[str, Any]:
        """`OPTIONS(...)` as Python values by lower-cased name; ARRAY as list, STRUCT as dict."""
        return {option.name.lower(): self._value(option.value) for option in options}

    def located(self, node: Any, error: SqlError) -> SqlError:
        """The same error, at the place of a node of the resolved statement."""
        return self.analysis.source.part(*span(node)).error_at(error.message, 0, type(error))

    def check(self) -> None:
        """Raises QueryCancelledError when the statement was cancelled, or its time is up."""
        self.run.check()

    def _value(self, expression: Any) -> Any:
        kind, node = leaf(expression)
        if kind == "resolved_literal_node":
            return from_value(node.value.value, from_type(node.value.type))
        if kind == "resolved_parameter_node":
            return self.analysis.parameters.values[node.name.lower() or str(node.position)].value
        if kind == "resolved_constant_node":
            return self._variables[node.constant.name.lower()].value
        part = self.analysis.source.part(*span(expression))
        named = None if self.analysis.parameters.is_positional else self.analysis.parameters
        value, _ = self._analyzer.constant(part, named, self._variables)
        return value

    def _time(self, expression: Any) -> dt.datetime:
        """The time of FOR SYSTEM_TIME AS OF. It may stand in the body of a function, so the statement's text does not say it."""
        if any(nodes(expression, "ResolvedColumnRefProto")):
            raise SqlError("FOR SYSTEM_TIME AS OF needs a constant TIMESTAMP: an argument of a function cannot stand there, nor a column")
        value = emitter(self, self.parameters).expression(expression)
        at = self.run.stream(f"SELECT {value}", [Field("at", TIMESTAMP)]).read_all().column(0)[0].as_py()
        if at is None:
            raise self.located(expression, SqlError("FOR SYSTEM_TIME AS OF needs a TIMESTAMP, and not NULL"))
        assert isinstance(at, dt.datetime)  # noqa: S101 as any TIMESTAMP
        return at

    def home(self, table: Ref) -> Home:
        """Where a table is known and kept."""
        return self.run.temporary.home if table.dataset == SESSION else Home(self.catalog, self.lake)

    def ref(self, path: Sequence[str]) -> Ref:
        """The table a path names, a temporary one if there is no dataset in it and there is one of that name.

        Raises:
            SqlError: it names none.
        """
        known = self.run.temporary_catalog
        if known is not None and len(path) == 1 and any(table.ref.name == path[0] for table in known.tables()):
            return Ref(SESSION, path[0])
        return ref(path)

    def snapshot(self, ref: Ref, at: dt.datetime | None = None) -> Snapshot:
        """What the statement reads of a table: the same however often it asks."""
        key = (ref, at)
        if key not in self._snapshots:
            self._snapshots[key] = self.home(ref).lake.snapshot(ref, at=at)
        return self._snapshots[key]

    def newest(self, table: Table) -> Snapshot:
        """What the statement reads of a table in its newest version.

        Raises:
            ConflictError: it has other columns than the statement was analysed with. The catalog has them now.
        """
        snapshot = self.snapshot(table.ref)
        if not is_current(snapshot, table):
            follow(*self.home(table.ref), table.ref)
            raise changed(table.ref)
        return snapshot

    def _old(self, table: Table, columns: Sequence[Column], at: dt.datetime) -> Snapshot:
        snapshot = self.snapshot(table.ref, at)
        then = {column.name: column.type for column in columns_of(snapshot.schema, table)}
        for column in columns:
            if then.get(column.name) != column.type:
                raise SqlError(
                    f"{table.ref} had no column {column.name} of type {column.type} at {at.isoformat()}; the body of a function reads "
                    "old versions with the columns of now, so read them in the statement that calls it"
                )
        return snapshot

    def renew(self) -> None:
        """Let the statement read the newest versions from here on, as one does that starts over."""
        self._snapshots.clear()

    def table(self, scan: Any) -> str:
        """A relation with the columns of a `ResolvedTableScanProto`."""
        table = self.analysis.table(scan.table.full_name)
        wanted = {column.name for column in scan.parent.column_list}
        columns = [column for column in table.columns if column.name in wanted]
        at = self._time(scan.for_system_time_expr) if scan.HasField("for_system_time_expr") else None
        if at is not None and (table.kind is TableKind.VIEW or table.ref.dataset.endswith(INFORMATION_SCHEMA)):
            raise UnsupportedSqlError(f"FOR SYSTEM_TIME AS OF on the view {table.ref}: use it on the tables inside the view")
        if table.ref.dataset.endswith(INFORMATION_SCHEMA):
            return self.run.register(rows(self.catalog, table))
        if table.ref.name.endswith("*"):
            return self._wildcard(table, columns, at)
        if table.kind is not TableKind.VIEW:
            snapshot = self.newest(table) if at is None else self._old(table, columns, at)
            return relation(snapshot, columns, self.run, of_events=table.kind is TableKind.EVENTS)
        return self._view(table, columns)

    def _wildcard(self, table: Table, columns: Sequence[Column], at: dt.datetime | None) -> str:
        read = [column for column in columns if column.name != TABLE_SUFFIX]
        names = ", ".join(quote(column.name) for column in read) or "1"
        selects = []
        there = members(self.catalog, table.ref) if at is None else members_at(self.catalog, self.lake, table.ref, at)
        for member in there:
            suffix = quote_text(member.ref.name.removeprefix(table.ref.name.removesuffix("*")))
            snapshot = self.newest(member) if at is None else self.snapshot(member.ref, at)
            _check_types(table, member, read)
            rows_of_member = relation(snapshot, read, self.run, of_events=member.kind is TableKind.EVENTS)
            selects.append(f"SELECT {names}, {suffix} AS {TABLE_SUFFIX} FROM {rows_of_member}")
        return f"({' UNION ALL '.join(selects)})"

    def _view(self, view: Table, columns: Sequence[Column]) -> str:
        if view.ref in self._within or view.query is None:
            raise SqlError(f"The view {view.ref} is defined by itself: {' -> '.join(map(str, (*self._within, view.ref)))}")
        try:
            analysis = self._analyzer.analyze(view.query)
        except QueryCancelledError:
            raise
        except SqlError as error:
            raise SqlError(f"Invalid view {view.ref}: {error}") from error
        within = (*self._within, view.ref)
        inner = Session(self.catalog, self.lake, self._analyzer, run=self.run, analysis=analysis, within=within, snapshots=self._snapshots)
        query = emit_query(analysis.node.output_column_list, analysis.node.query, inner)
        places = _places(view, _outputs(analysis))
        items = (f"{places(column)} AS {quote(column.name)}" for column in columns)
        return f"(SELECT {', '.join(items) or 1} FROM ({query}))"

    def query_names(self, query: str) -> tuple[str, ...]:
        """What a query that is to be a view's calls its columns."""
        return tuple(field.name for field in _outputs(self._analyzer.analyze(query)))

    def table_function(self, scan: Any, queries: Sequence[str], within: Emitter) -> str:
        """The relation of a call's rows. Those computed in Python are kept in a table, since the query may read them twice."""
        resolved = self.analysis.calls[scan.tvf.name]
        if isinstance(resolved.function, RelationalFunction):
            named = [argument.name for argument in resolved.private.arguments if isinstance(argument, Field)]
            values = [within.independent(argument.expr) for argument in scan.argument_list if argument.HasField("expr")]
            return f"({resolved.function.emit(resolved.call.inputs, queries, dict(zip(named, values, strict=True)))})"
        rows = None
        if resolved.call.input is not None:
            rows = self.run.stream(within.complete(queries[0]), resolved.call.input)
        result = resolved.function.run(resolved.call, rows)
        if [(field.name, field.type) for field in result.schema] != [(each.name, to_arrow(each.type)) for each in resolved.private.output]:
            raise ConflictError(f"the model that {resolved.name} names was replaced by someone else meanwhile; run the statement again")
        return self.run.store(result)


def _check_types(wildcard: Table, member: Table, columns: Sequence[Column]) -> None:
    """Raises SqlError where a table of a wildcard has a column of a type that GoogleSQL does not coerce to the newest table's."""
    types = {column.name.lower(): column.type for column in member.columns}
    for column in columns:
        type_ = types.get(column.name.lower(), column.type)
        if type_ != column.type and column.type not in _COERCED.get(type_, ()):
            raise SqlError(
                f"{wildcard.ref}: column {column.name} of {member.ref} is {type_}, and {column.type} in the newest of these tables; "
                "UNION ALL the tables with a CAST instead"
            )


def _places(view: Table, outputs: Sequence[Field]) -> Callable[[Column], str]:
    """Where a view's query, whose columns are now these, has each of those that the view was made with: its tables may have changed since.

    What is returned raises SqlError for a column that is not there any more, or is of another type.
    """
    places = {key: place for place, key in enumerate(_told_apart([field.name for field in outputs]))}
    made = view.query_names or [column.name for column in view.columns]
    keys = dict(zip([column.name for column in view.columns], _told_apart(made), strict=True))

    def place(column: Column) -> str:
        key = keys[column.name]
        if key not in places:
            raise SqlError(f"Invalid view {view.ref}: its query has no column {key[0]} any more; {_REMEDY}")
        type_ = outputs[places[key]].type
        if type_ != column.type:
            raise SqlError(f"Invalid view {view.ref}: its column {key[0]} was {column.type} when it was made, and is {type_}; {_REMEDY}")
        return f"o{places[key] + 1}"

    return place


def _outputs(query: Analysis) -> list[Field]:
    """A query's columns, those without a name under ZetaSQL's."""
    return [Field(column.name, from_type(column.column.type)) for column in query.node.output_column_list]


def _told_apart(names: Sequence[str]) -> list[tuple[str, int]]:
    """Names in any case, each with how many of that name are before it."""
    lowered = [name.lower() for name in names]
    return [(name, lowered[:place].count(name)) for place, name in enumerate(lowered)]


def output_schema(output_columns: Sequence[Any]) -> tuple[Field, ...]:
    """The names and types of a query's columns; those without a name are called f0_, f1_, ... as BigQuery does."""
    unnamed = itertools.count()
    return tuple(
        Field(f"f{next(unnamed)}_" if column.name.startswith("$") else column.name, from_type(column.column.type))
        for column in output_columns
    )
