"""The rows of a dataset's profiles, for another process than the worker's on the same machine."""

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
    """Reads what the worker keeps. For one thread at a time."""

    def __init__(self, dataset: str, layout: RowLayout, folder: Path, open_reader: OpenStateReader) -> None:
        """`folder` is the worker's, `open_reader` opens a state for reading."""
        self._dataset, self._layout, self._open_reader = dataset, layout, open_reader
        self.folder = folder / dataset / layout.fingerprint
        self._reader: StateReader | None = None
        self.start: tuple[int, int] | None = None
        """Of the worker, as `check` found it last: another one may have made the state anew, with other files beside the rows."""

    def check(self) -> None:
        """See that what is there is complete, and what stands beside it of the same state.

        Raises:
            OnlineStoreError: the worker has not published its state yet, or not for this layout.
        """
        try:
            found = (self.folder / LAYOUT_FILE).stat()  # each start of the worker writes it
        except FileNotFoundError as error:  # not yet, or it is gone: a worker with other declarations is not followed
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
        """Where this log ended at the last complete checkpoint of the state that was checked.

        Raises as `OpenStateReader` and `StateReader.position`.
        """
        return self._opened().position().published[log]

    def users(self) -> Mapping[str, str]:
        """Whom each visitor was known as at that checkpoint, or later. Raises as `OpenStateReader` and `StateReader.users`."""
        return self._opened().users()

    def rows(self, profiles: Sequence[str], successors: Successors) -> Rows:
        """A copy of each profile's row as it is now, zeros where there is none: `uint8[profiles, width]`.

        Raises:
            OnlineStoreError: as `check`.
        """
        self.check()
        reader, keys = self._opened(), [successors.profile(self._dataset, profile) for profile in profiles]
        while True:
            rows = np.zeros((len(keys), self._layout.width), np.uint8)
            for row, key in zip(rows, keys, strict=True):
                found = reader.get(key)
                if found is not None:
                    row[:] = np.frombuffer(found, np.uint8)
            # A merge is in the log before the visitor's row is emptied: what was empty for that is found out here.
            successors.refresh()
            now = [successors.profile(self._dataset, key) for key in keys]
            if now == keys:
                return rows
            keys = now
