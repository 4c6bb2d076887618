"""A worker with its logs, lake and catalog on one folder, as the role opens it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from sokuji.analyze.batches import BATCH_SCHEMA, BATCHES_LOG, Logs
from sokuji.analyze.opening import Opener
from sokuji.analyze.progress import Progress
from sokuji.analyze.project import Declared
from sokuji.analyze.worker import Worker
from sokuji.config import AnalyzeSettings, LakeSettings
from sokuji.events import BAD_EVENT_SCHEMA, BAD_EVENTS_LOG, DECISIONS_LOG, EVENT_SCHEMA, EVENTS_LOG, IDENTITIES_LOG, IDENTITY_SCHEMA
from sokuji.lake.delta import DeltaLake
from sokuji.lake.sink import Sink
from sokuji.log.local import LocalLog
from sokuji.meta.store import SqlCatalog
from sokuji.models.local import LocalModelStore
from tests.lake.platform import log_rows

PARTITIONS = 2
SETTINGS = AnalyzeSettings(profiles_max=10_000, deduplication_ids=100_000)


@dataclass
class Side:
    """What stands on the folder."""

    folder: Path
    logs: Logs
    lake: DeltaLake
    catalog: SqlCatalog
    models: LocalModelStore

    def track(self, *events: Mapping[str, Any], partition: int = 0) -> None:
        """Append events to the log; see `log_rows`."""
        self.logs.events.append(partition, log_rows(events))

    def worker(self, declared: Declared, *datasets: str, settings: AnalyzeSettings = SETTINGS) -> Worker:
        """A worker on the folder, at its last checkpoint."""
        opener = Opener(declared, self.logs, self.lake, self.catalog, self.models, folder=self.folder / "analyze", settings=settings)
        progress = Progress(self.folder / "analyze" / "progress", PARTITIONS)
        return Worker(self.logs, {name: opener.open(name) for name in datasets or ("shop",)}, progress, settings)

    def make_sink(self) -> Sink:
        """What brings the logs into the lake."""
        logs = self.logs
        return Sink(
            logs.events, logs.bad_events, self.lake, self.catalog,
            folder=self.folder / "sink", settings=LakeSettings(), decisions=logs.decisions, identities=logs.identities,
        )  # fmt: skip

    def sink(self) -> None:
        """Bring all that the logs hold into the lake."""
        with self.make_sink() as sink:
            sink.drain()

    def decisions(self) -> list[dict[str, Any]]:
        """What the decisions log holds, with the properties decoded."""
        rows = read_all(self.logs.decisions)
        return [row | {"properties": json.loads(row["properties"])} for row in rows]


def read_all(log: Any, partition: int = 0) -> list[dict[str, Any]]:
    """All rows of a partition."""
    rows: list[dict[str, Any]] = log.read(partition, 0, 1_000_000).batch.to_pylist()
    return rows


@contextmanager
def side(folder: Path) -> Iterator[Side]:
    """Open everything on the folder."""

    def log(name: str, schema: pa.Schema, partitions: int = 1) -> LocalLog:
        return LocalLog(folder / "log", schema, name=name, partitions=partitions)

    with (
        log(EVENTS_LOG, EVENT_SCHEMA, PARTITIONS) as events,
        log(BATCHES_LOG, BATCH_SCHEMA) as batches,
        log(DECISIONS_LOG, EVENT_SCHEMA) as decisions,
        log(IDENTITIES_LOG, IDENTITY_SCHEMA) as identities,
        log(BAD_EVENTS_LOG, BAD_EVENT_SCHEMA) as bad_events,
        SqlCatalog(f"sqlite:///{folder / 'meta.db'}") as catalog,
    ):
        models = LocalModelStore(folder / "models", f"sqlite:///{folder / 'meta.db'}")
        yield Side(folder, Logs(events, batches, decisions, identities, bad_events), DeltaLake(folder / "lake"), catalog, models)
        models.close()


def declare(folder: Path, features: str = "", actions: str = "") -> Declared:
    """What the two files declare."""
    for name, text in (("features.py", features), ("actions.py", actions)):
        (folder / name).write_text(text)
    return Declared.load(folder)


def drain(worker: Worker) -> None:
    """Work until the log is worked off."""
    while worker.run_once() or worker.is_replaying:
        pass


def numbered(*events: Mapping[str, Any], start: int = 0) -> Sequence[dict[str, Any]]:
    """The events with message ids of their own."""
    return [{"message_id": f"m{start + number}", **event} for number, event in enumerate(events)]
