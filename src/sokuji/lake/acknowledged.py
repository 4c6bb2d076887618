"""The contract of what a query reads of tables that are fed from logs: a row counts from when it was acknowledged, committed or not."""

from __future__ import annotations

from abc import ABC, abstractmethod

from sokuji.lake.base import Lake, Snapshot
from sokuji.meta.objects import Ref


class Acknowledged(ABC):
    """The newest rows of tables: those that the lake has, and those that were acknowledged and are not committed yet. Thread-safe."""

    @abstractmethod
    def refresh(self) -> None:
        """Let the catalog know the tables and columns that the acknowledged rows bring. Called before a statement is analysed."""

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
        """Take note that a table was dropped. Rows that are not committed, or come later, make it again."""


class OnlyCommitted(Acknowledged):
    """The newest rows of tables that no log feeds: what is committed is all there is."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def refresh(self) -> None:
        """See `Acknowledged.refresh`: nothing comes into being outside of SQL."""

    def snapshot(self, ref: Ref) -> Snapshot:
        """See `Acknowledged.snapshot`, without a tail."""
        return self._lake.snapshot(ref)

    def settle(self, ref: Ref) -> None:
        """See `Acknowledged.settle`: nothing waits."""

    def forget(self, ref: Ref) -> None:
        """See `Acknowledged.forget`: nothing waits."""
