"""The wire protocol, as clients of several generations speak it."""

import base64
import gzip
import json
import socket
from typing import Any

import pytest

from tests.track.collector import MAIN_SERVER, MOBILE_SERVER, Collector, basic

pytestmark = pytest.mark.e2e

BUY = {"type": "track", "event": "buy", "anonymousId": "v1", "messageId": "m1", "properties": {"revenue": 30}}


@pytest.mark.parametrize(
    ("path", "type_"),
    [(f"/v1/{name}", type_) for type_ in ("track", "page", "screen", "identify", "group", "alias") for name in (type_, type_[0])],
)
def test_each_call_has_an_address_and_a_short_one(collector: Collector, path: str, type_: str) -> None:
    answer = collector.post(path, {"event": "buy", "userId": "u", "anonymousId": "v", "groupId": "g", "previousId": "p"})
    assert (answer.status, answer.json) == (200, {"success": True, "results": {}})
    assert [event["type"] for event in collector.events()] == [type_]


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/b", "/v1/batch/b", "/v1/import", "/v1/batch/", "/beacon/v1/batch?writeKey=shop-key"])
def test_batches_have_many_addresses(collector: Collector, path: str) -> None:
    assert collector.post(path, {"batch": [BUY], "sentAt": "2026-11-23T12:00:00Z"}).status == 200
    assert [event["message_id"] for event in collector.events()] == ["m1"]


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/v1/batch", {"batch": [BUY]}, basic("app-key")),
        ("/v1/batch", {"batch": [BUY]}, {"Authorization": "basic " + base64.b64encode(b"app-key").decode()}),  # without a password
        ("/v1/batch", {"batch": [BUY]}, {"Authorization": "Basic " + base64.b64encode(b"app-key:secret").decode()}),
        ("/v1/batch", {"batch": [BUY], "writeKey": "app-key"}, {}),
        ("/v1/batch", {"batch": [BUY], "writeKey": "app-key"}, {"Authorization": "Bearer token"}),
        ("/v1/batch", {"batch": [BUY | {"writeKey": "app-key"}]}, {}),
        ("/v1/t", BUY | {"writeKey": "app-key"}, {}),
        ("/v1/batch?writeKey=app-key", {"batch": [BUY]}, {}),
        ("/v1/batch?writeKey=nobody", {"batch": [BUY], "writeKey": "app-key"}, {}),  # the body before the query
        ("/v1/batch", {"batch": [BUY], "writeKey": "shop-key"}, basic("app-key")),  # the header before the body
    ],
)
def test_the_write_key_is_found_wherever_a_client_puts_it(collector: Collector, path: str, body: Any, headers: dict[str, str]) -> None:
    assert collector.post(path, body, headers, key=None).status == 200
    assert [(event["source"], event["dataset"]) for event in collector.events()] == [("app", "mobile")]


@pytest.mark.parametrize(
    ("headers", "body_key", "code"),
    [
        ({}, None, "missing_write_key"),
        ({}, "nobody", "unknown_write_key"),
        (basic("nobody"), "shop-key", "unknown_write_key"),
        ({"Authorization": "Basic ???"}, "shop-key", "invalid_authorization"),
    ],
)
def test_a_key_of_nobody_is_refused(collector: Collector, headers: dict[str, str], body_key: str | None, code: str) -> None:
    answer = collector.post("/v1/batch", {"batch": [BUY], "writeKey": body_key}, headers, key=None)
    assert (answer.status, answer.json["code"]) == (401, code)
    assert collector.events() == []


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""])
def test_content_type_says_nothing(collector: Collector, content_type: str) -> None:
    answer = collector.post("/v1/batch", {"batch": [BUY]}, {"Content-Type": content_type}, zipped=content_type != "text/plain")
    assert answer.status == 200
    assert len(collector.events()) == 1


def test_chunked_gzip_as_kotlin_sends_it(collector: Collector) -> None:
    body = gzip.compress(json.dumps({"batch": [BUY], "writeKey": "shop-key"}).encode())
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (body[:20], body[20:], b""))
    with socket.create_connection(("127.0.0.1", collector.port)) as connection:
        connection.sendall(b"POST /v1/b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n" + chunks)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert len(collector.events()) == 1


def test_a_preflight_allows_what_the_page_asks_for_and_answers_expose_retry_after(collector: Collector) -> None:
    asked = "authorization,content-type,x-retry-count,rsa-retry-attempt"
    headers = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": asked}
    answer = collector.request("OPTIONS", "/v1/t", headers=headers)
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-headers"] == asked
    assert int(answer.headers["access-control-max-age"]) >= 7200
    for refused in (collector.post("/v1/t", b"{"), collector.post("/v1/t", BUY)):
        assert refused.headers["access-control-allow-origin"] == "*"
        assert refused.headers["access-control-expose-headers"] == "Retry-After"


@pytest.mark.parametrize("prefix", ["/v1/projects", "/projects", "/projects/projects"])
def test_browser_settings_point_back_at_the_collector(collector: Collector, prefix: str) -> None:
    answer = collector.request("GET", f"{prefix}/shop-key/settings")
    segment = answer.json["integrations"]["Segment.io"]
    assert segment == {"apiKey": "shop-key", "apiHost": f"127.0.0.1:{collector.port}/v1", "protocol": "http"}
    assert collector.request("GET", f"{prefix}/nobody/settings").status == 401
    behind_tls = collector.request("GET", f"{prefix}/shop-key/settings", headers={"X-Forwarded-Proto": "https", "Host": "in.example"})
    assert behind_tls.json["integrations"]["Segment.io"] == {"apiKey": "shop-key", "apiHost": "in.example/v1", "protocol": "https"}
    behind_two = collector.request(
        "GET", f"{prefix}/shop-key/settings", headers={"X-Forwarded-Proto": "https, http", "X-Forwarded-For": "203.0.113.9, 127.0.0.2"}
    )
    assert behind_two.json["integrations"]["Segment.io"]["protocol"] == "https"


def test_rudder_source_config(collector: Collector) -> None:
    answer = collector.request("GET", "/sourceConfig/?p=npm&v=3.31.6&writeKey=shop-key")
    assert answer.json["source"]["id"] == "shop"
    assert collector.request("GET", "/sourceConfig/", headers=basic("app-key")).json["source"]["id"] == "app"


def test_a_pixel_is_an_event(collector: Collector) -> None:
    query = "writeKey=shop-key&anonymousId=v1&event=open&properties.mail=Welcome%20%E5%8D%B3&context.page.url=https://shop.example/"
    answer = collector.request("GET", f"/pixel/v1/track?{query}")
    assert (answer.status, answer.headers["content-type"], answer.body[:6]) == (200, "image/gif", b"GIF89a")
    (event,) = collector.events()
    assert (event["event_name"], json.loads(event["properties"])) == ("open", {"mail": "Welcome 即"})
    assert json.loads(event["context"]) == {"page": {"url": "https://shop.example/"}}
    assert collector.request("GET", "/pixel/v1/page?writeKey=shop-key").json["code"] == "missing_id"
    assert collector.request("GET", f"/pixel/v1/track?{query}&properties.a.b.c.d.e.f.g.h.i=1").status == 200
    assert json.loads(collector.events()[1]["properties"])["a"] == {"b": {"c": {"d": {"e": {"f": {"g": {"h.i": "1"}}}}}}}


def test_a_head_request_stores_nothing(collector: Collector) -> None:
    assert collector.request("HEAD", "/pixel/v1/track?writeKey=shop-key&anonymousId=v1&event=open").status == 405
    assert (collector.request("HEAD", "/health").status, collector.request("HEAD", "/health").body) == (200, b"")
    assert (collector.events(), collector.bad_events()) == ([], [])


def test_the_browser_sdks_own_metrics_are_taken_and_dropped(collector: Collector) -> None:
    assert collector.post("/v1/m", {"series": []}, key=None).status == 200
    assert collector.events() == []


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("POST", "/v1/nothing", 405, "method_not_allowed"),
        *((method, "/v1/batch", 405, "method_not_allowed") for method in ("GET", "PUT", "PATCH", "DELETE")),
        ("POST", "/pixel/v1/track", 405, "method_not_allowed"),
    ],
)
def test_other_requests_get_a_json_error_with_code_and_message(
    collector: Collector, method: str, path: str, status: int, code: str
) -> None:
    answer = collector.request(method, path)
    assert (answer.status, answer.json["code"], set(answer.json)) == (status, code, {"code", "message"})


def test_of_a_batch_only_the_bad_events_are_refused_and_the_answer_names_them(collector: Collector) -> None:
    bad = {"type": "track", "event": "buy", "userId": "null", "messageId": "m2"}
    answer = collector.post("/v1/batch", {"batch": [BUY, bad, {"type": "track", "anonymousId": "v"}]})
    assert answer.status == 200
    assert {name: result["result"] for name, result in answer.json["results"].items()} == {"m2": "drop", "#2": "drop"}
    assert answer.json["results"]["#2"]["details"].startswith("missing_event: event is missing")
    assert [event["message_id"] for event in collector.events()] == ["m1"]
    kept = collector.bad_events()
    assert [(row["code"], row["message_id"], row["dataset"], row["source"]) for row in kept] == [
        ("illegal_id", "m2", "main", "shop"),
        ("missing_event", None, "main", "shop"),
    ]
    assert json.loads(kept[0]["payload"]) == bad


def test_an_answer_names_an_event_by_its_own_message_id(collector: Collector) -> None:
    bad = {"properties": {"messageId": "of something else"}, "type": "page", "userId": "null"}
    answer = collector.post("/v1/batch", {"batch": [bad | {"messageId": "its own"}, bad, bad | {"messageId": 7}]})
    assert set(answer.json["results"]) == {"its own", "#1", "7"}
    assert [row["message_id"] for row in collector.bad_events()] == ["its own", None, "7"]


@pytest.mark.parametrize("batch", [[], [1], None, "text"])
def test_a_batch_sent_to_the_address_of_one_event_is_a_bad_event(collector: Collector, batch: object) -> None:
    answer = collector.post("/v1/track", {"batch": batch})
    assert (answer.status, answer.json["code"]) == (400, "missing_event")
    assert [json.loads(row["payload"]) for row in collector.bad_events()] == [{"batch": batch}]


@pytest.mark.parametrize("length", [0, 20_000])
def test_json_of_any_depth_is_taken_or_refused(collector: Collector, length: int) -> None:
    # Where the parser gives up depends on how deep the collector's own calls are: around there every depth is tried. What is longer is
    # read beside the event loop, where that are fewer.
    forms = ('{"type":"page","anonymousId":"v","name":"n","properties":%s}', '{"type":"page","anonymousId":"null","properties":%s}')
    for form in forms:
        for depth in (64, *range(960, 1000)):
            deep = form % ('{"a":' * depth + "1" + "}" * depth)
            text = '{"batch":[{"type":"page","anonymousId":"good"},' + deep + "]}" + " " * length
            answer = collector.post("/v1/batch", text.encode())
            assert (answer.status, answer.json.get("code")) in {(200, None), (400, "too_deep")}, depth
    stored = [event["visitor_id"] for event in collector.events()]
    assert (stored.count("v"), set(stored)) == (1, {"v", "good"})


def test_many_requests_in_one_packet_are_all_answered_in_order(collector: Collector) -> None:
    def request(number: int) -> bytes:
        text = json.dumps(BUY | {"messageId": f"m{number}", "writeKey": "shop-key"}).encode()
        return b"POST /v1/t HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)

    with socket.create_connection(("127.0.0.1", collector.port), timeout=20) as connection:
        connection.sendall(b"".join(map(request, range(50))))
        answers = b""
        while answers.count(b'{"success":true,"results":{}}') < 50:
            answers += connection.recv(65536)
    assert answers.count(b"HTTP/1.1 200 ") == 50
    assert {event["message_id"] for event in collector.events()} == {f"m{number}" for number in range(50)}


@pytest.mark.parametrize("name", [b"Authorization", b"X-Forwarded-For", b"X-Forwarded-Proto", b"Access-Control-Request-Headers"])
@pytest.mark.parametrize("method", [b"POST", b"OPTIONS", b"GET"])
def test_headers_may_be_any_bytes(collector: Collector, method: bytes, name: bytes) -> None:
    text = json.dumps({"batch": [BUY, BUY], "writeKey": "shop-key"}).encode()
    path = b"/projects/shop-key/settings" if method == b"GET" else b"/v1/batch"
    answer = collector.raw(
        b"%b %b HTTP/1.1\r\nHost: x\r\n%b: \xff\xc3\r\nContent-Length: %d\r\n\r\n%b" % (method, path, name, len(text), text)
    )
    assert answer.startswith(b"HTTP/1.1 204 " if method == b"OPTIONS" else b"HTTP/1.1 200 ")


def test_a_key_of_any_bytes_is_a_401(collector: Collector) -> None:
    for key in (b"\xff\xc3", b"*", b"/w=="):
        answer = collector.raw(b"POST /v1/batch HTTP/1.1\r\nHost: x\r\nAuthorization: Basic %b\r\nContent-Length: 2\r\n\r\n{}" % key)
        assert answer.startswith(b"HTTP/1.1 401 ")


def test_a_single_bad_event_is_a_400_and_kept(collector: Collector) -> None:
    answer = collector.post("/v1/track", {"event": "buy", "userId": {"id": 1}})
    assert (answer.status, answer.json["code"]) == (400, "wrong_type")
    assert [row["code"] for row in collector.bad_events()] == ["wrong_type"]


def test_a_body_that_cannot_be_read_is_a_400_and_kept_if_it_is_known_whose(collector: Collector) -> None:
    assert collector.post("/v1/batch", b'{"batch": [').status == 400
    assert collector.post("/v1/batch", b'{"writeKey": "app-key", "batch": [\xff', key=None).status == 400
    assert collector.post("/v1/batch", b'{"batch": [', key=None).status == 401
    kept = collector.bad_events()
    assert [(row["code"], row["source"], row["payload"]) for row in kept] == [
        ("invalid_json", "shop", '{"batch": ['),
        ("invalid_json", "app", '{"writeKey": "app-key", "batch": [\ufffd'),
    ]


def test_a_byte_order_mark_is_passed_over(collector: Collector) -> None:
    for zipped in (False, True):
        assert collector.post("/v1/batch", b"\xef\xbb\xbf" + json.dumps({"batch": [BUY, BUY]}).encode(), zipped=zipped).status == 200
        assert collector.post("/v1/track", b"\xef\xbb\xbf" + json.dumps(BUY).encode(), zipped=zipped).status == 200
    assert len(collector.events()) == 6


def test_of_very_many_refused_events_the_first_are_named(collector: Collector) -> None:
    batch = [{"type": "page"}] * 2_500 + [BUY] * 2_500 + [7] * 2_500  # of the one kind, read; of the other, not
    for events in (batch[:5_000], batch[2_500:], batch):
        stored, kept = len(collector.events()), len(collector.bad_events())
        answer = collector.post("/v1/batch", {"batch": events})
        assert (answer.status, len(answer.json["results"])) == (200, 1_001)
        assert list(answer.json["results"].values())[-1]["details"].startswith("too_many_refused: ")
        assert (len(collector.events()), len(collector.bad_events())) == (stored + 2_500, kept + 1_001)


def test_an_empty_batch_is_fine(collector: Collector) -> None:
    assert collector.post("/v1/batch", {"batch": []}).status == 200


OLD = BUY | {"timestamp": "2019-01-01T00:00:00Z"}


def test_history_is_marked_by_batch_or_by_event(collector: Collector) -> None:
    collector.post("/v1/batch", {"batch": [OLD | {"messageId": "1"}], "historical": True}, key=MAIN_SERVER)
    collector.post("/v1/batch", {"batch": [OLD | {"messageId": "2", "historical": True}, OLD | {"messageId": "3"}]}, key=MAIN_SERVER)
    found = {event["message_id"]: (event["historical"], event["time_rule"]) for event in collector.events()}
    assert found == {"1": (True, "trusted"), "2": (True, "trusted"), "3": (False, "client")}


@pytest.mark.parametrize("in_batch", [False, True])
def test_history_needs_a_server_key_and_what_has_none_is_kept_as_refused(collector: Collector, in_batch: bool) -> None:
    live = BUY | {"messageId": "live"}
    events = [OLD | {"messageId": "old", "historical": not in_batch}, *([] if in_batch else [live])]
    answer = collector.post("/v1/batch", {"batch": events, "historical": in_batch})
    assert answer.status == 200
    assert answer.json["results"]["old"]["details"].startswith("historical_needs_server_key: ")
    single = collector.post("/v1/track", OLD | {"messageId": "single", "historical": True})
    assert (single.status, single.json["code"]) == (400, "historical_needs_server_key")
    assert [event["message_id"] for event in collector.events()] == ([] if in_batch else ["live"])
    assert [row["message_id"] for row in collector.bad_events()] == ["old", "single"]


@pytest.mark.parametrize(
    ("key", "body_key", "source"),
    [
        (MAIN_SERVER, None, ("server", "main")),
        (MAIN_SERVER, MAIN_SERVER, ("server", "main")),
        (None, MOBILE_SERVER, ("server", "mobile")),
        (MAIN_SERVER, "shop-key", ("shop", "main")),
    ],
)
def test_a_server_key_is_a_key_wherever_a_write_key_is(
    collector: Collector, key: str | None, body_key: str | None, source: tuple[str, str]
) -> None:
    collector.post("/v1/batch", {"batch": [OLD | {"historical": True}], "writeKey": body_key}, key=key)
    assert [(event["source"], event["dataset"], event["historical"]) for event in collector.events()] == [(*source, True)]


@pytest.mark.parametrize(
    ("path", "key", "body_key", "code"),
    [
        ("/v1/batch", f"sk_{'0c' * 32}", None, "unknown_server_key"),
        ("/v1/batch", MAIN_SERVER, "app-key", "other_dataset"),
        ("/v1/batch", MAIN_SERVER, "nobody", "unknown_write_key"),
        (f"/v1/batch?writeKey={MAIN_SERVER}", None, None, "server_key_in_address"),
    ],
)
def test_a_server_key_is_of_one_dataset_and_not_for_addresses(
    collector: Collector, path: str, key: str | None, body_key: str | None, code: str
) -> None:
    answer = collector.post(path, {"batch": [BUY], "writeKey": body_key}, key=key)
    assert (answer.status, answer.json["code"]) == (401, code)
    assert collector.events() == []


def test_a_server_key_is_not_for_the_address_of_a_pixel(collector: Collector) -> None:
    address = "/pixel/v1/track?event=buy&userId=u1&writeKey="
    answer = collector.request("GET", address + MAIN_SERVER)
    assert (answer.status, answer.json["code"]) == (401, "server_key_in_address")
    assert collector.request("GET", f"{address}shop-key").status == 200
    assert [event["source"] for event in collector.events()] == ["shop"]


def test_a_refused_event_is_kept_without_the_server_key_it_came_with(collector: Collector) -> None:
    collector.post("/v1/track", {"writeKey": MAIN_SERVER, "event": "buy"}, key=None)
    collector.post("/v1/batch", b'{"batch": 1, "writeKey": "%b"}' % MAIN_SERVER.encode(), key=None)
    assert [MAIN_SERVER in row["payload"] for row in collector.bad_events()] == [False, False]


def test_metrics_tell_what_happened(collector: Collector) -> None:
    collector.post("/v1/batch", {"batch": [BUY, BUY, {"type": "track"}]})
    lines = collector.app.render_metrics().splitlines()
    assert 'sokuji_track_requests_total{status="200"} 1' in lines
    assert 'sokuji_track_events_total{source="shop"} 2' in lines
    assert 'sokuji_track_refused_total{code="unknown_type"} 0' not in lines
    assert 'sokuji_track_refused_total{code="missing_event"} 1' in lines
    collector.post("/v1/batch", b"{")
    collector.post("/v1/batch", b"{", key=None)
    collector.post("/v1/page", {})
    collector.request("GET", "/pixel/v1/page?writeKey=shop-key")
    counted = collector.app.render_metrics().splitlines()
    assert 'sokuji_track_refused_total{code="invalid_json"} 1' in counted
    assert 'sokuji_track_refused_total{code="missing_id"} 2' in counted
    assert "sokuji_track_queue_events 0" in lines
    assert "sokuji_track_held_bytes 0" in lines


def test_health_and_readiness(collector: Collector) -> None:
    assert collector.request("GET", "/health").json == {"status": "ok"}
    assert collector.request("GET", "/ready").json == {"status": "ready"}
