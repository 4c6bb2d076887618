"""Statements that change the rows of a table: INSERT, UPDATE, DELETE, MERGE. Each is one commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from sokuji.errors import LakeError, SqlError, UnsupportedSqlError
from sokuji.meta.base import Column, Table, TableKind
from sokuji.sql.emit import Emitter, changes, emitter
from sokuji.sql.result import Result
from sokuji.sql.session import Session
from sokuji.types import INT64, Field

# How often a statement is computed anew when others keep changing the table under it.
_ATTEMPTS = 5

Rows = Callable[[Emitter, Any, Sequence[Column]], str]


def insert(node: Any, session: Session) -> Result:
    """INSERT, of values or of a query."""
    table = _target(node, session)
    query = changes.inserted(emitter(session, session.parameters), node, table.columns)
    stored = session.run.store(session.run.stream(query, _places(table)))
    count = _count(f"SELECT count(*) FROM {stored}", session)
    if count:
        session.home(table.ref).lake.append(table.ref, session.run.stream(f"FROM {stored}", _fields(table)))
    return _result("Inserted", "into", count, table)


def delete(node: Any, session: Session) -> Result:
    """DELETE."""
    return _change(node, session, changes.deleted, "Deleted", "from")


def update(node: Any, session: Session) -> Result:
    """UPDATE, also with a FROM."""
    return _change(node, session, changes.updated, "Updated", "in")


def merge(node: Any, session: Session) -> Result:
    """MERGE."""
    return _change(node, session, changes.merged, "Changed", "in")


def _change(node: Any, session: Session, rows: Rows, verb: str, preposition: str) -> Result:
    table = _target(node, session)
    for attempt in range(_ATTEMPTS):
        session.renew()
        before = session.snapshot(table.ref)
        query = rows(emitter(session, session.parameters), node, table.columns)
        stored = session.run.store(session.run.stream(query, [*_places(table), Field("action", INT64)]))
        count = _count(f"SELECT count(*) FROM {stored} WHERE action <> {changes.UNTOUCHED}", session)
        kept = session.run.stream(f"SELECT * EXCLUDE (action) FROM {stored} WHERE action <> {changes.DELETED}", _fields(table))
        try:
            if count:
                session.home(table.ref).lake.replace(table.ref, kept, read_version=before.version)
        except LakeError:
            # Only another commit makes a second attempt worth it.
            if attempt + 1 == _ATTEMPTS or session.home(table.ref).lake.snapshot(table.ref).version == before.version:
                raise
        else:
            break
    return _result(verb, preposition, count, table)


def _target(node: Any, session: Session) -> Table:
    if "returning" in node.DESCRIPTOR.fields_by_name and node.HasField("returning"):
        raise UnsupportedSqlError("THEN RETURN is not supported")
    if "assert_rows_modified" in node.DESCRIPTOR.fields_by_name and node.HasField("assert_rows_modified"):
        raise UnsupportedSqlError("ASSERT_ROWS_MODIFIED is not supported")
    name = node.table_scan.table.full_name
    table = next(table for table in session.analysis.tables.values() if str(table.ref) == name)
    if table.kind is TableKind.VIEW:
        raise SqlError(f"{table.ref} is a view; change the rows of the tables it reads")
    if table.kind is TableKind.EVENTS:
        raise UnsupportedSqlError(f"{table.ref} is fed from the log; its rows cannot be changed by statements")
    return table


def _fields(table: Table) -> list[Field]:
    return [Field(column.name, column.type) for column in table.columns]


def _places(table: Table) -> list[Field]:
    return [Field(f"o{place}", column.type) for place, column in enumerate(table.columns, start=1)]


def _count(query: str, session: Session) -> int:
    rows: pa.Table = session.run.stream(query, [Field("count", INT64)]).read_all()
    return int(rows.column(0)[0].as_py())


def _result(verb: str, preposition: str, count: int, table: Table) -> Result:
    return Result((), message=f"{verb} {count} rows {preposition} {table.ref}", rows_affected=count)


STATEMENTS: Mapping[str, Callable[[Any, Session], Result]] = {
    "resolved_insert_stmt_node": insert,
    "resolved_delete_stmt_node": delete,
    "resolved_update_stmt_node": update,
    "resolved_merge_stmt_node": merge,
}
