"""What an UPDATE, DELETE or MERGE makes of a table: the files that hold rows that change, and what is to be in place of their rows.

Every part of the statement is evaluated once, over all files; what it changes is kept, each row with the place where it stands. Then the
files that have such places are read again, for the rows that stay.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sokuji.duckdb_text import quote
from sokuji.lake.base import Lake, Snapshot
from sokuji.meta.objects import Column
from sokuji.sql.duckdb.emit import Emitter, changes, emitter
from sokuji.sql.duckdb.relations import Numbered
from sokuji.sql.session import Session
from sokuji.types import INT64, Field, to_arrow

Emit = Callable[[Emitter, Column], str]
"""A function of `emit/changes.py`, given the column that tells rows apart."""


@dataclass(frozen=True, slots=True)
class Rewriting:
    """What `Lake.rewrite` is to be told."""

    count: int  # of the rows that change
    files: Sequence[str]
    rows: pa.RecordBatchReader


def rewriting(
    session: Session,
    lake: Lake,
    snapshot: Snapshot,
    columns: Sequence[Column],
    emit: Emit,
    *,
    new_rows: bool = True,
    of_events: bool = False,
) -> Rewriting:
    """Compute the changes that `emit` says.

    Args:
        session: the statement's.
        lake: has the table.
        snapshot: of the table; its tail stays out.
        columns: those that the statement may name; the ones that the snapshot has are written.
        emit: the changes.
        new_rows: whether there may be any; if not, rows are deleted only.
        of_events: whether the table is fed from the log.
    """
    run, rows = session.run, Numbered(lake, snapshot, columns, of_events=of_events)
    query = emit(emitter(_Target(session, rows, columns), session.parameters), rows.column)
    values = [Field(f"o{place}", column.type) for place, column in enumerate(columns, start=1)] if new_rows else []
    stored = run.store(run.stream(query, [Field("row_", INT64), Field("action", INT64), *values]))
    [count], [standing] = _numbers(f"SELECT count(*) FROM {stored}", session), _numbers(f"SELECT count(row_) FROM {stored}", session)
    changed = _numbers(f"SELECT DISTINCT {rows.file('row_')} FROM {stored} WHERE row_ IS NOT NULL ORDER BY 1", session)
    written = [column for column in columns if column.name in snapshot.schema.names]
    fields = [Field(column.name, column.type) for column in written]
    parts = []
    if new_rows:
        names = ", ".join(field.name for field in values)
        parts.append(run.stream(f"SELECT {names} FROM {stored} WHERE action <> {changes.DELETED}", fields))
    if changed and _numbers(f"SELECT count(*) FROM {rows.relation([], run, changed)}", session) != [standing]:
        names = ", ".join(quote(column.name) for column in written)
        source = rows.relation([*written, rows.column], run, changed)
        stay = f"SELECT {names} FROM {source} AS t ANTI JOIN {stored} AS changes_ ON t.{quote(rows.column.name)} = changes_.row_"
        parts.append(run.stream(stay, fields))
    schema = pa.schema([(field.name, to_arrow(field.type)) for field in fields])
    reader = pa.RecordBatchReader.from_batches(schema, itertools.chain.from_iterable(parts))
    return Rewriting(count, [snapshot.files[place] for place in changed], reader)


def _numbers(query: str, session: Session) -> list[int]:
    rows: pa.Table = session.run.stream(query, [Field("number", INT64)]).read_all()
    found: list[int] = rows.column(0).to_pylist()
    return found


class _Target:
    """The statement's relations, but for the first one asked for: that is the target."""

    def __init__(self, session: Session, rows: Numbered, columns: Sequence[Column]) -> None:
        self._session, self._rows, self._columns = session, rows, columns
        self._is_asked = False

    def table(self, scan: Any) -> str:
        """The relation of a scan."""
        if self._is_asked:
            return self._session.table(scan)
        self._is_asked = True
        wanted = {column.name for column in scan.parent.column_list}
        return self._rows.relation([column for column in (*self._columns, self._rows.column) if column.name in wanted], self._session.run)

    def table_function(self, scan: Any, queries: Sequence[str], within: Emitter) -> str:
        """As of the statement."""
        return self._session.table_function(scan, queries, within)
