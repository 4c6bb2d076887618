"""A running `api` role on a free port, with a decisions log to which the tests write like the worker."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pyarrow as pa

from sokuji.act.pages.app import Act
from sokuji.act.pages.gate import Eligibility
from sokuji.act.secret import Secret
from sokuji.clock import Clock, now_us
from sokuji.config import ActSettings
from sokuji.events import EVENT_SCHEMA
from sokuji.log.base import Log
from sokuji.proof import visitor_id_of
from sokuji.rules.decision import Decision, own_events, to_events
from sokuji.rules.eligibility import Question
from sokuji.service.proxies import Proxies
from tests.log.opening import Opening, on_disk
from tests.track.collector import SOURCES, Answer, logs, serving

MASTER = Secret(b"a secret for tests, 32 bytes ...")
ANY_PORT = ActSettings(port=0)
PROOF = "the proof of the visitor who is called VISITOR"
VISITOR = visitor_id_of(PROOF)
POPUP: dict[str, Any] = {"kind": "popup", "title": "Three looked at", "body": "10 % off today", "button": "Take it", "link": "/offer"}
HOUR_US = 3_600_000_000

_numbers = itertools.count(1)


def row(
    visitor: str | None = VISITOR,
    *,
    name: str | None = None,
    user: str | None = None,
    dataset: str = "main",
    at: int | None = None,
    properties: str | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """A decision as a row of the log, `name` its id; `fields` change or add to its properties."""
    now = now_us() if at is None else at
    decision = Decision(
        id=f"d{next(_numbers)}" if name is None else name,
        rule="three_items",
        reason="event",
        suppressed=False,
        arm="a",
        control=False,
        holdout=False,
        action=POPUP,
        at_us=now,
        expires_us=now + HOUR_US,
        trigger_id="m1",
        profile=f"v:{visitor}" if user is None else f"u:{user}",
        dataset=dataset,
        visitor_id=visitor,
        user_id=user,
    )
    written: dict[str, Any] = to_events([decision], now).to_pylist()[0]
    text = json.dumps(json.loads(written["properties"]) | fields) if properties is None else properties
    return written | {"properties": text}


def told(
    events: Log,
    decision: str,
    visitor: str | None = VISITOR,
    *,
    user: str | None = None,
    event: str = "action_shown",
    properties: str | None = None,
    at: int | None = None,
) -> None:
    """What a page says of a decision, as the collector puts it into the log; `properties` as they are written, received `at`."""
    columns = {"dataset": "main", "message_id": f"t{next(_numbers)}", "event_name": event, "visitor_id": visitor, "user_id": user}
    now = now_us() if at is None else at
    values = columns | {"event_time": now, "properties": properties or json.dumps({"decision_id": decision})}
    events.append(next(_numbers) % events.partitions, own_events({name: [value] for name, value in values.items()}, now))


def append(log: Log, *rows: dict[str, Any]) -> int:
    """Append decisions as the worker does: one batch, durable."""
    return log.append(0, pa.RecordBatch.from_pylist(list(rows), schema=EVENT_SCHEMA))


def decisions_log(folder: Path, opening: Opening = on_disk) -> Log:
    return opening(folder, EVENT_SCHEMA, "decisions", 1)


class Api:
    """A running `api` role and its log."""

    def __init__(self, port: int, log: Log, events: Log, app: Act) -> None:
        self.port, self.log, self.events, self.app = port, log, events, app

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None, *, source: str = "127.0.0.1"
    ) -> Answer:
        """One request of a client at the address `source`."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20, source_address=(source, 0))
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        answer = Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        connection.close()
        return answer

    def ask_token(self, key: str | None = None, **body: str) -> Answer:
        return self.request("POST", "/v1/actions/token", json.dumps(body).encode(), {"Authorization": f"Bearer {key}"} if key else {})

    def token(self, proof: str = PROOF, **more: str) -> str:
        return str(self.ask_token(writeKey="shop-key", anonymousId=visitor_id_of(proof), proof=proof, **more).json["token"])

    def get(self, path: str, token: str | None = None) -> Answer:
        return self.request("GET", path, headers={"Authorization": f"Bearer {self.token() if token is None else token}"})


class Stream:
    """An open stream of events, read line by line as a browser reads it."""

    def __init__(self, api: Api, token: str, source: str = "127.0.0.1", **headers: str) -> None:
        self._connection = HTTPConnection("127.0.0.1", api.port, timeout=10, source_address=(source, 0))
        self._connection.request("GET", f"/v1/actions/stream?token={token}", headers=headers)
        self.response: HTTPResponse = self._connection.getresponse()

    def next(self) -> dict[str, str]:
        """The fields of the next event; comments are left out. Raises EOFError when the stream has ended."""
        fields: dict[str, str] = {}
        while line := self.response.readline().decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if name == ":":
                continue
            if name:
                fields[name] = value
            elif "data" in fields:
                return fields
        raise EOFError

    def __iter__(self) -> Iterator[dict[str, str]]:
        """The events until it ends."""
        while True:
            try:
                yield self.next()
            except EOFError:
                return

    def line(self) -> str:
        return self.response.readline().decode()

    def close(self) -> None:
        self.response.close()
        self._connection.close()


class Told:
    """The state of visitors, as a test tells it."""

    def __init__(self, ineligible: Callable[[Question], str | None]) -> None:
        self._ineligible, self.times = ineligible, 0

    def reasons(self, questions: Sequence[Question], now_us: int) -> list[str | None]:
        self.times += 1
        return [self._ineligible(question) for question in questions]

    def close(self) -> None:
        pass


@contextmanager
def acting(
    folder: Path,
    settings: ActSettings = ANY_PORT,
    *,
    ineligible: Callable[[Question], str | None] = lambda _: None,
    clock: Clock = now_us,
    rows: Sequence[Any] = (),
    proxies: Proxies | None = None,
    connections: int = 1024,
    opening: Opening = on_disk,
) -> Iterator[Api]:
    """An `api` role with its log in `folder`, which has `rows` before it starts."""
    with decisions_log(folder, opening) as log, logs(folder, opening) as (events, _):
        if rows:
            append(log, *rows)

        def worked() -> dict[int, int]:  # whatever the log holds is known
            return {partition: events.end(partition) for partition in range(events.partitions)}

        eligibility = Eligibility(Told(ineligible), events, worked, log, clock)
        app = Act(SOURCES, events, log, MASTER, settings, eligibility=eligibility, clock=clock, proxies=proxies)
        with serving(app, settings, connections) as port:
            yield Api(port, log, events, app)


def eventually(check: Callable[[], object], expected: object, seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while (found := check()) != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    assert found == expected
