"""Read the current features of one visitor or user: `platform.online_features`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sokuji.analyze.compile import Compiled
from sokuji.analyze.following import Following
from sokuji.analyze.state.reader import OpenStateReader
from sokuji.errors import OnlineStoreError
from sokuji.features.kernel.reader import FeatureReader
from sokuji.features.kernel.strings import STRINGS_FILE, Strings
from sokuji.features.spec import Entity
from sokuji.identity.base import USER
from sokuji.identity.current import Owners
from sokuji.log.base import Log
from sokuji.predict.profiles import Profiles


class _Beside(NamedTuple):
    """The data that belongs to the rows that one start of the worker published."""

    start: object
    owners: Owners
    readers: list[FeatureReader]


class Lookup:
    """Reads the features of one dataset by key. Thread-safe."""

    def __init__(
        self, dataset: str, following: Following, identities: Log, folder: Path, *, is_led: Callable[[], bool], open_reader: OpenStateReader
    ) -> None:
        """Create a lookup. `folder` is the worker's, `identities` the merge log; `is_led` says whether a worker keeps the state up to date.

        `open_reader` opens a state for reading.
        """
        self._following, self._is_led, self._open_reader = following, is_led, open_reader
        self._dataset, self._identities, self._folder = dataset, identities, folder / dataset
        self._lock = threading.Lock()
        self._use(following.compiled)

    def _use(self, compiled: Compiled) -> None:
        compiled.close()  # no event is evaluated here
        self._kernels, self._layout = compiled.kernels, compiled.layout()
        self._profiles = Profiles(self._dataset, self._layout, self._folder.parent, self._open_reader)
        self._beside: _Beside | None = None

    def features(self, key: str, at_us: int) -> dict[str, Any]:
        """The features, by name, of the profile with this key (`VISITOR` or `USER`, then the id), for a reader at `at_us`.

        A visitor who became known has the features of the user. A profile without events has the features of no activity. A view on users
        has no features for a visitor who is not known.

        Raises:
            OnlineStoreError: no worker runs, its state is not up to date yet, or its state is for other declarations.
        """
        found: dict[str, Any] = {}
        with self._lock:
            self._check()  # check before `_read_beside`, because a rebuilt state has its own files
            if not self._is_led():
                raise OnlineStoreError(
                    f"no worker keeps {self._folder} up to date: it does not run, or repeats what was done before it was killed; "
                    "start `sokuji up`, or wait until its /ready says so"
                )
            if self._beside is None or self._beside.start != self._profiles.start:
                self._beside = self._read_beside()
            owners, readers = self._beside.owners, self._beside.readers
            owners.refresh()
            [row] = self._profiles.rows([key], owners)
            is_user = owners.profile(self._dataset, key).startswith(USER)
            for kernel, reader, where in zip(self._kernels, readers, self._layout.views, strict=True):
                if is_user or kernel.view.entity is not Entity.USER:
                    found |= reader.read(row[where].tobytes(), at_us)
        return found

    def _check(self) -> None:
        try:
            self._profiles.check()
        except OnlineStoreError:
            if (renewed := self._following.renew()) is None:
                raise
            self._use(renewed)
            self._profiles.check()

    def _read_beside(self) -> _Beside:
        strings = Strings(self._folder / STRINGS_FILE)
        since = self._profiles.published(self._identities.name)  # read it before the users, which may be newer
        owners = Owners(self._dataset, self._identities, self._profiles.users(), since)
        return _Beside(self._profiles.start, owners, [FeatureReader(kernel, strings) for kernel in self._kernels])
