"""Quix Streams: an `Application` as it runs in production, with JSON messages and state in RocksDB, but for two things.

No package registry has a Kafka broker, so it reads from the one inside librdkafka (`_broker.py`), whose processor time is not counted.
That one cannot describe topics, so the application is told how many partitions there are; and there are no changelog topics.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import IO, Any

import quixstreams.dataframe.windows.aggregations as agg  # type: ignore[import-not-found]
from quixstreams import Application
from quixstreams.models.topics import TopicAdmin, TopicConfig, TopicManager  # type: ignore[import-not-found]

from bench.peers._broker import END, PARTITIONS, TOPIC
from bench.peers.contract import SLIDING, WINDOWS, Window, main


class _Distinct(agg.Aggregator):  # type: ignore[misc]
    """State is JSON, which has no sets."""

    def initialize(self) -> list[str]:
        return []

    def agg(self, old: list[str], new: dict[str, Any], _timestamp: int) -> list[str]:
        value = new[self.column]
        return old if value in old else [*old, value]

    def result(self, value: list[str]) -> int:
        return len(value)


class _Admin(TopicAdmin):  # type: ignore[misc]
    def inspect_topics(self, topic_names: list[str], timeout: float | None = None) -> dict[str, Any]:  # noqa: ARG002
        return {
            name: TopicConfig(num_partitions=PARTITIONS, replication_factor=1, extra_config={"retention.ms": "-1"}) for name in topic_names
        }


class Events:
    """Brings events into a broker, which lives as long as this process."""

    def __init__(self) -> None:
        self.address = ""
        self._held: IO[bytes] | None = None

    def prepare(self, events: Path) -> None:
        """Start a broker with these events, outside of the processes whose time is counted."""
        command = ["setsid", "--fork", sys.executable, "-m", "bench.peers._broker", str(events)]
        started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self._held is not None:
            self._held.close()
        self._held = started.stdin
        if started.stdout is None or not (address := started.stdout.readline()):
            raise SystemExit("the broker ended; see above")
        self.address = address.decode().strip()

    def run(self, task: str, _events: Path, results: Path) -> None:
        """One process, until each partition has ended."""
        with tempfile.TemporaryDirectory() as state, (results / "rows.csv").open("w", newline="") as file:
            app = _application(self.address, state)
            events = app.dataframe(app.topic(TOPIC))
            rows = csv.writer(file)
            for window in WINDOWS[task]:
                _windows(task, events, window).update(_write(rows, task, window), metadata=True)
            ended: list[bytes] = []

            def end(_value: Any, key: bytes, _timestamp: int, _headers: Any) -> None:
                if key == END:
                    ended.append(key)
                    if len(ended) == PARTITIONS:
                        app.stop()

            events.update(end, metadata=True)
            app.run()


def _application(address: str, state: str) -> Any:
    group = str(uuid.uuid4())
    admin = _Admin(broker_address=address, logger=None)
    return Application(
        broker_address=address,
        consumer_group=group,
        auto_offset_reset="earliest",
        state_dir=state,
        use_changelog_topics=False,
        topic_manager=TopicManager(topic_admin=admin, consumer_group=group, auto_create_topics=False),
        loglevel="ERROR",
    )


def _windows(task: str, events: Any, window: Window) -> Any:
    features = {
        "count": agg.Count(),
        "sum": agg.Sum("price"),
        "mean": agg.Mean("price"),
        "max": agg.Max("price"),
        "last": agg.Latest("url"),
        "distinct": _Distinct("category"),
    }
    if task == SLIDING:
        return events.sliding_window(window.length, name=window.name).agg(**features).current()
    if window.hop == window.length:
        opened = events.tumbling_window(window.length, name=window.name)
    else:
        opened = events.hopping_window(window.length, window.hop, name=window.name)
    return opened.agg(**features).final(closing_strategy="partition")


def _write(rows: Any, task: str, window: Window) -> Any:
    edge = "end" if task == SLIDING else "start"

    def write(found: dict[str, Any], key: bytes, _timestamp: int, _headers: Any) -> None:
        if key != END:
            features = (found[name] for name in ("count", "sum", "mean", "max", "last", "distinct"))
            rows.writerow((key.decode(), found[edge], window.name, *features))

    return write


if __name__ == "__main__":
    events = Events()
    main(events.run, "quixstreams", prepare=events.prepare)
