"""The sink: moves events from the log into their datasets' tables, each exactly once, however often it is killed.

A table's commit holds its files and, per partition of the log, the offset up to which all rows are in it: that is the truth. The
consumer's offset in the log is committed after all tables; a sink that starts reads from there and skips what a table has already.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from sokuji.config import LakeSettings, LogSettings
from sokuji.errors import LakeError, NotFoundError
from sokuji.lake import backlog
from sokuji.lake.backlog import CONSUMER, Backlog
from sokuji.lake.base import Lake
from sokuji.lake.events import BAD_EVENTS, IDENTITIES, Shaper
from sokuji.lake.writers import DecisionsWriter, EventsWriter, PlainWriter, Writer, Written
from sokuji.log.base import Log
from sokuji.log.files import hold, make_folder
from sokuji.meta.base import Catalog, Ref, TableKind
from sokuji.metrics import CounterValue, GaugeValue, HistogramValue, Metric, counter, gauge, histogram

_WAIT_SECONDS = 0.2
_POLL_SECONDS = 0.02
_MAINTENANCE_SECONDS = 30.0
_ATTEMPTS = 20  # each fails only if someone drops or alters the table anew
_LOG = logging.getLogger(__name__)
AnyMetric = Metric[CounterValue] | Metric[GaugeValue] | Metric[HistogramValue]


class Sink:
    """Writes to the lake what the logs hold. One at a time may run on a folder; not thread-safe."""

    def __init__(
        self,
        events: Log,
        bad_events: Log,
        lake: Lake,
        catalog: Catalog,
        *,
        folder: Path,
        settings: LakeSettings,
        retention: LogSettings | None = None,
        decisions: Log | None = None,
        identities: Log | None = None,
    ) -> None:
        """Begin where the last one ended.

        Args:
            events, bad_events: the logs to read.
            lake, catalog: where the tables and their definitions go.
            folder: what the sink keeps for itself: its lock and the ids for deduplication.
            settings: how often to commit, and the deduplication window.
            retention: how much the logs keep of what all their consumers have read; None: everything.
            decisions, identities: what the worker of the reactive side publishes, where there is one.

        Raises:
            LakeError: another sink runs on the folder.
        """
        self._lock = _locked(folder)
        self._events, self._catalog, self._lake, self._settings = events, catalog, lake, settings
        self._logs = tuple(log for log in (events, bad_events, decisions, identities) if log is not None)
        self._retention = retention
        self._shaper = Shaper()
        self._feeds = [
            Feed(
                events,
                lambda dataset: EventsWriter(dataset, events, lake, catalog, shaper=self._shaper, folder=folder, settings=settings),
            ),
            Feed(bad_events, lambda dataset: PlainWriter(Ref(dataset, BAD_EVENTS), bad_events, lake, catalog, day_of="received_at")),
        ]
        if decisions is not None:
            self._feeds.append(Feed(decisions, lambda dataset: DecisionsWriter(dataset, decisions, lake, catalog, shaper=self._shaper)))
        if identities is not None:
            self._feeds.append(
                Feed(identities, lambda dataset: PlainWriter(Ref(dataset, IDENTITIES), identities, lake, catalog, day_of="known_at"))
            )
        self._maintenance = ThreadPoolExecutor(1, thread_name_prefix="lake-maintenance")

    @property
    def metrics(self) -> list[AnyMetric]:
        """What the sink counts."""
        return [metric for feed in self._feeds for metric in feed.metrics]

    def run_once(self) -> int:
        """Commit what the logs hold, at most about `commit_rows` of each, and return how many rows that were."""
        return sum(feed.run_once(self._settings.commit_rows) for feed in self._feeds)

    def drain(self) -> None:
        """Commit all that the logs hold."""
        while self.run_once():
            pass

    def run(self, stop: threading.Event) -> None:
        """Commit what comes, every `commit_seconds` or `commit_rows`, until `stop` is set; then drain.

        Meanwhile all tables are maintained, and the logs' retention is applied.
        """
        maintained = self._maintenance.submit(self.maintain)
        due = time.monotonic() + _MAINTENANCE_SECONDS
        while not stop.is_set():
            if self._wait(stop):
                self.run_once()
            if maintained.done() and time.monotonic() >= due:
                maintained.result()  # what failed there fails here
                maintained = self._maintenance.submit(self.maintain)
                due = time.monotonic() + _MAINTENANCE_SECONDS
        self.drain()

    def _wait(self, stop: threading.Event) -> bool:
        """Whether there is something to commit: after a while at most when nothing comes, else when it is time."""
        if not any(feed.pending() for feed in self._feeds):
            self._events.wait(self._feeds[0].positions, _WAIT_SECONDS)
            return any(feed.pending() for feed in self._feeds)
        deadline = time.monotonic() + self._settings.commit_seconds
        while (left := deadline - time.monotonic()) > 0 and max(feed.pending() for feed in self._feeds) < self._settings.commit_rows:
            if stop.wait(min(left, _POLL_SECONDS)):
                break
        return True

    def maintain(self) -> None:
        """Compact the tables, delete what no version within retention needs, and trim the logs."""
        self._lake.maintain([table.ref for table in self._catalog.tables() if table.kind is not TableKind.VIEW])
        if self._retention is not None:
            for log in self._logs:
                freed = log.trim(
                    max_age_seconds=self._retention.retention_hours * 3600,
                    max_bytes=self._retention.retention_bytes // log.partitions,
                )
                if freed:
                    _LOG.info("retention freed a part of a log", extra={"log": log.name, "bytes": freed})

    def close(self) -> None:
        """Release everything; another sink may run then."""
        self._maintenance.shutdown()
        self._shaper.close()
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Feed:
    """One log on its way into one table of each dataset."""

    def __init__(self, log: Log, make_writer: Callable[[str], Writer]) -> None:
        self.positions = backlog.positions(log)
        log.commit(CONSUMER, self.positions)  # from now on, retention keeps what was not read
        self._log, self._make_writer = log, make_writer
        self._writers: dict[str, Writer] = {}
        name = log.name
        self._rows = counter(f"sokuji_sink_{name}_total", f"Rows of the log {name} committed to the lake, by dataset.", ["dataset"])
        self._duplicates = counter(f"sokuji_sink_{name}_duplicates_total", "Repeats that were left out, by dataset.", ["dataset"])
        self._seconds = histogram(f"sokuji_sink_{name}_commit_seconds", "Reading, shaping and committing one round.")
        lag = gauge(f"sokuji_sink_{name}_lag_rows", "Rows in the log that are not in the lake.")
        lag.labels().set_function(self.pending)
        self.metrics: list[AnyMetric] = [self._rows, self._duplicates, self._seconds, lag]

    def pending(self) -> int:
        """How many rows there are to commit."""
        return sum(self._log.end(partition) - offset for partition, offset in self.positions.items())

    def run_once(self, limit: int) -> int:
        """Commit about `limit` rows and return how many it were."""
        started = time.perf_counter()
        datasets, following = backlog.read(self._log, self.positions, limit)
        for dataset, rows in datasets.items():
            written = self._write(dataset, rows, following)
            self._rows.labels(dataset).inc(written.rows)
            self._duplicates.labels(dataset).inc(written.duplicates)
        count = sum(following.values()) - sum(self.positions.values())
        if count:
            self._log.commit(CONSUMER, following)
            self._seconds.labels().observe(time.perf_counter() - started)
        self.positions = following
        return count

    def _write(self, dataset: str, rows: Backlog, following: Mapping[int, int]) -> Written:
        for attempt in range(_ATTEMPTS):
            try:
                if dataset not in self._writers:
                    self._writers[dataset] = self._make_writer(dataset)
                return self._writers[dataset].write(rows, following)
            except (LakeError, NotFoundError):
                # Someone dropped or altered the table: a new writer starts from what is there now.
                self._writers.pop(dataset, None)
                if attempt + 1 == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")


def _locked(folder: Path) -> int:
    """Hold the folder's lock until the descriptor that is returned is closed, or the process dies."""
    make_folder(folder)
    try:
        return hold(folder / "lock")
    except BlockingIOError as error:
        raise LakeError(f"another sink runs on {folder}; there can be one") from error
