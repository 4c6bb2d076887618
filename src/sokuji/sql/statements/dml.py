"""Statements that change the rows of a table: INSERT, UPDATE, DELETE, MERGE.

Each is one commit, and raises ConflictError if another changed what it was computed from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_ast_pb2

from sokuji.errors import SqlError, UnsupportedSqlError
from sokuji.meta.objects import Table, TableKind
from sokuji.sql.definitions import define
from sokuji.sql.duckdb.emit import changes, emitter
from sokuji.sql.result import Result, rows_said
from sokuji.sql.session import Session
from sokuji.sql.statements import events_tables
from sokuji.sql.statements.rewriting import Emit, rewriting
from sokuji.types import INT64, Field


def insert(node: Any, session: Session) -> Result:
    """INSERT, of values or of a query."""
    table = _target(node, session)
    query = changes.inserted(emitter(session, session.parameters), node, table.columns)
    stored = session.run.store(session.run.stream(query, _places(table)))
    count = _count(f"SELECT count(*) FROM {stored}", session)
    if count:
        rows = define(session.run.stream(f"FROM {stored}", _fields(table)), table.columns)
        session.home(table.ref).lake.append(table.ref, rows, expected=session.newest(table).schema)
    return _result("Inserted", "into", count, table)


def delete(node: Any, session: Session) -> Result:
    """DELETE."""
    table = _target(node, session)
    if table.kind is TableKind.EVENTS:
        return events_tables.delete(table, node, session)
    return _change(table, session, lambda emitter, row: changes.deleted(emitter, node, row), "Deleted", "from", new_rows=False)


def update(node: Any, session: Session) -> Result:
    """UPDATE, also with a FROM."""
    table = _target(node, session)
    return _change(table, session, lambda emitter, row: changes.updated(emitter, node, table.columns, row), "Updated", "in")


def merge(node: Any, session: Session) -> Result:
    """MERGE."""
    table = _target(node, session)
    return _change(table, session, lambda emitter, row: changes.merged(emitter, node, table.columns, row), "Changed", "in")


def _change(table: Table, session: Session, emit: Emit, verb: str, preposition: str, *, new_rows: bool = True) -> Result:
    lake, before = session.home(table.ref).lake, session.newest(table)
    found = rewriting(session, lake, before, table.columns, emit, new_rows=new_rows)
    if found.count:
        # What others commit meanwhile may be what the statement would have read, also if it is rows in new files.
        lake.rewrite(table.ref, found.files, define(found.rows, table.columns), read_version=before.version)
    return _result(verb, preposition, found.count, table)


def _target(node: Any, session: Session) -> Table:
    """The table whose rows are changed, one that is fed from the log for DELETE only."""
    if "returning" in node.DESCRIPTOR.fields_by_name and node.HasField("returning"):
        raise UnsupportedSqlError("THEN RETURN is not supported")
    if "assert_rows_modified" in node.DESCRIPTOR.fields_by_name and node.HasField("assert_rows_modified"):
        raise UnsupportedSqlError("ASSERT_ROWS_MODIFIED is not supported")
    table = session.analysis.table(node.table_scan.table.full_name)
    if table.kind is TableKind.VIEW:
        raise SqlError(f"{table.ref} is a view; change the rows of the tables it reads")
    if table.kind is TableKind.EVENTS and not isinstance(node, resolved_ast_pb2.ResolvedDeleteStmtProto):
        raise UnsupportedSqlError(f"{table.ref} is fed from the log; its rows cannot be changed by statements, but for DELETE")
    return table


def _fields(table: Table) -> list[Field]:
    return [Field(column.name, column.type) for column in table.columns]


def _places(table: Table) -> list[Field]:
    return [Field(f"o{place}", column.type) for place, column in enumerate(table.columns, start=1)]


def _count(query: str, session: Session) -> int:
    rows: pa.Table = session.run.stream(query, [Field("count", INT64)]).read_all()
    return int(rows.column(0)[0].as_py())


def _result(verb: str, preposition: str, count: int, table: Table) -> Result:
    return Result((), message=f"{verb} {rows_said(count)} {preposition} {table.ref}", rows_affected=count)


STATEMENTS: Mapping[str, Callable[[Any, Session], Result]] = {
    "resolved_insert_stmt_node": insert,
    "resolved_delete_stmt_node": delete,
    "resolved_update_stmt_node": update,
    "resolved_merge_stmt_node": merge,
}
