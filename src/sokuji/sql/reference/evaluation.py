"""Run a resolved query by GoogleSQL's reference implementation.

The implementation takes text, not trees. So the tables that a query reads become small tables in the request, variables become parameters,
and ZetaSQL writes the tree as GoogleSQL text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from google.protobuf.message import Message
from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service
from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_ast_pb2

from sokuji.errors import SqlError, UnsupportedSqlError
from sokuji.sql.extension import RelationalFunction
from sokuji.sql.front import values
from sokuji.sql.front.analyzer import analyzer_options
from sokuji.sql.front.protos import children, to_type, to_value
from sokuji.sql.front.wasm import zetasql
from sokuji.sql.query import Query, StatementNames, StoredRows, SuffixedRows, TableRows, ViewRows
from sokuji.sql.reference.rows import ValueRows, of_arrow, of_stored, storable
from sokuji.sql.stop import Stop
from sokuji.types import INT64, STRING, Field, Type, from_arrow

_UNUSED = "unused_"  # a column added to each table, because a table without columns would have no rows


class Evaluation:
    """One query: the tables that it reads, and its text."""

    def __init__(self, names: StatementNames, stop: Stop) -> None:
        self._names, self._stop = names, stop
        self._tables: dict[str, ValueRows] = {}
        self._with: list[Any] = []  # the entries in scope, outer ones first
        self._values: list[tuple[Any, Any]] = []  # of its parameters: `ValueProto` and `TypeProto`
        self._valued: dict[str, Callable[[Any], tuple[Any, Any]]] = {
            "resolved_parameter_node": self._parameter,
            "resolved_constant_node": lambda node: self._variable(node.constant.name),
            "resolved_system_variable_node": lambda node: self._variable("@@" + ".".join(node.name_path)),
        }

    def rows(self, query: Query) -> ValueRows:
        """The rows of a query, as they are stored.

        Raises:
            SqlError, UnsupportedSqlError, QueryCancelledError: see `QueryRun.stream`.
        """
        request = service.EvaluateQueryRequest(sql=self.text(query))
        for name, table in self._tables.items():
            content = request.table_content[name].table_data
            content.SetInParent()
            for row in table.rows:
                cells = content.row.add().cell
                for value, field in zip(row, table.fields, strict=True):
                    values.fill(cells.add(), value, field.type)
                cells.add(int64_value=0)
        with zetasql().until(self._stop).instance() as calls:
            request.options.CopyFrom(analyzer_options(calls))
            self._catalog(request.simple_catalog, request.options)
            for place, (value, type_) in enumerate(self._values):
                request.options.query_parameters.add(name=f"p{place}", type=type_)
                request.params.add(name=f"p{place}", value=value)
            try:
                found = calls.call("EvaluateQuery", request, service.EvaluateQueryResponse).content.table_data.row
            except SqlError as error:
                if error.message.startswith("Unsupported built-in function"):
                    raise UnsupportedSqlError(f"{error.message}: GoogleSQL's reference implementation does not have it") from error
                raise type(error)(error.message) from error  # the error's position is in generated text
        types = [field.type for field in query.schema]
        return ValueRows(query.schema, [tuple(_stored(cell, type_) for cell, type_ in zip(row.cell, types, strict=True)) for row in found])

    def text(self, query: Query) -> str:
        """The query as GoogleSQL over the tables of this evaluation."""
        statement = resolved_ast_pb2.AnyResolvedStatementProto()
        node = statement.resolved_query_stmt_node
        node.output_column_list.extend(query.output_columns)
        node.query.CopyFrom(query.scan)
        self._replace(node.query)
        with zetasql().until(self._stop).instance() as calls:
            request = service.BuildSqlRequest(resolved_statement=statement)
            request.descriptor_pool_list.definitions.add().builtin.SetInParent()  # of date parts and similar enums
            self._catalog(request.simple_catalog, analyzer_options(calls))
            return str(calls.call("BuildSql", request, service.BuildSqlResponse).sql)

    def _catalog(self, catalog: Any, options: Any) -> None:
        catalog.name = "reference"
        catalog.builtin_function_options.language_options.CopyFrom(options.language_options)
        for name, table in self._tables.items():
            columns = catalog.table.add(name=name).column
            for field in (*table.fields, Field(_UNUSED, INT64)):
                columns.add(name=field.name, type=to_type(field.type))

    def _add(self, rows: ValueRows) -> str:
        name = f"t{len(self._tables)}"
        self._tables[name] = rows
        return name

    def _replace(self, message: Message) -> None:
        """Replace the names in a tree by those of this evaluation."""
        if message.DESCRIPTOR.name == "ResolvedTableScanProto":
            self._read(message, self.read(self._names.table(message)))
            return
        which = message.WhichOneof("node") if "node" in message.DESCRIPTOR.oneofs_by_name else None
        if which == "resolved_tvfscan_node":
            self._call(message)
        elif which == "resolved_with_scan_node":
            self._entries(message)
        elif which in self._valued:
            self._value(message, *self._valued[which](getattr(message, which)))
        else:
            for child in children(message):
                self._replace(child)

    def _read(self, scan: Any, rows: ValueRows) -> None:
        """Let a `ResolvedTableScanProto` read these rows."""
        if scan.read_as_row_type:
            raise UnsupportedSqlError("Reading a table as a value table is not supported")
        scan.ClearField("for_system_time_expr")
        scan.table.name = scan.table.full_name = self._add(rows)
        scan.table.serialization_id = 0  # set explicitly, otherwise ZetaSQL fails an internal check
        places = {field.name: place for place, field in enumerate(rows.fields)}
        scan.column_index_list[:] = [places[column.name] for column in scan.parent.column_list]

    def read(self, rows: TableRows) -> ValueRows:
        """The rows of a table."""
        match rows:
            case StoredRows():
                return of_stored(rows)
            case SuffixedRows():
                parts = [(suffix, of_stored(table)) for suffix, table in rows.tables.items()]
                fields = (*parts[0][1].fields, Field(rows.column, STRING))
                return ValueRows(fields, [(*row, suffix) for suffix, part in parts for row in part.rows])
            case ViewRows():
                found = Evaluation(rows.query.names, self._stop).rows(rows.query)
                fields = tuple(Field(name, rows.query.schema[place].type) for name, place in rows.places.items())
                return ValueRows(fields, [tuple(row[place] for place in rows.places.values()) for row in found.rows])
            case _:
                return of_arrow(rows, [Field(field.name, from_arrow(field.type)) for field in rows.schema])

    def _call(self, message: Any) -> None:
        """Replace a call of a table function by a table with its rows."""
        scan = message.resolved_tvfscan_node
        call = self._names.call(scan)
        if isinstance(call.function, RelationalFunction):
            raise UnsupportedSqlError(f"{call.name} is not supported by GoogleSQL's reference implementation")
        given = None
        for argument in scan.argument_list:
            if argument.HasField("scan"):
                given = self._argument(argument, call.call.input or ()).reader()
        found = of_arrow(call.rows(given).read_all(), call.private.output)
        table = resolved_ast_pb2.AnyResolvedScanProto()
        table.resolved_table_scan_node.parent.CopyFrom(scan.parent)
        self._read(table.resolved_table_scan_node, found)
        message.CopyFrom(table)

    def _argument(self, argument: Any, fields: tuple[Field, ...]) -> ValueRows:
        query = resolved_ast_pb2.AnyResolvedScanProto()
        if self._with:
            query.resolved_with_scan_node.with_entry_list.extend(self._with)
            query.resolved_with_scan_node.query.CopyFrom(argument.scan)
            query.resolved_with_scan_node.parent.column_list.extend(argument.argument_column_list)
        else:
            query.CopyFrom(argument.scan)
        outputs = [
            resolved_ast_pb2.ResolvedOutputColumnProto(name=field.name, column=column)
            for field, column in zip(fields, argument.argument_column_list, strict=True)
        ]
        inner = Evaluation(self._names, self._stop)
        return inner.rows(Query(outputs, query, fields, self._names))

    def _entries(self, message: Any) -> None:
        scan = message.resolved_with_scan_node
        with self._scope():
            for entry in scan.with_entry_list:
                original = type(entry)()
                original.CopyFrom(entry)
                self._replace(entry.with_subquery)
                self._with.append(original)
            self._replace(scan.query)

    @contextmanager
    def _scope(self) -> Iterator[None]:
        before = len(self._with)
        yield
        del self._with[before:]

    def _parameter(self, node: Any) -> tuple[Any, Any]:
        value, type_ = self._names.parameters[node.name.lower() or str(node.position)]
        return to_value(value, type_), to_type(type_)

    def _variable(self, name: str) -> tuple[Any, Any]:
        variable = self._names.variables[name.lower()]
        return variable.proto, to_type(variable.type)

    def _value(self, message: Any, value: Any, type_: Any) -> None:
        """Replace an expression by a parameter of the evaluation."""
        parameter = resolved_ast_pb2.ResolvedParameterProto(name=f"p{len(self._values)}")
        parameter.parent.type.CopyFrom(type_)
        message.resolved_parameter_node.CopyFrom(parameter)
        self._values.append((value, type_))


def _stored(cell: Any, type_: Type) -> Any:
    return storable(values.read(cell, type_), type_)
