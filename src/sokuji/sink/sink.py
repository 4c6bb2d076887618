"""The sink moves events from the log into their datasets' tables, each exactly once, even if it is killed.

A table's commit has its files and, per partition of the log, the offset before which all rows are in the table. This is the truth. The
consumer's offset in the log is committed after all tables. A sink reads from that offset when it starts, and skips rows that a table
already has.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from sokuji.closing import Closing
from sokuji.config import LakeSettings, LogSettings
from sokuji.dedup.rule import RepeatRule
from sokuji.disk.files import hold, make_folder
from sokuji.errors import LakeError, NotFoundError, StaleTableError
from sokuji.lake.base import Lake
from sokuji.lake.events import BAD_EVENTS, EVENTS, IDENTITIES
from sokuji.log.base import Log
from sokuji.meta.base import Catalog
from sokuji.meta.objects import Ref, TableKind
from sokuji.service.metrics import CounterValue, GaugeValue, HistogramValue, Metric, counter, gauge, histogram
from sokuji.sink import backlog
from sokuji.sink.backlog import CONSUMER, Backlog, Offsets
from sokuji.sink.committed import Committed
from sokuji.sink.shape import Shaper
from sokuji.sink.writers import DecisionsWriter, EventsWriter, PlainWriter, Writer, Written, committed_offsets, make_tables

_WAIT_SECONDS = 0.2
_POLL_SECONDS = 0.02
_MAINTENANCE_SECONDS = 30.0
_ATTEMPTS = 20  # an attempt fails only if someone drops or alters the table again
_LOG = logging.getLogger(__name__)
AnyMetric = Metric[CounterValue] | Metric[GaugeValue] | Metric[HistogramValue]


class Sink(Closing):
    """Writes the rows of the logs to the lake. Only one sink may run on a folder. Not thread-safe."""

    def __init__(
        self,
        events: Log,
        bad_events: Log,
        lake: Lake,
        catalog: Catalog,
        *,
        folder: Path,
        settings: LakeSettings,
        rule: RepeatRule,
        retention: LogSettings | None = None,
        decisions: Log | None = None,
        identities: Log | None = None,
        datasets: Iterable[str] = (),
    ) -> None:
        """Continue where the last sink ended.

        Args:
            events, bad_events: the logs to read.
            lake, catalog: the destination of the tables and their definitions.
            folder: the sink's own files: its lock and the ids for deduplication.
            settings: how often to commit.
            rule: which messages are repeats.
            retention: how much the logs keep of rows that all consumers have read; None: everything.
            decisions, identities: the logs of the reactive side's worker, if there is one.
            datasets: datasets whose tables exist before their first row.

        Raises:
            LakeError: another sink runs on the folder.
            StaleTableError: a table lacks rows that the log no longer has.
        """
        self._lock = _locked(folder)
        make_tables(lake, catalog, datasets)
        self._events, self._catalog, self._lake, self._settings = events, catalog, lake, settings
        self._logs = tuple(log for log in (events, bad_events, decisions, identities) if log is not None)
        self._retention = retention
        self._shaper = Shaper()

        def feed(log: Log, table: str, make_writer: Callable[[str], Writer]) -> Feed:
            return Feed(log, lake, table, folder, make_writer)

        def events_writer(dataset: str) -> Writer:
            return EventsWriter(dataset, events, lake, catalog, shaper=self._shaper, folder=folder, rule=rule)

        def plain_writer(log: Log, table: str, day_of: str) -> Callable[[str], Writer]:
            return lambda dataset: PlainWriter(Ref(dataset, table), log, lake, catalog, day_of=day_of)

        try:
            self._feeds = [
                feed(events, EVENTS, events_writer),
                feed(bad_events, BAD_EVENTS, plain_writer(bad_events, BAD_EVENTS, "received_at")),
            ]
            if decisions is not None:
                self._feeds.append(
                    feed(decisions, EVENTS, lambda dataset: DecisionsWriter(dataset, decisions, lake, catalog, shaper=self._shaper))
                )
            if identities is not None:
                self._feeds.append(feed(identities, IDENTITIES, plain_writer(identities, IDENTITIES, "known_at")))
        except BaseException:
            self._shaper.close()
            os.close(self._lock)
            raise
        self._maintenance = ThreadPoolExecutor(1, thread_name_prefix="lake-maintenance")

    @property
    def metrics(self) -> list[AnyMetric]:
        """The sink's metrics."""
        return [metric for feed in self._feeds for metric in feed.metrics]

    def run_once(self) -> int:
        """Commit rows of the logs, at most about `commit_rows` of each. Returns the number of rows."""
        return sum(feed.run_once(self._settings.commit_rows) for feed in self._feeds)

    def drain(self) -> None:
        """Commit all rows of the logs."""
        while self.run_once():
            pass

    def run(self, stop: threading.Event) -> None:
        """Commit new rows every `commit_seconds` or `commit_rows`, until `stop` is set; then drain.

        Also maintain all tables, and apply the logs' retention.
        """
        maintained = self._maintenance.submit(self.maintain)
        due = time.monotonic() + _MAINTENANCE_SECONDS
        while not stop.is_set():
            if self._wait(stop):
                self.run_once()
            if maintained.done() and time.monotonic() >= due:
                maintained.result()  # raise the errors of the maintenance here
                _release_memory()
                maintained = self._maintenance.submit(self.maintain)
                due = time.monotonic() + _MAINTENANCE_SECONDS
        self.drain()

    def _wait(self, stop: threading.Event) -> bool:
        """Wait for rows to commit. Returns False after a while without rows, and True when it is time to commit."""
        if not any(feed.pending() for feed in self._feeds):
            self._events.wait(self._feeds[0].positions, _WAIT_SECONDS)
            return any(feed.pending() for feed in self._feeds)
        deadline = time.monotonic() + self._settings.commit_seconds
        while (left := deadline - time.monotonic()) > 0 and max(feed.pending() for feed in self._feeds) < self._settings.commit_rows:
            if stop.wait(min(left, _POLL_SECONDS)):
                break
        return True

    def maintain(self) -> None:
        """Compact the tables, delete files that no version within retention needs, and trim the logs."""
        self._lake.maintain([table.ref for table in self._catalog.tables() if table.kind is not TableKind.VIEW])
        if self._retention is not None:
            for log in self._logs:
                freed = log.trim(
                    max_age_seconds=self._retention.retention_hours * 3600,
                    max_bytes=self._retention.retention_bytes // log.partitions,
                )
                if freed:
                    _LOG.info("retention freed a part of a log", extra={"log": log.name, "bytes": freed})
        _release_memory()

    def close(self) -> None:
        """Close everything. Another sink may run afterwards."""
        self._maintenance.shutdown()
        self._shaper.close()
        os.close(self._lock)


class Feed:
    """Moves one log into one table of each dataset."""

    def __init__(self, log: Log, lake: Lake, table: str, folder: Path, make_writer: Callable[[str], Writer]) -> None:
        """Continue where the tables are complete.

        Raises:
            StaleTableError: a table lacks rows that the log no longer has.
        """
        self._log, self._make_writer, self._folder = log, make_writer, folder
        self._applications = backlog.applications(log)
        self._committed = Committed.read(folder, log)
        self.positions = self._first(lake, table)
        log.commit(CONSUMER, self.positions)  # from now on, retention keeps rows that were not read
        self._writers: dict[str, Writer] = {}
        name = log.name
        self._rows = counter(f"sokuji_sink_{name}_total", f"Rows of the log {name} committed to the lake, by dataset.", ["dataset"])
        self._duplicates = counter(f"sokuji_sink_{name}_duplicates_total", "Repeats that were left out, by dataset.", ["dataset"])
        self._seconds = histogram(f"sokuji_sink_{name}_commit_seconds", "Reading, shaping and committing one round.")
        lag = gauge(f"sokuji_sink_{name}_lag_rows", "Rows in the log that are not in the lake.")
        lag.labels().set_function(self.pending)
        self.metrics: list[AnyMetric] = [self._rows, self._duplicates, self._seconds, lag]

    def _first(self, lake: Lake, table: str) -> Offsets:
        """The offsets to read from: earlier than the recorded ones if a table is an older copy."""
        complete = self._committed.until(self._log)
        first, stale = dict(complete), []
        for dataset in list(self._committed.tables):
            ref = Ref(dataset, table)
            try:
                in_table = committed_offsets(lake.snapshot(ref, applications=list(self._applications.values())), self._applications)
            except NotFoundError:
                in_table = {}
            if not in_table:  # dropped
                del self._committed.tables[dataset]
            missing = self._committed.missing_from(dataset, in_table)
            self._committed.check_log(ref, self._log, missing)
            if missing:
                _LOG.warning("table %s is an older copy; reading the log again from %s", ref, missing)
                stale.append(dataset)
                self._committed.tables[dataset] |= missing
                first |= {partition: min(offset, first[partition]) for partition, offset in missing.items()}
        if stale:
            self._committed.read_again(stale, complete)
            self._committed.come_to(first)
            self._committed.write(self._folder, self._log)
        return first

    def pending(self) -> int:
        """The number of rows to commit, counted as in `Log.lag`."""
        return self._log.lag(self.positions)

    def run_once(self, limit: int) -> int:
        """Commit about `limit` rows. Returns the number of rows."""
        started = time.perf_counter()
        read, following = backlog.read(self._log, self.positions, limit)
        datasets = self._committed.wanted(read)
        for dataset, rows in datasets.items():
            written = self._write(dataset, rows, following)
            self._rows.labels(dataset).inc(written.rows)
            self._duplicates.labels(dataset).inc(written.duplicates)
        if following != self.positions:
            self._committed.come_to(following)
            for dataset in datasets:
                said = self._committed.tables.setdefault(dataset, {})
                said |= {partition: max(offset, said.get(partition, 0)) for partition, offset in following.items()}
            self._committed.write(self._folder, self._log)
            self._log.commit(CONSUMER, following)
            self._seconds.labels().observe(time.perf_counter() - started)
        self.positions = following
        return sum(len(rows.offsets) for rows in read.values())

    def _write(self, dataset: str, rows: Backlog, following: Mapping[int, int]) -> Written:
        for attempt in range(_ATTEMPTS):
            try:
                if dataset not in self._writers:
                    self._writers[dataset] = self._make_writer(dataset)
                return self._writers[dataset].write(rows, following, self._committed)
            except StaleTableError:
                raise
            except (LakeError, NotFoundError):
                # Someone dropped or altered the table. A new writer starts from its current state.
                self._writers.pop(dataset, None)
                if attempt + 1 == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")


def _release_memory() -> None:
    """Return free memory of this thread's Arrow allocator: after a compaction, about 200 MB."""
    pa.default_memory_pool().release_unused()


def _locked(folder: Path) -> int:
    """Hold the folder's lock until the returned descriptor is closed, or the process dies."""
    make_folder(folder)
    try:
        return hold(folder / "lock")
    except BlockingIOError as error:
        raise LakeError(f"another sink runs on {folder}; there can be one") from error
