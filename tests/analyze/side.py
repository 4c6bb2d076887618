"""A worker with its logs, lake and catalog in one folder, opened like the role."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sokuji.analyze.batches import BATCH_SCHEMA, BATCHES_LOG, Logs
from sokuji.analyze.compile import Declared, compile_for
from sokuji.analyze.following import Following
from sokuji.analyze.progress import Progress
from sokuji.analyze.state.base import States
from sokuji.analyze.state.folder import FolderReader, FolderStates
from sokuji.analyze.state.memory import KeptStates, MemoryStates, read_in_memory
from sokuji.analyze.state.open import Opener
from sokuji.analyze.state.reader import StateReader
from sokuji.analyze.state.served import SERVED_LOG, SERVED_SCHEMA, OpenLog
from sokuji.analyze.worker import Worker
from sokuji.config import AnalyzeSettings, LakeSettings
from sokuji.dedup.rule import RepeatRule
from sokuji.events import BAD_EVENT_SCHEMA, BAD_EVENTS_LOG, DECISIONS_LOG, EVENT_SCHEMA, EVENTS_LOG, IDENTITIES_LOG, IDENTITY_SCHEMA
from sokuji.features.kernel.strings import Vocabulary
from sokuji.lake.acknowledged import OnlyCommitted
from sokuji.lake.base import Lake
from sokuji.lake.delta.tables import DeltaLake
from sokuji.log.base import Log
from sokuji.meta.objects import Ref
from sokuji.meta.store import SqlCatalog
from sokuji.models.local import LocalModelStore
from sokuji.online.base import OpenReader, OpenStore
from sokuji.online.memory import MemoryStores
from sokuji.online.shared.reader import SharedReader
from sokuji.online.shared.store import SharedStore
from sokuji.sink.fresh import Fresh
from sokuji.sink.sink import Sink
from sokuji.sql.duckdb.backend import DuckDb
from sokuji.sql.engine import Engine
from sokuji.verify.verifier import Verifier
from tests.lake.platform import log_rows
from tests.log.opening import Opening, on_disk

PARTITIONS = 2
SETTINGS = AnalyzeSettings(profiles_max=10_000)
RULE = RepeatRule(100_000, PARTITIONS)


class Online(NamedTuple):
    """Where the rows of profiles are."""

    open_store: OpenStore
    open_reader: OpenReader

    def states(self, served_log: OpenLog, settings: AnalyzeSettings) -> States:
        """States in folders, with these rows."""
        return FolderStates(self.open_store, served_log, settings, RULE)

    def read(self, folder: Path) -> StateReader:
        """A state in a folder, for reading."""
        return FolderReader(folder, self.open_reader)


@dataclass(frozen=True)
class StateInMemory:
    """Where nothing of a state is on disk: for tests that ask the state itself what it has. It lasts as long as this object."""

    kept: KeptStates = field(default_factory=KeptStates)

    def states(self, served_log: OpenLog, settings: AnalyzeSettings) -> States:
        """States as they were kept last."""
        return MemoryStates(self.kept, served_log, settings, RULE)

    def read(self, folder: Path) -> StateReader:
        """A state for reading."""
        return read_in_memory(self.kept, folder)


SHARED = Online(SharedStore, SharedReader)
"""For tests of damage, crashes, a slow disk, and other processes."""
_STORES = MemoryStores()
MEMORY = Online(_STORES.open, _STORES.read)
"""For those that read beside the worker: opened again in the same process, a folder has what its last checkpoint had."""


@dataclass
class Side:
    """What stands on the folder."""

    folder: Path
    logs: Logs
    lake: Lake
    catalog: SqlCatalog
    models: LocalModelStore
    online: Online | StateInMemory
    opening: Opening

    def served_log(self, state: Path) -> Log:
        """What was served."""
        return self.opening(state, SERVED_SCHEMA, SERVED_LOG, 1)

    def track(self, *events: Mapping[str, Any], partition: int = 0) -> None:
        """Append events to the log; see `log_rows`."""
        self.logs.events.append(partition, log_rows(events))

    def worker(self, declared: Declared, *datasets: str, settings: AnalyzeSettings = SETTINGS) -> Worker:
        """A worker on the folder, at its last checkpoint."""
        opener = self.opener(declared, settings)
        progress = Progress(self.folder / "analyze" / "progress", PARTITIONS)
        return Worker(self.logs, {name: opener.open(name) for name in datasets or ("shop",)}, progress, settings)

    def opener(self, declared: Declared, settings: AnalyzeSettings = SETTINGS) -> Opener:
        """What opens the stages of a worker on the folder."""
        return Opener(
            declared, self.logs, self.lake, self.models,
            folder=self.folder / "analyze", rule=RULE, states=self.online.states(self.served_log, settings),
        )  # fmt: skip

    def make_sink(self) -> Sink:
        """What brings the logs into the lake."""
        logs = self.logs
        return Sink(
            logs.events, logs.bad_events, self.lake, self.catalog,
            folder=self.folder / "sink", settings=LakeSettings(), rule=RULE, decisions=logs.decisions, identities=logs.identities,
        )  # fmt: skip

    def sink(self) -> None:
        """Bring all that the logs hold into the lake."""
        with self.make_sink() as sink:
            sink.drain()

    def delete(self, message_id: str, dataset: str = "shop") -> None:
        """Take a message's rows out of the events table."""
        ref = Ref(dataset, "events")
        snapshot = self.lake.snapshot(ref)
        rows = pa.concat_tables([pq.read_table(file, partitioning=None) for file in snapshot.files], promote_options="default")
        kept = rows.filter(pc.not_equal(rows.column("message_id"), message_id))
        self.lake.rewrite(ref, snapshot.files, kept.to_reader(), read_version=snapshot.version)

    def decisions(self) -> list[dict[str, Any]]:
        """What the decisions log holds, with the properties decoded."""
        rows = read_all(self.logs.decisions)
        return [row | {"properties": json.loads(row["properties"])} for row in rows]


def read_all(log: Log, partition: int = 0) -> list[dict[str, Any]]:
    """All rows of a partition."""
    rows: list[dict[str, Any]] = []
    offset = 0
    while offset < log.end(partition):
        batch, _, offset = log.read(partition, offset, 1_000_000)
        rows += batch.to_pylist()
    return rows


@contextmanager
def side(folder: Path, online: Online | StateInMemory = MEMORY, opening: Opening = on_disk, lake: Lake | None = None) -> Iterator[Side]:
    """Open everything on the folder, with Delta tables if no other lake is given."""

    def log(name: str, schema: pa.Schema, partitions: int = 1) -> Log:
        return opening(folder / "log", schema, name, partitions)

    with (
        log(EVENTS_LOG, EVENT_SCHEMA, PARTITIONS) as events,
        log(BATCHES_LOG, BATCH_SCHEMA) as batches,
        log(DECISIONS_LOG, EVENT_SCHEMA) as decisions,
        log(IDENTITIES_LOG, IDENTITY_SCHEMA) as identities,
        log(BAD_EVENTS_LOG, BAD_EVENT_SCHEMA) as bad_events,
        SqlCatalog(f"sqlite:///{folder / 'meta.db'}") as catalog,
    ):
        models = LocalModelStore(folder / "models", catalog)
        logs = Logs(events, batches, decisions, identities, bad_events)
        yield Side(folder, logs, lake or DeltaLake(folder / "lake"), catalog, models, online, opening)
        models.close()


def verifier(shop: Side, declared: Declared) -> Verifier:
    """What compares what was served with the lake."""
    return Verifier(
        declared, shop.logs.identities, OnlyCommitted(shop.lake), shop.lake, shop.models,
        bad_events=shop.logs.bad_events, folder=shop.folder / "analyze", served_log=shop.served_log,
    )  # fmt: skip


def following(shop: Side, declared: Declared) -> Following:
    """The declarations as the worker's state has them."""
    return Following(
        shop.folder / "analyze" / "shop",
        lambda types: compile_for("shop", declared, shop.lake, shop.models, Vocabulary(), taken=types),
    )


@contextmanager
def engine(shop: Side) -> Iterator[Engine]:
    """What executes SQL over the tables and what the logs hold beyond them."""
    fresh = Fresh(
        shop.lake, shop.logs.events, shop.logs.bad_events, shop.catalog,
        folder=shop.folder / "sink", rule=RULE, make_sink=shop.make_sink,
    )  # fmt: skip
    backend = DuckDb([shop.folder / "lake"], shop.folder / "tmp")
    with Engine(shop.catalog, shop.lake, backend, acknowledged=fresh) as opened:
        yield opened
    fresh.close()


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
