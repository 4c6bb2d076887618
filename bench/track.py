"""The collector: durable events a second over HTTP, how long an acknowledgement takes, and what parsing alone would reach.

A collector process with the log on this disk, and a load generator process on the same machine. The generator keeps one request under way
on each of its keep-alive connections, first as fast as answers come, then at half the rate that gave. In the second run a latency
counts from when the request was due. At the end the log must hold exactly the events that were acknowledged.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sys
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from bench._clients import Clients
from bench._report import quantile, report
from sokuji.clock import now_us
from sokuji.config import LogSettings, TrackSettings
from sokuji.events import BAD_EVENT_SCHEMA, BAD_EVENTS_LOG, EVENT_SCHEMA, EVENTS_LOG
from sokuji.log.local.log import LocalLog
from sokuji.track.app import Track
from sokuji.track.check import Limits
from sokuji.track.columns import to_arrow
from sokuji.track.parse import parse_batch
from sokuji.track.skew import ClockOffsets
from sokuji.web.server import serve
from sokuji.web.write_keys import EventSource

PARTITIONS = LogSettings().partitions
DISTINCT_EVENTS = 20_000
WRITE_KEY = "bench"


@dataclass(frozen=True)
class Load:
    """What a run of the generator found."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu_seconds: float


def bodies(batch: int) -> list[bytes]:
    """Requests as a shop's server sends them with Segment's Python SDK: about 600 bytes an event, many visitors."""
    chance = random.Random(7)
    now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    return [_body([_event(chance, now) for _ in range(batch)], now) for _ in range(DISTINCT_EVENTS // batch)]


def _body(events: list[dict[str, Any]], now: str) -> bytes:
    return json.dumps({"batch": events, "sentAt": f"{now}.123456+00:00", "writeKey": WRITE_KEY}).encode()


def _event(chance: random.Random, now: str) -> dict[str, Any]:
    path = f"/items/{chance.randrange(5000)}"
    return {
        "type": "track",
        "messageId": str(uuid.UUID(int=chance.getrandbits(128))),
        "anonymousId": str(uuid.UUID(int=chance.getrandbits(128))),
        "userId": f"user-{chance.randrange(100_000)}",
        "event": chance.choice(["view", "view", "view", "cart", "buy"]),
        "timestamp": f"{now}.{chance.randrange(10**6):06}+00:00",
        "context": {
            "library": {"name": "analytics-python", "version": "2.4.0"},
            "ip": "203.0.113.9",
            "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
            "page": {"url": f"https://shop.example{path}", "path": path},
        },
        "properties": {"revenue": round(chance.random() * 100, 2), "currency": "JPY", "url": f"https://shop.example{path}", "quantity": 3},
        "integrations": {},
    }


def parse_and_build(texts: Sequence[bytes], group: int, seconds: float) -> float:
    """Events a second of parsing and building Arrow alone, `group` requests at a time, as in one group commit."""
    limits, clocks = Limits(), ClockOffsets(60_000_000)
    events = 0
    started = time.perf_counter()
    while True:
        for at in range(0, len(texts), group):
            requests = [parse_batch(text) for text in texts[at : at + group]]
            for request in requests:
                request.source, request.sender, request.received_at = EventSource("shop", "main"), "203.0.113.9", now_us()
            events += sum(batch.num_rows for batch in to_arrow(requests, PARTITIONS, limits, clocks).values())
        elapsed = time.perf_counter() - started
        if elapsed >= seconds:
            return events / elapsed


def collect(folder: str, pipe: Connection) -> None:
    """The collector's process. Sends its port, and in the end how many events the log has and what they cost, in CPU seconds."""
    settings = TrackSettings(port=0)
    with (
        LocalLog(folder, EVENT_SCHEMA, name=EVENTS_LOG, partitions=PARTITIONS) as events,
        LocalLog(folder, BAD_EVENT_SCHEMA, name=BAD_EVENTS_LOG, partitions=1) as bad_events,
    ):
        cpu = time.process_time()
        serve(Track({WRITE_KEY: EventSource("shop", "main")}, events, bad_events, settings), settings, pipe.send)
        pipe.send((sum(events.end(partition) for partition in range(PARTITIONS)), time.process_time() - cpu))


def generate(port: int, batch: int, connections: int, pipe: Connection) -> None:
    """The generator's process: runs the loads it is told as (seconds, requests a second or None), until told None."""
    requests = [
        b"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        for body in bodies(batch)
    ]
    generator = _Generator(port, requests, connections)
    while (load := pipe.recv()) is not None:
        pipe.send(generator.run(*load))


class _Generator:
    def __init__(self, port: int, requests: list[bytes], connections: int) -> None:
        self._requests, self._next = requests, 0
        self._clients = Clients(port, connections)

    def run(self, seconds: float, rate: float | None) -> Load:
        cpu, started = time.process_time(), time.perf_counter()
        idle, due, latencies = deque(self._clients.numbers), dict[int, float](), []
        connections = len(idle)
        sent = 0
        now = started
        while True:
            while idle and now < started + seconds and (rate is None or started + sent / rate <= now):
                number = idle.popleft()
                due[number] = now if rate is None else started + sent / rate
                self._clients.send(number, self._requests[self._next])
                self._next = (self._next + 1) % len(self._requests)
                sent += 1
            if len(idle) == connections and now >= started + seconds:
                break
            wait = None if rate is None or not idle else max(0.0, started + sent / rate - now)
            for number in self._clients.acknowledged(wait):
                latencies.append(time.perf_counter() - due[number])
                idle.append(number)
            now = time.perf_counter()
        milliseconds = [latency * 1000 for latency in latencies]
        return Load(sent, now - started, quantile(milliseconds, 0.5), quantile(milliseconds, 0.99), time.process_time() - cpu)


def run(batch: int, seconds: float, rate: float | None, connections: int) -> tuple[list[Load], int, float]:
    """The loads, the events in the log at the end, and the collector's CPU seconds. Without a `rate` (events a second) there are two."""
    context = multiprocessing.get_context("spawn")
    loads: list[Load] = []
    with tempfile.TemporaryDirectory(dir=".", prefix=".bench-track-") as folder:
        collector_pipe, pipe = context.Pipe()
        collector = context.Process(target=collect, args=(folder, pipe), daemon=True)
        collector.start()
        generator_pipe, pipe = context.Pipe()
        generator = context.Process(target=generate, args=(collector_pipe.recv(), batch, connections, pipe), daemon=True)
        generator.start()
        for share in (None, 0.5) if rate is None else (rate,):
            requests = None if share is None else rate / batch if rate else share * loads[0].requests / loads[0].seconds
            generator_pipe.send((seconds, requests))
            while not generator_pipe.poll(1):
                if not (generator.is_alive() and collector.is_alive()):
                    raise SystemExit("the generator or the collector died")
            loads.append(generator_pipe.recv())
        generator_pipe.send(None)
        generator.join()
        collector.terminate()
        stored, cpu_seconds = collector_pipe.recv()
        collector.join()
    return loads, stored, cpu_seconds


def main(argv: Sequence[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="sokuji bench track", description=__doc__)
    parser.add_argument("--batch", type=int, default=100, help="events in a request")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each run")
    parser.add_argument("--rate", type=float, help="events a second, instead of as many as possible and then half of it")
    parser.add_argument("--connections", type=int, help="keep-alive connections; 128 for single events, else 32")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    connections = options.connections or (128 if options.batch == 1 else 32)
    limit = parse_and_build(bodies(options.batch), max(1, min(connections, 2000 // options.batch)), min(options.seconds, 2.0))
    loads, stored, cpu_seconds = run(options.batch, options.seconds, options.rate, connections)
    acknowledged = sum(load.requests for load in loads) * options.batch
    if stored != acknowledged:
        raise SystemExit(f"{acknowledged} events were acknowledged, the log has {stored}")
    events_per_second = loads[0].requests * options.batch / loads[0].seconds
    report(
        f"track_batch_{options.batch}",
        events_per_second,
        "events/s",
        as_json=options.json,
        packages=("msgspec", "pyarrow", "uvloop"),
        ack_p50_ms=round(loads[0].p50_ms, 2),
        ack_p99_ms=round(loads[0].p99_ms, 2),
        ack_p50_ms_half_rate=round(loads[-1].p50_ms, 2),
        ack_p99_ms_half_rate=round(loads[-1].p99_ms, 2),
        parse_arrow_events_per_s=round(limit),
        ratio_to_parse_arrow=round(events_per_second / limit, 3),
        collector_cpu_us_per_event=round(cpu_seconds / stored * 1_000_000, 2),
        generator_cpu_share=round(loads[0].cpu_seconds / loads[0].seconds, 3),
        connections=connections,
        body_bytes=len(bodies(options.batch)[0]),
        durable_events=stored,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
