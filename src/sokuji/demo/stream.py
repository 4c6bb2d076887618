"""Send the events of the live demo's shop to the collector when they are due, and follow the decisions on them."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from sokuji.act.follow import Cursor
from sokuji.demo.figures import Figures
from sokuji.demo.visitors import Sent
from sokuji.errors import SokujiError
from sokuji.log.base import Log

_BATCH = 100
_TICK_SECONDS = 0.02  # events due within one tick go into one request, as from the libraries of several visitors at once
_BUSY = 503, 429
_ATTEMPTS = 50
_WAIT_SECONDS = 0.05


def send(port: int, write_key: str, events: Iterator[Sent], figures: Figures, stop: threading.Event) -> None:
    """Send until `stop` is set; all sent events are then acknowledged.

    Raises:
        SokujiError: the collector refused a request or an event.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    started = time.monotonic()
    event = next(events)
    while not stop.is_set():
        due: list[Sent] = []
        while event.due_seconds <= time.monotonic() - started and len(due) < _BATCH:
            due.append(event)
            event = next(events)
        if due:
            _request(connection, write_key, due, figures)
        if len(due) < _BATCH:
            stop.wait(_TICK_SECONDS)
    connection.close()


def _request(connection: http.client.HTTPConnection, write_key: str, events: Sequence[Sent], figures: Figures) -> None:
    now = datetime.now(UTC)
    calls = [{**event.call, "timestamp": (now - timedelta(seconds=event.late_seconds)).isoformat()} for event in events]
    calls += [call for call, event in zip(calls, events, strict=True) if event.repeats]
    body = json.dumps({"writeKey": write_key, "sentAt": now.isoformat(), "batch": calls})
    sent = figures.sending(call["messageId"] for call in calls)
    for _ in range(_ATTEMPTS):
        connection.request("POST", "/v1/batch", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        if response.status not in _BUSY:
            break
        time.sleep(float(response.headers.get("Retry-After", "1")))
    refused = [] if response.status != 200 else [each for each in json.loads(answer)["results"].values() if each["result"] != "ok"]
    if response.status != 200 or refused:
        raise SokujiError(f"the collector answered {response.status}: {answer.decode(errors='replace')[:500]}")
    figures.acknowledged(len(events), len(calls) - len(events), sent)


def follow(decisions: Log, figures: Figures, stop: threading.Event) -> None:
    """Read new decisions until `stop` is set and all are read."""
    cursor = Cursor(decisions)
    while not (stop.is_set() and cursor.is_at_end()):
        if decisions.wait({0: cursor.offset}, _WAIT_SECONDS):
            figures.decided(each.decision for each in cursor.read())
