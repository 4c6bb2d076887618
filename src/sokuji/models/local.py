"""The model store on a local disk: a folder a version, and a database that says which folders count.

    <root>/<dataset>/<model>/<version>-<id>/    never changes
    <root>/.staging/<id>/                       being written; <id>.lock is locked by the process that writes

A folder becomes a version in one database transaction, inside of which it is moved into place. What a crash leaves without a row in the
database does not exist, and is removed when a store is opened.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Connection, LargeBinary, MetaData, String

from sokuji.errors import ModelError, NotFoundError
from sokuji.meta.base import ModelSignature, Ref
from sokuji.models.base import CHAMPION, PREVIOUS, ModelStore, ModelVersion

_BUSY_TIMEOUT_MS = 30_000
_NAME = re.compile(r"\w[\w\- ]*")
_STAGING = ".staging"

_METADATA = MetaData()
_VERSIONS = sa.Table(
    "model_versions",
    _METADATA,
    Column("dataset", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("version", BigInteger, primary_key=True),
    Column("folder", String, nullable=False),  # below the root
    Column("created_at_us", BigInteger, nullable=False),
    Column("sql", String, nullable=False),
    Column("serving", String, nullable=False),
    Column("serving_reason", String, nullable=False),
    Column("signature", LargeBinary, nullable=False),  # this and what follows as JSON
    Column("options", LargeBinary, nullable=False),
    Column("metrics", LargeBinary, nullable=False),
)
_ALIASES = sa.Table(
    "model_aliases",
    _METADATA,
    Column("dataset", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("alias", String, primary_key=True),
    Column("version", BigInteger, nullable=False),
)


class LocalModelStore(ModelStore):
    """Any number of processes may open the same store. Thread-safe."""

    def __init__(self, root: Path, url: str) -> None:
        """Folders go below `root`; the database is at the SQLAlchemy `url`, and may be the catalog's (`sqlite:////path/catalog.db`)."""
        self._root = root
        self._staging = root / _STAGING
        self._staging.mkdir(parents=True, exist_ok=True)
        self._locks: dict[Path, int] = {}
        self._engine = sa.create_engine(url)
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _configure)
        with self._change() as connection:
            _METADATA.create_all(connection)
            self._remove_leftovers(connection)

    def close(self) -> None:
        """Give up what was staged and not registered, and close all connections."""
        for folder in list(self._locks):
            shutil.rmtree(folder, ignore_errors=True)
            self._unlock(folder)
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def stage(self, ref: Ref) -> Path:
        """As `ModelStore.stage`. Raises ModelError for a name that cannot be a folder's."""
        if any(_NAME.fullmatch(part) is None for part in ref):
            raise ModelError(f"model name {str(ref)!r} is not allowed; use letters, digits, underscores, dashes and spaces")
        folder = self._staging / uuid.uuid4().hex
        with self._change():  # so that no one who is removing leftovers sees the lock file before it is locked
            lock = os.open(_lock_file(folder), os.O_CREAT | os.O_RDWR, 0o644)
            fcntl.flock(lock, fcntl.LOCK_EX)
        self._locks[folder] = lock
        folder.mkdir()
        return folder

    def register(self, version: ModelVersion) -> ModelVersion:
        """As `ModelStore.register`. `version.folder` must come from `stage`; else ModelError."""
        staged, ref = version.folder, version.signature.ref
        if staged not in self._locks:
            raise ModelError(f"{staged} was not staged by this store, or is registered already; write the model into stage()'s folder")
        _sync(staged)
        with self._change() as connection:
            highest = connection.scalar(sa.select(sa.func.max(_VERSIONS.c.version)).where(_of(_VERSIONS, ref)))
            number = (highest or 0) + 1
            folder = self._root / ref.dataset / ref.name / f"{number}-{staged.name}"
            registered = replace(version, version=number, folder=folder)
            connection.execute(_VERSIONS.insert().values(self._row(registered)))
            champion = _aliases(connection, ref).get(CHAMPION)
            if champion is not None:
                _point(connection, ref, PREVIOUS, champion)
            _point(connection, ref, CHAMPION, number)
            folder.parent.mkdir(parents=True, exist_ok=True)
            staged.rename(folder)
            # Before the commit: a row must never be on disk without its folder.
            for changed in (folder.parent, folder.parent.parent, self._root):
                _sync_entry(changed)
        self._unlock(staged)
        return registered

    def get(self, ref: Ref, version: int | str = CHAMPION) -> ModelVersion:
        """As `ModelStore.get`."""
        with self._engine.connect() as connection:
            number = version if isinstance(version, int) else _aliases(connection, ref).get(version)
            row = connection.execute(sa.select(_VERSIONS).where(_of(_VERSIONS, ref), _VERSIONS.c.version == number)).mappings().first()
        if row is None:
            raise NotFoundError(f"Not found: Model {ref} {'version' if isinstance(version, int) else 'alias'} {version!r}")
        return self._version(row)

    def versions(self, ref: Ref) -> list[ModelVersion]:
        """As `ModelStore.versions`."""
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(_VERSIONS).where(_of(_VERSIONS, ref)).order_by(_VERSIONS.c.version)).mappings()
            return [self._version(row) for row in rows]

    def set_alias(self, ref: Ref, alias: str, version: int) -> None:
        """As `ModelStore.set_alias`."""
        with self._change() as connection:
            if connection.scalar(sa.select(_VERSIONS.c.version).where(_of(_VERSIONS, ref), _VERSIONS.c.version == version)) is None:
                raise NotFoundError(f"Not found: Model {ref} version {version}")
            _point(connection, ref, alias, version)

    def aliases(self, ref: Ref) -> dict[str, int]:
        """As `ModelStore.aliases`."""
        with self._engine.connect() as connection:
            return _aliases(connection, ref)

    def delete(self, ref: Ref) -> None:
        """As `ModelStore.delete`."""
        folders = [version.folder for version in self.versions(ref)]
        with self._change() as connection:
            if not connection.execute(_VERSIONS.delete().where(_of(_VERSIONS, ref))).rowcount:
                raise NotFoundError(f"Not found: Model {ref}")
            connection.execute(_ALIASES.delete().where(_of(_ALIASES, ref)))
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)  # what stays is without a row, and removed when a store is opened

    @contextmanager
    def _change(self) -> Iterator[Connection]:
        with self._engine.begin() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # writers take turns from their first read on
            yield connection

    def _row(self, version: ModelVersion) -> dict[str, Any]:
        return {
            "dataset": version.signature.ref.dataset,
            "name": version.signature.ref.name,
            "version": version.version,
            "folder": str(version.folder.relative_to(self._root)),
            "created_at_us": version.created_at_us,
            "sql": version.sql,
            "serving": version.serving,
            "serving_reason": version.serving_reason,
            "signature": msgspec.json.encode(version.signature),
            "options": msgspec.json.encode(version.options),
            "metrics": msgspec.json.encode(version.metrics),
        }

    def _version(self, row: sa.RowMapping) -> ModelVersion:
        return ModelVersion(
            signature=msgspec.json.decode(row["signature"], type=ModelSignature),
            version=row["version"],
            folder=self._root / row["folder"],
            created_at_us=row["created_at_us"],
            sql=row["sql"],
            options=msgspec.json.decode(row["options"]),
            serving=row["serving"],
            serving_reason=row["serving_reason"],
            metrics=msgspec.json.decode(row["metrics"]),
        )

    def _unlock(self, folder: Path) -> None:
        _lock_file(folder).unlink()
        os.close(self._locks.pop(folder))

    def _remove_leftovers(self, connection: Connection) -> None:
        """Of crashes. Whoever registers holds the same transaction's lock, so no folder is seen between its move and its row."""
        for lock_file in self._staging.glob("*.lock"):
            _remove_if_abandoned(lock_file)
        known = {self._root / folder for folder in connection.scalars(sa.select(_VERSIONS.c.folder))}
        for folder in self._root.glob("*/*/*"):
            if folder not in known and folder.parent.parent != self._staging:
                shutil.rmtree(folder)


def _configure(connection: Any, _record: Any) -> None:
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode = WAL")


def _lock_file(folder: Path) -> Path:
    return folder.with_suffix(".lock")


def _remove_if_abandoned(lock_file: Path) -> None:
    lock = os.open(lock_file, os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # its process lives
    else:
        shutil.rmtree(lock_file.with_suffix(""), ignore_errors=True)
        lock_file.unlink()
    finally:
        os.close(lock)


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        _sync_entry(path)
    _sync_entry(folder)


def _sync_entry(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _of(table: sa.Table, ref: Ref) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.dataset == ref.dataset, table.c.name == ref.name)


def _aliases(connection: Connection, ref: Ref) -> dict[str, int]:
    rows = connection.execute(sa.select(_ALIASES.c.alias, _ALIASES.c.version).where(_of(_ALIASES, ref)).order_by(_ALIASES.c.alias))
    return {row.alias: row.version for row in rows}


def _point(connection: Connection, ref: Ref, alias: str, version: int) -> None:
    connection.execute(_ALIASES.delete().where(_of(_ALIASES, ref), _ALIASES.c.alias == alias))
    connection.execute(_ALIASES.insert().values(dataset=ref.dataset, name=ref.name, alias=alias, version=version))
