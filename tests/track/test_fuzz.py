"""Damaged requests to a running collector: it answers, it keeps running, and all acknowledged events are in the log."""

import gzip
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.searching import examples
from tests.track.collector import PARTITIONS, Collector, basic, collecting

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SETTINGS = settings(max_examples=examples(400), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ANSWERS = {200, 400, 401, 404, 405, 408, 413}

EVENT = (
    b'{"type":"track","event":"buy","messageId":"m","anonymousId":"v","userId":"u","timestamp":"2026-11-23T12:00:00.123Z",'
    b'"context":{"page":{"url":"https://shop.example/"},"traits":{"a":1}},"properties":{"revenue":1.5,"name":"\xe5\x8d\xb3"},"name":"n"}'
)
NASTY = st.sampled_from(
    [
        *(b"null", b"{}", b"[]", b'""', b"1e400", b"-0", b"9" * 40, b"true", b"NaN", b'"null"', b'" "', b'"\\u0000"', b'"\\ud83d"'),
        *(b"\xff", b"\0", b"\n", b",", b'"', b"\\", b"}", b"]", b"[" * 70, b'{"a":' * 990, b'"x%b"' % ("即".encode() * 30)),
        *(b'"0000-01-01T00:00:00Z"', b'"messageId":7,', b'"type":"alias",', b'"type":"group",', b'"batch":[],', b'"historical":1,'),
    ]
)


def damaged(text: bytes) -> st.SearchStrategy[bytes]:
    """`text` with up to three parts replaced, inserted, repeated or missing."""
    part = st.tuples(st.integers(0, len(text)), st.integers(0, 30), NASTY | st.binary(max_size=3) | st.just(text[20:60]))

    def apply(parts: list[tuple[int, int, bytes]]) -> bytes:
        found = text
        for start, length, replacement in parts:
            found = found[:start] + replacement + found[start + length :]
        return found

    return st.lists(part, min_size=1, max_size=3).map(apply)


def values_damaged() -> st.SearchStrategy[bytes]:
    """An event some of whose values are others: well-formed JSON mostly, so that it gets further."""
    fields = msgspec.json.decode(EVENT, type=dict[str, msgspec.Raw])
    replaced = st.dictionaries(st.sampled_from(sorted(fields)), NASTY, min_size=1, max_size=3)
    return replaced.map(lambda new: b"{" + b",".join(b'"%b":%b' % (k.encode(), v) for k, v in ({**fields, **new}).items()) + b"}")


def count(collector: Collector) -> int:
    """Events and refusals that are durable."""
    return sum(map(collector.events_log.end, range(PARTITIONS))) + collector.bad_events_log.end(0)


@pytest.fixture
def fuzzed(tmp_path: Path) -> Iterator[Collector]:
    with collecting(tmp_path) as collector:
        yield collector
        assert collector.post("/v1/page", {"anonymousId": "alive"}).status == 200
        for event in collector.events():
            assert {type(json.loads(text)) for text in (event["context"], event["properties"]) if text} <= {dict}
        deadline = time.monotonic() + 10  # the last client may just have left
        while "\nsokuji_track_held_bytes 0\n" not in collector.app.render_metrics():
            assert time.monotonic() < deadline
            time.sleep(0.01)


def events_in(body: bytes) -> list[Any] | None:
    """What another parser finds in a body; None where it finds no batch."""
    try:
        batch = json.loads(body)["batch"]
    except (ValueError, RecursionError, TypeError, KeyError):
        return None
    return batch if isinstance(batch, list) else None


def test_of_a_batch_with_a_damaged_event_every_event_is_stored_or_refused(fuzzed: Collector) -> None:
    acknowledged: set[str] = set()
    number = iter(range(10**9))

    @SETTINGS
    @given(damaged(EVENT) | values_damaged(), st.sampled_from([bytes, gzip.compress]))
    def send(event: bytes, encode: Callable[[bytes], bytes]) -> None:
        good = [{"type": "page", "userId": "u", "messageId": f"good-{next(number)}"} for _ in range(2)]
        first, last = (json.dumps(event).encode() for event in good)
        body = b'{"batch":[%b,%b,%b]}' % (first, event, last)
        before = count(fuzzed)
        answer = fuzzed.post("/v1/batch", encode(body))
        assert answer.status in ANSWERS, answer
        if answer.status != 200:
            assert set(answer.json) == {"code", "message"}
            assert count(fuzzed) == before + 1  # the whole body, as one refusal
            return
        sent = events_in(body)
        if sent is not None:
            assert count(fuzzed) == before + len(sent)
            acknowledged.update(event["messageId"] for event in good if event in sent)

    send()
    assert acknowledged <= {event["message_id"] for event in fuzzed.events()}
    assert len(acknowledged) > 10


@pytest.mark.parametrize("path", ["track", "page", "identify", "group", "alias"])
def test_a_damaged_event_is_stored_or_refused(fuzzed: Collector, path: str) -> None:
    @settings(SETTINGS, max_examples=examples(100))
    @given(damaged(EVENT) | values_damaged())
    def send(event: bytes) -> None:
        before = count(fuzzed)
        answer = fuzzed.post(f"/v1/{path}", event)
        assert answer.status in ANSWERS, answer
        assert count(fuzzed) == before + 1
        assert (answer.status == 200) == (answer.json == {"success": True, "results": {}})

    send()


REQUEST = b"POST /v1/batch HTTP/1.1\r\nHost: x\r\nAuthorization: %b\r\nContent-Length: %d\r\n\r\n%b" % (
    basic("shop-key")["Authorization"].encode(),
    len(EVENT) + 12,
    b'{"batch":[%b]}' % EVENT,
)


def test_bytes_that_are_not_quite_http_are_answered_or_cut_off(fuzzed: Collector) -> None:
    @SETTINGS
    @given(damaged(REQUEST) | damaged(REQUEST + REQUEST) | damaged(gzip.compress(REQUEST)), st.booleans())
    def send(text: bytes, stays: bool) -> None:
        with socket.create_connection(("127.0.0.1", fuzzed.port), timeout=20) as connection:
            connection.sendall(text)
            if not stays:
                return
            try:
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(65536)
            except TimeoutError:
                raise
            except OSError:  # cut off
                return
        assert not answer or int(answer[9:12]) in ANSWERS, answer

    send()
