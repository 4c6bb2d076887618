"""The names of one statement, as DuckDB SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sokuji.duckdb_text import quote, quote_text
from sokuji.errors import UnsupportedSqlError
from sokuji.sql.duckdb.emit import Emitter, emit_query
from sokuji.sql.duckdb.emit.expressions import variable_name
from sokuji.sql.duckdb.emit.literals import Constant
from sokuji.sql.duckdb.relational import RELATIONAL
from sokuji.sql.duckdb.relations import relation
from sokuji.sql.duckdb.run import DuckDbQueries
from sokuji.sql.extension import RelationalFunction
from sokuji.sql.query import Query, StatementNames, StoredRows, SuffixedRows, TableRows, ViewRows
from sokuji.types import Field


class DuckDbNames:
    """The relations and parameters of a statement's emitter."""

    def __init__(self, run: DuckDbQueries, names: StatementNames) -> None:
        self.run, self._names = run, names
        # Literals: no value can break out of their text, and DuckDB can fold them.
        self.parameters: dict[str, str] = {name: Constant(*parameter) for name, parameter in names.parameters.items()}
        self.parameters |= {variable_name(name): Constant(item.value, item.type) for name, item in names.variables.items()}

    def table(self, scan: Any) -> str:
        """A relation with the columns of a `ResolvedTableScanProto`."""
        return self._relation(self._names.table(scan))

    def _relation(self, rows: TableRows) -> str:
        match rows:
            case StoredRows():
                return relation(rows.snapshot, rows.columns, self.run, of_events=rows.of_events)
            case SuffixedRows():
                return self._union(rows)
            case ViewRows():
                items = ", ".join(f"o{place + 1} AS {quote(name)}" for name, place in rows.places.items())
                return f"(SELECT {items or 1} FROM ({query_text(self.run, rows.query)}))"
            case _:
                return self.run.register(rows)

    def _union(self, rows: SuffixedRows) -> str:
        selects = []
        for suffix, table in rows.tables.items():
            names = ", ".join(quote(column.name) for column in table.columns) or "1"
            selects.append(f"SELECT {names}, {quote_text(suffix)} AS {quote(rows.column)} FROM {self._relation(table)}")
        return f"({' UNION ALL '.join(selects)})"

    def table_function(self, scan: Any, queries: Sequence[str], within: Emitter) -> str:
        """The relation of a call's rows. Rows computed in Python are stored in a table, because the query may read them twice."""
        call = self._names.call(scan)
        if isinstance(call.function, RelationalFunction):
            if call.name not in RELATIONAL:
                raise UnsupportedSqlError(f"{call.name} is not supported")
            named = [argument.name for argument in call.private.arguments if isinstance(argument, Field)]
            values = [within.independent(argument.expr) for argument in scan.argument_list if argument.HasField("expr")]
            return f"({RELATIONAL[call.name](call.call.inputs, queries, dict(zip(named, values, strict=True)))})"
        rows = None
        if call.call.input is not None:
            rows = self.run.select(within.complete(queries[0]), call.call.input)
        return self.run.store(call.rows(rows))


def query_text(run: DuckDbQueries, query: Query) -> str:
    """The SELECT statement of a query. Its columns are `o1`, `o2`, ..."""
    names = DuckDbNames(run, query.names)
    return emit_query(query.output_columns, query.scan, names, names.parameters)
