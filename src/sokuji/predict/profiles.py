"""Read the rows of a dataset's profiles in another process than the worker, on the same machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sokuji.analyze.state.carry_over import LAYOUT_FILE
from sokuji.analyze.state.layout import RowLayout, Rows
from sokuji.analyze.state.reader import OpenStateReader, StateReader
from sokuji.errors import OnlineStoreError
from sokuji.identity.current import Successors


class Profiles:
    """Reads the worker's rows. For one thread at a time."""

    def __init__(self, dataset: str, layout: RowLayout, folder: Path, open_reader: OpenStateReader) -> None:
        """Create a reader. `folder` is the worker's; `open_reader` opens a state for reading."""
        self._dataset, self._layout, self._open_reader = dataset, layout, open_reader
        self.folder = folder / dataset / layout.fingerprint
        self._reader: StateReader | None = None
        self.start: tuple[int, int] | None = None
        """The start of the worker that `check` found last. Another start may have rebuilt the state, with other files beside the rows."""

    def check(self) -> None:
        """Check that the state is complete, and that the files beside the rows belong to the same state.

        Raises:
            OnlineStoreError: the worker has not published its state yet, or has published it for another layout.
        """
        try:
            found = (self.folder / LAYOUT_FILE).stat()  # every start of the worker writes this file
        except FileNotFoundError as error:  # not yet written, or deleted: the worker has other declarations
            raise OnlineStoreError(
                f"{self.folder} is not complete: the worker never ran, is taking history in, or has other declarations than this process"
            ) from error
        start = found.st_ino, found.st_mtime_ns
        if start != self.start and self._reader is not None:
            self._reader.close()
            self._reader = None
        self.start = start

    def _opened(self) -> StateReader:
        if self._reader is None:
            self._reader = self._open_reader(self.folder)
        return self._reader

    def published(self, log: str) -> int:
        """The end of this log at the last complete checkpoint of the checked state.

        Raises as `OpenStateReader` and `StateReader.position`.
        """
        return self._opened().position().published[log]

    def users(self) -> Mapping[str, str]:
        """The user of each known visitor at that checkpoint, or later. Raises the errors of `OpenStateReader` and `StateReader.users`."""
        return self._opened().users()

    def rows(self, profiles: Sequence[str], successors: Successors) -> Rows:
        """A copy of each profile's current row, zeros where there is none: `uint8[profiles, width]`.

        Raises:
            OnlineStoreError: see `check`.
        """
        self.check()
        reader, keys = self._opened(), [successors.profile(self._dataset, profile) for profile in profiles]
        while True:
            rows = np.zeros((len(keys), self._layout.width), np.uint8)
            for row, key in zip(rows, keys, strict=True):
                found = reader.get(key)
                if found is not None:
                    row[:] = np.frombuffer(found, np.uint8)
            # A merge is in the log before the visitor's row is emptied, so this read of the log shows why a row is empty.
            successors.refresh()
            now = [successors.profile(self._dataset, key) for key in keys]
            if now == keys:
                return rows
            keys = now
