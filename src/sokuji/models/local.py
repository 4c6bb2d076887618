"""The model store on a local disk: one folder per version, and a database that tells which folders are valid.

    <root>/<dataset>/<model>/<version>-<id>/   never changes; its version.json has its row and checksums (folder.py)
    <root>/.staging/<id>/                      being written; the writing process locks <id>.lock

A folder becomes a version in one database transaction, which also moves the folder into place. Opening a store removes only folders that
nobody needs: folders staged by a process that has ended, and deleted ones. A folder without a row is an orphan.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Connection, LargeBinary, MetaData, String

from sokuji.disk.files import sync_file, sync_folder
from sokuji.disk.stored import claim
from sokuji.errors import AlreadyExistsError, ModelError, NotFoundError
from sokuji.meta.database import DatabaseCatalog, create_tables, in_two_places
from sokuji.meta.objects import Ref
from sokuji.models import folder as describing
from sokuji.models.base import ModelStore
from sokuji.models.versions import CHAMPION, MODEL, PREVIOUS, ModelSignature, ModelVersion, Orphan, check_model_name

_STAGING = ".staging"
_FORMAT = 1

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
    Column("signature", LargeBinary, nullable=False),  # this and the next ones as JSON
    Column("options", LargeBinary, nullable=False),
    Column("metrics", LargeBinary, nullable=False),
)
in_two_places(_VERSIONS)
_ALIASES = sa.Table(
    "model_aliases",
    _METADATA,
    Column("dataset", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("alias", String, primary_key=True),
    Column("version", BigInteger, nullable=False),
)
in_two_places(_ALIASES)
# Folders of deleted versions, until they are removed.
_DELETED = sa.Table("deleted_models", _METADATA, Column("folder", String, primary_key=True))


class LocalModelStore(ModelStore):
    """Any number of processes may open the same store. Thread-safe."""

    def __init__(self, root: Path, catalog: DatabaseCatalog) -> None:
        """Open the store: folders are below `root`; the database is the catalog's, which must stay open."""
        self._root, self.catalog = root, catalog
        self._staging = root / _STAGING
        self._staging.mkdir(parents=True, exist_ok=True)
        claim(root / ".format.json", format=_FORMAT)
        self._locks: dict[Path, int] = {}
        with catalog.database.begin() as connection:
            create_tables(connection, _METADATA)
            deleted, rows = list(connection.scalars(sa.select(_DELETED.c.folder))), connection.execute(sa.select(_VERSIONS)).mappings()
            known = [self._version(row) for row in rows]
        for lock_file in self._staging.glob("*.lock"):
            _remove_if_abandoned(lock_file)
        self._remove_deleted(deleted)
        for version in known:  # versions of earlier releases have no version.json
            if version.folder.is_dir() and not (version.folder / describing.FILE).exists():
                describing.write(version.folder, version)

    def close(self) -> None:
        """See `ModelStore.close`."""
        for folder in list(self._locks):
            shutil.rmtree(folder, ignore_errors=True)
            self._unlock(folder)

    def stage(self, ref: Ref) -> Path:
        """See `ModelStore.stage`."""
        check_model_name(ref)
        folder = self._staging / uuid.uuid4().hex
        self._locks[folder] = _lock(_lock_file(folder))
        folder.mkdir()
        return folder

    def register(self, version: ModelVersion, *, is_new: bool = False) -> ModelVersion:
        """See `ModelStore.register`."""
        staged, ref = version.folder, version.signature.ref
        if staged not in self._locks:
            raise ModelError(f"{staged} was not staged by this store, or is registered already; write the model into stage()'s folder")
        with self.catalog.change() as connection:
            highest = connection.scalar(sa.select(sa.func.max(_VERSIONS.c.version)).where(_of(_VERSIONS, ref)))
            if is_new and highest is not None:
                raise AlreadyExistsError(f"Already Exists: Model {ref}")
            number = (highest or 0) + 1
            folder = self._root / ref.dataset / ref.name / f"{number}-{staged.name}"
            registered = replace(version, version=number, folder=folder)
            connection.execute(_VERSIONS.insert().values(self._row(registered)))
            self.catalog.reserve_in(connection, ref, MODEL)
            _crown(connection, ref, number)
            describing.write(staged, registered)
            _sync(staged)
            folder.parent.mkdir(parents=True, exist_ok=True)
            staged.rename(folder)
            # Before the commit: a row must never be on disk without its folder.
            for changed in (folder.parent, folder.parent.parent, self._root):
                sync_folder(changed)
        self._unlock(staged)
        return registered

    def get(self, ref: Ref, version: int | str = CHAMPION) -> ModelVersion:
        """See `ModelStore.get`."""
        with self.catalog.database.connect() as connection:
            named = sa.select(_ALIASES.c.version).where(_of(_ALIASES, ref), _ALIASES.c.alias == version).scalar_subquery()
            number = version if isinstance(version, int) else named
            row = connection.execute(sa.select(_VERSIONS).where(_of(_VERSIONS, ref), _VERSIONS.c.version == number)).mappings().first()
        if row is None:
            raise NotFoundError(f"Not found: Model {ref} {'version' if isinstance(version, int) else 'alias'} {version!r}")
        return self._version(row)

    def versions(self, ref: Ref) -> list[ModelVersion]:
        """See `ModelStore.versions`."""
        with self.catalog.database.connect() as connection:
            rows = connection.execute(sa.select(_VERSIONS).where(_of(_VERSIONS, ref)).order_by(_VERSIONS.c.version)).mappings()
            return [self._version(row) for row in rows]

    def fetch(self, version: ModelVersion) -> Path:
        """See `ModelStore.fetch`: it is on this machine."""
        return version.folder

    def set_alias(self, ref: Ref, alias: str, version: int) -> None:
        """See `ModelStore.set_alias`."""
        with self.catalog.change() as connection:
            if connection.scalar(sa.select(_VERSIONS.c.version).where(_of(_VERSIONS, ref), _VERSIONS.c.version == version)) is None:
                raise NotFoundError(f"Not found: Model {ref} version {version}")
            if alias == CHAMPION:
                _crown(connection, ref, version)
            else:
                _point(connection, ref, alias, version)

    def aliases(self, ref: Ref) -> dict[str, int]:
        """See `ModelStore.aliases`."""
        with self.catalog.database.connect() as connection:
            return _aliases(connection, ref)

    def delete(self, ref: Ref) -> None:
        """See `ModelStore.delete`."""
        with self.catalog.change() as connection:
            deleted = list(connection.scalars(sa.select(_VERSIONS.c.folder).where(_of(_VERSIONS, ref))))
            was_reserved = self.catalog.release_in(connection, ref)
            if not deleted and not was_reserved:
                raise NotFoundError(f"Not found: Model {ref}")
            for table in (_VERSIONS, _ALIASES):
                connection.execute(table.delete().where(_of(table, ref)))
            if deleted:
                connection.execute(_DELETED.insert(), [{"folder": folder} for folder in deleted])
        self._remove_deleted(deleted)

    def _remove_deleted(self, folders: list[str]) -> None:
        """Remove folders of deleted versions. If a folder cannot be removed now, the next opening of the store tries again."""
        for folder in folders:
            shutil.rmtree(self._root / folder, ignore_errors=True)
        gone = [folder for folder in folders if not (self._root / folder).exists()]
        if gone:
            with self.catalog.database.begin() as connection:
                connection.execute(_DELETED.delete().where(_DELETED.c.folder.in_(gone)))

    def orphans(self) -> list[Orphan]:
        """See `ModelStore.orphans`."""
        with self.catalog.database.connect() as connection:
            return self._orphans(connection)

    def _orphans(self, connection: Connection) -> list[Orphan]:
        known = {*connection.scalars(sa.select(_VERSIONS.c.folder)), *connection.scalars(sa.select(_DELETED.c.folder))}
        folders = (folder for folder in sorted(self._root.glob("*/*/*")) if folder.is_dir() and folder.parent.parent != self._staging)
        return [Orphan(folder, describing.read(folder)) for folder in folders if str(folder.relative_to(self._root)) not in known]

    def adopt(self) -> list[ModelVersion]:
        """See `ModelStore.adopt`."""
        for dataset in {orphan.version.signature.ref.dataset for orphan in self.orphans() if orphan.version is not None}:
            self.catalog.create_dataset(dataset, if_not_exists=True)
        adopted: list[ModelVersion] = []
        # List the folders inside the transaction: another process may have moved a folder whose row is not committed yet.
        with self.catalog.change() as connection:
            versions = [orphan.version for orphan in self._orphans(connection) if orphan.version is not None]
            led = {ref for ref in {version.signature.ref for version in versions} if CHAMPION in _aliases(connection, ref)}
            for version in sorted(versions, key=lambda version: (version.signature.ref, version.version)):
                ref = version.signature.ref
                taken = set(connection.scalars(sa.select(_VERSIONS.c.version).where(_of(_VERSIONS, ref))))
                registered = replace(version, version=max(taken) + 1 if version.version in taken else version.version)
                connection.execute(_VERSIONS.insert().values(self._row(registered)))
                self.catalog.reserve_in(connection, ref, MODEL)
                if ref not in led:
                    _crown(connection, ref, registered.version)
                adopted.append(registered)
        return adopted

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


def _lock_file(folder: Path) -> Path:
    return folder.with_suffix(".lock")


def _lock(path: Path) -> int:
    """A locked descriptor of a new lock file. If a cleanup removes the file before it is locked, the file is created again."""
    while True:
        lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists() and path.stat().st_ino == os.fstat(lock).st_ino:
            return lock
        os.close(lock)


def _remove_if_abandoned(lock_file: Path) -> None:
    try:
        lock = os.open(lock_file, os.O_RDWR)
    except FileNotFoundError:
        return  # another process that opens the store was faster
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # its process is alive
    else:
        shutil.rmtree(lock_file.with_suffix(""), ignore_errors=True)
        lock_file.unlink()
    finally:
        os.close(lock)


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        (sync_folder if path.is_dir() else sync_file)(path)
    sync_folder(folder)


def _of(table: sa.Table, ref: Ref) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.dataset == ref.dataset, table.c.name == ref.name)


def _aliases(connection: Connection, ref: Ref) -> dict[str, int]:
    rows = connection.execute(sa.select(_ALIASES.c.alias, _ALIASES.c.version).where(_of(_ALIASES, ref)).order_by(_ALIASES.c.alias))
    return {row.alias: row.version for row in rows}


def _point(connection: Connection, ref: Ref, alias: str, version: int) -> None:
    connection.execute(_ALIASES.delete().where(_of(_ALIASES, ref), _ALIASES.c.alias == alias))
    connection.execute(_ALIASES.insert().values(dataset=ref.dataset, name=ref.name, alias=alias, version=version))


def _crown(connection: Connection, ref: Ref, version: int) -> None:
    """Make a version the champion."""
    champion = _aliases(connection, ref).get(CHAMPION)
    if champion is not None and champion != version:
        _point(connection, ref, PREVIOUS, champion)
    _point(connection, ref, CHAMPION, version)
