"""Attackers without a key, and with the public key: while one address attacks, another address is served."""

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sokuji.service.proxies import Proxies
from sokuji.track.app import Track
from sokuji.web import body, connection
from tests.track.collector import Collector, basic, collecting
from tests.track.test_limits import metric, page

pytestmark = pytest.mark.e2e
ATTACKER, OTHER = "127.0.0.2", "127.0.0.3"


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    """A collector as one on the open internet: no address is a proxy's."""
    with collecting(tmp_path, proxies=Proxies(()), connections=40) as running:
        yield running


def connect(collector: Collector, address: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", collector.port), timeout=20, source_address=(address, 0))


def post(collector: Collector, name: str, address: str = OTHER) -> int:
    return collector.post("/v1/batch", {"batch": [page(name)]}, source=address).status


def head(length: int, *fields: bytes) -> bytes:
    return b"\r\n".join([b"POST /v1/batch HTTP/1.1", b"Host: x", b"Content-Length: %d" % length, *fields, b"", b""])


def test_what_is_announced_and_does_not_come_is_not_held(collector: Collector) -> None:
    with ExitStack() as stack:
        for _ in range(18):
            stack.enter_context(connect(collector, ATTACKER)).sendall(head(5_000_000) + b"{")
        assert [post(collector, str(number)) for number in range(20)] == [200] * 20
        assert metric(collector, "sokuji_track_held_bytes") <= 18


@pytest.mark.parametrize("text", [b"", b"POST /v1/batch HTTP/1.1\r\nX", head(5_000_000) + b"{"])
def test_an_address_gets_half_of_the_connections(collector: Collector, text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_SLOW_SECONDS_MIN", 60.0)  # none of them counts as slow
    clients: list[socket.socket] = []
    with ExitStack() as stack:
        for _ in range(60):
            client = stack.enter_context(connect(collector, ATTACKER))
            send_what_is_taken(client, text)
            clients.append(client)
        assert [post(collector, str(number)) for number in range(20)] == [200] * 20
        assert sum(map(is_open, clients)) <= 20


def is_open(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return bool(client.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def send_what_is_taken(client: socket.socket, text: bytes) -> None:
    try:
        client.sendall(text)
    except ConnectionError:  # it was not taken at all
        return


def test_who_is_slow_makes_room(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_SLOW_SECONDS_MIN", 0.1)
    with ExitStack() as stack:
        for number in range(60):  # from as many addresses
            send_what_is_taken(stack.enter_context(connect(collector, f"127.0.1.{number}")), head(1_000) + b"{")
        assert [post(collector, str(number)) for number in range(20)] == [200] * 20


@pytest.mark.parametrize("addresses", [2, 20])
def test_many_connections_of_few_addresses_make_room_at_once(collector: Collector, addresses: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_SLOW_SECONDS_MIN", 600.0)  # none of them counts as slow
    monkeypatch.setattr(connection, "HEAD_SECONDS_MAX", 600.0)  # nor ends by itself
    with ExitStack() as stack:
        for number in range(60):
            send_what_is_taken(stack.enter_context(connect(collector, f"127.0.1.{number % addresses}")), b"POST /v1/batch HTTP/1.1\r\nX")
        assert [post(collector, str(number)) for number in range(20)] == [200] * 20


def test_large_bodies_that_wait_do_not_keep_all_connections(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are worked on one after the other. Two addresses kept all connections with them, and others waited for seconds."""
    worked_on, read = threading.Event(), Track._read

    def read_later(*request: Any) -> Any:
        assert worked_on.wait(60)
        return read(*request)

    monkeypatch.setattr(Track, "_read", read_later)
    monkeypatch.setattr("sokuji.track.app._HEAVY_MAX", 3)
    large = b'{"writeKey":"shop-key","batch":[' + b" " * 300_000 + b"]}"
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(collector, f"127.0.1.{number % 2}")) for number in range(40)]
        for client in clients:
            client.sendall(head(len(large)) + large)
        assert [post(collector, str(number)) for number in range(20)] == [200] * 20
        worked_on.set()
        answers = [text[9:12] for client in clients if (text := what_is_answered(client))]
    assert answers.count(b"200") == 6
    assert set(answers) == {b"200", b"429"}
    assert not collector.app._heavy_waiting


def what_is_answered(client: socket.socket) -> bytes:
    try:
        return client.recv(4096)
    except ConnectionError:  # it made room
        return b""


def test_slow_bodies_make_room_for_others(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two addresses could hold all bytes for a minute, while everybody else got 429."""
    monkeypatch.setattr(body, "HELD_BYTES_MAX", 2_000_000)
    monkeypatch.setattr(connection, "_SLOW_SECONDS_MIN", 0.1)
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(collector, f"127.0.1.{number // 3}")) for number in range(6)]
        for client in slow:
            client.sendall(head(500_000) + b" " * 330_000)
        while metric(collector, "sokuji_track_held_bytes") < 6 * 330_000:
            time.sleep(0.01)
        time.sleep(0.1)
        assert collector.post("/v1/batch", {"batch": [page("large") | {"ignored": "x" * 400_000}]}, source=OTHER).status == 200
        assert metric(collector, "sokuji_track_held_bytes") in {4 * 330_000, 5 * 330_000}


def test_an_address_holds_half_of_the_bytes(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "HELD_BYTES_MAX", 2_000_000)
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(collector, ATTACKER)) for _ in range(3)]
        for client in clients:
            client.sendall(head(500_000) + b" " * 400_000)
        answers = [client for client in clients if has_answer(client)]
        assert len(answers) == 1
        assert answers[0].recv(4096).startswith(b"HTTP/1.1 429 ")
        large = {"batch": [page("large") | {"ignored": "x" * 400_000}]}
        assert collector.post("/v1/batch", large, source=OTHER).status == 200


def has_answer(client: socket.socket) -> bool:
    client.settimeout(0.5)
    try:
        return bool(client.recv(1, socket.MSG_PEEK))
    except TimeoutError:
        return False


QUOTES = gzip.compress(b'"' * 4_000_000)  # 4 kB that once took seconds to repair
HEAVY = [
    QUOTES,
    gzip.compress(b'{"batch":[{"properties":[' + b",".join([b"NaN"] * 500_000) + b"]}]}"),
    gzip.compress(b'{"batch":[' + b",".join([b"1"] * 100_000) + b"]}"),
    gzip.compress(b'{"batch":[' + b",".join([b"{}"] * 90_000) + b"]}"),
    gzip.compress(b'{"batch":[' + b",".join([b'{"type":"page","userId":"u","name":"x"}'] * 20_000) + b"]}"),
]


def test_without_a_key_nothing_is_parsed(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(_: bytes) -> None:
        raise AssertionError("it was parsed")

    for name in ("repaired", "_event"):
        monkeypatch.setattr(f"sokuji.track.parse.{name}", parse)
    for text in (QUOTES, HEAVY[1], b'"' * 200_000, b"{" * 1_000):
        for headers in ({}, basic("nobody"), {"Authorization": "Bearer x"}):
            answer = collector.request("POST", "/v1/batch", text, headers, source=ATTACKER)
            assert (answer.status, answer.json["code"]) == (401, "unknown_write_key" if "Basic" in str(headers) else "missing_write_key")
    assert collector.bad_events() == []


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_without_a_key_not_even_plain_bodies_of_many_objects_are_parsed(
    collector: Collector, pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """80,000 objects are 240 KB, and took 17 ms of the event loop; without any of the text with gzip."""
    monkeypatch.setattr("sokuji.track.parse._BATCH", None)
    text = pack(b'{"batch":[' + b",".join([b"{}"] * 80_000) + b"]}")
    assert collector.request("POST", "/v1/batch", text, source=ATTACKER).json["code"] == "missing_write_key"


@pytest.mark.parametrize(("method", "path"), [("GET", "/pixel/v1/track"), ("GET", "/sourceConfig"), ("POST", "/v1/track")])
def test_a_query_of_very_many_parameters_is_refused(collector: Collector, method: str, path: str) -> None:
    """30,000 of them are 60 KB, and took 38 ms of the event loop before the key was looked for."""
    answer = collector.request(method, path + "?" + "&".join(["a=1"] * 1_000), b"{}", source=ATTACKER)
    assert (answer.status, answer.json["code"]) == (400, "too_many_parameters")


def test_a_wrong_key_is_refused_before_the_body_comes(collector: Collector) -> None:
    with connect(collector, ATTACKER) as client:
        client.sendall(head(4_000_000, b"Authorization: " + basic("nobody")["Authorization"].encode()))
        assert client.recv(4096).startswith(b"HTTP/1.1 401 ")
    with connect(collector, ATTACKER) as client:
        client.sendall(head(4_000_000).replace(b"/v1/batch", b"/nowhere"))
        assert client.recv(4096).startswith(b"HTTP/1.1 405 ")


@pytest.mark.parametrize("place", ["start", "end", "first event", "escaped", "query"])
def test_the_key_is_found_wherever_a_client_puts_it(collector: Collector, place: str) -> None:
    events = [page(str(number)) for number in range(8_000)]  # large enough to be looked at before it is parsed
    envelope = {
        "start": {"writeKey": "shop-key", "batch": events},
        "end": {"batch": events, "writeKey": "shop-key"},
        "first event": {"batch": [events[0] | {"writeKey": "shop-key"}, *events[1:]]},
        "query": {"batch": events},
        "escaped": {"batch": events, "writeKey": "shop-key"},
    }[place]
    text = json.dumps(envelope).encode()
    if place == "escaped":
        text = text.replace(b'"shop-key"', b'"\\u0073hop-key"')
    path = "/v1/batch?writeKey=shop-key" if place == "query" else "/v1/batch"
    assert collector.request("POST", path, text).status == 200
    assert len(collector.events()) == 8_000


def test_beside_heavy_bodies_another_address_is_served(collector: Collector) -> None:
    """With the key, which is public. The other's requests are answered while the heavy ones are worked on, not after them."""
    answers: list[int] = []
    stop = threading.Event()

    def attack(text: bytes) -> None:
        while not stop.is_set():
            answers.append(collector.request("POST", "/v1/batch", text, basic("shop-key"), source=ATTACKER).status)

    threads = [threading.Thread(target=attack, args=(text,)) for text in HEAVY]
    for thread in threads:
        thread.start()
    served = 0
    deadline = time.monotonic() + 30
    while (len(answers) < len(HEAVY) or served < 50) and time.monotonic() < deadline:
        assert post(collector, f"other-{served}") == 200
        served += 1
    stop.set()
    for thread in threads:
        thread.join(30)
    assert set(answers) <= {200, 400, 429}
    assert served > len(answers)
    stored = {event["message_id"] for event in collector.events()}
    assert {f"other-{number}" for number in range(served)} <= stored
