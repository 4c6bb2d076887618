"""Changes that are allowed in tables fed from the log: the columns of properties, and which rows there are.

A property's column is made from the JSON in `properties`, so nothing is lost if a type does not fit, or the column is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from sokuji.errors import AlreadyExistsError, ConflictError, NotFoundError, SqlError, UnsupportedSqlError
from sokuji.lake.base import Kept
from sokuji.lake.events import COLUMNS_MAX, EVENTS, FIXED_SCHEMA, IDENTITIES, PROPERTY_TYPES, Columns, column_name, property_columns
from sokuji.meta.objects import Table, TableKind
from sokuji.sink.shape import Shaper
from sokuji.sink.writers import define
from sokuji.sql.front.protos import from_type, leaf
from sokuji.sql.result import Result, rows_said
from sokuji.sql.session import Session
from sokuji.types import to_arrow

REBUILD = "features computed before this change stay until `sokuji apply --rebuild`"

_EXISTS = re.compile(r"Column already exists: (\w+)")
_ATTEMPTS = 5  # attempts of a DELETE whose files a compaction replaces meanwhile


def explained(error: SqlError, tables: Iterable[Table]) -> SqlError:
    """The analyzer's error about a statement with these tables, with advice if an ADD COLUMN was interrupted."""
    found = _EXISTS.match(error.message)
    if found is None or not any(table.kind is TableKind.EVENTS for table in tables):
        return error
    way_out = (
        f"where an earlier ADD COLUMN was cut off, ALTER COLUMN {found.group(1)} SET DATA TYPE reads its values from `properties` again"
    )
    return type(error)(f"{error.message}; {way_out}", line=error.line, column=error.column, sql=error.sql)


def alter(table: Table, actions: Sequence[Any], session: Session) -> Result:
    """ALTER TABLE of an events table: DROP COLUMN, ADD COLUMN and ALTER COLUMN ... SET DATA TYPE, all in one step.

    A dropped column disappears immediately and does not come back by itself. An added column, or one with a new type, is read from the
    rows' `properties`.

    Raises:
        SqlError: the column is not a property's, or cannot have this type.
    """
    if table.ref.name != EVENTS:
        raise SqlError(f"{table.ref} is fed from the log: all of its columns are the platform's")
    session.acknowledged.settle(table.ref)
    columns = property_columns(session.acknowledged.snapshot(table.ref).schema)
    said: dict[str, Kept] = {}
    for action in actions:
        for name, kept in _said(table, *leaf(action), columns).items():
            said[name] = kept
            columns.pop(name, None)
            if kept.has_column:
                columns[name] = kept.type
    lake, read = session.lake, {name: kept.type for name, kept in said.items() if kept.has_column}
    lake.keep(table.ref, said)
    if read:
        shaper = Shaper()
        try:
            lake.remake(table.ref, read, lambda rows: shaper.reread(rows, read))
        finally:
            shaper.close()
    snapshot = session.acknowledged.snapshot(table.ref)
    define(session.catalog, table.ref, snapshot.schema, snapshot.kept)
    return Result((), message=f"Altered table {table.ref}; {REBUILD}")


def _said(table: Table, kind: str, action: Any, columns: Columns) -> dict[str, Kept]:
    """The change of a property's settings that an action requests; empty if they are already so."""
    spelling = {name.lower(): name for name in columns}
    match kind:
        case "resolved_drop_column_action_node":
            name, type_, is_enough = action.name, None, action.is_if_exists
        case "resolved_alter_column_set_data_type_action_node":
            name, type_, is_enough = action.parent.column, from_type(action.updated_type), action.parent.is_if_exists
        case "resolved_add_column_action_node":
            definition = action.column_definition
            _check_new(table, definition.name, columns)
            if definition.name.lower() in spelling:
                if action.is_if_not_exists:
                    return {}
                raise AlreadyExistsError(f"Column already exists: {definition.name} in {table.ref}")
            return {definition.name: Kept(_stored(table, definition.name, from_type(definition.type)))}
        case _:
            what = kind.removeprefix("resolved_").removesuffix("_action_node").replace("_", " ").upper()
            raise UnsupportedSqlError(
                f"ALTER TABLE {table.ref} ... {what} is not supported: a property's column has the property's name;"
                " DROP COLUMN, ADD COLUMN and ALTER COLUMN ... SET DATA TYPE are"
            )
    if name.lower() in {fixed.lower() for fixed in FIXED_SCHEMA.names}:
        raise SqlError(f"{name} is a column of every events table and cannot be changed; those of properties can")
    if name.lower() not in spelling:
        if is_enough:
            return {}
        raise NotFoundError(f"Column not found: {name} in {table.ref}")
    name = spelling[name.lower()]
    # Keep the column's type, so that a feature reads the property as before.
    return {name: Kept(columns[name], has_column=False) if type_ is None else Kept(_stored(table, name, type_))}


def _check_new(table: Table, name: str, columns: Columns) -> None:
    if column_name(name) != name:
        raise SqlError(f"no property of an event can have the column {name} in {table.ref}")
    if len(columns) >= COLUMNS_MAX:
        raise SqlError(f"{table.ref} has {COLUMNS_MAX:,} columns of properties, which is the most it can have; DROP COLUMN one first")


def _stored(table: Table, name: str, type_: Any) -> pa.DataType:
    if type_ not in PROPERTY_TYPES.values():
        raise SqlError(f"column {name} of {table.ref} cannot be {type_}: a property's column is STRING, FLOAT64 or BOOL")
    return to_arrow(type_)


def delete(table: Table, node: Any, session: Session) -> Result:
    """DELETE from a table that is fed from the log: files with such rows are written again.

    The table's position in the log stays unchanged, so the rows do not come back. Repeats of them within the window do not either.
    """
    if table.ref.name == IDENTITIES:
        raise UnsupportedSqlError(f"{table.ref} says who was known as whom when; features could not be computed again without it")
    lake = session.lake
    session.acknowledged.settle(table.ref)
    count = 0
    for attempt in range(_ATTEMPTS):
        session.renew()
        found = session.changes(node, table)
        count = found.count
        if not count:
            break
        try:
            lake.rewrite(table.ref, found.files, found.rows)  # the sink may append meanwhile; its rows are later than the statement
        except ConflictError:
            if attempt + 1 == _ATTEMPTS:
                raise
        else:
            break
    note = f"; {REBUILD}" if count and table.ref.name == EVENTS else ""
    return Result((), message=f"Deleted {rows_said(count)} from {table.ref}{note}", rows_affected=count)
