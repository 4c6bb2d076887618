"""The reading side of a dataset's state: what another process reads while the worker writes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from sokuji.analyze.state.base import Position
from sokuji.closing import Closing


class StateReader(Closing):
    """Reads one state beside its writer, without a lock. Not thread-safe: one reader per thread.

    Rows are what `OnlineReader` gives: whole, and as last put. What stands beside them is that of the last complete checkpoint, or newer.
    """

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """The row of a profile; None if there is none. Raises as `OnlineReader.get`."""

    @abstractmethod
    def position(self) -> Position:
        """The position of the last complete checkpoint. All zeros if there is none. Raises as `OnlineReader.offsets`."""

    @abstractmethod
    def users(self) -> Mapping[str, str]:
        """The user that each known visitor was known as at `position`; of visitors known since then, some may be missing.

        Raises:
            DamagedFileError: the file with them is not as it was written.
        """

    @abstractmethod
    def close(self) -> None:
        """Release everything. Closing twice is a no-op."""


OpenStateReader: TypeAlias = Callable[[Path], StateReader]
"""Opens a reader of the state in a folder. Raises `OnlineStoreError`: no writer has the state open, or the last writer closed it."""
