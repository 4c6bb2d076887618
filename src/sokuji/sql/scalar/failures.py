"""Find all rows of a batch on which expressions fail, by one query. DuckDB alone stops at the first.

GoogleSQL's errors come from `error()` and from functions of the reference implementation. In these queries, both record the row and return
NULL. TRY catches the errors of DuckDB itself, row by row.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from duckdb.func import FunctionNullHandling, PythonUDFType

from sokuji.duckdb_text import quote
from sokuji.sql.duckdb.emit import Relations, emitter
from sokuji.sql.duckdb.emit.emitter import columns, select, unwrap
from sokuji.sql.duckdb.functions.reference import FUNCTION_NAME, forgiving, register

BATCH = "batch"
"""The name of the rows in queries."""

ROW = "#"
"""The column with the number of each row. No property has this name."""

Failures = dict[int, tuple[int, str | None]]
"""By row: the index of the first expression that fails on it, and the reason if it is known."""

_NAME = FUNCTION_NAME.pattern
# Neither text in quotes, nor calls whose failure SAFE turns into NULL.
_RAISING = re.compile(rf"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\bTRY\((?:CAST\()?{_NAME}|\b(?P<name>error|{_NAME})\(""")
_TAKE = "list_transform([outcome], lambda o: CASE WHEN o.failed THEN _raise(place, row_, NULL) ELSE o.value END)[1]"
_MACROS = (
    "CREATE MACRO _raise(place, row_, message) AS CASE WHEN _note(place, row_, message) THEN NULL ELSE NULL END",
    f"CREATE MACRO _take(place, row_, outcome) AS {_TAKE}",
)


class GuardedQuery(NamedTuple):
    """The text of a query that records the rows on which expressions fail."""

    text: str
    tried: tuple[int, ...]
    """The indexes of the expressions inside TRY.

    TRY does not accept subqueries; the caller must handle DuckDB's errors in these.
    """
    functions: frozenset[str]
    """The functions of the reference implementation that the query calls."""

    @classmethod
    def of(cls, analysis: Any, relation: Relations) -> GuardedQuery:
        """Build the query from a resolved `SELECT expression, ... FROM table`. `relation` has the table's rows, with `ROW`."""
        texts, rows = _parts(analysis, relation)
        tried = tuple(place for place, text in texts.items() if "SELECT " not in text)
        items = {place: _noting(text, place) for place, text in texts.items()}
        items |= {place: f"TRY(struct_pack(v := {items[place]}))" for place in tried}
        query = select([f"{text} AS o{place}" for place, text in items.items()], f"FROM {rows}")
        return cls(query, tried, frozenset(name for text in texts.values() for name in FUNCTION_NAME.findall(text)))


class Guarded:
    """The expressions of a query, in a separate database. Not thread-safe."""

    def __init__(self, query: GuardedQuery, connection: duckdb.DuckDBPyConnection) -> None:
        """Prepare the database of `connection`. `close` closes the connection."""
        self._query, self._connection = query, connection
        self._notes = _Notes()
        self._functions = self._prepare()

    def run(self, rows: pa.Table) -> Failures:
        """Find the rows that fail.

        Raises:
            duckdb.Error: an expression fails on every row, or DuckDB fails inside a subquery.
        """
        self._notes.clear()
        self._connection.register(BATCH, rows.append_column(ROW, pa.array(range(rows.num_rows), pa.int64())))
        try:
            found = self._connection.sql(self._query.text).to_arrow_table()
        finally:
            self._connection.unregister(BATCH)
        for place in self._query.tried:
            for row in pc.indices_nonzero(found.column(f"o{place}").is_null()).to_pylist():
                self._notes.add(row, place)
        return self._notes.first_of_rows()

    def close(self) -> None:
        """Close the database."""
        if self._functions is not None:
            self._functions.close()
        self._connection.close()

    def _prepare(self) -> duckdb.DuckDBPyConnection | None:
        made = {name: forgiving(name) for name in sorted(self._query.functions)}
        kept = register(self._connection, " ".join([*made, *(each.name for each in made.values())]))
        parameters: list[Any] = [duckdb.sqltype(name) for name in ("BIGINT", "BIGINT", "VARCHAR")]
        self._connection.create_function(
            "_note",
            self._notes.add_all,
            parameters,
            duckdb.sqltype("BOOLEAN"),
            type=PythonUDFType.ARROW,
            null_handling=FunctionNullHandling.SPECIAL,
        )
        for macro in _MACROS:
            self._connection.execute(macro)
        for name, each in made.items():
            arguments = ", ".join(f"a{position}" for position in range(max(len(each.types), 1)))
            self._connection.execute(f"CREATE MACRO _{name}(place, row_, {arguments}) AS _take(place, row_, {each.name}({arguments}))")
        return kept


class _Notes:
    """The reasons of failures, by row and expression.

    DuckDB holds a reference to this object. So the object must not refer to the connection: otherwise neither would ever be freed.
    """

    def __init__(self) -> None:
        self._messages: dict[tuple[int, int], str | None] = {}

    def clear(self) -> None:
        self._messages.clear()

    def add(self, row: int, place: int, message: str | None = None) -> None:
        self._messages.setdefault((row, place), message)

    def add_all(self, places: Any, rows: Any, messages: Any) -> pa.Array:
        for place, row, message in zip(places.to_pylist(), rows.to_pylist(), messages.to_pylist(), strict=True):
            self.add(row, place, message)
        return pa.array([True] * len(rows))

    def first_of_rows(self) -> Failures:
        failures: Failures = {}
        for (row, place), message in sorted(self._messages.items(), key=lambda item: item[0]):
            failures.setdefault(row, (place, message))
        return failures


def _parts(analysis: Any, relation: Relations) -> tuple[dict[int, str], str]:
    """DuckDB's text of each expression that is not just a column, by index, and the text after FROM."""
    made = emitter(relation, {})
    name, project = unwrap(analysis.query)
    if name != "resolved_project_scan_node":
        return {}, relation.table(project)
    _, scan = unwrap(project.input_scan)
    computed = {item.column.column_id: item.expr for item in project.expr_list}
    outputs = [output.column.column_id for output in analysis.output_column_list]
    texts = {place: made.expression(computed[column]) for place, column in enumerate(outputs) if column in computed}
    items = [f"{quote(column.name)} AS c{column.column_id}" for column in columns(scan)]
    return texts, f"({select([*items, quote(ROW)], f'FROM {relation.table(scan)}')})"


def _noting(text: str, place: int) -> str:
    def replace(match: re.Match[str]) -> str:
        name = match["name"]
        return match[0] if name is None else f"{'_raise' if name == 'error' else '_' + name}({place}, {quote(ROW)}, "

    return _RAISING.sub(replace, text)
