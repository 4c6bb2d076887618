"""The same expression over the same rows, by GoogleSQL's reference implementation and by analyzer, emitter and DuckDB."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service
from zetasql.wasi._pb2.zetasql.public import type_pb2

from sokuji import types
from sokuji.errors import SqlError
from sokuji.meta.objects import Column, Ref, Table, TableKind
from sokuji.sql.duckdb import functions
from sokuji.sql.duckdb.emit import Emitter, emit_query
from sokuji.sql.duckdb.functions.reference import FUNCTION_NAME
from sokuji.sql.duckdb.types import to_duckdb
from sokuji.sql.front import values
from sokuji.sql.front.analyzer import analyzer_options
from sokuji.sql.front.lookup import Names, to_catalog
from sokuji.sql.front.protos import from_type, to_type
from sokuji.sql.front.wasm import shared
from sokuji.types import Kind, Type
from tests.sql.duckdb.functions.domains import POINT

# What a query's data can cause in DuckDB; every other error means that the SQL made from the statement was wrong.
DATA_ERRORS = (duckdb.ConversionException, duckdb.InvalidInputException, duckdb.OutOfRangeException)

_SCALARS = [Type(kind) for kind in Kind if kind not in {Kind.ARRAY, Kind.STRUCT, Kind.BIGNUMERIC}]
_TYPES = {
    **{str(type_): type_ for type_ in _SCALARS},
    **{f"ARRAY<{type_}>": types.array(type_) for type_ in _SCALARS},
    "STRUCT": POINT,
}
_PLACE = re.compile(r"\{([A-Z0-9<>]+)(?::(\w+))?\}")


@dataclass(frozen=True)
class Form:
    """An expression with columns in the places of `{TYPE}` and `{TYPE:domain}`."""

    sql: str
    columns: tuple[tuple[str, Type, str], ...]  # name, type and domain

    @property
    def table(self) -> str:
        """The table it is asked of: one that has these columns alone, as the analyzer takes its time for each column of a table."""
        return "_".join(["rows_of", *(name for name, _, _ in self.columns)])


def parse(text: str, wrap: str = "{}") -> Form:
    """A form from its text; each column is written by `wrap`."""
    columns: list[tuple[str, Type, str]] = []

    def replace(match: re.Match[str]) -> str:
        number = sum(column[0].startswith(f"{_prefix(match.group(1))}_") for column in columns) + 1
        columns.append((f"{_prefix(match.group(1))}_{number}", _TYPES[match.group(1)], match.group(2) or ""))
        return wrap.format(columns[-1][0])

    return Form(_PLACE.sub(replace, text), tuple(columns))


def _prefix(name: str) -> str:
    return name.lower().replace("<", "_").replace(">", "")


class _Failure:
    def __repr__(self) -> str:
        return "an error"

    def __reduce__(self) -> str:
        return "FAILED"


FAILED = _Failure()
"""Stands for the value of an expression that raises."""


def by_reference(
    form: Form, rows: Sequence[tuple[Any, ...]], shape: str = "{select} ORDER BY n", groups: Sequence[int] | None = None
) -> list[Any]:
    """The value of an expression for each row (or group), FAILED where it raises."""
    prepared, result = _prepare(form, shape)
    request = service.EvaluateRequest(prepared_expression_id=prepared)
    _fill(request, form, rows, groups or range(len(rows)))
    reply = shared().call("Evaluate", request, service.EvaluateResponse)
    pairs = [element.struct_value.field for element in reply.value.array_value.element]
    return [FAILED if failed.bool_value else values.read(value, result) for failed, value in pairs]


@functools.cache
def _prepare(form: Form, shape: str) -> tuple[int, Type]:
    select = f"SELECT AS STRUCT ISERROR({form.sql}) AS e, NULLIFERROR({form.sql}) AS v FROM UNNEST(@rows)"
    request = values.prepare_request(f"ARRAY({shape.format(select=select)})", shared())
    _declare(request, form)
    reply = shared().call("Prepare", request, service.PrepareResponse).prepared
    return reply.prepared_expression_id, from_type(reply.output_type.array_type.element_type.struct_type.field[1].field_type)


def _declare(request: Any, form: Form) -> None:
    type_ = request.options.query_parameters.add(name="rows").type
    type_.type_kind = type_pb2.TYPE_ARRAY
    row = type_.array_type.element_type
    row.type_kind = type_pb2.TYPE_STRUCT
    row.struct_type.field.add(field_name="n").field_type.type_kind = type_pb2.TYPE_INT64
    for name, column, _ in form.columns:
        row.struct_type.field.add(field_name=name, field_type=to_type(column))


def _fill(request: Any, form: Form, rows: Sequence[tuple[Any, ...]], numbers: Sequence[int]) -> None:
    array = request.params.add(name="rows").value.array_value
    array.SetInParent()
    for number, row in zip(numbers, rows, strict=True):
        fields = array.element.add().struct_value.field
        fields.add(int64_value=number)
        for value, (_, type_, _) in zip(row, form.columns, strict=True):
            values.fill(fields.add(), value, type_)


class Engine:
    """Emits expressions over the columns they need and runs them in DuckDB."""

    def __init__(self, forms: Iterable[Form]) -> None:
        self._connection = duckdb.connect()
        self._functions: set[str] = set()
        self._kept: list[duckdb.DuckDBPyConnection | None] = []  # what the functions need to work
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute("SET threads = 1")
        self._options = analyzer_options(shared())
        tables: dict[tuple[str, ...], Table] = {(form.table,): _table(form) for form in forms}
        catalog = to_catalog(Names(tables), self._options.language_options)
        self._request = service.RegisterCatalogRequest(simple_catalog=catalog)
        self._registered: int | None = None
        self._source = ""

    def close(self) -> None:
        """Close the connection and those the functions needed."""
        for connection in (self._connection, *self._kept):
            if connection is not None:
                connection.close()

    def emit(self, form: Form, shape: str = "{select} ORDER BY n") -> tuple[str, Type, set[str]]:
        """DuckDB SQL for an expression over its rows, its type and the signatures it calls.

        Raises:
            SqlError: it does not run here.
        """
        if self._registered is None:
            self._registered = shared().call("RegisterCatalog", self._request, service.RegisterResponse).registered_id
        sql = shape.format(select=f"SELECT {form.sql} FROM {form.table}")
        request = service.AnalyzeRequest(options=self._options, sql_statement=sql, registered_catalog_id=self._registered)
        node = shared().call("Analyze", request, service.AnalyzeResponse).resolved_statement.resolved_query_stmt_node
        text = emit_query(node.output_column_list, node.query, self, {}, storable=False)
        return text, from_type(node.output_column_list[0].column.type), _signatures(node)

    def _register(self, text: str) -> None:
        names = set(FUNCTION_NAME.findall(text))
        if not names <= self._functions:
            self._kept.append(functions.register(self._connection, text))
            self._functions |= names

    def table(self, scan: Any) -> str:
        """The contract of the emitter's `Relations`."""
        assert scan.table.name.startswith("rows_of")
        return "source"

    def table_function(self, scan: Any, queries: Sequence[str], emitter: Emitter) -> str:
        """The contract of the emitter's `Relations`."""
        raise AssertionError(f"{scan} {queries} {emitter}")

    def run(self, text: str, result: Type, form: Form, rows: Sequence[tuple[Any, ...]], groups: Sequence[int] | None = None) -> list[Any]:
        """The value of an emitted expression for each of these rows (or groups).

        Raises:
            duckdb.Error: it fails.
        """
        arrays = [pa.array(groups or range(len(rows)), pa.int64())]
        arrays += [values.to_arrow([row[place] for row in rows], type_) for place, (_, type_, _) in enumerate(form.columns)]
        names = ["n", *(name for name, _, _ in form.columns)]
        casts = [f"CAST({name} AS {to_duckdb(type_)}) AS {name}" for name, type_, _ in form.columns]
        with self._connection.cursor() as cursor:
            cursor.register("arrow_rows", pa.table(arrays, names=names))
            cursor.execute(f"CREATE OR REPLACE TEMP TABLE source AS SELECT {', '.join(['n', *casts])} FROM arrow_rows")
            self._register(text)
            table = cursor.sql(text).to_arrow_table()
        return values.from_arrow(table.column(0), result)


def _table(form: Form) -> Table:
    columns = [Column("n", types.INT64), *(Column(name, type_) for name, type_, _ in form.columns)]
    return Table(Ref("t", form.table), TableKind.TABLE, tuple(columns))


def _signatures(node: Any) -> set[str]:
    from zetasql.wasi._pb2.zetasql.public.builtin_function_pb2 import FunctionSignatureId

    found: set[str] = set()

    def walk(message: Any) -> None:
        if message.DESCRIPTOR.name == "ResolvedFunctionCallBaseProto":
            found.add(FunctionSignatureId.Name(message.signature.context_id))
        for descriptor, value in message.ListFields():
            if descriptor.message_type is None:
                continue
            for item in value if descriptor.is_repeated else [value]:
                walk(item)

    walk(node)
    return found


def same(left: Any, right: Any, type_: Type, ulps: int = 0) -> bool:
    """Whether two values are one; FLOAT64 up to `ulps` units in the last place."""
    if left is FAILED or right is FAILED or left is None or right is None:
        return left is right
    if type_.element is not None:
        element = type_.element
        return len(left) == len(right) and all(same(one, other, element, ulps) for one, other in zip(left, right, strict=True))
    if type_.kind is Kind.STRUCT:
        return all(same(one, other, field.type, ulps) for one, other, field in zip(left, right, type_.fields, strict=True))
    if type_.kind is Kind.FLOAT64:
        return _close(left, right, ulps)
    return bool(left == right)


def _close(left: float, right: float, ulps: int) -> bool:
    import math

    if math.isnan(left) or math.isnan(right):
        return math.isnan(left) and math.isnan(right)
    if left == right:
        return True
    return math.isfinite(left) and math.isfinite(right) and abs(left - right) <= ulps * math.ulp(max(abs(left), abs(right)))


__all__ = ["DATA_ERRORS", "FAILED", "Engine", "Form", "SqlError", "by_reference", "parse", "same"]
