"""Attackers who make up any number of visitors: while one address attacks, another address still gets its actions."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
import pytest

from sokuji.proof import visitor_id_of
from sokuji.service.proxies import Proxies
from sokuji.web import body, connection
from tests.act.api import ANY_PORT, PROOF, VISITOR, Api, Stream, acting, append, eventually, row
from tests.track.test_attacks import is_open

pytestmark = pytest.mark.e2e
ATTACKER, OTHER = "127.0.0.2", "127.0.0.3"
TOKEN = b'{"writeKey":"shop-key","anonymousId":"%s","proof":"%s"}' % (VISITOR.encode(), PROOF.encode())


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """The role as on the open internet: no address is a proxy's."""
    with acting(tmp_path, proxies=Proxies(()), connections=40) as running:
        yield running


def connect(api: Api, address: str = ATTACKER) -> socket.socket:
    return socket.create_connection(("127.0.0.1", api.port), timeout=20, source_address=(address, 0))


def raw(api: Api, text: bytes, address: str = ATTACKER) -> bytes:
    with connect(api, address) as client:
        client.sendall(text)
        return client.recv(65536)


def head(length: int) -> bytes:
    return b"POST /v1/actions/token HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length


def send_what_is_taken(client: socket.socket, text: bytes) -> None:
    try:
        client.sendall(text)
    except ConnectionError:  # it was not taken at all
        return


def assert_served(api: Api, stack: ExitStack, number: int = 0) -> None:
    """Another address gets a token, pulls, checks, and is sent what is decided meanwhile."""
    proof = f"{PROOF} {number}"
    answer = api.request("POST", "/v1/actions/token", json.dumps(asking(proof)).encode(), source=OTHER)
    assert answer.status == 200
    token = answer.json["token"]
    headers = {"Authorization": f"Bearer {token}"}
    assert api.request("GET", "/v1/actions", headers=headers, source=OTHER).json == {"actions": []}
    with closing(Stream(api, token, OTHER)) as stream:
        assert stream.response.status == 200
        append(api.log, row(str(asking(proof)["anonymousId"]), name=f"other-{number}"))
        assert json.loads(stream.next()["data"])["id"] == f"other-{number}"
    assert api.request("GET", f"/v1/actions/other-{number}/eligible", headers=headers, source=OTHER).json["eligible"]


def asking(proof: str) -> dict[str, str]:
    return {"writeKey": "shop-key", "anonymousId": visitor_id_of(proof), "proof": proof}


def streams(api: Api) -> int:
    [line] = [line for line in api.app.render_metrics().splitlines() if line.startswith("sokuji_act_streams ")]
    return int(float(line.split()[1]))


def ended(api: Api, reason: str) -> int:
    lines = [line for line in api.app.render_metrics().splitlines() if f'streams_ended_total{{reason="{reason}"}}' in line]
    return int(float(lines[0].split()[1])) if lines else 0


HALF = [b"", b"GET /v1/actions HTTP/1.1\r\nX", head(5_000), head(5_000) + b"{", head(0)[:-2].replace(b"Length: 0", b"Length: 9999999")]


@pytest.mark.parametrize("text", HALF)
def test_an_address_gets_half_of_the_connections(api: Api, text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_SLOW_SECONDS_MIN", 60.0)  # none of them counts as slow
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(api)) for _ in range(60)]
        for client in clients:
            send_what_is_taken(client, text)
        for number in range(5):
            assert_served(api, stack, number)
        assert sum(map(is_open, clients)) <= 20


def test_who_is_slow_makes_room(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_SLOW_SECONDS_MIN", 0.1)
    with ExitStack() as stack:
        for number in range(60):  # from as many addresses
            send_what_is_taken(stack.enter_context(connect(api, f"127.0.1.{number}")), head(1_000) + b"{")
        assert_served(api, stack)


class TestStreams:
    def test_an_address_gets_half_of_them(self, tmp_path: Path) -> None:
        with acting(tmp_path, msgspec.structs.replace(ANY_PORT, streams=6), proxies=Proxies(())) as api, ExitStack() as stack:
            opened = [stack.enter_context(closing(Stream(api, api.token(f"made up {number}"), ATTACKER))) for number in range(4)]
            assert [stream.response.status for stream in opened] == [200, 200, 200, 429]
            assert json.loads(opened[3].response.read())["code"] == "too_many_streams"
            for number in range(3):
                assert_served(api, stack, number)

    def test_who_has_fewer_takes_the_oldest_of_who_has_most(self, tmp_path: Path) -> None:
        with acting(tmp_path, msgspec.structs.replace(ANY_PORT, streams=6), proxies=Proxies(())) as api, ExitStack() as stack:
            opened = [
                stack.enter_context(closing(Stream(api, api.token(f"made up {number}"), f"127.0.1.{number % 2}"))) for number in range(6)
            ]
            assert {stream.response.status for stream in opened} == {200}
            assert_served(api, stack)
            assert list(opened[0]) == []  # it has ended, and comes back if there is room
            assert ended(api, "crowded") == 1
            assert streams(api) == 5
            third = stack.enter_context(closing(Stream(api, api.token("a third"), OTHER)))
            assert third.response.status == 200
            again = Stream(api, api.token("made up 0"), "127.0.1.0")
            assert again.response.status == 503  # two, two and one: nobody has too many
            again.close()

    def test_a_trusted_proxy_speaks_for_many(self, tmp_path: Path) -> None:
        with acting(tmp_path, msgspec.structs.replace(ANY_PORT, streams=4), connections=6) as api, ExitStack() as stack:
            for number in range(4):
                client = {"X-Forwarded-For": f"192.0.2.{number}"}
                stream = stack.enter_context(closing(Stream(api, api.token(f"made up {number}"), **client)))
                assert stream.response.status == 200

    def test_they_do_not_take_the_connections_of_others(self, tmp_path: Path) -> None:
        settings = msgspec.structs.replace(ANY_PORT, streams=10)
        with acting(tmp_path, settings, proxies=Proxies(()), connections=20) as api, ExitStack() as stack:
            tokens = [api.token(f"made up {number}") for number in range(20)]
            for token in tokens:
                send_what_is_taken(stack.enter_context(connect(api)), stream_request(token))
            for number in range(3):
                assert_served(api, stack, number)

    @pytest.mark.parametrize("how", ["close", "reset", "half", "more"])
    def test_one_whose_client_is_gone_ends_at_once(self, api: Api, how: str) -> None:
        with connect(api) as client:
            client.sendall(stream_request(api.token()))
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
            assert streams(api) == 1
            if how == "half":
                client.shutdown(socket.SHUT_WR)
            elif how == "more":  # as if it had another request; it would be read for as long as it sends
                client.sendall(b"x" * 100)
            else:
                if how == "reset":
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
            eventually(lambda: streams(api), 0)
            assert ended(api, "gone") == 1

    def test_one_that_is_not_read_is_let_go_and_resumes(self, tmp_path: Path) -> None:
        large = {"kind": "popup", "title": "x" * 100_000}
        settings = msgspec.structs.replace(ANY_PORT, queue_decisions=4)
        with acting(tmp_path, settings, proxies=Proxies(())) as api, connect(api) as client, ExitStack() as stack:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(stream_request(api.token()))
            eventually(lambda: streams(api), 1)
            for number in range(80):
                append(api.log, row(name=f"d{number}", rule=f"r{number}", action=large))
            eventually(lambda: ended(api, "slow"), 1)
            eventually(lambda: len(api.get("/v1/actions?after=78").json["actions"]), 1)
            assert_served(api, stack)
            resumed = stack.enter_context(closing(Stream(api, api.token(), **{"Last-Event-ID": "70"})))
            assert [json.loads(resumed.next()["data"])["id"] for _ in range(9)] == [f"d{number}" for number in range(71, 80)]

    def test_one_that_is_never_read_is_cut_off(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        large = {"kind": "popup", "title": "x" * 1_000_000}
        with acting(tmp_path, rows=[row(name=f"d{number}", rule=f"r{number}", action=large) for number in range(8)]) as api:
            eventually(lambda: api.request("GET", "/ready").status, 200)
            with connect(api) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.sendall(stream_request(api.token()))
                eventually(lambda: streams(api), 1)
                monkeypatch.setattr(connection, "UNREAD_SECONDS_MAX", 0.05)
                eventually(lambda: ended(api, "gone"), 1)

    def test_one_that_is_read_goes_on_whatever_it_brings(self, tmp_path: Path) -> None:
        large = {"kind": "popup", "title": "x" * 1_000_000}
        with acting(tmp_path, rows=[row(name=f"d{number}", rule=f"r{number}", action=large) for number in range(5)]) as api:
            eventually(lambda: api.request("GET", "/ready").status, 200)
            with closing(Stream(api, api.token())) as stream:
                assert [json.loads(stream.next()["data"])["id"] for _ in range(5)] == [f"d{number}" for number in range(5)]
                append(api.log, row(name="next", rule="next"))
                assert json.loads(stream.next()["data"])["id"] == "next"


def stream_request(token: str, version: bytes = b"1.1") -> bytes:
    return b"GET /v1/actions/stream?token=%b HTTP/%b\r\nHost: x\r\n\r\n" % (token.encode(), version)


def test_an_old_proxy_is_sent_no_chunks(api: Api) -> None:
    """nginx asks in HTTP/1.0 unless it is told otherwise."""
    with connect(api) as client:
        client.sendall(stream_request(api.token(), b"1.0"))
        append(api.log, row(name="d"))
        text = b""
        while b"event: action" not in text:
            text += client.recv(65536)
    answer, _, events = text.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in answer.lower()
    assert events.startswith(b"retry: 2000\n\nid: 0\n")


@pytest.mark.parametrize(
    ("hosts", "status"),
    [
        (b"", 400),
        (b"Host: a\r\nHost: a\r\n", 400),
        (b"Host: a, b\r\n", 400),
        (b"Host: a b\r\n", 400),
        (b"Host: a/b\r\n", 400),
        (b"Host: u@a\r\n", 400),
        (b"Host: a:b\r\n", 400),
        (b"Host: " + b"a" * 500 + b"\r\n", 400),
        (b"Host: shop.example:8081\r\n", 200),
        (b"Host: [::1]:8081\r\n", 200),
    ],
)
def test_a_host_is_one_name_or_address(api: Api, hosts: bytes, status: int) -> None:
    assert raw(api, b"GET /health HTTP/1.1\r\n" + hosts + b"\r\n").startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70_000, 431),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431),
        (head(1_000_000_000), 413),
        (head(8 * 1024 + 1), 413),
        (head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"2001\r\n" + b" " * 0x2001, 413),
        (head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"0\r\n" + b"X: y\r\n" * 101, 431),
        (b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n", 404),  # before the body comes
        (b"nonsense\r\n\r\n", 400),
        (head(5)[:-2] + b"Content-Length: 6\r\n\r\n", 400),
    ],
)
def test_what_is_too_much_or_no_request_is_refused(api: Api, text: bytes, status: int) -> None:
    assert raw(api, text).startswith(b"HTTP/1.1 %d " % status)
    with ExitStack() as stack:
        assert_served(api, stack)


def test_what_does_not_come_is_not_waited_for(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS_MAX", 0.05)
    monkeypatch.setattr(body, "BODY_SECONDS_MAX", 0.05)
    for text in (b"GET /v1/actions HTTP/1.1\r\nX", head(1_000) + b"{"):
        assert raw(api, text).startswith(b"HTTP/1.1 408 ")


def test_a_body_may_come_slowly_and_in_chunks(api: Api) -> None:
    with connect(api) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
        for byte in TOKEN:
            client.sendall(b"1\r\n%c\r\n" % byte)
        client.sendall(b"0\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
