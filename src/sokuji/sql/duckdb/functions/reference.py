"""Run functions in GoogleSQL's reference implementation, as vectorised functions of DuckDB.

The analyzer's WASM module has the implementation that defines GoogleSQL. It takes about 25 us per row, too slow for an engine. But it is
exact for functions that analytics rarely calls and whose details are documented nowhere else (PARSE_TIMESTAMP, FORMAT, NET.*).
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
from duckdb.func import FunctionNullHandling, PythonUDFType
from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service
from zetasql.wasi._pb2.zetasql.public import type_pb2

from sokuji.errors import SqlError
from sokuji.sql.duckdb.functions.base import EnumName, SignatureEntry, SqlCall, Support
from sokuji.sql.duckdb.lets import let
from sokuji.sql.duckdb.types import to_duckdb
from sokuji.sql.front import values
from sokuji.sql.front.protos import to_type
from sokuji.sql.front.wasm import Calls, ResourcesError, zetasql
from sokuji.sql.stop import NEVER, Stop, find
from sokuji.types import BOOL, Field, Kind, Type

QUERY_VARIABLE = "sokuji_query"
"""A DuckDB variable of each connection: the number of the `Stop` of the query that runs on the connection."""

FUNCTION_NAME = re.compile(r"\bgooglesql_[a-z0-9_]+_[0-9a-f]{12}\b")


@dataclass(frozen=True, slots=True)
class Definition:
    """One function to register: a GoogleSQL expression over the columns `a0`, `a1`, ... of a row."""

    name: str
    sql: str
    types: tuple[Type, ...]
    result: Type
    function: Callable[..., Any] | None = None  # Python that computes one row without NULLs, instead of the expression
    whole: Callable[..., pa.Array] | None = None  # Python that computes all rows, given the query's `Stop` and the columns


_definitions: dict[str, Definition] = {}

_CALL_BYTES = 1024**2  # approximate size of the arguments of one call; an array of the implementation has at most 1 MB
_RESULT_BYTES_MAX = 2**31 - 1  # of one text column of Arrow
_TOO_LARGE = ("Cannot construct array Value larger than", "Out of memory for MemoryAccountant")


def reference(signatures: str, sql: str | None = None, *, named: tuple[str, ...] = ()) -> list[SignatureEntry]:
    """Make entries that the reference implementation computes.

    Args:
        sql: the call in GoogleSQL, with `{0}` for the first argument. If None, the function's name and its arguments.
        named: the names of the last arguments, which GoogleSQL requires.
    """

    def emit(call: SqlCall) -> str:
        if not named:
            return evaluate(call, sql)
        positional = len(call.arguments) - len(named)
        written = [f"{{{position}}}" for position in range(positional)]
        written += [f"{name} => {{{positional + position}}}" for position, name in enumerate(named)]
        return evaluate(call, f"{call.name.upper()}({', '.join(written)})")

    return [SignatureEntry(signature, Support.UDF, emit) for signature in signatures.split()]


def evaluate(call: SqlCall, sql: str | None = None) -> str:
    """DuckDB text that evaluates a call in the reference implementation. Constants become part of the expression."""
    constants = call.constants or (None,) * len(call.arguments)
    columns: list[int] = []
    written: list[str] = []
    for position, constant in enumerate(constants):
        if isinstance(constant, EnumName):
            written.append(_written(constant))
        elif isinstance(constant, str | int | float | bytes):
            written.append(f"{'JSON ' if call.types[position].kind is Kind.JSON else ''}{values.literal(constant)}")
        else:
            written.append(f"a{len(columns)}")
            columns.append(position)
    text = sql.format(*written) if sql else f"{call.name}({', '.join(written)})"
    name = define(call.name, text, tuple(call.types[position] for position in columns), call.result)
    arguments = [call.arguments[position] for position in columns] or ["true"]
    casts = [f"CAST({{}} AS {_carried(call.types[position])})" for position in columns] or ["{}"]

    def body(*items: str) -> str:
        result = f"{name}({', '.join(cast.format(item) for cast, item in zip(casts, items, strict=True))})"
        return result if _carried(call.result) == to_duckdb(call.result) else f"CAST({result} AS {to_duckdb(call.result)})"

    return let(arguments, lambda *items: f"TRY({body(*items)})") if call.safe else body(*arguments)


_NORMAL_FORMS = {"NFC", "NFKC", "NFD", "NFKD"}


def _written(name: EnumName) -> str:
    """GoogleSQL text of an enum argument: date parts and normal forms are words, others are strings."""
    if name.startswith("WEEK_"):
        return f"WEEK({name.removeprefix('WEEK_')})"
    word = name in _NORMAL_FORMS or "_" not in name
    return name if word else f"'{name}'"


def _carried(type_: Type) -> str:
    """The DuckDB type of a column of the function. JSON passes through Arrow as text."""
    return re.sub(r"\bJSON\b", "VARCHAR", to_duckdb(type_))


def define(
    label: str,
    sql: str,
    types: tuple[Type, ...],
    result: Type,
    function: Callable[..., Any] | None = None,
    *,
    whole: Callable[..., pa.Array] | None = None,
) -> str:
    """The name of the DuckDB function for a GoogleSQL expression. `register` creates the function."""
    key = hashlib.sha256(f"{sql}\0{types}\0{result}".encode()).hexdigest()[:12]
    name = f"googlesql_{re.sub(r'[^a-z0-9]+', '_', label.lower()).strip('_')}_{key}"
    _definitions[name] = Definition(name, sql, types, result, function, whole)
    return name


def over_columns(label: str, function: Callable[..., pa.Array], types: tuple[Type, ...], result: Type) -> str:
    """The name of the DuckDB function for a Python function of the query's `Stop` and the columns of a chunk of rows."""
    return define(label, label, types, result, whole=function)


def python(call: SqlCall, label: str, function: Callable[..., Any], arity: int) -> str:
    """DuckDB text that computes a call by a Python function of its first `arity` arguments; NULL if one of them is NULL."""
    name = define(label, label, call.types[:arity], call.result, function)
    return f"{name}({', '.join(call.arguments[:arity])})"


def forgiving(name: str) -> Definition:
    """The function that returns `STRUCT(failed, value)`, where the function `name` returns its value or raises."""
    raising = _definitions[name]
    result = Type(Kind.STRUCT, fields=(Field("failed", BOOL), Field("value", raising.result)))
    sql = f"STRUCT(ISERROR({raising.sql}) AS failed, IFERROR({raising.sql}, NULL) AS value)"
    function = None if raising.function is None else _forgiving(raising.function)
    whole = None if raising.whole is None else _forgiving_all(raising.whole, result)
    return _definitions[define(f"forgiving_{name}", sql, raising.types, result, function, whole=whole)]


def _forgiving(function: Callable[..., Any]) -> Callable[..., tuple[bool, Any]]:
    def call(*arguments: Any) -> tuple[bool, Any]:
        try:
            return False, function(*arguments)
        except SqlError:
            return True, None

    return call


def _forgiving_all(function: Callable[..., pa.Array], result: Type) -> Callable[..., pa.Array]:
    def call(stop: Stop, *columns: Any) -> pa.Array:
        count = len(columns[0])
        try:
            found = values.from_arrow(function(stop, *columns), result.fields[1].type)
        except SqlError:
            return values.to_arrow([(True, None)] * count, result)
        return values.to_arrow([(False, value) for value in found], result)

    return call


def register(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.DuckDBPyConnection | None:
    """Create the functions that a DuckDB statement calls, in the connection's database. Call this before running the statement.

    If functions were created, the result is a connection that DuckDB reads from whenever it calls them. Keep the connection while the
    functions are called, because the process crashes without it. Close it with the database.
    """
    names = {name for name in FUNCTION_NAME.findall(sql) if name in _definitions}
    if not names:
        return None
    # A connection with a pending result accepts no other statement. All connections of the database see the function.
    cursor = connection.cursor()
    for name in names:
        try:
            _create(cursor, _definitions[name])
        except duckdb.CatalogException as error:
            if "already exists" not in str(error):
                raise
    return cursor


def _create(connection: duckdb.DuckDBPyConnection, definition: Definition) -> None:
    # The evaluator must not refer to the connection: DuckDB holds the evaluator, so neither would ever be freed.
    evaluator = _Evaluator(definition)
    parameters: list[Any] = [duckdb.sqltype("BIGINT"), *(duckdb.sqltype(_carried(type_)) for type_ in definition.types or (BOOL,))]
    name = f"{definition.name}_for_query"
    connection.create_function(
        name,
        evaluator,
        parameters,
        duckdb.sqltype(_carried(definition.result)),
        type=PythonUDFType.ARROW,
        null_handling=FunctionNullHandling.SPECIAL,
    )
    # The function belongs to the database, but each call belongs to a query. The connection has the query's number.
    columns = ", ".join(f"a{position}" for position in range(len(parameters) - 1))
    connection.execute(f"CREATE MACRO {definition.name}({columns}) AS {name}(getvariable('{QUERY_VARIABLE}'), {columns})")


def exceeded(stop: Stop, what: str) -> ResourcesError:
    """The error that `what` needs more memory than the query's limit. It ends the query."""
    limit = f"the query's limit of {stop.memory_mib} MiB ([sql] memory_limit_mib)"
    error = ResourcesError(f"Resources exceeded: {what} more memory than {limit}")
    _end(stop, error)
    return error


def _end(stop: Stop, error: ResourcesError) -> None:
    """End the query, so that SAFE does not turn this error into NULL, as it does with errors of the data."""
    if stop is not NEVER:
        stop.now(error.message)


class _Evaluator:
    """Calls an expression for whole columns. The first column has the number of the query's `Stop`, the same in each row."""

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        # DuckDB counts the parameters of a function that it registers.
        parameters = [
            inspect.Parameter(f"p{position}", inspect.Parameter.POSITIONAL_ONLY) for position in range(1 + max(len(definition.types), 1))
        ]
        self.__signature__ = inspect.Signature(parameters)

    def __call__(self, query: Any, *columns: Any) -> pa.Array:
        stop, definition = find(query[0].as_py() if len(query) else None), self._definition
        if definition.whole is not None:
            return definition.whole(stop, *columns)
        rows = max(1, len(query) * _CALL_BYTES // max(_CALL_BYTES, sum(column.nbytes for column in columns)))
        computed, room = [], min(stop.memory_mib * 1024**2, _RESULT_BYTES_MAX)
        for start in range(0, len(query), rows):
            stop.check()
            count = min(rows, len(query) - start)
            lists = [values.from_arrow(array.slice(start, count), type_) for array, type_ in zip(columns, definition.types, strict=False)]
            if definition.function is None:
                part = values.to_arrow(self._part(lists, count, stop), definition.result)
            else:
                part = values.to_arrow([self._row(row, stop) for row in zip(*lists, strict=True)], definition.result)
            room -= part.nbytes
            if room < 0:
                raise exceeded(stop, f"{definition.name.split('_')[1].upper()} of {len(query):,} rows at a time needs")
            computed.append(part)
        return pa.concat_arrays(computed) if computed else values.to_arrow([], definition.result)

    def _part(self, lists: list[list[Any]], count: int, stop: Stop) -> list[Any]:
        """The results of some rows. If the rows are too large for one call, they are split in halves."""
        try:
            return self._evaluate(lists, count, stop)
        except SqlError as error:
            if count == 1 or not any(phrase in error.message for phrase in _TOO_LARGE):
                raise
        half = count // 2
        first, second = [items[:half] for items in lists], [items[half:] for items in lists]
        return [*self._part(first, half, stop), *self._part(second, count - half, stop)]

    def _evaluate(self, lists: list[list[Any]], count: int, stop: Stop) -> list[Any]:
        request = service.EvaluateRequest()
        rows = request.params.add(name="rows").value.array_value
        rows.SetInParent()
        for position in range(count):
            fields = rows.element.add().struct_value.field
            fields.add(bool_value=True)
            for items, type_ in zip(lists, self._definition.types, strict=True):
                values.fill(fields.add(), items[position], type_)
        with zetasql().until(stop).instance() as calls:
            request.prepared_expression_id = self._prepared(calls)
            try:
                reply = calls.call("Evaluate", request, service.EvaluateResponse)
            except ResourcesError as error:
                _end(stop, error)
                raise
        return [values.read(element.struct_value.field[0], self._definition.result) for element in reply.value.array_value.element]

    def _row(self, row: tuple[Any, ...], stop: Stop) -> Any:
        assert self._definition.function is not None  # noqa: S101 the caller checked it
        stop.check()
        return None if None in row else self._definition.function(*row)

    def _prepared(self, calls: Calls) -> int:
        if self not in calls.kept:
            reply = calls.call("Prepare", self._request(calls), service.PrepareResponse)
            calls.kept[self] = int(reply.prepared.prepared_expression_id)
        return int(calls.kept[self])

    def _request(self, calls: Calls) -> Any:
        request = values.prepare_request(
            f"ARRAY(SELECT AS STRUCT {self._definition.sql} AS r FROM UNNEST(@rows) WITH OFFSET AS o ORDER BY o)", calls
        )
        type_ = request.options.query_parameters.add(name="rows").type
        type_.type_kind = type_pb2.TYPE_ARRAY
        row = type_.array_type.element_type
        row.type_kind = type_pb2.TYPE_STRUCT
        row.struct_type.field.add(field_name="row_exists").field_type.type_kind = type_pb2.TYPE_BOOL
        for position, column in enumerate(self._definition.types):
            row.struct_type.field.add(field_name=f"a{position}", field_type=to_type(column))
        return request
