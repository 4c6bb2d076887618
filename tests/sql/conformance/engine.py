"""Runs one statement the way queries run: Google's analyzer, our emitter, DuckDB."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service
from zetasql.wasi._pb2.zetasql.public import value_pb2

from sokuji.errors import SqlError
from sokuji.meta.objects import Column, Ref, Table, TableKind
from sokuji.sql.duckdb import functions
from sokuji.sql.duckdb.emit import Emitter, emit_expression, emit_query
from sokuji.sql.duckdb.emit.literals import from_proto
from sokuji.sql.duckdb.functions.reference import FUNCTION_NAME
from sokuji.sql.front import values
from sokuji.sql.front.analyzer import analyzer_options
from sokuji.sql.front.lookup import Names, to_catalog
from sokuji.sql.front.protos import from_type
from sokuji.sql.front.wasm import shared
from sokuji.types import Kind, Type


class NotAQueryError(Exception):
    """The statement is not a query."""


class RefusedError(Exception):
    """The analyzer does not accept the statement."""


class Rows:
    """The result of a query; a value table has one column without a name."""

    def __init__(self, types: list[Type], rows: list[tuple[Any, ...]], *, value_table: bool) -> None:
        self.types, self.rows, self.value_table = types, rows, value_table


class Engine:
    """A few tables in memory, under names without a dataset, and queries on them."""

    def __init__(self, time_zone: str = "UTC") -> None:
        self._connection = duckdb.connect()
        self._functions: set[str] = set()
        self._kept: list[duckdb.DuckDBPyConnection | None] = []  # what the functions need to work
        self._connection.execute("SET TimeZone = 'UTC'")
        self._tables: dict[tuple[str, ...], Table] = {}
        self._options = analyzer_options(shared())
        self._options.default_timezone = time_zone
        self._catalog: int | None = None
        self._generation = -1

    def close(self) -> None:
        """Forget everything."""
        self._connection.close()

    def create(self, statement: str) -> None:
        """Run CREATE TABLE ... AS.

        Raises:
            RefusedError, NotAQueryError, SqlError: the table cannot exist here.
        """
        resolved = self._analyze(statement, {})
        if resolved.WhichOneof("node") != "resolved_create_table_as_select_stmt_node":
            raise NotAQueryError(resolved.WhichOneof("node"))
        node = resolved.resolved_create_table_as_select_stmt_node
        definitions = node.parent.column_definition_list
        columns = tuple(Column(item.name, from_type(item.type)) for item in definitions)
        name = node.parent.parent.name_path[-1]
        sql = emit_query(node.output_column_list, node.query, self, {}, storable=False)
        self._register(sql)
        named = ", ".join(f'o{place} AS "{column.name}"' for place, column in enumerate(columns, start=1))
        self._connection.execute(f'CREATE TABLE "t_{name}" AS SELECT {named} FROM ({sql})')
        self._tables[(name,)] = Table(Ref("conformance", name), TableKind.TABLE, columns)
        self._catalog = None

    def query(self, statement: str, parameters: Mapping[str, str]) -> Rows:
        """Run a query; `parameters` are GoogleSQL expressions by name.

        Raises:
            RefusedError, NotAQueryError, SqlError, duckdb.Error: it does not run.
        """
        known = {name: self._expression(text) for name, text in parameters.items()}
        resolved = self._analyze(statement, {name: proto for name, (proto, _) in known.items()})
        if resolved.WhichOneof("node") != "resolved_query_stmt_node":
            raise NotAQueryError(resolved.WhichOneof("node"))
        node = resolved.resolved_query_stmt_node
        sql = emit_query(node.output_column_list, node.query, self, {name: text for name, (_, text) in known.items()}, storable=False)
        self._register(sql)
        types = [from_type(output.column.type) for output in node.output_column_list]
        table = self._connection.sql(sql).to_arrow_table()
        columns = [values.from_arrow(column, type_) for column, type_ in zip(table.columns, types, strict=True)]
        return Rows(types, list(zip(*columns, strict=True)), value_table=node.is_value_table)

    def agrees(self, statement: str, got: Rows) -> bool:
        """Whether GoogleSQL's reference implementation gives the same rows, in whatever order, for a query without tables."""
        request = service.EvaluateQueryRequest(
            sql=statement.rstrip().removesuffix(";"), options=self._options, registered_catalog_id=self._known()
        )
        try:
            content = shared().call("EvaluateQuery", request, service.EvaluateQueryResponse).content
        except SqlError:
            return False
        rows = [tuple(values.read(cell, type_) for cell, type_ in zip(row.cell, got.types, strict=True)) for row in content.table_data.row]
        return sorted(rows, key=repr) == sorted(got.rows, key=repr)

    def _register(self, text: str) -> None:
        names = set(FUNCTION_NAME.findall(text))
        if not names <= self._functions:
            self._kept.append(functions.register(self._connection, text))
            self._functions |= names

    def table(self, scan: Any) -> str:
        """The contract of the emitter's `Relations`."""
        return f'"t_{scan.table.name}"'

    def table_function(self, scan: Any, queries: Sequence[str], emitter: Emitter) -> str:
        """The contract of the emitter's `Relations`."""
        raise NotAQueryError(f"table function {scan.tvf.name} on {queries} in {emitter}")

    def _expression(self, text: str) -> tuple[Any, str]:
        resolved = self._analyze(f"SELECT {text}", {}).resolved_query_stmt_node
        column = resolved.output_column_list[0].column
        sql = emit_query(resolved.output_column_list, resolved.query, self, {}, storable=False)
        self._register(sql)
        type_, proto = from_type(column.type), value_pb2.ValueProto()
        values.fill(proto, values.from_arrow(self._connection.sql(sql).to_arrow_table().column(0), type_)[0], type_)
        return column.type, from_proto(proto, type_)  # a literal, as parameters are

    def _analyze(self, statement: str, parameters: Mapping[str, Any]) -> Any:
        request = service.AnalyzeRequest(options=self._options, sql_statement=statement.rstrip().removesuffix(";"))
        for name, proto in parameters.items():
            request.options.query_parameters.add(name=name.lower(), type=proto)
        request.registered_catalog_id = self._known()
        try:
            return shared().call("Analyze", request, service.AnalyzeResponse).resolved_statement
        except SqlError as error:
            raise RefusedError(str(error)) from error

    def _known(self) -> int:
        if self._catalog is None or self._generation != shared().generation:
            catalog = to_catalog(Names(self._tables), self._options.language_options)
            reply = shared().call("RegisterCatalog", service.RegisterCatalogRequest(simple_catalog=catalog), service.RegisterResponse)
            self._catalog, self._generation = int(reply.registered_id), shared().generation
        return self._catalog


_NARROW = re.compile(r"\b(?:(u?int32|uint64)|(float|double))\b", re.IGNORECASE)


def widened(statement: str) -> str:
    """A statement with BigQuery's number types in place of the others, so that what else it checks can be checked."""
    return _NARROW.sub(lambda match: "INT64" if match.group(1) else "FLOAT64", statement)


def parameters(text: str) -> dict[str, str]:
    """The `[parameters=1 as p, "x" as q]` option as expressions by name."""
    found: dict[str, str] = {}
    depth, quote, start = 0, "", 0
    for position, character in enumerate(text + ","):
        if quote:
            quote = "" if character == quote and text[position - 1] != "\\" else quote
        elif character in "\"'":
            quote = character
        elif character in "([{<":
            depth += 1
        elif character in ")]}>":
            depth -= 1
        elif character == "," and depth == 0:
            match = re.fullmatch(r"(.*)\s+as\s+@?`?(\w+)`?", text[start:position].strip(), re.DOTALL | re.IGNORECASE)
            if match is not None:
                found[match.group(2).lower()] = match.group(1)
            start = position + 1
    return found


__all__ = ["Engine", "Kind", "NotAQueryError", "RefusedError", "Rows", "emit_expression", "parameters"]
