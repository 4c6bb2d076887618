"""What columns a table has in SQL, as its commits say it.

Each field of a table's schema in the lake carries its column as JSON in its metadata, so that every version of the table knows the columns
that it had, and a change of the columns is one commit: the catalog follows the lake. Tables that are fed from logs have no such metadata,
as the types in their files say it all, and nor have columns of tables from before it was written: there the catalog's definition counts.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

import msgspec
import pyarrow as pa

from sokuji.clock import now_us
from sokuji.errors import ConflictError, LakeError, NotFoundError
from sokuji.lake.base import Lake, Snapshot
from sokuji.lake.delta.commits import LOG_FOLDER
from sokuji.lake.events import EVENTS, FED, table_definition
from sokuji.lake.stored import stored_type
from sokuji.meta.base import Catalog
from sokuji.meta.objects import Column, Ref, Table, TableKind
from sokuji.sink.writers import define as define_fed
from sokuji.sql.front.lookup import INFORMATION_SCHEMA, members, wildcard
from sokuji.types import from_arrow

_COLUMN = b"sokuji.column"
_ATTEMPTS = 100


def defined(schema: pa.Schema, columns: Sequence[Column]) -> pa.Schema:
    """The schema of rows of these columns, in their order, with what the lake is to remember of each."""
    fields = zip(schema, columns, strict=True)
    return pa.schema([field.with_metadata({_COLUMN: msgspec.json.encode(column)}) for field, column in fields])


def define(rows: pa.RecordBatchReader, columns: Sequence[Column]) -> pa.RecordBatchReader:
    """The same rows, with what the lake is to remember of their columns."""
    return pa.RecordBatchReader.from_batches(defined(rows.schema, columns), rows)


def columns_of(schema: pa.Schema, known: Table) -> tuple[Column, ...]:
    """The columns of the version of a table that has this schema in the lake; `known` is its definition in the catalog.

    Raises:
        LakeError: the table's log is damaged.
    """
    if known.kind is TableKind.EVENTS:
        return table_definition(known.ref, schema, None).columns
    try:
        return tuple(_column(field.metadata[_COLUMN]) if _is_defined(field) else _guessed(field, known) for field in schema)
    except msgspec.MsgspecError as error:
        folder = f"{known.ref.dataset}/{known.ref.name}/{LOG_FOLDER}"
        raise LakeError(
            f"the columns of {known.ref} in {folder} of the lake are damaged: {error}; restore that folder from a copy"
        ) from error


def is_current(snapshot: Snapshot, known: Table) -> bool:
    """Whether what the catalog says of a table's columns is true of its newest version in the lake."""
    if known.kind is TableKind.EVENTS:  # either may have columns that the other does not know yet
        return set(known.columns) <= set(table_definition(known.ref, snapshot.schema, known, snapshot.kept).columns)
    return not any(_is_defined(field) for field in snapshot.schema) or columns_of(snapshot.schema, known) == known.columns


def follow(catalog: Catalog, lake: Lake, ref: Ref) -> Table:
    """Bring the catalog's definition of a table up to the columns of its newest version, and return it.

    Whoever changes columns in the lake calls this. If that is killed before, whoever finds the difference does.

    Raises:
        NotFoundError: there is no such table.
    """
    for _ in range(_ATTEMPTS):
        known = catalog.table(ref)
        snapshot = lake.snapshot(ref)
        if known.kind is TableKind.EVENTS:
            define_fed(catalog, ref, snapshot.schema, snapshot.kept)
            return catalog.table(ref)
        if is_current(snapshot, known):
            return known
        try:
            catalog.put_table(replace(known, columns=columns_of(snapshot.schema, known)), replace=True, expected=known)
        except ConflictError:
            continue
    raise ConflictError(f"the columns of {ref} keep changing; run the statement again")


def check_current(catalog: Catalog, lake: Lake, tables: Iterable[Table]) -> None:
    """See that the catalog knows all columns of tables that a statement names and cannot be analysed with.

    Raises:
        ConflictError: it did not, as when a process that added one was killed before it said so here. It does now.
    """
    for table in tables:
        is_stored = (
            table.kind is TableKind.TABLE and not table.ref.dataset.endswith(INFORMATION_SCHEMA) and not table.ref.name.endswith("*")
        )
        if not (is_stored or table.ref.name == EVENTS):  # of the other tables that are fed from logs all columns are fixed
            continue
        with suppress(NotFoundError):
            if follow(catalog, lake, table.ref) != table:
                raise changed(table.ref)


def changed(ref: Ref) -> ConflictError:
    """What makes a statement be analysed again."""
    return ConflictError(f"the columns of {ref} were changed by someone else meanwhile; run the statement again")


class Adopted(NamedTuple):
    """A table of the lake that the catalog has got a definition of."""

    table: Table
    guessed: tuple[str, ...]
    """The columns whose GoogleSQL types are those of the files, as the lake does not say them: JSON, say, is STRING there."""


def adopt(catalog: Catalog, lake: Lake, stored: Iterable[Ref]) -> Iterator[Adopted]:
    """Define the tables that the lake has and the catalog does not know, as when its database was lost; their datasets are made.

    What only a definition says is lost: descriptions, options and the text of PARTITION BY and CLUSTER BY.
    """
    known = {table.ref for table in catalog.tables()}
    for ref in stored:
        if ref in known:
            continue
        snapshot = lake.snapshot(ref)
        if ref.name in FED:
            define_fed(catalog, ref, snapshot.schema, snapshot.kept)
            yield Adopted(catalog.table(ref), ())
        else:
            table = Table(ref, TableKind.TABLE, (), created_at_us=now_us())
            table = replace(table, columns=columns_of(snapshot.schema, table))
            catalog.create_dataset(ref.dataset, if_not_exists=True)
            catalog.put_table(table)
            yield Adopted(table, tuple(field.name for field in snapshot.schema if not _is_defined(field)))


def version_of(catalog: Catalog, lake: Lake, table: Table, at: dt.datetime) -> Table:
    """A table, or all that a name with `*` at its end stands for, with the columns that it had at a time.

    Raises:
        NotFoundError, LakeError: as `Lake.snapshot`.
    """
    if table.ref.name.endswith("*"):
        return wildcard(table.ref, members_at(catalog, lake, table.ref, at))
    return replace(table, columns=columns_of(lake.snapshot(table.ref, at=at).schema, table))


def members_at(catalog: Catalog, lake: Lake, ref: Ref, at: dt.datetime) -> list[Table]:
    """Those of the tables that a name with `*` at its end stands for that were there at a time, with the columns of then.

    Raises:
        LakeError: none was.
    """
    found, missing = [], None
    for member in members(catalog, ref):
        try:
            found.append(version_of(catalog, lake, member, at))
        except LakeError as error:
            missing = error
    if missing is not None and not found:
        raise missing
    return found


@functools.lru_cache(10_000)
def _column(stored: bytes) -> Column:
    return msgspec.json.decode(stored, type=Column)


def _is_defined(field: pa.Field) -> bool:
    return field.metadata is not None and _COLUMN in field.metadata


def _guessed(field: pa.Field, known: Table) -> Column:
    same = (column for column in known.columns if column.name == field.name and stored_type(column.type) == field.type)
    return next(same, None) or Column(field.name, from_arrow(field.type))
