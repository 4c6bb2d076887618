"""Statements that change the rows of a table: INSERT, UPDATE, DELETE, MERGE.

Each statement is one commit, and raises ConflictError if another commit changed the data it was computed from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_ast_pb2

from sokuji.errors import SqlError, UnsupportedSqlError
from sokuji.meta.objects import Table, TableKind
from sokuji.sql.definitions import define
from sokuji.sql.result import Result, rows_said
from sokuji.sql.session import Session
from sokuji.sql.statements import events_tables


def insert(node: Any, session: Session) -> Result:
    """INSERT, of values or of a query."""
    table = _target(node, session)
    found = session.changes(node, table)
    if found.count:
        rows = define(found.rows, table.columns)
        session.home(table.ref).lake.append(table.ref, rows, expected=session.newest(table).schema)
    return _result("Inserted", "into", found.count, table)


def delete(node: Any, session: Session) -> Result:
    """DELETE."""
    table = _target(node, session)
    if table.kind is TableKind.EVENTS:
        return events_tables.delete(table, node, session)
    return _change(table, node, session, "Deleted", "from")


def update(node: Any, session: Session) -> Result:
    """UPDATE, also with a FROM."""
    return _change(_target(node, session), node, session, "Updated", "in")


def merge(node: Any, session: Session) -> Result:
    """MERGE."""
    return _change(_target(node, session), node, session, "Changed", "in")


def _change(table: Table, node: Any, session: Session, verb: str, preposition: str) -> Result:
    found = session.changes(node, table)
    if found.count:
        # Other commits may have added or changed rows that the statement would have read, even if these are in new files.
        version = session.newest(table).version
        session.home(table.ref).lake.rewrite(table.ref, found.files, define(found.rows, table.columns), read_version=version)
    return _result(verb, preposition, found.count, table)


def _target(node: Any, session: Session) -> Table:
    """The table whose rows change. A table fed from the log is allowed only for DELETE."""
    if "returning" in node.DESCRIPTOR.fields_by_name and node.HasField("returning"):
        raise UnsupportedSqlError("THEN RETURN is not supported")
    if "assert_rows_modified" in node.DESCRIPTOR.fields_by_name and node.HasField("assert_rows_modified"):
        raise UnsupportedSqlError("ASSERT_ROWS_MODIFIED is not supported")
    table = session.analysis.table(node.table_scan.table.full_name)
    if table.kind is TableKind.VIEW:
        raise SqlError(f"{table.ref} is a view; change the rows of the tables it reads")
    if table.kind is TableKind.EVENTS and not isinstance(node, resolved_ast_pb2.ResolvedDeleteStmtProto):
        raise UnsupportedSqlError(f"{table.ref} is fed from the log; DELETE is the only statement that changes its rows")
    return table


def _result(verb: str, preposition: str, count: int, table: Table) -> Result:
    return Result((), message=f"{verb} {rows_said(count)} {preposition} {table.ref}", rows_affected=count)


STATEMENTS: Mapping[str, Callable[[Any, Session], Result]] = {
    "resolved_insert_stmt_node": insert,
    "resolved_delete_stmt_node": delete,
    "resolved_update_stmt_node": update,
    "resolved_merge_stmt_node": merge,
}
