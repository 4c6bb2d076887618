"""The SQL database for metadata. Any number of processes may open one at the same moment, even a new one."""

from __future__ import annotations

import functools
import sqlite3
from abc import abstractmethod
from contextlib import AbstractContextManager
from typing import Any, TypeVar, cast

import msgspec
import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Connection, Engine, ExceptionContext, MetaData

from sokuji.disk.sqlite import check, configure, is_damage, naming_damage
from sokuji.disk.stored import check_format, sealed, unsealed
from sokuji.errors import DamagedFileError
from sokuji.meta.base import Catalog
from sokuji.meta.objects import Ref

Definition = TypeVar("Definition")

_CREATING = 0x736F6B75  # the id of this module's lock in PostgreSQL: any number that nobody else uses
_FORMAT = 3  # 2 kept signatures of models with the names of tables; 1 had no checksums, and no format
_FORMATS = sa.Table("format", MetaData(), Column("id", BigInteger, primary_key=True), Column("format", BigInteger, nullable=False))
_REMEDY = "restore it from a copy"


class DatabaseCatalog(Catalog):
    """A catalog in a database that also holds tables of others, so that these and a reserved name can change in one transaction."""

    database: Engine

    @abstractmethod
    def change(self) -> AbstractContextManager[Connection]:
        """A transaction that raises the version first, so that writers wait for each other."""

    @abstractmethod
    def reserve_in(self, connection: Connection, ref: Ref, kind: str) -> None:
        """Like `Catalog.reserve`, within a transaction of `change`."""

    @abstractmethod
    def release_in(self, connection: Connection, ref: Ref) -> bool:
        """Give a reserved name back within a transaction of `change`; False if it is not reserved."""


def open_database(url: str | sa.URL) -> Engine:
    """Connections to the database at a SQLAlchemy `url`."""
    engine = sa.create_engine(url)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", functools.partial(_configure, engine.url.database))
        sa.event.listen(engine, "handle_error", functools.partial(_name_damage, engine.url.database))
    return engine


def create_tables(connection: Connection, tables: MetaData) -> None:
    """Create missing tables. Others that call this wait until the transaction of `connection`, which must be new, ends.

    Raises:
        FormatError: a newer release wrote the database.
        DamagedFileError: the database is a file, and damaged.
    """
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    elif connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATING)))
    _check(connection)
    tables.create_all(connection)
    for table in tables.sorted_tables:  # an earlier release may have created the tables without indexes
        for index in table.indexes:
            index.create(connection, checkfirst=True)


def in_two_places(table: sa.Table) -> None:
    """Store a table's rows in an index as well. SQLite has no checksums, but compares table and index when a file is opened."""
    sa.Index(f"{table.name}_again", *table.columns).ddl_if(dialect="sqlite")


def encoded(definition: Any) -> bytes:
    """A definition as JSON with its checksum."""
    return sealed(msgspec.json.encode(definition))


def loaded(connection: Connection, content: bytes, kind: type[Definition]) -> Definition:
    """Decode a stored definition. A definition of format 1 has no checksum.

    Raises:
        DamagedFileError: the definition is damaged.
    """
    try:
        return msgspec.json.decode(unsealed(content)[0], type=kind)
    except (ValueError, msgspec.MsgspecError) as error:
        raise DamagedFileError(connection.engine.url.database, f"a definition in it: {error}", _REMEDY) from error


def _check(connection: Connection) -> None:
    url = connection.engine.url
    if connection.dialect.name == "sqlite":
        check(cast("sqlite3.Connection", connection.connection.driver_connection), url.database, _REMEDY)
    _FORMATS.create(connection, checkfirst=True)
    stored_format = connection.scalar(sa.select(_FORMATS.c.format))
    check_format(stored_format or 1, _FORMAT, url.render_as_string())
    if stored_format is None:
        connection.execute(_FORMATS.insert().values(id=0, format=_FORMAT))
    elif stored_format < _FORMAT:
        connection.execute(_FORMATS.update().values(format=_FORMAT))


def _name_damage(path: str | None, context: ExceptionContext) -> None:
    if is_damage(context.original_exception):
        raise DamagedFileError(path, str(context.original_exception), _REMEDY)


def _configure(path: str | None, connection: sqlite3.Connection, _record: Any) -> None:
    with naming_damage(path, _REMEDY):
        configure(connection)
