"""The features of one visitor or user as they are now: `platform.online_features`."""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from typing import Any

from sokuji.analyze.identity import FILE, USER, VISITOR, LinkKind, known
from sokuji.analyze.profiles import Profiles
from sokuji.analyze.project import Compiled
from sokuji.analyze.rows import RowLayout
from sokuji.features.reader import FeatureReader
from sokuji.features.spec import Entity
from sokuji.features.vocabulary import STRINGS_FILE, Strings
from sokuji.log.base import Log

_READ_ROWS = 10_000


class Owners:
    """Whom each visitor of one dataset is known as: as the worker saved it, and since then as the merge log says."""

    def __init__(self, dataset: str, log: Log, saved: Path) -> None:
        """`saved` is the file of the worker's `Identity`."""
        self._dataset, self._log, self._offset = dataset, log, log.start(0)
        self._users = dict(known(saved.read_bytes())) if saved.exists() else {}

    def refresh(self) -> None:
        """Read what came since."""
        while self._offset < self._log.end(0):
            batch, self._offset = self._log.read(0, max(self._offset, self._log.start(0)), _READ_ROWS)
            for row in batch.select(["dataset", "kind", "visitor_id", "user_id"]).to_pylist():
                if row["dataset"] == self._dataset and row["kind"] != LinkKind.REFUSED:
                    self._users[row["visitor_id"]] = row["user_id"]

    def profile(self, _: str, profile: str) -> str:
        """The key of the profile that this one is now."""
        user = self._users.get(profile.removeprefix(VISITOR)) if profile.startswith(VISITOR) else None
        return profile if user is None else USER + user


class Lookup:
    """Reads one dataset's features by key. Thread-safe."""

    def __init__(self, dataset: str, compiled: Compiled, identities: Log, folder: Path) -> None:
        """`folder` is the worker's, `identities` the merge log."""
        self._dataset, self._kernels, self._identities, self._folder = dataset, compiled.kernels, identities, folder / dataset
        self._layout = RowLayout.of(compiled.kernels, compiled.rules)
        self._profiles = Profiles(dataset, self._layout, folder)
        self._lock = threading.Lock()

    @functools.cached_property
    def _owners(self) -> Owners:
        return Owners(self._dataset, self._identities, self._profiles.folder / FILE)

    @functools.cached_property
    def _readers(self) -> list[FeatureReader]:
        strings = Strings(self._folder / STRINGS_FILE)
        return [FeatureReader(kernel, strings) for kernel in self._kernels]

    def features(self, key: str, at_us: int) -> dict[str, Any]:
        """The features of the profile with this key (`VISITOR` or `USER`, then the id) for a reader at `at_us`, by name.

        Those of a visitor who became known are the user's. Who was never seen has the features of nothing done. A view on users has
        none for a visitor who is not known.

        Raises:
            OnlineStoreError: the worker has not published its state yet, or not for these declarations.
        """
        found: dict[str, Any] = {}
        with self._lock:
            self._profiles.check()  # what stands beside the rows is read after that, as a prepared state brings its own
            self._owners.refresh()
            [row] = self._profiles.rows([key], self._owners)
            is_user = self._owners.profile(self._dataset, key).startswith(USER)
            for kernel, reader, where in zip(self._kernels, self._readers, self._layout.views, strict=True):
                if is_user or kernel.view.entity is not Entity.USER:
                    found |= reader.read(row[where].tobytes(), at_us)
        return found
