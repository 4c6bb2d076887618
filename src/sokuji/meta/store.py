"""The catalog in a SQL database: SQLite by default, or another one given by its SQLAlchemy URL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Connection, LargeBinary, MetaData, String

from sokuji.errors import AlreadyExistsError, ConflictError, NotFoundError, SokujiError
from sokuji.meta.changes import Changes, check
from sokuji.meta.database import DatabaseCatalog, create_tables, encoded, loaded, open_database
from sokuji.meta.objects import Function, Ref, Table, TableKind, check_dataset_name, check_name

_METADATA = MetaData()
# One row. Every writer updates it first, so its lock also makes writers wait for each other.
_VERSION = sa.Table("catalog_version", _METADATA, Column("id", BigInteger, primary_key=True), Column("version", BigInteger, nullable=False))
_DATASETS = sa.Table("datasets", _METADATA, Column("name", String, primary_key=True))
# Tables, views and reserved names in one table, as they share one namespace.
_OBJECTS = sa.Table(
    "objects",
    _METADATA,
    Column("dataset", String, sa.ForeignKey("datasets.name"), primary_key=True),
    Column("name", String, primary_key=True),
    Column("kind", String, nullable=False),  # a TableKind, or what the name is reserved for
    Column("definition", LargeBinary, nullable=False),  # the Table or _Reserved as JSON
)
_FUNCTIONS = sa.Table(
    "functions",
    _METADATA,
    Column("dataset", String, sa.ForeignKey("datasets.name"), primary_key=True),
    Column("name", String, primary_key=True),
    Column("definition", LargeBinary, nullable=False),  # the Function as JSON
)
_IS_TABLE = _OBJECTS.c.kind.in_(list(TableKind))


class _Reserved(msgspec.Struct):
    """A name that is not a table's. Until format 2 there was a model's signature, which has the name in it as well."""

    ref: Ref


Definition = TypeVar("Definition", Table, Function, _Reserved)


class SqlCatalog(DatabaseCatalog):
    """A catalog that any number of processes may open at the same time. Thread-safe."""

    def __init__(self, url: str | sa.URL, changes: Changes | None = None) -> None:
        """Open the catalog at a SQLAlchemy URL (`sqlite:////path/catalog.db`), and create its tables if they do not exist.

        Raises:
            DamagedFileError: the database is damaged, or has not seen all recorded `changes`.
            FormatError: a newer release wrote it.
        """
        self.database, self._changes = open_database(url), changes
        known = 0 if changes is None else changes.read()
        try:
            seen = self._open(known)
        except BaseException:
            self.close()
            raise
        if changes is not None and seen > known:
            changes.saw(seen)

    def _open(self, known: int) -> int:
        with self.database.begin() as connection:
            create_tables(connection, _METADATA)
            seen = connection.scalar(sa.select(_VERSION.c.version))
            if seen is None:
                connection.execute(_VERSION.insert().values(id=0, version=0))
            url = self.database.url
            name = url.database if self.database.dialect.name == "sqlite" else None
            check(name or url.render_as_string(), seen or 0, known)
        return seen or 0

    def close(self) -> None:
        """See `Catalog.close`."""
        self.database.dispose()

    @contextmanager
    def change(self) -> Iterator[Connection]:
        """See `DatabaseCatalog.change`."""
        with self.database.begin() as connection:
            connection.execute(_VERSION.update().values(version=_VERSION.c.version + 1))
            number = connection.scalar(sa.select(_VERSION.c.version))
            yield connection
        if self._changes is not None:
            self._changes.saw(number or 0)

    def version(self) -> int:
        """See `Catalog.version`."""
        with self.database.connect() as connection:
            return int(connection.scalar(sa.select(_VERSION.c.version)) or 0)

    def datasets(self) -> list[str]:
        """See `Catalog.datasets`."""
        with self.database.connect() as connection:
            return sorted(connection.scalars(sa.select(_DATASETS.c.name)))

    def create_dataset(self, name: str, *, if_not_exists: bool = False) -> None:
        """See `Catalog.create_dataset`."""
        check_dataset_name(name)
        if if_not_exists and name in self.datasets():
            return
        with self.change() as connection:
            if not _dataset_exists(connection, name):
                connection.execute(_DATASETS.insert().values(name=name))
            elif not if_not_exists:
                raise AlreadyExistsError(f"dataset {name} already exists")

    def drop_dataset(self, name: str) -> None:
        """See `Catalog.drop_dataset`."""
        with self.change() as connection:
            _check_dataset(connection, name)
            inside = sorted(
                object_name
                for objects in (_OBJECTS, _FUNCTIONS)
                for object_name in connection.scalars(sa.select(objects.c.name).where(objects.c.dataset == name))
            )
            if inside:
                raise SokujiError(f"dataset {name} is not empty; drop what is in it first: {', '.join(inside)}")
            connection.execute(_DATASETS.delete().where(_DATASETS.c.name == name))

    def tables(self, dataset: str | None = None) -> list[Table]:
        """See `Catalog.tables`."""
        return self._definitions(Table, _OBJECTS, dataset, _IS_TABLE)

    def table(self, ref: Ref) -> Table:
        """See `Catalog.table`."""
        definition = self._definition(Table, _OBJECTS, ref, _IS_TABLE)
        if definition is None:
            raise NotFoundError(f"table {ref} was not found")
        return definition

    def put_table(self, table: Table, *, replace: bool = False, expected: Table | None = None) -> None:
        """See `Catalog.put_table`."""
        with self.change() as connection:
            if expected is not None and _stored(connection, table.ref) != expected:
                raise ConflictError(f"the definition of {table.ref} was changed by another statement; run the statement again")
            _put(connection, table.ref, table.kind, table, replace=replace)

    def drop_table(self, ref: Ref) -> None:
        """See `Catalog.drop_table`."""
        with self.change() as connection:
            if not connection.execute(_OBJECTS.delete().where(_is(_OBJECTS, ref), _IS_TABLE)).rowcount:
                raise NotFoundError(f"table {ref} was not found")

    def reserved(self, dataset: str | None = None) -> list[Ref]:
        """See `Catalog.reserved`."""
        return [found.ref for found in self._definitions(_Reserved, _OBJECTS, dataset, ~_IS_TABLE)]

    def reserve(self, ref: Ref, kind: str) -> None:
        """See `Catalog.reserve`."""
        with self.change() as connection:
            self.reserve_in(connection, ref, kind)

    def release(self, ref: Ref) -> None:
        """See `Catalog.release`."""
        with self.change() as connection:
            if not self.release_in(connection, ref):
                raise NotFoundError(f"the name {ref} is not reserved")

    def reserve_in(self, connection: Connection, ref: Ref, kind: str) -> None:
        """See `DatabaseCatalog.reserve_in`."""
        _put(connection, ref, kind, _Reserved(ref), replace=True)

    def release_in(self, connection: Connection, ref: Ref) -> bool:
        """See `DatabaseCatalog.release_in`."""
        return bool(connection.execute(_OBJECTS.delete().where(_is(_OBJECTS, ref), ~_IS_TABLE)).rowcount)

    def functions(self, dataset: str | None = None) -> list[Function]:
        """See `Catalog.functions`."""
        return self._definitions(Function, _FUNCTIONS, dataset)

    def function(self, ref: Ref) -> Function:
        """See `Catalog.function`."""
        definition = self._definition(Function, _FUNCTIONS, ref)
        if definition is None:
            raise NotFoundError(f"function {ref} was not found")
        return definition

    def put_function(self, function: Function, *, replace: bool = False) -> None:
        """See `Catalog.put_function`."""
        check_name(function.ref)
        values = {"dataset": function.ref.dataset, "name": function.ref.name, "definition": encoded(function)}
        with self.change() as connection:
            _check_dataset(connection, function.ref.dataset)
            there = connection.execute(_FUNCTIONS.delete().where(_is(_FUNCTIONS, function.ref))).rowcount
            if there and not replace:
                raise AlreadyExistsError(f"function {function.ref} already exists")
            connection.execute(_FUNCTIONS.insert().values(**values))

    def drop_function(self, ref: Ref) -> None:
        """See `Catalog.drop_function`."""
        with self.change() as connection:
            if not connection.execute(_FUNCTIONS.delete().where(_is(_FUNCTIONS, ref))).rowcount:
                raise NotFoundError(f"function {ref} was not found")

    def _definition(self, kind: type[Definition], objects: sa.Table, ref: Ref, *conditions: sa.ColumnElement[bool]) -> Definition | None:
        with self.database.connect() as connection:
            content = connection.scalar(sa.select(objects.c.definition).where(_is(objects, ref), *conditions))
            return None if content is None else loaded(connection, content, kind)

    def _definitions(
        self, kind: type[Definition], objects: sa.Table, dataset: str | None, *conditions: sa.ColumnElement[bool]
    ) -> list[Definition]:
        query = sa.select(objects.c.definition).where(*conditions)
        if dataset is not None:
            query = query.where(objects.c.dataset == dataset)
        with self.database.connect() as connection:
            definitions = [loaded(connection, content, kind) for content in connection.scalars(query)]
        return sorted(definitions, key=lambda definition: definition.ref)


def sqlite_url(path: Path) -> sa.URL:
    """The URL of a SQLite file. A URL object, not text: in text, a path with `?` would end there."""
    return sa.URL.create("sqlite", database=str(path))


def _is(objects: sa.Table, ref: Ref) -> sa.ColumnElement[bool]:
    return sa.and_(objects.c.dataset == ref.dataset, objects.c.name == ref.name)


def _dataset_exists(connection: Connection, name: str) -> bool:
    return connection.scalar(sa.select(_DATASETS.c.name).where(_DATASETS.c.name == name)) is not None


def _check_dataset(connection: Connection, name: str) -> None:
    if not _dataset_exists(connection, name):
        raise NotFoundError(f"dataset {name} was not found")


def _stored(connection: Connection, ref: Ref) -> Table | None:
    definition = connection.scalar(sa.select(_OBJECTS.c.definition).where(_is(_OBJECTS, ref), _IS_TABLE))
    return None if definition is None else loaded(connection, definition, Table)


def _put(connection: Connection, ref: Ref, kind: str, definition: Table | _Reserved, *, replace: bool) -> None:
    check_name(ref)
    _check_dataset(connection, ref.dataset)
    stored = connection.scalar(sa.select(_OBJECTS.c.kind).where(_is(_OBJECTS, ref)))
    if stored is not None and not (replace and (stored == kind or {stored, kind} <= set(TableKind))):
        raise AlreadyExistsError(f"{ref} already exists: it is a {stored}")
    values = {"kind": kind, "definition": encoded(definition)}
    if stored is None:
        connection.execute(_OBJECTS.insert().values(dataset=ref.dataset, name=ref.name, **values))
    else:
        connection.execute(_OBJECTS.update().where(_is(_OBJECTS, ref)).values(**values))
