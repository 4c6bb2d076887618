"""Evaluate GoogleSQL scalar expressions over a micro-batch of events: by Arrow where possible, the others in one DuckDB query.

For an expression, an event looks like a row of the lake's events table: `event_name`, `keys`, `_date`, ..., `context` and `properties` as
JSON, and every property as a typed column. An expression can also name further columns of the batch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sokuji.arrays import in_one_piece
from sokuji.bots import is_bot
from sokuji.config import SqlSettings
from sokuji.duckdb_text import quote
from sokuji.errors import SqlError
from sokuji.events import EVENT_SCHEMA
from sokuji.lake.events import FIXED_SCHEMA, JSON_COLUMNS, PLACE_COLUMNS, TIME_COLUMN, column_name
from sokuji.meta.base import Catalog
from sokuji.meta.memory import MemoryCatalog
from sokuji.meta.objects import Column, Ref, Table, TableKind
from sokuji.sql.duckdb.emit import Emitter, emit_query
from sokuji.sql.duckdb.errors import translate
from sokuji.sql.duckdb.functions.reference import register
from sokuji.sql.duckdb.run import restore
from sokuji.sql.front.analyzer import Analyzer
from sokuji.sql.front.protos import leaf
from sokuji.sql.scalar.by_arrow import Compute, UnsureError, compile_plain, whole
from sokuji.sql.scalar.failures import BATCH, ROW, Guarded, GuardedQuery
from sokuji.sql.scalar.hints import FIXED_AS, of_expression
from sokuji.sql.scalar.properties import PropertyReader
from sokuji.sql.session import output_schema
from sokuji.types import BOOL, FLOAT64, JSON, STRING, Field, Type, from_arrow, to_arrow

_TABLE = Ref("e", "events")
_UNKNOWN = re.compile(r"Unrecognized name: `?(\w+)`?")
_UNREPEATABLE = re.compile(r'"ZetaSQL:(rand|generate_uuid|current_[a-z]+)"')
_WORD = re.compile(r"\w+")
_GUESSES = (STRING, FLOAT64, BOOL)
_ASKED_MAX = 100  # failing rows of a batch that are evaluated alone to get their messages; other rows reuse these messages
_COMPILED_MAX = 256  # compiled sets of expressions kept for one project: views, conditions, and checks for display, per types of properties
_GUESSED_MAX = 4  # unknown properties of one expression; each triples the number of attempts


class Evaluated(NamedTuple):
    """The outcome of evaluating a batch."""

    values: pa.RecordBatch
    """A column per expression, named by its text; NULL in rows that failed."""
    failed: dict[int, str]
    """The reason for each row on which an expression failed."""


class Expressions:
    """Compiled expressions over events. Not thread-safe."""

    def __init__(
        self,
        texts: Sequence[str],
        *,
        properties: Mapping[str, Type] | None = None,
        said: Mapping[str, Type] | None = None,
        columns: Mapping[str, pa.DataType] | None = None,
        numbers: frozenset[str] = frozenset(),
    ) -> None:
        """Compile the expressions.

        Args:
            texts: the expressions, without duplicates.
            properties: the known types of properties, from the events table. A property without a known type, or whose type makes an
                expression invalid, gets the first of STRING, FLOAT64 and BOOL that makes the expression valid.
            said: types of properties that take precedence over the known ones.
            columns: further columns of the batches.
            numbers: the expressions that must be numbers. A property alone is then taken as a number.

        Raises:
            SqlError: an expression is not valid; the message shows the expression and the position.
        """
        kinds = tuple((columns or {}).items())
        self._compiled = _compile(tuple(texts), kinds, _named(texts, properties or {}), _named(texts, said or {}), numbers)
        self.types: dict[str, Type] = {field.name: field.type for field in self._compiled.fields}
        """The type of each expression, by its text."""
        self.names = self._compiled.names
        """The columns and properties that the expressions read."""
        self.properties = dict(self._compiled.properties)
        """The properties among `names`, with their types for `PropertyReader`."""
        self._reader = PropertyReader(self.properties)
        self._opened = ExitStack()

    @property
    def log_columns(self) -> frozenset[str]:
        """The columns of EVENT_SCHEMA that `evaluate` needs, besides the column that properties are read from."""
        sources = (_SOURCES.get(name, (name,)) for name in self.names - self.properties.keys())
        return frozenset(source for each in sources for source in each if source in EVENT_SCHEMA.names)

    def evaluate(self, batch: pa.RecordBatch, properties: Mapping[str, pa.Array] | None = None) -> Evaluated:
        """The values for each row of `batch`, which has columns of EVENT_SCHEMA and the further columns.

        Only the columns in `names` are needed. `properties` are columns already read from the batch.
        """
        if not self._compiled.fields:
            return Evaluated(batch_of({}, batch.num_rows), {})
        rows = self._rows(batch, properties or {})
        try:
            return Evaluated(self._mostly_plain(rows), {})
        except (UnsureError, duckdb.Error):
            return self._queried(rows)

    def _mostly_plain(self, rows: pa.Table) -> pa.RecordBatch:
        """The values, computed by Arrow where possible. Raises UnsureError, and the errors of `run`."""
        stored = {name: in_one_piece(column) for name, column in zip(rows.column_names, rows.columns, strict=True)}
        found = {text: whole(compute(stored), rows.num_rows) for text, compute in self._compiled.plain}
        rest, names = self._compiled.rest, [field.name for field in self._compiled.fields]
        if rest is not None:
            fields = [field for field in self._compiled.fields if field.name not in found]
            found |= zip([field.name for field in fields], self._run(rest, fields, rows), strict=True)
        return pa.RecordBatch.from_arrays([found[name] for name in names], names=names)

    def _queried(self, rows: pa.Table) -> Evaluated:
        try:
            return Evaluated(self.run(rows), {})
        except duckdb.Error:
            return self._without_failures(rows)

    def _without_failures(self, rows: pa.Table) -> Evaluated:
        failed = self._failures(rows)
        good = np.setdiff1d(np.arange(rows.num_rows), list(failed))
        parts = [self._nulls()]
        self._isolate(rows.take(pa.array(good)), good, parts, failed)
        places = np.zeros(rows.num_rows, np.int64)
        places[good] = np.arange(1, len(good) + 1)
        return Evaluated(pa.concat_batches(parts).take(pa.array(places)), failed)

    def _rows(self, batch: pa.RecordBatch, properties: Mapping[str, pa.Array]) -> pa.Table:
        """The columns that the query reads."""
        found = {name: properties[name] for name, type_ in self.properties.items() if _is(properties.get(name), type_)}
        if len(found) < len(self.properties):
            found = self._reader.read(batch.column("properties")) | found
        columns = {name: found[name] if name in found else _column(batch, name) for name in sorted(self.names)}
        # A query that reads no column still needs rows.
        return pa.table(columns or {"_": pa.nulls(batch.num_rows, pa.bool_())})

    def run(self, rows: pa.Table) -> pa.RecordBatch:
        """The values for rows that have the columns of the query. Raises duckdb.Error if an expression fails on a row."""
        fields = self._compiled.fields
        return pa.RecordBatch.from_arrays(self._run(self._compiled.query, fields, rows), names=[field.name for field in fields])

    def _run(self, query: str, fields: Sequence[Field], rows: pa.Table) -> list[pa.Array]:
        connection = self._database.connection
        connection.register(BATCH, rows)
        try:
            table = connection.sql(query).to_arrow_table()
        finally:
            connection.unregister(BATCH)
        return [restore(in_one_piece(column), field.type) for column, field in zip(table.columns, fields, strict=True)]

    def _failures(self, rows: pa.Table) -> dict[int, str]:
        """The reason for each row that is found to fail."""
        try:
            found = self._guarded.run(rows)
        except duckdb.Error:
            return {}  # `_isolate` will find the rows
        asked: dict[int, str] = {}  # the message of one failing row, by expression
        budget = _ASKED_MAX
        reasons = {}
        for row, (place, message) in found.items():
            said = message
            if said is None and budget > 0:
                budget -= 1
                said = self._ask(rows.slice(row, 1))
                if said is None:
                    continue  # the row does not fail alone
                asked[place] = said
            if said is None:
                said = f"as of another event, {asked[place]}" if place in asked else "it fails"
            reasons[row] = f"{self._compiled.fields[place].name}: {said}"
        return reasons

    def _ask(self, row: pa.Table) -> str | None:
        """The reason why a row fails; None if it does not fail."""
        try:
            self.run(row)
        except duckdb.Error as error:
            return _reason(error)
        return None

    def _isolate(self, rows: pa.Table, numbers: npt.NDArray[np.intp], parts: list[pa.RecordBatch], failed: dict[int, str]) -> None:
        """Split the rows in halves until each failing row is alone."""
        if rows.num_rows == 0:
            return
        try:
            parts.append(self.run(rows))
        except duckdb.Error as error:
            if rows.num_rows == 1:
                failed[int(numbers[0])] = _reason(error)
                parts.append(self._nulls())
                return
            half = rows.num_rows // 2
            self._isolate(rows.slice(0, half), numbers[:half], parts, failed)
            self._isolate(rows.slice(half), numbers[half:], parts, failed)

    def _nulls(self) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays(
            [pa.nulls(1, to_arrow(field.type)) for field in self._compiled.fields],
            names=[field.name for field in self._compiled.fields],
        )

    # Opened when Arrow first cannot compute a batch, or a row fails. Most datasets never need a database; 500 datasets would open 3,000.
    @cached_property
    def _database(self) -> _Database:
        return self._opened.enter_context(closing(_Database(self._compiled.query)))

    @cached_property
    def _guarded(self) -> Guarded:
        return self._opened.enter_context(closing(Guarded(self._compiled.guarded, _connect())))

    def close(self) -> None:
        """Close the databases that were opened."""
        self._opened.close()


class _Compiled(NamedTuple):
    """The compiled form of the expressions."""

    fields: tuple[Field, ...]
    plain: tuple[tuple[str, Compute], ...]
    """The expressions that Arrow computes, by text."""
    query: str
    """DuckDB's query for all expressions."""
    rest: str | None
    """DuckDB's query for the expressions that Arrow does not compute; None if there are none."""
    guarded: GuardedQuery
    names: frozenset[str]
    properties: tuple[tuple[str, Type], ...]


@lru_cache(_COMPILED_MAX)
def _compile(
    texts: tuple[str, ...],
    columns: tuple[tuple[str, pa.DataType], ...],
    known: tuple[tuple[str, Type], ...],
    said: tuple[tuple[str, Type], ...],
    numbers: frozenset[str],
) -> _Compiled:
    """Compile once for all datasets whose properties have the same types. Raises SqlError."""
    with MemoryCatalog() as catalog:
        scope = _Scope(catalog, dict(columns), dict(known), dict(said))
        # expressions that must be numbers first, because they restrict types most
        for text in (*numbers, *(text for text in texts if text not in numbers)):
            scope.settle(text, wants_number=text in numbers)
        analysis = scope.analyze(_items(texts))
        plain = compile_plain(analysis)
        queried = [text for text, compute in zip(texts, plain, strict=False) if compute is None]
        rest = scope.analyze(_items(queried)) if 0 < len(queried) < len(texts) else analysis
    relation = _Relation()
    outputs = zip(texts, output_schema(analysis.output_column_list), strict=False)
    query = emit_query(analysis.output_column_list, analysis.query, relation)
    return _Compiled(
        fields=tuple(Field(text, field.type) for text, field in outputs),
        plain=tuple((text, compute) for text, compute in zip(texts, plain, strict=False) if compute is not None),
        query=query,
        rest=emit_query(rest.output_column_list, rest.query, _Relation()) if queried else None,
        guarded=GuardedQuery.of(analysis, _Relation(ROW)),
        names=frozenset(relation.names),
        properties=tuple((name, type_) for name, type_ in scope.properties.items() if name in relation.names),
    )


def _named(texts: Sequence[str], properties: Mapping[str, Type]) -> tuple[tuple[str, Type], ...]:
    """The properties that the expressions may name. The types of other properties do not matter."""
    written = "\n".join(texts).lower()
    return tuple((name, type_) for name, type_ in sorted(properties.items()) if "\\" in written or name.lower() in written)


class _Database:
    """A database with the functions that a query calls."""

    def __init__(self, query: str) -> None:
        self.connection = _connect()
        self._functions = register(self.connection, query)

    def close(self) -> None:
        if self._functions is not None:
            self._functions.close()
        self.connection.close()


class _Scope:
    """The columns that expressions can name, and the types chosen for properties."""

    def __init__(self, catalog: Catalog, columns: Mapping[str, pa.DataType], known: Mapping[str, Type], said: Mapping[str, Type]) -> None:
        self._catalog, self._analyzer = catalog, Analyzer(catalog)
        self._columns = [
            Column(field.name, JSON if field.name in JSON_COLUMNS else from_arrow(field.type))
            for field in FIXED_SCHEMA
            if field.name not in PLACE_COLUMNS  # the position of an event in the log is not about the visitor
        ]
        self._columns += [Column(name, from_arrow(type_)) for name, type_ in columns.items()]
        taken = {column.name.lower() for column in self._columns}
        self._said = {name.lower(): type_ for name, type_ in said.items()}
        names = {name.lower(): name for name in (*said, *known)}  # the spelling in the table, if there is one
        self.properties = {name: self._said.get(lower, known.get(name, STRING)) for lower, name in names.items() if lower not in taken}
        self._settled: list[tuple[str, bool]] = []
        catalog.create_dataset(_TABLE.dataset)
        self._define(self.properties)

    def analyze(self, items: str) -> Any:
        """The resolved query of the SELECT items."""
        return self._analyzer.analyze(f"SELECT {items} FROM {_TABLE}").node

    def settle(self, text: str, *, wants_number: bool) -> None:
        """Check that an expression is valid. Choose types for properties that it is the first to name, or whose types do not fit."""
        found = self._search(text, {}, wants_number)
        if isinstance(found, SqlError):
            found = self._retyped(text, wants_number) or found
        if isinstance(found, SqlError) and wants_number:
            found = self._search(text, {}, wants_number=False)  # the caller reports that the expression is not a number
        if not isinstance(found, SqlError):
            self.properties |= found
            self._settled.append((text, wants_number))
        self._define(self.properties)
        if isinstance(found, SqlError):
            raise found

    def _retyped(self, text: str, wants_number: bool) -> dict[str, Type] | None:
        """Other types for known properties with which this expression is valid, and the earlier ones stay valid."""
        words = {word.lower() for word in _WORD.findall(text)}
        named = [name for name in self.properties if name.lower() in words and name.lower() not in self._said]
        if not 0 < len(named) <= _GUESSED_MAX:
            return None
        before = self.properties
        self.properties = {name: type_ for name, type_ in before.items() if name not in named}
        found = self._search(text, {}, wants_number)
        if not isinstance(found, SqlError):
            self.properties = before | found
            others = [self._search(other, {}, wants) for other, wants in self._settled]
            found = next((each for each in others if isinstance(each, SqlError)), found)
        self.properties = before
        return None if isinstance(found, SqlError) else found

    def _search(self, text: str, guessed: dict[str, Type], wants_number: bool) -> dict[str, Type] | SqlError:
        """Types for unknown properties with which the expression is valid; if none fit, the error of the first attempt."""
        self._define(self.properties | guessed)
        try:
            type_ = self._type(text)
        except SqlError as error:
            unknown = _UNKNOWN.match(error.message)
            if (
                unknown is None
                or unknown[1].lower() in FIXED_AS
                or unknown[1] in guessed
                or len(guessed) == _GUESSED_MAX
                or column_name(unknown[1]) != unknown[1]
            ):
                return error
            attempts = [self._search(text, guessed | {unknown[1]: guess}, wants_number) for guess in _GUESSES]
            return next((each for each in attempts if not isinstance(each, SqlError)), attempts[0])
        if wants_number and type_ == STRING:
            return SqlError(f"{text} is no number", line=1, column=1, sql=text)
        return guessed

    def _type(self, text: str) -> Type:
        try:
            node = self.analyze(f"(\n{text}\n)")
        except SqlError as error:
            raise _located(error, text) from None
        if leaf(leaf(node.query)[1].input_scan)[0] != "resolved_table_scan_node" or len(node.output_column_list) != 1:
            raise SqlError(
                f"An expression over one event is wanted; aggregates, windows and lists are not: {text}\n"
                'Aggregate in features.py, as events("buy").sum("revenue").over("1h")'
            )
        unrepeatable = _UNREPEATABLE.search(str(node))
        if unrepeatable is not None:
            raise SqlError(
                f"{unrepeatable[1].upper()}() gives another result each time, but a replayed event must have the same result: "
                f"take a time from the event, received_at or _date, or chance from its id, FARM_FINGERPRINT(message_id): {text}"
            )
        return output_schema(node.output_column_list)[0].type

    def _define(self, properties: Mapping[str, Type]) -> None:
        columns = [*self._columns, *(Column(name, type_) for name, type_ in properties.items())]
        self._catalog.put_table(Table(_TABLE, TableKind.TABLE, tuple(columns)), replace=True)


class _Relation:
    """The batch as a relation for the emitter, with the columns `more`. It records which columns are read."""

    def __init__(self, *more: str) -> None:
        self.names: set[str] = set()
        self._more = tuple(quote(name) for name in more)

    def table(self, scan: Any) -> str:
        """The batch with the columns of the scan."""
        names = [column.name for column in scan.parent.column_list]
        self.names.update(names)
        items = (f"CAST({quote(name)} AS JSON) AS {quote(name)}" if name in JSON_COLUMNS else quote(name) for name in names)
        return f"(SELECT {', '.join((*items, *self._more)) or 1} FROM {BATCH})"

    def table_function(self, scan: Any, queries: Sequence[str], emitter: Emitter) -> str:  # noqa: ARG002 - the emitter's protocol
        """Raise SqlError: an expression has no table functions."""
        raise SqlError(f"{scan.tvf.name} is a table function; an expression over one event is wanted")


def _is(column: pa.Array | None, type_: Type) -> bool:
    return column is not None and column.type == to_arrow(type_)


def _items(texts: Sequence[str]) -> str:
    return ", ".join(f"(\n{text}\n)" for text in texts) or "1"


def _connect() -> duckdb.DuckDBPyConnection:
    # By default there are eight threads for files, which expressions do not read. A worker has up to six such databases per dataset.
    connection = duckdb.connect(":memory:", config={"threads": 1, "async_threads": 0})
    for setting in ("TimeZone = 'UTC'", "enable_external_access = false", "lock_configuration = true"):
        connection.execute(f"SET {setting}")
    return connection


def _reason(error: duckdb.Error) -> str:
    return translate(error, SqlSettings()).message


_SOURCES = {TIME_COLUMN: ("event_time",), "is_bot": ("context",), "keys": ("visitor_id", "user_id")}
"""The columns of the log that a column of the events table is renamed or built from."""


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    sources = _SOURCES.get(name, (name,))
    columns = [batch.column(source) for source in sources]
    if name == "is_bot":
        return is_bot(*columns)
    return columns[0] if len(columns) == 1 else pa.StructArray.from_arrays(columns, names=list(sources))


def batch_of(columns: Mapping[str, pa.Array], rows: int) -> pa.RecordBatch:
    """A batch of these columns; with the right number of rows even if there are no columns."""
    if columns:
        return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    return pa.RecordBatch.from_struct_array(pa.array([{}] * rows, pa.struct([])))


def _located(error: SqlError, text: str) -> SqlError:
    """The error with its position in the expression, which begins on the second line of the analysed text."""
    line = None if error.line is None else error.line - 1
    hint = of_expression(text, error.message)
    return type(error)(error.message if hint is None else f"{error.message}\n{hint}", line=line, column=error.column, sql=text)
