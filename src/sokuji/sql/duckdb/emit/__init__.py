"""Write ZetaSQL's resolved tree as DuckDB SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sokuji.sql.duckdb.emit.emitter import Emitter, Relations
from sokuji.sql.duckdb.emit.expressions import EXPRESSIONS
from sokuji.sql.duckdb.emit.literals import literal
from sokuji.sql.duckdb.emit.output import finished
from sokuji.sql.duckdb.emit.scans import SCANS

__all__ = ["Emitter", "Relations", "emit_expression", "emit_query", "emitter", "literal"]


def emit_query(
    output_columns: Sequence[Any], scan: Any, relations: Relations, parameters: Mapping[str, str] | None = None, *, storable: bool = True
) -> str:
    """The DuckDB SELECT statement of a query.

    Its columns are `o1`, `o2`, ... in the order of `output_columns` (`ResolvedOutputColumnProto`); the caller must rename them.
    `parameters` are DuckDB expressions by lower-case name, or by position ("1", "2", ...), made by `literal`. With `storable`, arrays have
    the form that BigQuery stores: NULL becomes [], and a NULL element is an error.

    Raises:
        UnsupportedSqlError: a part of the query is not supported; the message names it.
    """
    rows = emitter(relations, parameters or {}).source(scan)
    items = [f"{finished(output.column, stored=storable)} AS o{place}" for place, output in enumerate(output_columns, start=1)]
    return f"SELECT {', '.join(items)} FROM {rows}"


def emit_expression(expression: Any, columns: Mapping[str, str]) -> str:
    """The DuckDB expression of a resolved scalar expression. `columns` are DuckDB expressions by lower-case name.

    Raises:
        UnsupportedSqlError: a part of the expression is not supported; the message names it.
    """
    return emitter(_NoRelations(), columns).expression(expression)


def emitter(relations: Relations, parameters: Mapping[str, str]) -> Emitter:
    """An emitter for one statement."""
    return Emitter(SCANS, EXPRESSIONS, relations, parameters)


class _NoRelations:
    def table(self, scan: Any) -> str:
        raise AssertionError(f"a scalar expression was resolved to read the table {scan.table.name}")

    def table_function(self, scan: Any, queries: Sequence[str], emitter: Emitter) -> str:
        raise AssertionError(f"a scalar expression was resolved to call the table function {scan.tvf.name} on {queries} in {emitter}")
