"""Runs a query twice: in GoogleSQL's reference implementation, and as emitted SQL in DuckDB, over the same tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa
from google.protobuf import empty_pb2
from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service

from sokuji.sql.duckdb import functions
from sokuji.sql.duckdb.emit import Emitter, emit_query
from sokuji.sql.front import values
from sokuji.sql.front.analyzer import analyzer_options
from sokuji.sql.front.protos import from_type, to_type
from sokuji.sql.front.wasm import shared
from sokuji.types import Field, Type, parse, to_arrow

NAN = float("nan")
Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Table:
    """Column names and types ("x INT64, s STRING"), and rows in the form of `front.values`."""

    fields: tuple[Field, ...]
    rows: Rows = field(default_factory=list)


def table(columns: str, *rows: tuple[Any, ...]) -> Table:
    """A table, its columns written as in a STRUCT type."""
    return Table(parse(f"STRUCT<{columns}>").fields, list(rows))


class Oracle:
    """Both engines, with the same tables."""

    def __init__(self, tables: Mapping[str, Table] | None = None) -> None:
        self.zetasql = shared()
        self.options = analyzer_options(self.zetasql)
        self._catalog: int | None = None
        self.hold(tables or {})
        self.duckdb = duckdb.connect()
        self.duckdb.execute("SET TimeZone = 'UTC'")
        self._kept: list[Any] = []  # what the functions need as long as they are called

    def hold(self, tables: Mapping[str, Table]) -> None:
        """Have these tables in place of those so far: both engines are asked about them many times."""
        if self._catalog is not None:
            self.zetasql.call("UnregisterCatalog", service.UnregisterRequest(registered_id=self._catalog), empty_pb2.Empty)
        self.tables = dict(tables)
        request = service.RegisterCatalogRequest()
        request.simple_catalog.name = "test"
        request.simple_catalog.builtin_function_options.language_options.CopyFrom(self.options.language_options)
        for name, table_ in self.tables.items():
            proto = request.simple_catalog.table.add(name=name)
            for column in table_.fields:
                proto.column.add(name=column.name, type=to_type(column.type))
            # Every table needs an entry, also an empty one.
            data = request.table_content[name].table_data
            data.SetInParent()
            for row in table_.rows:
                cells = data.row.add()
                for value, column in zip(row, table_.fields, strict=True):
                    values.fill(cells.cell.add(), value, column.type)
        self._catalog = self.zetasql.call("RegisterCatalog", request, service.RegisterResponse).registered_id

    def reference(self, sql: str) -> Rows:
        """The rows GoogleSQL says."""
        request = service.EvaluateQueryRequest(sql=sql, options=self.options, registered_catalog_id=self._catalog)
        reply = self.zetasql.call("EvaluateQuery", request, service.EvaluateQueryResponse)
        types = [from_type(column.type) for column in reply.prepared.columns]
        return [
            tuple(values.read(cell, type_) for cell, type_ in zip(row.cell, types, strict=True)) for row in reply.content.table_data.row
        ]

    def analyze(self, sql: str) -> Any:
        """The resolved statement."""
        request = service.AnalyzeRequest(sql_statement=sql, options=self.options, registered_catalog_id=self._catalog)
        return self.zetasql.call("Analyze", request, service.AnalyzeResponse).resolved_statement

    def emitted(self, sql: str, *, storable: bool = False) -> str:
        """The query as DuckDB SQL."""
        return self._emitted(self.analyze(sql).resolved_query_stmt_node, storable=storable)

    def _emitted(self, query: Any, *, storable: bool) -> str:
        return emit_query(query.output_column_list, query.query, self, storable=storable)

    def run(self, sql: str, *, storable: bool = False) -> Rows:
        """The rows DuckDB gives for what was emitted."""
        query = self.analyze(sql).resolved_query_stmt_node
        text = self._emitted(query, storable=storable)
        self._kept.append(functions.register(self.duckdb, text))
        result = self.duckdb.sql(text).to_arrow_table()
        types = [from_type(output.column.type) for output in query.output_column_list]
        columns = [values.from_arrow(column, type_) for column, type_ in zip(result.columns, types, strict=True)]
        return list(zip(*columns, strict=True))

    def table(self, scan: Any) -> str:
        """`Relations.table`: the rows as an Arrow table that DuckDB reads."""
        name, table_ = scan.table.name, self.tables[scan.table.name]
        columns = zip(*table_.rows, strict=True) if table_.rows else [[] for _ in table_.fields]
        arrays = [values.to_arrow(list(column), item.type) for column, item in zip(columns, table_.fields, strict=True)]
        schema = pa.schema([(item.name, to_arrow(item.type)) for item in table_.fields])
        self.duckdb.register(f"test_{name}", pa.Table.from_arrays(arrays, schema=schema))
        return f'"test_{name}"'

    def table_function(self, scan: Any, queries: Sequence[str], emitter: Emitter) -> str:
        """`Relations.table_function`: there is none here."""
        raise NotImplementedError


def same(left: Any, right: Any) -> bool:
    """Equality by value in which NaN is itself, and an int is no float."""
    if isinstance(left, Sequence) and isinstance(right, Sequence) and not isinstance(left, str | bytes):
        return len(left) == len(right) and all(same(one, other) for one, other in zip(left, right, strict=True))
    return type(left) is type(right) and (left == right or (left != left and right != right))


def sorted_rows(rows: Rows) -> Rows:
    """Rows in an order of their own, for results whose order is nobody's promise."""
    return sorted(rows, key=repr)


__all__ = ["NAN", "Oracle", "Rows", "Table", "Type", "same", "sorted_rows", "table"]
