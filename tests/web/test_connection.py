"""Connections of all kinds of clients: fast, slow, gone, and wrong."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest

from sokuji.errors import InvalidRequestError
from sokuji.service.proxies import Proxies
from sokuji.web import connection
from sokuji.web.body import Bodies
from sokuji.web.connection import Exchange
from tests.track.collector import ANY_PORT, Collector, collecting, serving
from tests.track.test_limits import metric, page, slow_collector, wait_until_queued

pytestmark = pytest.mark.e2e

EVENT = b'{"event":"buy","anonymousId":"v","writeKey":"shop-key"}'
OK = b'{"success":true,"results":{}}'


def post(*headers: bytes, body: bytes = EVENT, version: bytes = b"1.1") -> bytes:
    lines = [b"POST /v1/t HTTP/" + version, b"Host: x", b"Content-Length: %d" % len(body), *headers, b"", body]
    return b"\r\n".join(lines)


class Client:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._read = b""

    def send(self, text: bytes) -> None:
        self.socket.sendall(text)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer."""
        while b"\r\n\r\n" not in self._read:
            self._more()
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        line, *fields = head.decode().split("\r\n")
        headers = dict(field.split(": ", 1) for field in fields)
        length = int(headers.get("content-length", 0))
        while len(self._read) < length:
            self._more()
        body, self._read = self._read[:length], self._read[length:]
        return int(line.split()[1]), headers, body

    def ended(self) -> bool:
        """Whether the connection ends, without another byte."""
        return not self._read and self.socket.recv(1) == b""

    def _more(self) -> None:
        data = self.socket.recv(65536)
        assert data, "the connection ended before the answer did"
        self._read += data


@contextmanager
def connected(port: int) -> Iterator[Client]:
    client = Client(port)
    with client.socket:
        yield client


@pytest.fixture
def client(collector: Collector) -> Iterator[Client]:
    with connected(collector.port) as client:
        yield client


def test_a_request_may_come_byte_by_byte(client: Client) -> None:
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in post():
        client.send(bytes([byte]))
    assert client.answer()[::2] == (200, OK)


def test_one_connection_carries_many_requests(client: Client) -> None:
    for _ in range(3):
        client.send(post())
        assert client.answer()[::2] == (200, OK)
    client.send(b"\r\n" + post())  # RFC 9112, 2.2: an empty line before a request is no request
    assert client.answer()[::2] == (200, OK)


@pytest.mark.parametrize("lines", [b"\r\n", b"\n", b"\r"])
def test_empty_lines_before_a_request_are_bounded(client: Client, lines: bytes) -> None:
    """They were collected, without a bound, for half a minute."""
    client.send(lines * (100_000 // len(lines)))
    assert client.answer()[0] == 431
    assert client.ended()


@pytest.mark.parametrize("request_", [post(b"Connection: close"), post(version=b"1.0")])
def test_the_last_request_of_a_connection_ends_it(client: Client, request_: bytes) -> None:
    client.send(request_)
    status, headers, _ = client.answer()
    assert (status, headers["connection"]) == (200, "close")
    assert client.ended()


def test_an_answer_to_head_has_a_length_and_no_body(client: Client) -> None:
    client.send(b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n")
    first = client.socket.recv(4096)
    assert b"content-length: 15\r\n" in first
    assert first.endswith(b"\r\n\r\n")
    client.send(post())
    assert client.answer()[0] == 200


def test_an_upgrade_that_was_offered_is_not_taken(client: Client) -> None:
    client.send(post(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAEAAEAA"))  # as Java's client does
    assert client.answer()[::2] == (200, OK)
    client.send(post())
    assert client.answer()[::2] == (200, OK)


def test_a_client_that_asks_first_is_told_to_go_on(client: Client) -> None:
    text = post(b"Expect: 100-continue")
    client.send(text[: -len(EVENT)])
    assert client.answer()[0] == 100
    client.send(EVENT)
    assert client.answer()[::2] == (200, OK)


def test_a_client_that_asks_first_is_told_before_it_sends_what_is_too_large(client: Client) -> None:
    client.send(b"POST /v1/t HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9000000\r\n\r\n")
    assert client.answer()[0] == 413
    assert client.ended()


def test_a_refused_body_is_skipped_and_the_connection_lives_on(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(ANY_PORT, max_request_bytes=1000)
    with collecting(tmp_path, settings) as collector, connected(collector.port) as client:
        large = post(body=b"x" * 5000)
        client.send(large[:2000])
        assert client.answer()[0] == 413  # before all of it has come
        client.send(large[2000:] + post())
        assert client.answer()[::2] == (200, OK)


def test_answers_reach_a_client_that_sends_no_more(client: Client) -> None:
    client.send(post() * 5)
    client.socket.shutdown(socket.SHUT_WR)
    assert [client.answer()[0] for _ in range(5)] == [200] * 5
    assert client.ended()


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        (b"nonsense\r\n\r\n", 400, "invalid_http"),
        (b"POST /v1/t HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400, "invalid_http"),
        (b"GET /health HTTP/1.1\r\nX: " + b"x" * 70_000, 431, "headers_too_large"),
        (b"GET /health HTTP/1.1\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431, "headers_too_large"),
    ],
)
def test_what_is_no_request_is_answered_and_ends_the_connection(client: Client, text: bytes, status: int, code: str) -> None:
    client.send(text)
    found, headers, body = client.answer()
    assert (found, msgspec.json.decode(body)["code"], headers["connection"]) == (status, code, "close")
    client.socket.shutdown(socket.SHUT_WR)
    assert client.ended()


@pytest.mark.parametrize(("trailers", "status"), [(100, 200), (101, 431)])
def test_what_follows_a_body_in_chunks_is_bounded(client: Client, trailers: int, status: int) -> None:
    client.send(b"POST /v1/t HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n" % (len(EVENT), EVENT))
    client.send(b"X: y\r\n" * trailers + b"\r\n")
    assert client.answer()[0] == status


def test_headers_that_do_not_come_are_not_waited_for(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS_MAX", 0.05)
    with connected(collector.port) as client:
        client.send(b"GET /health HTTP/1.1\r\nX")
        assert client.answer()[0] == 408
        assert client.ended()


def test_an_idle_connection_is_closed(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "IDLE_SECONDS_MAX", 0.05)
    with connected(collector.port) as silent, connected(collector.port) as served:
        served.send(post())
        assert served.answer()[0] == 200
        assert silent.ended()
        assert served.ended()


def flood(client: Client, text: bytes, bytes_max: int) -> int:
    """Send `text` again and again; how many bytes the other side took before it took no more."""
    client.socket.settimeout(1)
    sent = 0
    try:
        while sent < bytes_max:
            sent += client.socket.send(text)
    except (TimeoutError, ConnectionError):
        pass
    return sent


def read_all(client: Client) -> None:
    while client.socket.recv(1 << 20):
        pass


def test_a_client_that_does_not_read_is_not_read_and_then_cut_off(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    with connected(collector.port) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        assert flood(client, b"GET /v1/projects/shop-key/settings HTTP/1.1\r\nHost: x\r\n\r\n" * 100, 50_000_000) < 20_000_000
        assert collector.post("/v1/batch", {"batch": [page("other")]}).status == 200
        monkeypatch.setattr(connection, "UNREAD_SECONDS_MAX", 0.05)
        client.socket.settimeout(20)
        with pytest.raises(ConnectionError):
            read_all(client)


def test_what_comes_while_a_request_waits_for_the_disk_is_bounded(tmp_path: Path) -> None:
    with slow_collector(tmp_path, ANY_PORT) as (collector, log), connected(collector.port) as client:
        client.send(post())
        wait_until_queued(collector, 1)
        sent = flood(client, post() * 100, 50_000_000)
        assert sent < 20_000_000
        assert metric(collector, "sokuji_track_queue_events") == 1  # one request of a connection at a time
        log.free.set()
        client.socket.settimeout(20)
        assert [client.answer()[0] for _ in range(20)] == [200] * 20


def test_connections_are_bounded_and_further_clients_wait() -> None:
    waiting = Waiting()
    with serving(Echo(waiting), ANY_PORT, connections=2) as port, ExitStack() as stack:
        clients = [stack.enter_context(connected(port)) for _ in range(3)]
        for client in clients:
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        wait_until(lambda: len(waiting.exchanges) == 2)
        time.sleep(0.3)
        assert len(waiting.exchanges) == 2
        waiting.answer(0)
        wait_until(lambda: len(waiting.exchanges) == 3)
        waiting.answer(1)
        waiting.answer(2)
        assert [client.answer()[0] for client in clients] == [200] * 3


def test_an_idle_connection_makes_room_for_the_next_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_SLOW_SECONDS_MIN", 0.2)
    app = Echo(lambda exchange: exchange.answer(200, [], b"here"))
    with serving(app, ANY_PORT, connections=2) as port, ExitStack() as stack:
        clients = [stack.enter_context(connected(port)) for _ in range(3)]
        for client in clients:
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.answer()[2] == b"here"
        assert clients[0].ended()
        clients[1].send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert clients[1].answer()[2] == b"here"


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Echo:
    """An application that does with every request what a test says."""

    def __init__(self, handle: Callable[[Exchange], None]) -> None:
        self.bodies, self.proxies = Bodies(1000), Proxies()
        self.handle = handle

    def start(self) -> None:
        pass

    def admit(self, exchange: Exchange) -> None:
        pass

    def refused(self, problem: InvalidRequestError) -> None:
        pass

    def drain(self) -> None:
        pass

    def close(self) -> None:
        pass


class Waiting:
    """Handles requests by keeping them until a test answers."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    def __call__(self, exchange: Exchange) -> None:
        self._loop = asyncio.get_running_loop()
        self.exchanges.append(exchange)

    def answer(self, place: int) -> None:
        self._loop.call_soon_threadsafe(self.exchanges[place].answer, 200, [], b"")


def test_a_defect_ends_its_own_connection_and_holds_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def handle(exchange: Exchange) -> None:
        if exchange.body == b"break":
            raise ZeroDivisionError
        exchange.answer(200, [], b"fine")

    app = Echo(handle)
    with caplog.at_level(logging.CRITICAL), serving(app, ANY_PORT) as port, connected(port) as broken, connected(port) as other:
        broken.send(post(body=b"fine") + post(body=b"break") + post(body=b"fine"))
        assert broken.answer()[2] == b"fine"
        with pytest.raises((ConnectionError, AssertionError)):
            broken.answer()
        other.send(post(body=b"fine"))
        assert other.answer()[2] == b"fine"
    assert app.bodies.held_bytes == 0


def test_a_client_that_left_is_not_answered_and_its_body_is_let_go() -> None:
    waiting = Waiting()
    app = Echo(waiting)
    with serving(app, ANY_PORT) as port:
        with connected(port) as client:
            client.send(post())
            wait_until(lambda: bool(waiting.exchanges))
        assert app.bodies.held_bytes == len(EVENT)
        time.sleep(0.05)
        waiting.answer(0)
        wait_until(lambda: app.bodies.held_bytes == 0)
