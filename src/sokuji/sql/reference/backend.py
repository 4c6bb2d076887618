"""GoogleSQL's reference implementation as a backend, for tests and small data: it defines what SQL means, but is slow."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from sokuji.config import SqlSettings
from sokuji.lake.base import Lake
from sokuji.meta.base import Catalog
from sokuji.sql.base import Backend, Home, QueryRun, RowChanges, temporary_home
from sokuji.sql.query import Query, StatementNames, StoredRows
from sokuji.sql.reference.changes import changes_of
from sokuji.sql.reference.evaluation import Evaluation
from sokuji.sql.reference.rows import stored_reader
from sokuji.sql.stop import Stop, out_of_time


class Reference(Backend):
    """Keeps all rows that a query reads, and its result, in memory. It reads tables by `Lake.scan`, so it works with any lake."""

    def __init__(self, make_lake: Callable[[], Lake], settings: SqlSettings | None = None) -> None:
        """Create a backend. `make_lake` creates the lake of a run's temporary tables."""
        self._make_lake, self._settings = make_lake, settings or SqlSettings()
        self._runs: set[ReferenceRun] = set()

    def run(self) -> ReferenceRun:
        """See `Backend.run`."""
        run = ReferenceRun(self._make_lake, self._settings, self._runs.discard)
        self._runs.add(run)
        return run

    def close(self) -> None:
        """See `Backend.close`."""
        for run in list(self._runs):
            run.cancel("The engine was closed")
            run.close()


class ReferenceRun(QueryRun):
    """The run of statements that are evaluated immediately, each as a whole."""

    def __init__(self, make_lake: Callable[[], Lake], settings: SqlSettings, closed: Callable[[ReferenceRun], None]) -> None:
        self._make_lake, self._closed = make_lake, closed
        self.stop = Stop(settings.memory_limit_mib)
        limit = settings.timeout_seconds
        self._timer = threading.Timer(limit, self.stop.now, [out_of_time(limit)])
        self._timer.daemon = True
        self._timer.start()

    @functools.cached_property
    def _home(self) -> Home:
        return temporary_home(self._make_lake())

    @property
    def temporary(self) -> Home:
        """See `QueryRun.temporary`."""
        return self._home

    @property
    def temporary_catalog(self) -> Catalog | None:
        """See `QueryRun.temporary_catalog`."""
        return self._home.catalog if "_home" in self.__dict__ else None

    def stream(self, query: Query | StoredRows) -> pa.RecordBatchReader:
        """See `QueryRun.stream`."""
        self.check()
        if isinstance(query, StoredRows):
            return stored_reader(query)
        return Evaluation(query.names, self.stop).rows(query).reader()

    def change(self, node: Any, target: StoredRows, names: StatementNames) -> RowChanges:
        """See `QueryRun.change`."""
        self.check()
        return changes_of(node, target, names, self.stop)

    def explain(self, query: Query) -> str:
        """See `QueryRun.explain`. Returns the query as the reference implementation receives it."""
        return Evaluation(query.names, self.stop).text(query)

    def forget(self) -> None:
        """See `QueryRun.forget`. Does nothing, because nothing is kept."""

    def cancel(self, reason: str) -> None:
        """See `QueryRun.cancel`."""
        self.stop.now(reason)

    def close(self) -> None:
        """See `QueryRun.close`."""
        self._timer.cancel()
        self._closed(self)
