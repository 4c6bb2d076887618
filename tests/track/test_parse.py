"""Every event of any request is accepted or refused with a reason; nothing is lost and nothing crashes."""

import itertools
import json
import os
import uuid
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sokuji.errors import InvalidRequestError
from sokuji.events import EventType
from sokuji.track.check import Limits, check
from sokuji.track.columns import to_arrow
from sokuji.track.parse import parse_batch, parse_event, text_at
from sokuji.track.request import Refusal, Request, WireEvent
from sokuji.track.skew import ClockOffsets
from sokuji.web.write_keys import EventSource

NOW = 1_790_000_000_000_000
LIMITS = Limits(event_bytes=2000, depth=5)

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXT
    | st.sampled_from(["null", "", "cut \ud83d", "\udc00", "\ud83d\ude00 即時", "nul \0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ILLEGAL = ["null", "undefined", "[object Object]", " ", "\t\n", "\u3000"]
ID = st.sampled_from(["v1", "v2", "", *ILLEGAL, "即時", "x" * 2100]) | st.none() | ANY_JSON
TIMES = st.sampled_from(
    [
        "2026-09-21T12:00:00.123Z",
        "2026-09-21T12:00:00+09:00",
        "2026-09-21",
        "2026-09-21 12:00",
        "20260921T120000Z",
        "soon",
        "",
        "9999-12-31T23:59:59Z",
        "2026-09-21T12:00:00.123456789Z",
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:00",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59-12:00",
        "2026-02-31T00:00:00Z",
        "2026-09-21T24:00:00Z",
    ]
)
OBJECT = st.dictionaries(TEXT, ANY_JSON, max_size=4) | ANY_JSON
EVENT = st.fixed_dictionaries(
    {"type": st.sampled_from(["track", "track", "track", "page", "screen", "identify", "group", "alias", "buy", ""])},
    optional={
        "messageId": ID,
        "anonymousId": ID,
        "userId": ID,
        "event": ID,
        "groupId": ID,
        "previousId": ID,
        "name": TEXT,
        "category": TEXT,
        "timestamp": TIMES | ANY_JSON,
        "originalTimestamp": TIMES,
        "sentAt": TIMES,
        "context": OBJECT,
        "properties": OBJECT,
        "traits": OBJECT,
        "historical": st.booleans(),
        "extra": ANY_JSON,
    },
)

GOOD = {"type": "track", "event": "buy", "messageId": "m", "anonymousId": "v", "properties": {"a": 1}}
ODD_VALUES: list[Any] = [None, "", " ", "null", "x", "soon", {}, {"a": 1}, [1], 7, True, "2026-09-21", "0000-01-01T00:00:00Z"]


def build(*requests: Request) -> list[dict[str, Any]]:
    """What the log would get."""
    for request in requests:
        request.source, request.received_at, request.sender = EventSource("shop", "main", is_server=True), NOW, "203.0.113.9"
    batches = to_arrow(requests, 3, LIMITS, ClockOffsets(60_000_000))
    for batch in batches.values():
        batch.validate(full=True)
    return [row for batch in batches.values() for row in batch.to_pylist()]


@given(st.lists(EVENT | ANY_JSON, max_size=6))
def test_every_event_is_stored_or_refused_with_a_reason(events: list[Any]) -> None:
    request = parse_batch(json.dumps({"batch": events, "sentAt": "2026-09-21T12:00:00Z"}).encode())
    stored = build(request)
    assert len(stored) == request.stored == len(events) - len(request.refused)
    assert all(refused.refusal.code and refused.refusal.reason for refused in request.refused)
    places = [refused.place for refused in request.refused]
    assert len(set(places)) == len(places)
    for refused in request.refused:
        assert text_at(request, refused.place).startswith(refused.payload)


@given(st.lists(st.lists(EVENT, max_size=4), min_size=1, max_size=4))
def test_screening_whole_batches_gives_what_checking_each_event_gives(batches: list[list[Any]]) -> None:
    requests = [parse_batch(json.dumps({"batch": events}).encode()) for events in batches]
    stored = build(*requests)
    accepted = []
    for events, request in zip(batches, requests, strict=True):
        refusals = {}
        for place, event in enumerate(events):
            alone = parse_batch(json.dumps({"batch": [event]}).encode())
            refusal = alone.refused[0].refusal if alone.refused else check(alone.events[0], LIMITS)
            if refusal is None:
                accepted.append(alone.events[0])
            else:
                refusals[place] = refusal
        assert {refused.place: refused.refusal for refused in request.refused} == refusals

    def known(row: tuple[Any, ...]) -> str:
        return repr(row)

    generated = {event.message_id for event in accepted} - {row["message_id"] for row in stored}
    assert sorted(
        known((e.type, e.event, e.anonymous_id, e.user_id, bytes(e.context) or None, bytes(e.properties) or None)) for e in accepted
    ) == sorted(
        known((r["type"], r["event_name"], r["visitor_id"], r["user_id"], encoded(r["context"]), encoded(r["properties"]))) for r in stored
    )
    assert all(len(message_id or "") == 36 for message_id in generated)


@pytest.mark.parametrize("type_", list(EventType))
def test_an_event_with_one_odd_field_is_judged_alike_by_screen_and_check(type_: str) -> None:
    for name, value in itertools.product(sorted({*WireEvent.__struct_encode_fields__} - {"type"}), ODD_VALUES):
        body = json.dumps({"batch": [GOOD | {"type": type_, "groupId": "g", "previousId": "p", "userId": "u"} | {name: value}]}).encode()
        request, alone = parse_batch(body), parse_batch(body)
        stored = build(request)
        refusal = alone.refused[0].refusal if alone.refused else check(alone.events[0], LIMITS)
        assert [refused.refusal for refused in request.refused] == ([refusal] if refusal else []), (name, value)
        if refusal is None:
            event = alone.events[0]
            (row,) = stored
            assert (row["event_name"], row["properties"] or "") == (event.event, bytes(event.properties).decode()), (name, value)


def encoded(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def test_stored_json_is_json_to_every_reader() -> None:
    valid = "SELECT count(*) FROM texts WHERE json_valid(text) AND json_type(text::JSON) = 'OBJECT'"
    with duckdb.connect() as connection:  # once: it costs more than an example

        @given(st.lists(EVENT, max_size=6))
        def read(events: list[Any]) -> None:
            stored = build(parse_batch(json.dumps({"batch": events}).encode()))
            found = [text for row in stored for text in (row["context"], row["properties"]) if text is not None]
            assert all(isinstance(json.loads(text), dict) for text in found)
            connection.register("texts", pa.table({"text": pa.array(found, pa.string())}))
            assert connection.execute(valid).fetchall() == [(len(found),)]

        read()


def cut(body: bytes) -> st.SearchStrategy[bytes]:
    """`body` with one byte replaced, or its end missing."""
    places = st.integers(0, len(body) - 1)
    return st.tuples(places, st.binary(max_size=1)).map(lambda change: body[: change[0]] + change[1] + body[change[0] + 1 :]) | places.map(
        lambda end: body[:end]
    )


@given(st.binary(max_size=60) | EVENT.map(lambda event: json.dumps({"batch": [event]}).encode()).flatmap(cut))
def test_arbitrary_bytes_are_events_or_a_clear_error(body: bytes) -> None:
    for parse in (parse_batch, parse_event):
        try:
            request = parse(body)
        except InvalidRequestError as error:
            problem = (error.status, bool(error.code), bool(error.message))
        else:
            assert len(build(request)) == request.stored
            continue
        assert problem == (400, True, True)


def refusal(event: object) -> Refusal:
    request = parse_batch(json.dumps({"batch": [event]}).encode())
    assert build(request) == []
    return request.refused[0].refusal


def row(event: dict[str, Any], **envelope: Any) -> dict[str, Any]:
    (stored,) = build(
        parse_batch(json.dumps({"batch": [{"type": "track", "event": "buy", "anonymousId": "v"} | event]} | envelope).encode())
    )
    return stored


@pytest.mark.parametrize(
    ("event", "code", "reason"),
    [
        ({"type": "track", "anonymousId": "v"}, "missing_event", "event is missing; a track call needs the event's name in it"),
        ({"type": "purchase", "anonymousId": "v"}, "unknown_type", "type is 'purchase'; expected one of track, page, screen"),
        ({"type": "page"}, "missing_id", "neither anonymousId nor userId is there"),
        ({"type": "page", "userId": "undefined"}, "illegal_id", "userId is 'undefined', which clients send when they have no id"),
        ({"type": "page", "userId": "[object Object]", "anonymousId": "v"}, "illegal_id", "userId is '[object Object]'"),
        ({"type": "page", "userId": "null"}, "illegal_id", "userId is 'null'"),
        ({"type": "page", "anonymousId": " \t"}, "illegal_id", "anonymousId is ' \\t'"),
        ({"type": "page", "anonymousId": "\u3000", "userId": "u"}, "illegal_id", "anonymousId is '\\u3000'"),
        ({"type": "group", "userId": "u", "groupId": "undefined"}, "illegal_id", "groupId is 'undefined'"),
        ({"type": "page", "userId": "u", "timestamp": "0000-06-01T00:00:00Z"}, "bad_timestamp", "expected ISO 8601"),
        (
            {"type": "track", "event": "e", "messageId": "m", "userId": "u", "timestamp": "0000-06-01T00:00:00Z"},
            "bad_timestamp",
            "expected ISO 8601",
        ),
        ({"type": "track", "event": "e", "userId": "u", "timestamp": 1_790_000_000}, "wrong_type", "at `$.timestamp`"),
        ({"type": "alias", "userId": "u"}, "missing_previous_id", "an alias call needs both previousId and userId"),
        ({"type": "alias", "userId": "u", "previousId": "NULL"}, "illegal_id", "previousId is 'NULL'"),
        ({"type": "group", "userId": "u"}, "missing_group_id", "groupId is missing"),
        ({"type": "page", "userId": {}}, "wrong_type", "Expected `str | null`, got `object` - at `$.userId`"),
        ({"type": "page", "userId": "u", "properties": [1]}, "wrong_type", "properties is [1]; expected an object"),
        ({"type": "page", "userId": "u", "timestamp": "soon"}, "bad_timestamp", "timestamp is 'soon'; expected ISO 8601"),
        ({"type": "page", "userId": "u", "context": {"a": "x" * 2000}}, "too_large", "context has 2009 bytes; at most 2000 are taken"),
        ({"type": "page", "userId": "u" * 2001}, "too_large", "at most 2000 are taken"),
        ({"type": "page", "userId": "u", "properties": {"a": [[[[["["]]]]]}}, "too_deep", "nested 6 deep; at most 5"),
        ("text", "wrong_type", "Expected `object`, got `str`"),
    ],
)
def test_a_bad_event_is_refused_with_a_reason_that_helps(event: object, code: str, reason: str) -> None:
    found = refusal(event)
    assert found.code == code
    assert reason in found.reason


def test_a_refusal_may_quote_text_cut_inside_a_character() -> None:
    request = parse_batch(b'{"batch": [{"type": "page", "userId": "u", "properties": "x' + "即".encode() * 20 + b'"}]}')
    assert build(request) == []
    assert request.refused[0].refusal == Refusal("wrong_type", 'properties is "x' + "即" * 12 + "\ufffd; expected an object")


def test_what_looks_deep_and_is_not_is_taken() -> None:
    assert json.loads(row({"properties": {"text": "[[[[[[[[", "list": [[], [], [], [], []]}})["properties"])["text"] == "[[[[[[[["


def test_one_bad_event_does_not_take_its_batch_along() -> None:
    events = [{"type": "page", "userId": f"u{number}"} for number in range(5)]
    events[1]["userId"] = {}  # type: ignore[assignment]
    events[3]["userId"] = "null"
    request = parse_batch(json.dumps({"batch": events}).encode())
    assert [stored["user_id"] for stored in sorted(build(request), key=lambda stored: str(stored["user_id"]))] == ["u0", "u2", "u4"]
    assert sorted((refused.place, refused.refusal.code) for refused in request.refused) == [(1, "wrong_type"), (3, "illegal_id")]


def test_invalid_utf8_in_one_event_does_not_take_its_batch_along() -> None:
    body = b'{"batch": [{"type": "page", "userId": "a"}, {"type": "page", "userId": "b", "properties": {"x": "\xff"}}]}'
    request = parse_batch(body)
    assert [stored["user_id"] for stored in build(request)] == ["a"]
    (found,) = request.refused
    assert (found.place, found.refusal.code) == (1, "invalid_utf8")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b'{"batch": [{]}', "invalid_json"),
        (b'{"batch": [' + b"[" * 100_000 + b"]" * 100_000 + b"]}", "too_deep"),
        (b'{"batch": {}}', "invalid_batch"),
        (b"[]", "invalid_batch"),
        (b'{"events": []}', "invalid_batch"),
        (b'{"batch": [], "writeKey": 1}', "invalid_batch"),
    ],
)
def test_a_body_that_is_no_batch_is_refused_whole(body: bytes, code: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_batch(body)
    assert (caught.value.status, caught.value.code) == (400, code)


def test_text_that_would_make_the_repair_quadratic_is_refused_at_once() -> None:
    with pytest.raises(InvalidRequestError, match="malformed"):
        parse_batch(b'{"batch": [' + b'\\"' * 2_000_000)


def test_what_some_encoders_write_and_json_does_not_have_is_put_right() -> None:
    properties = b'{"x": NaN, "y": [-Infinity], "z": "NaN \\\\ud83d"}'
    (stored,) = build(parse_event(b'{"event": "a \\ud83d", "userId": "u", "properties": %b}' % properties, "track"))
    assert stored["event_name"] == "a \ufffd"
    assert json.loads(stored["properties"]) == {"x": None, "y": [None], "z": "NaN \\ud83d"}


def test_ids_that_are_numbers_become_text() -> None:
    assert row({"userId": 42, "messageId": 7})["user_id"] == "42"


def test_an_empty_id_is_none_and_a_missing_message_id_is_made() -> None:
    first, second = row({"userId": ""}), row({"messageId": ""})
    assert first["user_id"] is None
    assert len({first["message_id"], second["message_id"]}) == 2
    assert len(first["message_id"]) == 36


@pytest.mark.parametrize("message_id", [*ILLEGAL, "", None])
def test_a_message_id_that_many_events_share_is_replaced(message_id: str | None) -> None:
    # Else all but the first would be dropped as repeats of it.
    assert len({row({"messageId": message_id})["message_id"] for _ in range(3)}) == 3


@pytest.mark.parametrize(
    ("number", "kept"),
    [
        *((number, "null") for number in ("1e400", "-1e400", "9085e20999", "9" * 400)),
        *((number, number) for number in ("123456789012345678901234567890", "0.1e-400", "1.50", "1e00308")),
    ],
)
def test_a_number_beyond_float64_is_null_and_any_other_as_it_was_written(number: str, kept: str) -> None:
    body = f'{{"event": "buy", "userId": {number}, "properties": {{"n": {number}}}}}'.encode()
    (stored,) = build(parse_event(body, "track"))
    assert (stored["user_id"], stored["properties"]) == (number, f'{{"n": {kept}}}')


@pytest.mark.parametrize("type_", ["page", "alias", "group"])
def test_of_a_property_that_is_there_twice_the_first_counts_when_another_is_added(type_: str) -> None:
    objects = '{"a":1,"name":"x","\\u0061":2,"b":"1:2","n":' + "9" * 400 + "}"
    ids = '"userId":"u","previousId":"p","groupId":"g"'
    body = f'{{{ids},"name":"n","properties":{objects},"traits":{objects}}}'.encode()
    (stored,) = build(parse_event(body, type_))
    added = {"page": {"name": "n"}, "alias": {"name": "x", "previous_id": "p"}, "group": {"name": "x", "group_id": "g"}}
    assert json.loads(stored["properties"]) == {"a": 1, "b": "1:2", "n": None, **added[type_]}


def test_of_traits_that_are_in_a_context_twice_the_first_count() -> None:
    (stored,) = build(parse_event(b'{"userId":"u","context":{"traits":{"a":1},"traits":{"a":2}}}', "identify"))
    assert stored["properties"] == '{"a":1}'


def test_one_odd_timestamp_does_not_make_others_be_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str | None] = []

    def noted(event: WireEvent, limits: Limits) -> Refusal | None:
        looked_at.append(event.message_id)
        return check(event, limits)

    monkeypatch.setattr("sokuji.track.columns.check", noted)
    times = ["2026-09-21T12:00:00Z"] * 400
    times[321] = "2026-09-21 12:00"
    events = [{"type": "track", "event": "e", "userId": "u", "messageId": str(at), "timestamp": time} for at, time in enumerate(times)]
    assert len(build(parse_batch(json.dumps({"batch": events}).encode()))) == 400
    assert "321" in looked_at
    assert len(looked_at) <= 16


def test_of_a_key_given_twice_the_last_counts_and_in_objects_the_text_is_kept() -> None:
    (stored,) = build(parse_event(b'{"event": "a", "event": "b", "userId": "u", "properties": {"x": 1, "x": 2}}', "track"))
    assert (stored["event_name"], stored["properties"]) == ("b", '{"x": 1, "x": 2}')


def test_what_has_no_column_of_its_own_is_added_to_the_properties() -> None:
    page = row({"type": "page", "name": "Home", "category": "Docs", "properties": {"name": "other", "url": "/"}})
    assert json.loads(page["properties"]) == {"name": "Home", "category": "Docs", "url": "/"}
    assert page["event_name"] == "page"
    assert json.loads(row({"type": "group", "groupId": "g", "traits": {"seats": 1}})["properties"]) == {"group_id": "g", "seats": 1}
    assert json.loads(row({"type": "alias", "userId": "u", "previousId": "p"})["properties"]) == {"previous_id": "p"}
    assert json.loads(row({"type": "identify", "traits": {"plan": 1}})["properties"]) == {"plan": 1}
    assert json.loads(row({"type": "identify", "context": {"traits": {"plan": 1}}})["properties"]) == {"plan": 1}


def test_events_of_a_visitor_keep_their_order_over_requests() -> None:
    requests = [
        parse_batch(
            json.dumps(
                {"batch": [{"type": "track", "event": f"{request}-{number}", "anonymousId": f"v{number % 7}"} for number in range(50)]}
            ).encode()
        )
        for request in range(3)
    ]
    stored = build(*requests)
    for visitor in range(7):
        names = [event["event_name"] for event in stored if event["visitor_id"] == f"v{visitor}"]
        assert names == [f"{request}-{number}" for request in range(3) for number in range(50) if number % 7 == visitor]


def test_ids_that_are_made_are_random_and_cost_no_system_call_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call let another thread have the interpreter: beside large bodies, events without ids stopped the collector for seconds."""
    drawn: list[int] = []
    real = os.urandom

    def urandom(size: int) -> bytes:
        drawn.append(size)
        return real(size)

    monkeypatch.setattr("os.urandom", urandom)
    events = [WireEvent(type="track", event="a", user_id="u") for _ in range(2_000)]
    assert [check(event, LIMITS) for event in events] == [None] * 2_000
    ids = {uuid.UUID(str(event.message_id)) for event in events}
    assert len(ids) == 2_000
    assert {id_.version for id_ in ids} == {4}
    assert len(drawn) <= 5
