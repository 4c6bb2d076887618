"""The columns that a table has in SQL, according to its commits.

Each field of a table's schema in the lake has its column as JSON in its metadata. So every version of the table has its own columns, and a
change of columns is one commit: the catalog follows the lake. Two kinds of tables have no such metadata. For tables fed from logs, the
types in the files are sufficient. For tables written before this metadata existed, the catalog's definition counts.
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
from sokuji.lake.acknowledged import Acknowledged
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
    """The schema of rows with these columns, in their order, with the metadata for the lake."""
    fields = zip(schema, columns, strict=True)
    return pa.schema([field.with_metadata({_COLUMN: msgspec.json.encode(column)}) for field, column in fields])


def define(rows: pa.RecordBatchReader, columns: Sequence[Column]) -> pa.RecordBatchReader:
    """The same rows, with the metadata for the lake in their schema."""
    return pa.RecordBatchReader.from_batches(defined(rows.schema, columns), rows)


def columns_of(schema: pa.Schema, known: Table) -> tuple[Column, ...]:
    """The columns of the version of a table with this schema in the lake. `known` is the table's definition in the catalog.

    Raises:
        LakeError: the table's log is damaged.
    """
    if known.kind is TableKind.EVENTS:
        return table_definition(known.ref, schema, None).columns
    try:
        return tuple(_guessed(field, known) if (told := _definition(field)) is None else _column(told) for field in schema)
    except msgspec.MsgspecError as error:
        folder = f"{known.ref.dataset}/{known.ref.name}/{LOG_FOLDER}"
        raise LakeError(
            f"the columns of {known.ref} in {folder} of the lake are damaged: {error}; restore that folder from a copy"
        ) from error


def is_current(snapshot: Snapshot, known: Table) -> bool:
    """Whether the catalog's columns of a table match its newest version in the lake."""
    if known.kind is TableKind.EVENTS:  # the catalog and the lake can each have columns that the other does not have yet
        return set(known.columns) <= set(table_definition(known.ref, snapshot.schema, known, snapshot.kept).columns)
    return all(_definition(field) is None for field in snapshot.schema) or columns_of(snapshot.schema, known) == known.columns


def follow(catalog: Catalog, acknowledged: Acknowledged, ref: Ref) -> Table:
    """Update the catalog's definition of a table to the columns of its newest version, and return the definition.

    Every change of columns in the lake is followed by this call. If the process is killed in between, the process that finds the
    difference makes the call.

    Raises:
        NotFoundError: there is no such table.
    """
    for _ in range(_ATTEMPTS):
        known = catalog.table(ref)
        snapshot = acknowledged.snapshot(ref)
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


def check_current(catalog: Catalog, acknowledged: Acknowledged, tables: Iterable[Table]) -> None:
    """Check that the catalog has all columns of the tables of a statement whose analysis failed.

    Raises:
        ConflictError: the catalog was outdated, for example because a process was killed after it added a column in the lake. It is updated
            now.
    """
    for table in tables:
        is_stored = (
            table.kind is TableKind.TABLE and not table.ref.dataset.endswith(INFORMATION_SCHEMA) and not table.ref.name.endswith("*")
        )
        if not (is_stored or table.ref.name == EVENTS):  # all columns of the other tables fed from logs are fixed
            continue
        with suppress(NotFoundError):
            if follow(catalog, acknowledged, table.ref) != table:
                raise changed(table.ref)


def changed(ref: Ref) -> ConflictError:
    """The error that makes the engine analyse a statement again."""
    return ConflictError(f"the columns of {ref} were changed by another statement; run the statement again")


class Adopted(NamedTuple):
    """A table of the lake that was added to the catalog."""

    table: Table
    guessed: tuple[str, ...]
    """The columns whose GoogleSQL types come from the files, because the lake does not have them. For example, JSON becomes STRING."""


def adopt(catalog: Catalog, lake: Lake, stored: Iterable[Ref]) -> Iterator[Adopted]:
    """Define the tables that the lake has and the catalog does not, for example after its database was lost. Creates their datasets.

    The parts that only a definition has are lost: descriptions, options, and the text of PARTITION BY and CLUSTER BY.
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
            yield Adopted(table, tuple(field.name for field in snapshot.schema if _definition(field) is None))


def version_of(catalog: Catalog, lake: Lake, table: Table, at: dt.datetime) -> Table:
    """A table, or all tables of a wildcard name, with the columns they had at a time.

    Raises:
        NotFoundError, LakeError: as `Lake.snapshot`.
    """
    if table.ref.name.endswith("*"):
        return wildcard(table.ref, members_at(catalog, lake, table.ref, at))
    return replace(table, columns=columns_of(lake.snapshot(table.ref, at=at).schema, table))


def members_at(catalog: Catalog, lake: Lake, ref: Ref, at: dt.datetime) -> list[Table]:
    """The tables of a wildcard name that existed at a time, with the columns they had then.

    Raises:
        LakeError: no table existed.
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


def _definition(field: pa.Field) -> bytes | None:
    return (field.metadata or {}).get(_COLUMN)


def _guessed(field: pa.Field, known: Table) -> Column:
    same = (column for column in known.columns if column.name == field.name and stored_type(column.type) == field.type)
    return next(same, None) or Column(field.name, from_arrow(field.type))
