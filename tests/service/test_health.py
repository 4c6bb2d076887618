from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from typing import NamedTuple

import pytest

from sokuji.service import metrics
from sokuji.service.health import HealthServer


class Answer(NamedTuple):
    status: int
    content_type: str
    text: str


def get(server: HealthServer, path: str) -> Answer:
    try:
        response = urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        return Answer(response.status, response.headers["Content-Type"], response.read().decode())


def test_health_and_ready() -> None:
    state = {"ready": False}
    with HealthServer("127.0.0.1", 0, ready=lambda: state["ready"], metrics=str) as server:
        assert get(server, "/health") == (200, "application/json", '{"status": "ok"}')
        assert get(server, "/ready") == (503, "application/json", '{"status": "not ready"}')
        state["ready"] = True
        assert get(server, "/ready") == (200, "application/json", '{"status": "ready"}')
        missing = get(server, "/")
        assert missing.status == 404
        assert json.loads(missing.text)["code"] == "not_found"


def test_metrics_are_prometheus_text() -> None:
    rows = metrics.counter("sink_rows_total", "Rows written.", ["dataset"])
    rows.labels("shop").inc(5)
    with HealthServer("127.0.0.1", 0, ready=lambda: True, metrics=lambda: metrics.render([rows])) as server:
        answer = get(server, "/metrics")
    assert answer == (
        200,
        "text/plain; version=0.0.4; charset=utf-8",
        '# HELP sink_rows_total Rows written.\n# TYPE sink_rows_total counter\nsink_rows_total{dataset="shop"} 5\n',
    )


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /health HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /health?%b HTTP/1.1\r\nHost: a\r\n\r\n" % b"&".join([b"a=1"] * 100), b"404"),
    ],
)
def test_a_request_names_one_host(head: bytes, status: bytes) -> None:
    with (
        HealthServer("127.0.0.1", 0, ready=lambda: True, metrics=str) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection,
    ):
        connection.sendall(head)
        assert connection.recv(4096).split()[1] == status


def test_a_port_that_is_taken_is_an_error() -> None:
    with HealthServer("127.0.0.1", 0, ready=lambda: True, metrics=str) as server, pytest.raises(OSError, match="in use"):
        HealthServer("127.0.0.1", server.port, ready=lambda: True, metrics=str)
