"""Random bytes to a real collector: it answers each request with a legal status, serves others, and stores acknowledged events once."""

from __future__ import annotations

import gzip
import json
import logging
import random
import socket
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.track.collector import Collector, basic, collecting

LEGAL = {200, 204, 400, 401, 404, 405, 413, 429, 431}
_CONTROL_EVERY = 20
_ANSWER_SECONDS_MAX = 20.0
_PATHS = ("/v1/batch", "/v1/b", "/v1/import", "/v1/batch/", "/beacon/v1/batch")
_OTHER_LINES = (
    "GET /health",
    "GET /ready",
    "OPTIONS /v1/batch",
    "GET /nowhere",
    "POST /nowhere",
    "PUT /v1/batch",
    "GET /metrics",
    "HEAD /health",
)
_ODD_VALUES = ("NaN", "-Infinity", "1e999", "-0", '"\\ud83d"', '"\\u0000"', "null", "{}", "[[[[]]]]", '"即"', "9" * 400, "true", '"x"')
_FIELDS = ("type", "event", "anonymousId", "userId", "timestamp", "context", "properties", "traits", "historical", "groupId", "name")
_HEADERS = (
    "X-Forwarded-For: 1.2.3.4",
    "X-Forwarded-For: , ,:::,[",
    "X-Forwarded-Proto: https, https",
    "Content-Encoding: gzip",
    "Expect: 100-continue",
    "Connection: Upgrade",
    "Authorization: Bearer x",
    "Cookie: a=\xff",
    "Origin: https://shop.example",
)
_BROKEN_HEADERS = ("Host: other", "X : y", " folded", "Content-Length: 1", "Transfer-Encoding: gzip", "no colon", "A: \0")


@dataclass
class Sent:
    """One request: the bytes, the events in it by message id, and whether it is framed so that there is one way to read it."""

    text: bytes
    body: bytes
    ids: list[str] = field(default_factory=list)
    is_whole: bool = True


class Requests:
    """Makes them by chance; the same seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._count = 0

    def make(self) -> list[Sent]:
        """What one connection sends: up to three requests."""
        return [self._request() for _ in range(self._chance.choice([1, 1, 1, 2, 3]))]

    def cuts(self, length: int) -> list[int]:
        """Where to cut the bytes of a connection into packets."""
        return sorted(self._chance.randrange(length + 1) for _ in range(self._chance.choice([0, 0, 1, 2, 9])))

    def _request(self) -> Sent:
        chance = self._chance
        if chance.random() < 0.1:
            line = f"{chance.choice(_OTHER_LINES)} HTTP/1.1\r\nHost: x\r\n{self._more_headers()}\r\n"
            return Sent(line.encode("latin-1"), b"")
        ids, body = self._body()
        key = chance.choice(["header", "header", "body", "query", "none", "wrong"])
        if key == "body":
            body = body.replace(b"{", b'{"writeKey":"shop-key",', 1)
        coded = self._coded(body)
        query = "?writeKey=shop-key" if key == "query" else chance.choice(["", "", "?a=1&" * 40, "?%"])
        lines = [f"POST {chance.choice(_PATHS)}{query} HTTP/1.1", "Host: x"]
        lines += [f"Authorization: {basic('shop-key' if key == 'header' else 'nobody')['Authorization']}"] * (key in {"header", "wrong"})
        lines += self._more_headers().split("\r\n")[:-1]
        is_whole = True
        if chance.random() < 0.1:
            lines.append(chance.choice(_BROKEN_HEADERS))
            is_whole = False
        if chance.random() < 0.4:
            lines.append("Transfer-Encoding: chunked")
            framed = self._chunks(coded)
        else:
            lines.append(f"Content-Length: {len(coded)}")
            framed = coded
        text = "\r\n".join([*lines, "", ""]).encode("latin-1") + framed
        if chance.random() < 0.1:
            text, is_whole = self._damaged(text), False
        return Sent(text, body, ids, is_whole)

    def _more_headers(self) -> str:
        return "".join(f"{self._chance.choice(_HEADERS)}\r\n" for _ in range(self._chance.choice([0, 0, 1, 3])))

    def _body(self) -> tuple[list[str], bytes]:
        chance = self._chance
        ids = []
        events = []
        for _ in range(chance.choice([0, 1, 2, 5, 40])):
            self._count += 1
            ids.append(f"f{self._count}-{chance.getrandbits(64):x}")  # damage makes no other one of it
            event = {"messageId": f'"{ids[-1]}"', "type": '"track"', "event": '"buy"', "anonymousId": f'"v{chance.randrange(9)}"'}
            for _ in range(chance.choice([0, 0, 0, 1, 2])):
                event[chance.choice(_FIELDS)] = chance.choice(_ODD_VALUES)
            events.append("{" + ",".join(f'"{name}":{value}' for name, value in event.items()) + "}")
        body = ('{"batch":[' + ",".join(events) + "]}").encode()
        if chance.random() < 0.3:
            body = self._damaged(body)
        return ids, (b"\xef\xbb\xbf" if chance.random() < 0.05 else b"") + body

    def _coded(self, body: bytes) -> bytes:
        chance = self._chance
        kind = chance.choice(["plain", "plain", "gzip", "members", "broken"])
        if kind == "plain":
            return body
        if kind == "members":
            cut = chance.randrange(len(body) + 1)
            return gzip.compress(body[:cut]) + gzip.compress(body[cut:])
        return self._damaged(gzip.compress(body)) if kind == "broken" else gzip.compress(body)

    def _chunks(self, body: bytes) -> bytes:
        pieces, at = [], 0
        while at < len(body):
            size = self._chance.choice([1, 7, 100, 5_000])
            piece = body[at : at + size]
            pieces.append(b"%x%b\r\n%b\r\n" % (len(piece), self._chance.choice([b"", b";a=b"]), piece))
            at += size
        return b"".join([*pieces, b"0\r\n", self._chance.choice([b"", b"Expires: never\r\n"]), b"\r\n"])

    def _damaged(self, text: bytes) -> bytes:
        chance = self._chance
        for _ in range(chance.choice([1, 1, 2, 5])):
            at = chance.randrange(len(text) + 1)
            length = chance.choice([0, 1, 1, 3, 30])
            new = chance.choice([b"", bytes([chance.randrange(256)]), text[at : at + 20], b'"' * 50, b"{" * 200, b"\r\n", b"NaN"])
            text = text[:at] + new + text[at + length :]
        return text


def answers(data: bytes) -> list[int]:
    """The statuses in what a connection gave back; an answer to HEAD has no body, and so all of them are read by their heads."""
    found = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, f"an answer that ends in its head: {head!r}"
        status = int(head.split()[1])
        if status == 100:
            continue
        found.append(status)
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(fields.get(b"content-length", 0))
        if not data.startswith(b"HTTP/1.1 "):
            data = data[length:]
    return found


def exchange(collector: Collector, text: bytes, cuts: list[int]) -> bytes:
    """All that comes back for these bytes, sent in packets."""
    with socket.create_connection(("127.0.0.1", collector.port), timeout=_ANSWER_SECONDS_MAX) as connection:
        received = b""
        try:
            for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
                connection.sendall(text[start:end])
            connection.shutdown(socket.SHUT_WR)
        except ConnectionError:
            pass  # it has heard enough
        try:
            while data := connection.recv(65536):
                received += data
        except ConnectionResetError:
            pass
        return received


def fuzz(seed: int, seconds: float) -> int:
    """As `tests.fuzz` says."""
    requests = Requests(seed)
    defects = _Defects()
    logging.getLogger("asyncio").addHandler(defects)
    try:
        count = _fuzz(requests, seconds)
    finally:
        logging.getLogger("asyncio").removeHandler(defects)
    assert not defects.found, defects.found[0]
    return count


class _Defects(logging.Handler):
    """What the server's event loop says of exceptions that nothing caught."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


def _fuzz(requests: Requests, seconds: float) -> int:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, collecting(Path(folder)) as collector:
        acknowledged, refused, controls = list[Sent](), list[Sent](), 0
        count = 0
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            sent = requests.make()
            text = b"".join(each.text for each in sent)
            received = exchange(collector, text, requests.cuts(len(text)))
            _judge(sent, answers(received), acknowledged, refused)
            count += len(sent)
            if count // _CONTROL_EVERY > controls:
                controls += 1
                control = {"batch": [{"type": "page", "anonymousId": "c", "messageId": f"control-{controls}"}]}
                assert collector.post("/v1/batch", control).status == 200
        _check(collector, acknowledged, refused, controls)
    return count


def _judge(sent: list[Sent], statuses: list[int], acknowledged: list[Sent], refused: list[Sent]) -> None:
    assert set(statuses) <= LEGAL, (statuses, sent)
    assert statuses or not any(each.is_whole for each in sent[:1]), sent
    is_whole = all(each.is_whole for each in sent)
    assert not is_whole or len(statuses) == len(sent) or max(statuses) >= 400, (statuses, sent)  # a refusal may end the connection
    if 200 not in statuses:
        refused += sent
    elif is_whole:
        for each, status in zip(sent, statuses, strict=False):
            (acknowledged if status == 200 else refused).append(each)
        refused += sent[len(statuses) :]


def _check(collector: Collector, acknowledged: list[Sent], refused: list[Sent], controls: int) -> None:
    """What was acknowledged is stored once or is a bad event; of all else nothing is stored."""
    stored = Counter(event["message_id"] for event in collector.events())
    bad = Counter(row["message_id"] for row in collector.bad_events())
    assert all(stored[f"control-{number + 1}"] == 1 for number in range(controls))
    for sent in acknowledged:
        for id_ in _ids(sent):
            assert stored[id_] + bad[id_] == 1, (id_, stored[id_], bad[id_], sent)
    for sent in refused:
        assert not any(stored[id_] for id_ in sent.ids if sent.body.count(f'"{id_}"'.encode()) == 1), sent
    deadline = time.monotonic() + 10
    while "\nsokuji_track_held_bytes 0\n" not in collector.app.render_metrics():
        assert time.monotonic() < deadline, "bytes are held for nobody"
        time.sleep(0.01)


def _ids(sent: Sent) -> list[str]:
    """The message ids that another parser finds in a body, those that stand there once."""
    try:
        batch: Any = json.loads(sent.body.removeprefix(b"\xef\xbb\xbf"))["batch"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return []
    found = {event["messageId"] for event in batch if isinstance(event, dict) and isinstance(event.get("messageId"), str)}
    return [id_ for id_ in sent.ids if id_ in found and sent.body.count(f'"{id_}"'.encode()) == 1]
