"""A real collector on a free port, for tests: over loopback, into a real log."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import uvloop

from sokuji.clock import Clock, now_us
from sokuji.config import TrackSettings
from sokuji.events import BAD_EVENT_SCHEMA, BAD_EVENTS_LOG, EVENT_SCHEMA, EVENTS_LOG
from sokuji.log.base import Log
from sokuji.service.proxies import Proxies
from sokuji.track.app import Decided, Track
from sokuji.web.connection import Application
from sokuji.web.event_loop import Address
from sokuji.web.server import run
from sokuji.web.write_keys import EventSource
from tests.log.opening import Opening, on_disk

PARTITIONS = 4
ANY_PORT = TrackSettings(port=0)
SOURCES = {"shop-key": EventSource("shop", "main"), "app-key": EventSource("app", "mobile")}
SERVER_KEYS = {f"sk_{'0a' * 32}": "main", f"sk_{'0b' * 32}": "mobile"}
MAIN_SERVER, MOBILE_SERVER = SERVER_KEYS


@dataclass
class Answer:
    """What the collector answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Collector:
    """A running collector and its logs."""

    def __init__(self, port: int, app: Track, events_log: Log, bad_events_log: Log) -> None:
        self.port, self.app, self.events_log, self.bad_events_log = port, app, events_log, bad_events_log

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None, *, source: str = "127.0.0.1"
    ) -> Answer:
        """One request of a client at the address `source`."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=60, source_address=(source, 0))) as connection:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())

    def raw(self, text: bytes, *, then_end: bool = False) -> bytes:
        """The (first) answer to these very bytes; `then_end`: after which the client sends no more."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(text)
            if then_end:
                connection.shutdown(socket.SHUT_WR)
            return connection.recv(65536)

    def post(
        self,
        path: str,
        message: object,
        headers: Mapping[str, str] | None = None,
        *,
        key: str | None = "shop-key",
        zipped: bool = False,
        source: str = "127.0.0.1",
    ) -> Answer:
        """POST `message` as JSON (or as it is, if bytes); `key` goes into a Basic header as most SDKs write it."""
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        headers = (basic(key) if key else {}) | dict(headers or {})
        return self.request("POST", path, gzip.compress(body) if zipped else body, headers, source=source)

    def events(self) -> list[dict[str, Any]]:
        """Every stored event."""
        return rows(self.events_log)

    def bad_events(self) -> list[dict[str, Any]]:
        """Every refused event."""
        return rows(self.bad_events_log)

    def wait_for(self, count: int, seconds: float = 30) -> list[dict[str, Any]]:
        """The stored events, once there are `count`."""
        deadline = time.monotonic() + seconds
        while len(found := self.events()) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        return found


def basic(key: str) -> dict[str, str]:
    """The header that says `key`, as SDKs write it."""
    return {"Authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()}


def rows(log: Log) -> list[dict[str, Any]]:
    """All of a log, partition by partition."""
    found: list[dict[str, Any]] = []
    for partition in range(log.partitions):
        offset = 0
        while offset < log.end(partition):
            batch, _, offset = log.read(partition, offset, 100_000)
            found += batch.to_pylist()
    return found


@contextmanager
def logs(folder: Path, opening: Opening = on_disk) -> Iterator[tuple[Log, Log]]:
    """The two logs in `folder`."""
    with (
        opening(folder, EVENT_SCHEMA, EVENTS_LOG, PARTITIONS) as events,
        opening(folder, BAD_EVENT_SCHEMA, BAD_EVENTS_LOG, 1) as bad_events,
    ):
        yield events, bad_events


@contextmanager
def serving(app: Application, address: Address, connections: int = 1024) -> Iterator[int]:
    """Serve `app` in a thread; gives the port."""
    started: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = []
    ready = threading.Event()

    async def main() -> None:
        stop = asyncio.Event()

        def listening(port: int) -> None:
            started.append((port, asyncio.get_running_loop(), stop))
            ready.set()

        await run(app, address, stop, listening, connections=connections)

    thread = threading.Thread(target=lambda: uvloop.run(main()), daemon=True)
    thread.start()
    assert ready.wait(20), "it did not start"
    port, loop, stop = started[0]
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        assert not thread.is_alive(), "it did not stop"


@contextmanager
def collecting(
    folder: Path,
    settings: TrackSettings = ANY_PORT,
    clock: Clock = now_us,
    decided: Callable[[Log], Decided] | None = None,
    *,
    proxies: Proxies | None = None,
    connections: int = 1024,
) -> Iterator[Collector]:
    """A collector with its logs in `folder`; `decided` makes of its events log what answers requests that wait."""
    with logs(folder) as (events, bad_events):
        answer = None if decided is None else decided(events)
        app = Track(SOURCES, events, bad_events, settings, server_keys=SERVER_KEYS, clock=clock, decided=answer, proxies=proxies)
        with serving(app, settings, connections) as port:
            yield Collector(port, app, events, bad_events)
