"""The contract for reads of tables that logs feed: a row counts as soon as it is acknowledged, even if it is not committed."""

from __future__ import annotations

from abc import ABC, abstractmethod

from sokuji.lake.base import Lake, Snapshot
from sokuji.meta.objects import Ref


class Acknowledged(ABC):
    """The newest rows of tables: the rows in the lake, and acknowledged rows that are not committed yet. Thread-safe."""

    @abstractmethod
    def refresh(self) -> None:
        """Add the tables and columns of acknowledged rows to the catalog. Called before a statement is analysed."""

    @abstractmethod
    def snapshot(self, ref: Ref) -> Snapshot:
        """The newest version of a table, with the rows that are not committed as its tail.

        Raises:
            NotFoundError: there is no such table, and no row of it.
        """

    @abstractmethod
    def settle(self, ref: Ref) -> None:
        """Commit a table's rows, so that all rows that were acknowledged before this call are in files and can be changed.

        To change such a table: `settle`, then `snapshot`, then `Lake.rewrite` of its files. Its tail has later rows only.
        """

    @abstractmethod
    def forget(self, ref: Ref) -> None:
        """Note that a table was dropped. Rows that are not committed, or come later, create it again."""


class OnlyCommitted(Acknowledged):
    """The newest rows of tables that no log feeds: all rows are committed."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def refresh(self) -> None:
        """See `Acknowledged.refresh`. Does nothing: only SQL creates tables and columns."""

    def snapshot(self, ref: Ref) -> Snapshot:
        """See `Acknowledged.snapshot`, without a tail."""
        return self._lake.snapshot(ref)

    def settle(self, ref: Ref) -> None:
        """See `Acknowledged.settle`. Does nothing: all rows are committed."""

    def forget(self, ref: Ref) -> None:
        """See `Acknowledged.forget`. Does nothing: all rows are committed."""
