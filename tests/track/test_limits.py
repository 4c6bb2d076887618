"""The collector's limits: every limit has a clear response, and no acknowledged event depends on a limit."""

import errno
import gzip
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from sokuji.config import TrackSettings
from sokuji.errors import LogError
from sokuji.events import EVENT_SCHEMA, EVENTS_LOG
from sokuji.log.local.log import LocalLog
from sokuji.track.app import Track
from sokuji.web import body
from tests.track.collector import ANY_PORT, PARTITIONS, SOURCES, Answer, Collector, collecting, logs, serving

pytestmark = pytest.mark.e2e


def page(name: str) -> dict[str, str]:
    return {"type": "page", "anonymousId": "v", "messageId": name}


class SlowLog(LocalLog):
    """A disk that is busy until `free` is set, and broken while `broken` is."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, EVENT_SCHEMA, name=EVENTS_LOG, partitions=PARTITIONS)
        self.free = threading.Event()
        self.broken = False

    def append_many(self, batches: Mapping[int, pa.RecordBatch]) -> dict[int, int]:
        self.free.wait(20)
        if self.broken:
            raise LogError("cannot append") from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().append_many(batches)


@contextmanager
def slow_collector(folder: Path, settings: TrackSettings) -> Iterator[tuple[Collector, SlowLog]]:
    with logs(folder) as (_, bad_events), SlowLog(folder) as events:
        app = Track(SOURCES, events, bad_events, settings)
        with serving(app, settings) as port:
            try:
                yield Collector(port, app, events, bad_events), events
            finally:
                events.free.set()


def metric(collector: Collector, name: str) -> float:
    lines = collector.app.render_metrics().splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


def wait_until_queued(collector: Collector, events: int) -> None:
    deadline = time.monotonic() + 10
    while metric(collector, "sokuji_track_queue_events") < events:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def send(pool: ThreadPoolExecutor, collector: Collector, name: str, source: str = "127.0.0.1") -> "Future[Answer]":
    return pool.submit(collector.post, "/v1/batch", {"batch": [page(f"{name}-{number}") for number in range(5)]}, source=source)


def test_a_full_queue_says_when_to_come_again_and_forgets_nothing(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(ANY_PORT, queue_events=10)
    with slow_collector(tmp_path, settings) as (collector, log), ThreadPoolExecutor(2) as pool:
        waiting = []
        for index, name in enumerate(("first", "second")):
            waiting.append(send(pool, collector, name, f"127.0.0.{index + 1}"))
            wait_until_queued(collector, 5 * (index + 1))
        refused = collector.post("/v1/batch", {"batch": [page("late")]}, source="127.0.0.3")
        # 429, not 503: browsers read Retry-After of no other status, and Node's SDK does not count it as one of its tries.
        assert (refused.status, refused.json["code"], refused.headers["retry-after"]) == (429, "busy", "1")
        assert collector.request("GET", "/ready").status == 503
        assert collector.request("GET", "/health").status == 200
        assert collector.events() == []  # none of it is durable, so none of it was acknowledged
        assert not any(answer.done() for answer in waiting)
        log.free.set()
        assert [answer.result(10).status for answer in waiting] == [200, 200]
        assert collector.post("/v1/batch", {"batch": [page("late")]}).status == 200
        assert {event["message_id"].partition("-")[0] for event in collector.events()} == {"first", "second", "late"}
        assert len(collector.events()) == 11


def test_the_queue_never_holds_more_than_its_bound(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(ANY_PORT, queue_events=8)
    with slow_collector(tmp_path, settings) as (collector, log), ThreadPoolExecutor(2) as pool:
        waiting = [send(pool, collector, "first")]
        wait_until_queued(collector, 5)
        assert collector.post("/v1/batch", {"batch": [page("late")] * 4}, source="127.0.0.2").status == 429
        assert collector.post("/v1/batch", {"batch": [None] * 4}, source="127.0.0.2").status == 429  # what will be refused is held as well
        waiting.append(pool.submit(collector.post, "/v1/batch", {"batch": [page("fits")] * 3}, source="127.0.0.2"))
        wait_until_queued(collector, 8)
        log.free.set()
        assert [answer.result(10).status for answer in waiting] == [200, 200]
        assert collector.post("/v1/batch", {"batch": [page("large")] * 9}).status == 200  # nothing else waits


def test_an_address_gets_half_of_the_queue_and_the_others_are_served(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(ANY_PORT, queue_events=12)
    with slow_collector(tmp_path, settings) as (collector, log), ThreadPoolExecutor(2) as pool:
        waiting = [send(pool, collector, "first")]
        wait_until_queued(collector, 5)
        assert collector.post("/v1/batch", {"batch": [page("late")] * 2}).status == 429
        waiting.append(send(pool, collector, "other", "127.0.0.2"))
        wait_until_queued(collector, 10)
        log.free.set()
        assert [answer.result(10).status for answer in waiting] == [200, 200]


def test_requests_that_arrive_during_a_flush_share_the_next(tmp_path: Path) -> None:
    with slow_collector(tmp_path, ANY_PORT) as (collector, log), ThreadPoolExecutor(8) as pool:
        waiting = [send(pool, collector, "0")]
        wait_until_queued(collector, 5)
        waiting += [send(pool, collector, str(number)) for number in range(1, 8)]
        wait_until_queued(collector, 40)
        log.free.set()
        assert [answer.result(10).status for answer in waiting] == [200] * 8
        assert metric(collector, "sokuji_track_flush_seconds_count") == 2


def test_a_disk_that_fails_is_a_503_never_a_400(tmp_path: Path) -> None:
    with slow_collector(tmp_path, ANY_PORT) as (collector, log):
        log.free.set()
        log.broken = True
        answer = collector.post("/v1/batch", {"batch": [page("m")]})
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert answer.json["message"] == "the events could not be stored; send the same request again"  # and nothing of this machine
        assert collector.request("GET", "/ready").status == 503
        log.broken = False
        assert collector.post("/v1/batch", {"batch": [page("m")]}).status == 200
        assert [event["message_id"] for event in collector.events()] == ["m"]
        assert metric(collector, "sokuji_track_flush_failures_total") == 1


def test_a_client_that_leaves_takes_no_other_along(tmp_path: Path) -> None:
    with slow_collector(tmp_path, ANY_PORT) as (collector, log), ThreadPoolExecutor(1) as pool:
        with socket.create_connection(("127.0.0.1", collector.port)) as leaving:
            event = b'{"event": "gone", "anonymousId": "v", "writeKey": "shop-key"}'
            leaving.sendall(b"POST /v1/t HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(event), event))
            wait_until_queued(collector, 1)
        with socket.create_connection(("127.0.0.1", collector.port)) as leaving:
            leaving.sendall(b"POST /v1/t HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        staying = send(pool, collector, "stays")
        wait_until_queued(collector, 6)
        log.free.set()
        assert staying.result(10).status == 200
        assert collector.post("/v1/t", {"event": "next", "anonymousId": "v"}).status == 200
        assert metric(collector, "sokuji_track_held_bytes") == 0


def test_a_body_that_never_comes_is_cut_off_and_frees_what_it_held(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "BODY_SECONDS_MAX", 0.05)
    heads = (b"Content-Length: 1000000\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")
    with ExitStack() as stack:
        stalled = [stack.enter_context(socket.create_connection(("127.0.0.1", collector.port), timeout=20)) for _ in heads]
        for connection, head in zip(stalled, heads, strict=True):
            connection.sendall(b"POST /v1/b HTTP/1.1\r\nHost: x\r\n" + head)
        deadline = time.monotonic() + 10
        while metric(collector, "sokuji_track_held_bytes") < 2:  # what has come, not what was announced
            assert time.monotonic() < deadline
        time.sleep(0.1)
        assert collector.post("/v1/batch", {"batch": [page("next")]}).status == 200
        for connection in stalled:
            answer = connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b'"code":"timeout"' in answer
    assert metric(collector, "sokuji_track_held_bytes") == 0


def test_a_body_that_ends_too_early_is_no_request(collector: Collector) -> None:
    whole = b'{"batch": [{"type": "page", "anonymousId": "v"}], "writeKey": "shop-key"}'
    answer = collector.raw(b"POST /v1/b HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n" + whole, then_end=True)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"incomplete_body"' in answer
    assert collector.events() == []
    assert metric(collector, "sokuji_track_held_bytes") == 0


def test_bodies_that_grow_when_decompressed_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "HELD_BYTES_MAX", 50_000)
    batch = {"batch": [page("m") | {"properties": {"text": "x" * 9_000}}]}
    with slow_collector(tmp_path, ANY_PORT) as (collector, log), ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(collector.post, "/v1/batch", batch, zipped=True) for _ in range(8)]
        deadline = time.monotonic() + 10
        while sum(answer.done() for answer in waiting) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert metric(collector, "sokuji_track_held_bytes") <= 50_000
        log.free.set()
        assert sorted(answer.result(10).status for answer in waiting) == [200] * 5 + [429] * 3
        assert metric(collector, "sokuji_track_held_bytes") == 0


@pytest.mark.parametrize("item", [b"{}", b"1", b'{"type":"page","userId":"u"}'])
def test_a_batch_of_very_many_events_is_refused_before_they_cost_anything(collector: Collector, item: bytes) -> None:
    answer = collector.post("/v1/batch", b'{"batch":[' + b",".join([item] * 100_001) + b"]}")
    assert (answer.status, answer.json["code"]) == (413, "too_many_events")
    assert [row["code"] for row in collector.bad_events()] == ["too_many_events"]
    assert metric(collector, 'sokuji_track_refused_total{code="too_many_events"}') == 1


@pytest.mark.slow
def test_a_batch_of_100_000_events_is_taken(collector: Collector) -> None:
    events = b",".join(b'{"type":"page","userId":"u%d"}' % number for number in range(100_000))
    assert collector.post("/v1/batch", b'{"batch":[' + events + b"]}").status == 200
    assert sum(map(collector.events_log.end, range(PARTITIONS))) == 100_000


@pytest.mark.parametrize("zipped", [False, True])
def test_a_request_that_is_too_large_is_a_413(tmp_path: Path, zipped: bool) -> None:
    with collecting(tmp_path, msgspec.structs.replace(ANY_PORT, max_request_bytes=10_000)) as collector:
        noise = os.urandom(6_000).hex()
        assert collector.post("/v1/t", {"event": noise, "anonymousId": "v"}, zipped=zipped).status == 413
        assert collector.post("/v1/t", {"event": noise[:5_000], "anonymousId": "v"}, zipped=zipped).status == 200


@pytest.mark.parametrize(("size", "status"), [(10_000, 200), (10_001, 413)])
@pytest.mark.parametrize("zipped", [False, True])
def test_the_limit_is_exact(tmp_path: Path, zipped: bool, size: int, status: int) -> None:
    with collecting(tmp_path, msgspec.structs.replace(ANY_PORT, max_request_bytes=10_000)) as collector:
        message = b'{"batch": [], "pad": "%b"}' % os.urandom(4_000).hex().encode()
        message = message[:23] + b"x" * (size - len(message)) + message[23:]
        assert collector.post("/v1/batch", message, zipped=zipped).status == status


def test_a_gzip_bomb_costs_no_more_than_the_limit(collector: Collector) -> None:
    bomb = gzip.compress(bytes(1 << 28))  # 260 kB that would be a quarter of a gibibyte
    answer = collector.post("/v1/batch", bomb)
    assert (answer.status, answer.json["code"]) == (413, "request_too_large")
    small = gzip.compress(b'{"batch": [' + b" " * 4_000_000 + b"]}")  # as repetitive, and within the limit
    assert collector.post("/v1/batch", small).status == 200
    assert metric(collector, "sokuji_track_held_bytes") == 0


def test_gzip_of_several_members_is_read_whole(collector: Collector) -> None:
    body = json.dumps({"batch": [page("first"), page("last")]}).encode()
    members = b"".join(gzip.compress(body[at : at + 20]) for at in range(0, len(body), 20))
    assert collector.post("/v1/batch", members).status == 200
    assert [event["message_id"] for event in collector.events()] == ["first", "last"]


@pytest.mark.parametrize("padding", [b"\0", bytes(1 << 20)])
def test_zeros_behind_a_member_of_gzip_are_padding(collector: Collector, padding: bytes) -> None:
    body = json.dumps({"batch": [page("first"), page("last")]}).encode()
    for text in (gzip.compress(body) + padding, gzip.compress(body[:20]) + padding + gzip.compress(body[20:]) + padding):
        assert gzip.decompress(text) == body  # so does Python's own
        assert collector.post("/v1/batch", text).status == 200
    assert [event["message_id"] for event in collector.events()] == ["first", "last"] * 2
    assert collector.post("/v1/batch", gzip.compress(body) + padding + b"more").json["code"] == "invalid_gzip"


@pytest.mark.parametrize(
    "broken",
    [b"\x1f\x8b", b"\x1f\x8bnonsense", gzip.compress(b"{}")[:-4], gzip.compress(b"{}") + b"more", gzip.compress(b"") * 2_000],
    ids=["cut in the magic", "nonsense", "cut in the sum", "more behind it", "too many members"],  # a header has the time
)
def test_broken_gzip_is_a_400(collector: Collector, broken: bytes) -> None:
    answer = collector.post("/v1/batch", broken)
    assert (answer.status, answer.json["code"]) == (400, "invalid_gzip")
    assert [bad["code"] for bad in collector.bad_events()] == ["invalid_gzip"]


def test_a_chunked_body_is_cut_off_at_the_limit(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(ANY_PORT, max_request_bytes=10_000)
    with collecting(tmp_path, settings) as collector, socket.create_connection(("127.0.0.1", collector.port)) as connection:
        connection.sendall(b"POST /v1/b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        connection.sendall(b"2000\r\n" + b"x" * 8192 + b"\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("order", [1, -1])
def test_a_length_beside_chunks_does_not_lift_the_limit(tmp_path: Path, order: int) -> None:
    headers = b"\r\n".join([b"Content-Length: 5", b"Transfer-Encoding: chunked"][::order])
    settings = msgspec.structs.replace(ANY_PORT, max_request_bytes=10_000)
    with collecting(tmp_path, settings) as collector:
        chunk = b"2000\r\n" + b"x" * 8192 + b"\r\n"
        answer = collector.raw(b"POST /v1/b HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n\r\n" + chunk * 2 + b"0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 413 ")


def test_an_event_that_is_too_large_or_too_deep_is_refused_alone(collector: Collector) -> None:
    large = page("large") | {"properties": {"text": "x" * 40_000}}
    deep = page("deep") | {"properties": {"text": eval("[" * 70 + "]" * 70)}}
    answer = collector.post("/v1/batch", {"batch": [page("good"), large, deep]})
    assert {name: result["details"].partition(":")[0] for name, result in answer.json["results"].items()} == {
        "large": "too_large",
        "deep": "too_deep",
    }
    assert [event["message_id"] for event in collector.events()] == ["good"]
