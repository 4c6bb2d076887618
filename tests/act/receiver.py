"""A real HTTP server as receiver of webhooks, with a `deliver` role beside it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from sokuji.act.deliver.functions import Perform
from sokuji.act.deliver.role import Deliverer
from sokuji.clock import Clock, now_us
from sokuji.config import WebhookSettings
from sokuji.events import BAD_EVENT_SCHEMA
from sokuji.log.base import Log
from tests.act.api import MASTER, decisions_log, row
from tests.log.opening import Opening, on_disk
from tests.track.collector import rows


@dataclass
class Received:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


class Receiver:
    """Answers 200, or what `answer` says: a status, or a status and headers. Keeps what it got."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answer: Callable[[Received], int | tuple[int, dict[str, str]]] = lambda _: 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = Received(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                receiver.received.append(request)
                answer = receiver.answer(request)
                status, headers = answer if isinstance(answer, tuple) else (answer, {})
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                except (BrokenPipeError, ConnectionResetError):
                    pass  # the client has given up

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def ids(self) -> list[str]:
        return [request.id for request in self.received]

    def wait_for(self, count: int, seconds: float = 60) -> list[str]:
        deadline = time.monotonic() + seconds
        while len(self.received) < count and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.ids

    def webhook(self, path: str = "/hook", **fields: Any) -> dict[str, Any]:
        """A decision to call it."""
        return row(action={"kind": "webhook", "url": f"http://{self.host}{path}", "body": {"item": "tea", "count": 3}}, **fields)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def quick(*hosts: str, **changes: Any) -> WebhookSettings:
    """Settings with which a retry comes soon."""
    settings = WebhookSettings(first_retry_seconds=0.05, timeout_seconds=1.0, private_hosts=hosts)
    return msgspec.structs.replace(settings, **changes)


class Delivering:
    """A `deliver` role in a thread of this process."""

    def __init__(self, deliverer: Deliverer, log: Log, bad_events_log: Log) -> None:
        self.deliverer, self.log, self._bad_events_log = deliverer, log, bad_events_log

    def dead(self) -> list[dict[str, Any]]:
        """What was given up."""
        return rows(self._bad_events_log)

    def outcomes(self) -> list[dict[str, Any]]:
        """The events about what came of deliveries, with the properties decoded."""
        events = [event for event in rows(self.log) if event["event_name"] in {"action_delivered", "action_failed"}]
        return [event | {"properties": json.loads(event["properties"])} for event in events]

    def wait_for_outcomes(self, count: int, seconds: float = 60) -> list[dict[str, Any]]:
        deadline = time.monotonic() + seconds
        while len(self.outcomes()) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.outcomes()

    def wait_for_dead(self, count: int, seconds: float = 60) -> list[dict[str, Any]]:
        deadline = time.monotonic() + seconds
        while len(self.dead()) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.dead()


@contextmanager
def delivering(
    folder: Path,
    settings: WebhookSettings,
    load: Callable[[], Perform] | None = None,
    clock: Clock = now_us,
    opening: Opening = on_disk,
) -> Iterator[Delivering]:
    """A `deliver` role with its logs and queue in `folder`."""
    with decisions_log(folder, opening) as log, opening(folder, BAD_EVENT_SCHEMA, "bad_events", 1) as bad_events_log:
        deliverer = Deliverer(log, bad_events_log, MASTER, settings, folder=folder / "deliver", load=load, clock=clock)
        stop = threading.Event()
        failures: list[BaseException] = []

        def run() -> None:
            try:
                deliverer.run(stop)
            except BaseException as error:  # noqa: BLE001 - raised again below
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield Delivering(deliverer, log, bad_events_log)
        finally:
            stop.set()
            thread.join(20)
            assert not thread.is_alive()
        assert not failures, failures


def payload(event: Mapping[str, Any]) -> Any:
    return json.loads(event["payload"])
