"""Statements that change the rows of a table: INSERT, UPDATE, DELETE, MERGE.

Each is one commit, and raises ConflictError if another changed what it was computed from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_ast_pb2

from sokuji.errors import SqlError, UnsupportedSqlError
from sokuji.meta.base import Column, Table, TableKind
from sokuji.sql.definitions import define
from sokuji.sql.duckdb.emit import Emitter, changes, emitter
from sokuji.sql.result import Result, rows_said
from sokuji.sql.session import Session
from sokuji.sql.statements import events_tables
from sokuji.types import INT64, Field

Rows = Callable[[Emitter, Any, Sequence[Column]], str]


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
    return _change(node, session, changes.deleted, "Deleted", "from")


def update(node: Any, session: Session) -> Result:
    """UPDATE, also with a FROM."""
    return _change(node, session, changes.updated, "Updated", "in")


def merge(node: Any, session: Session) -> Result:
    """MERGE."""
    return _change(node, session, changes.merged, "Changed", "in")


def _change(node: Any, session: Session, rows: Rows, verb: str, preposition: str) -> Result:
    table = _target(node, session)
    before = session.newest(table)
    query = rows(emitter(session, session.parameters), node, table.columns)
    stored = session.run.store(session.run.stream(query, [*_places(table), Field("action", INT64)]))
    count = _count(f"SELECT count(*) FROM {stored} WHERE action <> {changes.UNTOUCHED}", session)
    kept = session.run.stream(f"SELECT * EXCLUDE (action) FROM {stored} WHERE action <> {changes.DELETED}", _fields(table))
    if count:
        session.home(table.ref).lake.replace(table.ref, define(kept, table.columns), read_version=before.version)
    return _result(verb, preposition, count, table)


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
