"""A Kafka broker for Quix Streams: the one inside librdkafka that its authors test with, in memory, in a process of its own.

    python -m bench.peers._broker EVENTS

It takes the events in, then an event of `END` for each partition, long after the others, so that all windows close; prints its address,
and serves until its standard input ends.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

from confluent_kafka import Producer  # type: ignore[import-not-found]

from bench.peers.contract import DAY

TOPIC, END = "events", b"end"
PARTITIONS = 4  # of every topic that the mock broker makes
_UNSENT_MAX = 10_000


def serve(events: Path) -> None:
    """Fill the topic and wait."""
    settings = {"bootstrap.servers": "127.0.0.1:1", "test.mock.num.brokers": 1, "log_level": 0}
    # It keeps 5 MiB of a partition, as they were sent.
    producer = Producer(settings | {"compression.type": "lz4", "linger.ms": 100})
    at = 0
    with events.with_suffix(".csv").open(newline="") as file:
        for event in csv.DictReader(file):
            at = int(event["at"])
            value = {"price": float(event["price"]), "url": event["url"], "category": event["category"]}
            producer.produce(TOPIC, json.dumps(value).encode(), event["visitor"].encode(), timestamp=at)
            while len(producer) > _UNSENT_MAX:
                producer.poll(0.1)
    nothing = json.dumps({"price": 0.0, "url": "", "category": ""}).encode()
    for partition in range(PARTITIONS):
        producer.produce(TOPIC, nothing, END, partition, timestamp=at + 9 * DAY)
    if producer.flush(60):
        raise SystemExit("the broker did not take the events")
    [broker] = producer.list_topics(timeout=10).brokers.values()
    print(f"{broker.host}:{broker.port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
