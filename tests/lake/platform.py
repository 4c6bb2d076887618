"""A log, a lake, a catalog and a sink in one folder, opened as a separate process would open them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from sokuji.config import LakeSettings
from sokuji.dedup.rule import RepeatRule
from sokuji.events import BAD_EVENT_SCHEMA, EVENT_SCHEMA
from sokuji.lake.base import Lake
from sokuji.lake.delta.tables import DeltaLake
from sokuji.log.base import Log
from sokuji.meta.store import SqlCatalog
from sokuji.sink.fresh import Fresh
from sokuji.sink.sink import Sink
from tests.log.opening import Opening, on_disk

PARTITIONS = 2
START_US = 1_767_225_600_000_000  # 2026-01-01

RULE = RepeatRule(1_000_000, PARTITIONS)


@dataclass
class Lakeside:
    """What stands on the folder."""

    folder: Path
    events: Log
    bad_events: Log
    catalog: SqlCatalog
    tables: Lake
    fresh: Fresh
    settings: LakeSettings
    rule: RepeatRule

    def sink(self) -> Sink:
        """The folder's sink."""
        return make_sink(self)

    def drain(self) -> None:
        """Commit all that the logs hold."""
        with self.sink() as sink:
            sink.drain()

    def track(self, *events: Mapping[str, Any], partition: int = 0) -> None:
        """Append events to the log; see `log_rows`."""
        self.events.append(partition, log_rows(events))


def make_sink(side: Lakeside) -> Sink:
    return Sink(
        side.events, side.bad_events, side.tables, side.catalog, folder=side.folder / "sink", settings=side.settings, rule=side.rule
    )


@contextmanager
def lakeside(
    folder: Path, settings: LakeSettings | None = None, rule: RepeatRule = RULE, opening: Opening = on_disk, lake: Lake | None = None
) -> Iterator[Lakeside]:
    """Open everything on the folder, but for `lake` if it is given."""
    settings = settings or LakeSettings()
    tables = lake or DeltaLake(folder / "lake")
    with (
        opening(folder / "log", EVENT_SCHEMA, "events", PARTITIONS) as events,
        opening(folder / "log", BAD_EVENT_SCHEMA, "bad_events", 1) as bad_events,
        SqlCatalog(f"sqlite:///{folder / 'meta.db'}") as catalog,
    ):
        fresh = Fresh(tables, events, bad_events, catalog, folder=folder / "sink", rule=rule, make_sink=lambda: make_sink(side))
        side = Lakeside(folder, events, bad_events, catalog, tables, fresh, settings, rule)
        yield side
        fresh.close()


def log_rows(events: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """Rows of the events log. What an event does not say is filled in; `properties` may be a value or its JSON text."""
    return pa.RecordBatch.from_pylist([_row(event) for event in events], schema=EVENT_SCHEMA)


def _row(event: Mapping[str, Any]) -> dict[str, Any]:
    received = event.get("received_at", START_US)
    properties = event.get("properties", {})
    row = {
        "dataset": "shop",
        "source": "web",
        "type": "track",
        "event_name": "buy",
        "visitor_id": "v1",
        "event_time": received,
        "received_at": received,
        "time_rule": "client",
        "historical": False,
        "context": "{}",
    }
    return {**row, **event, "properties": properties if isinstance(properties, str) else json.dumps(properties)}


def bad_rows(*messages: str) -> pa.RecordBatch:
    """Rows of the bad_events log."""
    common = {"dataset": "shop", "source": "web", "received_at": START_US, "code": "missing_id", "reason": "no id", "payload": "{}"}
    return pa.RecordBatch.from_pylist([{**common, "message_id": message} for message in messages], schema=BAD_EVENT_SCHEMA)
