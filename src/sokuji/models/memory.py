"""The model store in the memory of one process. Only the files of the models are on disk, as loading a model needs a folder."""

from __future__ import annotations

import shutil
import threading
import uuid
from dataclasses import replace
from pathlib import Path

from sokuji.errors import AlreadyExistsError, ModelError, NotFoundError
from sokuji.meta.base import Catalog
from sokuji.meta.objects import Ref
from sokuji.models.base import ModelStore
from sokuji.models.versions import CHAMPION, MODEL, PREVIOUS, ModelVersion, Orphan, check_model_name


class MemoryModelStore(ModelStore):
    """Versions and aliases in dicts. Thread-safe."""

    def __init__(self, root: Path, catalog: Catalog) -> None:
        """Create the store: folders are below `root`, which is for this store alone; `catalog` must stay open."""
        self._root, self.catalog = root, catalog
        self._lock = threading.Lock()
        self._staged: set[Path] = set()
        self._versions: dict[Ref, list[ModelVersion]] = {}
        self._aliases: dict[Ref, dict[str, int]] = {}

    def stage(self, ref: Ref) -> Path:
        """See `ModelStore.stage`."""
        check_model_name(ref)
        folder = self._root / uuid.uuid4().hex
        folder.mkdir(parents=True)
        self._staged.add(folder)
        return folder

    def register(self, version: ModelVersion, *, is_new: bool = False) -> ModelVersion:
        """See `ModelStore.register`. The folder stays where it was staged."""
        ref = version.signature.ref
        with self._lock:
            if version.folder not in self._staged:
                raise ModelError(
                    f"{version.folder} was not staged by this store, or is registered already; write the model into stage()'s folder"
                )
            known = self._versions.get(ref, [])
            if is_new and known:
                raise AlreadyExistsError(f"Already Exists: Model {ref}")
            registered = replace(version, version=known[-1].version + 1 if known else 1)
            self.catalog.reserve(ref, MODEL)  # which may be refused
            self._crown(registered)
            self._versions[ref] = [*known, registered]
            self._staged.remove(version.folder)
        return registered

    def _crown(self, version: ModelVersion) -> None:
        """Make a version the champion."""
        aliases = self._aliases.setdefault(version.signature.ref, {})
        champion = aliases.get(CHAMPION)
        if champion is not None and champion != version.version:
            aliases[PREVIOUS] = champion
        aliases[CHAMPION] = version.version

    def get(self, ref: Ref, version: int | str = CHAMPION) -> ModelVersion:
        """See `ModelStore.get`."""
        with self._lock:
            return self._get(ref, version)

    def _get(self, ref: Ref, version: int | str) -> ModelVersion:
        number = version if isinstance(version, int) else self._aliases.get(ref, {}).get(version)
        for known in self._versions.get(ref, []):
            if known.version == number:
                return known
        raise NotFoundError(f"Not found: Model {ref} {'version' if isinstance(version, int) else 'alias'} {version!r}")

    def versions(self, ref: Ref) -> list[ModelVersion]:
        """See `ModelStore.versions`."""
        with self._lock:
            return list(self._versions.get(ref, []))

    def fetch(self, version: ModelVersion) -> Path:
        """See `ModelStore.fetch`: it is on this machine."""
        return version.folder

    def set_alias(self, ref: Ref, alias: str, version: int) -> None:
        """See `ModelStore.set_alias`."""
        with self._lock:
            target = self._get(ref, version)
            if alias == CHAMPION:
                self._crown(target)
            else:
                self._aliases[ref][alias] = version

    def aliases(self, ref: Ref) -> dict[str, int]:
        """See `ModelStore.aliases`."""
        with self._lock:
            return dict(self._aliases.get(ref, {}))

    def delete(self, ref: Ref) -> None:
        """See `ModelStore.delete`."""
        with self._lock:
            if ref not in self._versions:
                raise NotFoundError(f"Not found: Model {ref}")
            self.catalog.release(ref)
            self._aliases.pop(ref, None)
            for version in self._versions.pop(ref, []):
                shutil.rmtree(version.folder)

    def orphans(self) -> list[Orphan]:
        """See `ModelStore.orphans`. There are none, as no other store can find these versions."""
        return []

    def adopt(self) -> list[ModelVersion]:
        """See `ModelStore.adopt`. There is nothing to adopt."""
        return []

    def close(self) -> None:
        """See `ModelStore.close`."""
        with self._lock:
            while self._staged:
                shutil.rmtree(self._staged.pop(), ignore_errors=True)
