"""A shop's traffic over HTTP, encoded beforehand: batches of 100 events as Segment's server SDKs send them, about 600 bytes each.

Every event of a body is of the same length, so that what differs from one sending to the next (message id, visitor, time) is written over
what was there before, by numpy, for all 100 at once: a generator that costs little, on the cores that it loads.
"""

from __future__ import annotations

import json
import random
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt

from bench._clients import Clients

BATCH = 100
KNOWN_SHARE = 0.02
"""Of the visitors, who are users that are logged in: every event of theirs names both."""

_BODIES = 100
_NAMES, _WEIGHTS = ("page", "search", "cart", "buy", "click"), (60, 15, 5, 2, 18)
_DIGITS = 9
_EVENT_BYTES = 620
_TIME_BYTES = 24


@dataclass(frozen=True)
class Load:
    """What was sent in one run and how long acknowledgements took, from when each request was due."""

    requests: int
    seconds: float
    cpu_seconds: float
    latencies_ms: list[float]


class Bodies:
    """Requests, each different from all before."""

    def __init__(self, visitors: int, write_key: str, seed: int, hot: float = 0.0) -> None:
        """Of `visitors` drawn evenly, except that the last one sends the share `hot` of all events."""
        self._visitors, self._known = visitors, max(1, int(visitors * KNOWN_SHARE))
        self._hot, self._chance = hot, np.random.default_rng(seed)
        dice = random.Random(seed)
        self._bodies = [_Body([_event(dice) for _ in range(BATCH)], write_key) for _ in range(_BODIES)]
        self._digits = np.array([list(b"%03d" % number) for number in range(1000)], np.uint8)
        self._sent = 0

    def next(self) -> memoryview:
        """A request of now; valid until as many others as there are bodies were made."""
        body = self._bodies[self._sent % _BODIES]
        numbers = np.where(
            body.known, self._chance.integers(0, self._known, BATCH), self._chance.integers(self._known, self._visitors, BATCH)
        )
        numbers[~body.known & (self._chance.random(BATCH) < self._hot)] = self._visitors - 1
        self._sent += 1
        now = time.time()
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
        body.write(self._digits_of(numbers), self._digits_of(np.array([self._sent])), moment.encode())
        return body.request

    def _digits_of(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        parts = [self._digits[numbers // 1_000_000], self._digits[numbers // 1000 % 1000], self._digits[numbers % 1000]]
        return np.concatenate(parts, axis=1)


class _Body:
    """A request whose events' message ids, visitors and times can be written over."""

    def __init__(self, events: list[dict[str, Any]], write_key: str) -> None:
        self.known = np.array(["userId" in event for event in events])
        texts = [_padded(event) for event in events]
        body = b'{"batch":[' + b",".join(texts) + b'],"sentAt":"2026-01-01T00:00:00.000Z","writeKey":"%b"}' % write_key.encode()
        head = b"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        memory = np.frombuffer(head + body, np.uint8).copy()
        self.request = memory.data
        first = len(head) + len(b'{"batch":[')
        events_memory = memory[first : first + BATCH * (_EVENT_BYTES + 1)].reshape(BATCH, _EVENT_BYTES + 1)
        places = ((b"#", _DIGITS), (b"@", _DIGITS), (b"2026-", _TIME_BYTES))
        self._message, self._visitor, self._time = (
            events_memory[:, at : at + length] for at, length in ((texts[0].index(mark), length) for mark, length in places)
        )
        user_at = next((text.index(b"!") for text in texts if b"!" in text), 0)
        self._user = events_memory[:, user_at : user_at + _DIGITS]
        sent_at = bytes(memory).rindex(b"2026-")
        self._sent_at = memory[sent_at : sent_at + _TIME_BYTES]

    def write(self, visitors: npt.NDArray[np.uint8], message: npt.NDArray[np.uint8], moment: bytes) -> None:
        now = np.frombuffer(moment, np.uint8)
        self._message[:], self._visitor[:], self._time[:], self._sent_at[:] = message, visitors, now, now
        self._user[self.known] = visitors[self.known]


def _padded(event: Mapping[str, Any]) -> bytes:
    text = json.dumps(event, separators=(",", ":")).encode()
    if len(text) > _EVENT_BYTES:
        raise ValueError(f"an event of {len(text)} bytes does not fit into {_EVENT_BYTES}: {text!r}")
    return text[:-1] + b" " * (_EVENT_BYTES - len(text)) + b"}"


def _event(dice: random.Random) -> dict[str, Any]:
    [name] = dice.choices(_NAMES, _WEIGHTS)
    item = dice.randrange(5_000)
    # What is written over comes first, at the same places in all events: # message, @ visitor, ! user.
    event: dict[str, Any] = {
        "messageId": f"{dice.getrandbits(104):026x}-" + "#" * _DIGITS,
        "anonymousId": "anonymous-" + "0" * 17 + "@" * _DIGITS,
        "timestamp": "2026-01-01T00:00:00.000Z",
    }
    if dice.random() < KNOWN_SHARE:
        event["userId"] = "user-" + "!" * _DIGITS
    event["type"] = "page" if name == "page" else "track"
    if name != "page":
        event["event"] = name
    path = f"/items/{item:04d}"
    event["context"] = {
        "library": {"name": "analytics-python", "version": "2.4.0"},
        "ip": "203.0.113.9",
        "userAgent": f"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/14{dice.randrange(10)}.0",
        "page": {"path": path},
    }
    event["properties"] = {
        "url": f"https://shop.example{path}",
        "category": f"shelf {item % 30}",
        "revenue": round(dice.random() * 100, 2),
        "currency": "JPY",
    }
    return event


def generate(port: int, bodies: tuple[int, str, int, float], connections: int, pipe: Connection) -> None:
    """The generator's process: runs the loads it is told as (seconds, requests a second), until told None; `bodies` is as for `Bodies`."""
    generator = _Generator(port, Bodies(*bodies), connections)
    pipe.send(None)
    while (load := pipe.recv()) is not None:
        pipe.send(generator.run(*load))


class _Generator:
    def __init__(self, port: int, bodies: Bodies, connections: int) -> None:
        self._bodies = bodies
        self._clients = Clients(port, connections)

    def run(self, seconds: float, rate: float) -> Load:
        """Send at an even rate whether or not answers come; a request that finds no connection free waits, and that counts."""
        cpu, started = time.process_time(), time.perf_counter()
        idle, due = deque(self._clients.numbers), dict[int, float]()
        latencies: list[float] = []
        sent, count = 0, round(seconds * rate)
        while len(latencies) < count:
            now = time.perf_counter()
            while idle and sent < count and started + sent / rate <= now:
                number = idle.popleft()
                due[number] = started + sent / rate
                self._clients.send(number, self._bodies.next())
                sent += 1
            wait = max(0.0, started + sent / rate - time.perf_counter()) if idle and sent < count else 1.0
            for number in self._clients.acknowledged(wait):
                latencies.append((time.perf_counter() - due[number]) * 1000)
                idle.append(number)
        return Load(sent, time.perf_counter() - started, time.process_time() - cpu, latencies)
