"""GoogleSQL scalar expressions over events, evaluated for a whole micro-batch: by Arrow where that can (`plain`), else in one DuckDB query.

An expression sees an event as SQL sees a row of the lake's events table: `event_name`, `keys`, `_date`, ..., `context` and `properties` as
JSON, and every property as a typed column. What it may see besides are columns that the batch has.
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
_ASKED_MAX = 100  # rows of a batch that are asked alone why they fail; others are told what those said
_COMPILED_MAX = 256  # of one project: views, conditions and what is checked when something is shown, by the types of properties
_GUESSED_MAX = 4  # unknown properties of one expression: each triples the attempts


class Evaluated(NamedTuple):
    """What came of a batch."""

    values: pa.RecordBatch
    """A column an expression, called by its text; NULL in rows that failed."""
    failed: dict[int, str]
    """Why, for each row that an expression failed on."""


class Expressions:
    """Expressions over events, compiled. Not thread-safe."""

    def __init__(
        self,
        texts: Sequence[str],
        *,
        properties: Mapping[str, Type] | None = None,
        said: Mapping[str, Type] | None = None,
        columns: Mapping[str, pa.DataType] | None = None,
        numbers: frozenset[str] = frozenset(),
    ) -> None:
        """Compile.

        Args:
            texts: the expressions, each once.
            properties: the types of properties that are known, from the events table. Another one, and one that makes an expression
                invalid, gets the type that makes it valid: STRING, else FLOAT64, else BOOL.
            said: the types that properties have whatever is known.
            columns: further columns that batches have.
            numbers: those of the expressions that must be numbers, so that a property alone is taken for one.

        Raises:
            SqlError: an expression is not valid; the message shows it with the place.
        """
        kinds = tuple((columns or {}).items())
        self._compiled = _compile(tuple(texts), kinds, _named(texts, properties or {}), _named(texts, said or {}), numbers)
        self.types: dict[str, Type] = {field.name: field.type for field in self._compiled.fields}
        """By text."""
        self.names = self._compiled.names
        """The columns and properties that the expressions read."""
        self.properties = dict(self._compiled.properties)
        """Those of them that are properties, as `PropertyReader` wants them."""
        self._reader = PropertyReader(self.properties)
        self._opened = ExitStack()

    @property
    def log_columns(self) -> frozenset[str]:
        """The columns of EVENT_SCHEMA that `evaluate` needs, beside those that properties are read from."""
        sources = (_SOURCES.get(name, (name,)) for name in self.names - self.properties.keys())
        return frozenset(source for each in sources for source in each if source in EVENT_SCHEMA.names)

    def evaluate(self, batch: pa.RecordBatch, properties: Mapping[str, pa.Array] | None = None) -> Evaluated:
        """The values for each row of `batch`, which has the columns of EVENT_SCHEMA and the further ones.

        It needs to have those of `names` only. `properties` are columns that were read from it already.
        """
        if not self._compiled.fields:
            return Evaluated(batch_of({}, batch.num_rows), {})
        rows = self._rows(batch, properties or {})
        try:
            return Evaluated(self._mostly_plain(rows), {})
        except (UnsureError, duckdb.Error):
            return self._queried(rows)

    def _mostly_plain(self, rows: pa.Table) -> pa.RecordBatch:
        """The values, those by Arrow that it can compute. Raises UnsureError, and as `run`."""
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
        # A query that reads no column needs rows all the same.
        return pa.table(columns or {"_": pa.nulls(batch.num_rows, pa.bool_())})

    def run(self, rows: pa.Table) -> pa.RecordBatch:
        """The values for rows of the columns that the query reads. Raises duckdb.Error if an expression fails on one of them."""
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
        """Why, for each row that is found to fail."""
        try:
            found = self._guarded.run(rows)
        except duckdb.Error:
            return {}  # `_isolate` finds them
        asked: dict[int, str] = {}  # by expression, what one row says
        budget = _ASKED_MAX
        reasons = {}
        for row, (place, message) in found.items():
            said = message
            if said is None and budget > 0:
                budget -= 1
                said = self._ask(rows.slice(row, 1))
                if said is None:
                    continue  # it does not fail alone
                asked[place] = said
            if said is None:
                said = f"as of another event, {asked[place]}" if place in asked else "it fails"
            reasons[row] = f"{self._compiled.fields[place].name}: {said}"
        return reasons

    def _ask(self, row: pa.Table) -> str | None:
        """Why a row fails; None if it does not."""
        try:
            self.run(row)
        except duckdb.Error as error:
            return _reason(error)
        return None

    def _isolate(self, rows: pa.Table, numbers: npt.NDArray[np.intp], parts: list[pa.RecordBatch], failed: dict[int, str]) -> None:
        """Halve until the rows that fail stand alone."""
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

    # Opened when Arrow first cannot tell, or a row fails: most datasets never need theirs, and 500 would open 3,000 of them.
    @cached_property
    def _database(self) -> _Database:
        return self._opened.enter_context(closing(_Database(self._compiled.query)))

    @cached_property
    def _guarded(self) -> Guarded:
        return self._opened.enter_context(closing(Guarded(self._compiled.guarded, _connect())))

    def close(self) -> None:
        """Release the databases that were opened."""
        self._opened.close()


class _Compiled(NamedTuple):
    """What expressions were compiled to."""

    fields: tuple[Field, ...]
    plain: tuple[tuple[str, Compute], ...]
    """By text, what Arrow computes."""
    query: str
    """DuckDB's query for all of them."""
    rest: str | None
    """The query for those that Arrow does not compute, if there are any."""
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
        for text in (*numbers, *(text for text in texts if text not in numbers)):  # the pickiest first
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
    """Those of the properties that the expressions may name: the types of others change nothing."""
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
    """What expressions can name, and the types that properties are found to have."""

    def __init__(self, catalog: Catalog, columns: Mapping[str, pa.DataType], known: Mapping[str, Type], said: Mapping[str, Type]) -> None:
        self._catalog, self._analyzer = catalog, Analyzer(catalog)
        self._columns = [
            Column(field.name, JSON if field.name in JSON_COLUMNS else from_arrow(field.type))
            for field in FIXED_SCHEMA
            if field.name not in PLACE_COLUMNS  # where an event is stored says nothing of the visitor
        ]
        self._columns += [Column(name, from_arrow(type_)) for name, type_ in columns.items()]
        taken = {column.name.lower() for column in self._columns}
        self._said = {name.lower(): type_ for name, type_ in said.items()}
        names = {name.lower(): name for name in (*said, *known)}  # the table's spelling, if it has one
        self.properties = {name: self._said.get(lower, known.get(name, STRING)) for lower, name in names.items() if lower not in taken}
        self._settled: list[tuple[str, bool]] = []
        catalog.create_dataset(_TABLE.dataset)
        self._define(self.properties)

    def analyze(self, items: str) -> Any:
        """The resolved query for SELECT items."""
        return self._analyzer.analyze(f"SELECT {items} FROM {_TABLE}").node

    def settle(self, text: str, *, wants_number: bool) -> None:
        """See that an expression is valid, giving types to properties that it is the first to name, or cannot take as they are."""
        found = self._search(text, {}, wants_number)
        if isinstance(found, SqlError):
            found = self._retyped(text, wants_number) or found
        if isinstance(found, SqlError) and wants_number:
            found = self._search(text, {}, wants_number=False)  # who wants the number says so
        if not isinstance(found, SqlError):
            self.properties |= found
            self._settled.append((text, wants_number))
        self._define(self.properties)
        if isinstance(found, SqlError):
            raise found

    def _retyped(self, text: str, wants_number: bool) -> dict[str, Type] | None:
        """Other types for known properties that make the expression valid, and leave those valid that were settled before."""
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
        """Types for the properties nobody knows that make the expression valid; the error of the first attempt if none do."""
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
                f"{unrepeatable[1].upper()}() gives something else each time, but an event worked on again must come to the same: "
                f"take a time from the event, received_at or _date, or chance from its id, FARM_FINGERPRINT(message_id): {text}"
            )
        return output_schema(node.output_column_list)[0].type

    def _define(self, properties: Mapping[str, Type]) -> None:
        columns = [*self._columns, *(Column(name, type_) for name, type_ in properties.items())]
        self._catalog.put_table(Table(_TABLE, TableKind.TABLE, tuple(columns)), replace=True)


class _Relation:
    """The batch as the emitter's relation, with `more` columns; remembers which are read."""

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
        """There are none in an expression."""
        raise SqlError(f"{scan.tvf.name} is a table function; an expression over one event is wanted")


def _is(column: pa.Array | None, type_: Type) -> bool:
    return column is not None and column.type == to_arrow(type_)


def _items(texts: Sequence[str]) -> str:
    return ", ".join(f"(\n{text}\n)" for text in texts) or "1"


def _connect() -> duckdb.DuckDBPyConnection:
    # Those for files, which an expression has none of, would be eight; a worker has up to six such databases a dataset.
    connection = duckdb.connect(":memory:", config={"threads": 1, "async_threads": 0})
    for setting in ("TimeZone = 'UTC'", "enable_external_access = false", "lock_configuration = true"):
        connection.execute(f"SET {setting}")
    return connection


def _reason(error: duckdb.Error) -> str:
    return translate(error, SqlSettings()).message


_SOURCES = {TIME_COLUMN: ("event_time",), "is_bot": ("context",), "keys": ("visitor_id", "user_id")}
"""What the log calls the columns that are called otherwise, or made of others, in the events table."""


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    sources = _SOURCES.get(name, (name,))
    columns = [batch.column(source) for source in sources]
    if name == "is_bot":
        return is_bot(*columns)
    return columns[0] if len(columns) == 1 else pa.StructArray.from_arrays(columns, names=list(sources))


def batch_of(columns: Mapping[str, pa.Array], rows: int) -> pa.RecordBatch:
    """A batch of these columns, which has its rows if there are none, too."""
    if columns:
        return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    return pa.RecordBatch.from_struct_array(pa.array([{}] * rows, pa.struct([])))


def in_one_piece(column: pa.ChunkedArray) -> pa.Array:
    """A column of a table as one array; pyarrow leaves some types, and columns without chunks, in pieces."""
    array = column.combine_chunks()
    return array if isinstance(array, pa.Array) else pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)


def _located(error: SqlError, text: str) -> SqlError:
    """The error at its place in the expression, which begins on the second line of what was analysed."""
    line = None if error.line is None else error.line - 1
    hint = of_expression(text, error.message)
    return type(error)(error.message if hint is None else f"{error.message}\n{hint}", line=line, column=error.column, sql=text)
