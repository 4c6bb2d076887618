"""Tokens, pulls, checks and streams, over real sockets."""

import base64
import gzip
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest

from sokuji.clock import now_us
from sokuji.config import ActSettings
from sokuji.errors import OnlineStoreError
from sokuji.proof import proves, visitor_id_of
from sokuji.service.proxies import Proxies
from tests.act.api import ANY_PORT, HOUR_US, MASTER, POPUP, PROOF, VISITOR, Api, Stream, acting, append, eventually, row, told
from tests.log.opening import Opening
from tests.track.collector import rows

pytestmark = pytest.mark.e2e

SERVER_KEY = MASTER.server_key("main")


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with acting(tmp_path) as running:
        yield running


def hmac_sha256(key: str, text: str) -> str:
    """As RFC 2104 defines it."""
    block = key.encode().ljust(64, b"\0") if len(key) <= 64 else hashlib.sha256(key.encode()).digest().ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block) + text.encode()).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in block) + inner).hexdigest()


Opened = Callable[..., Stream]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Opens streams, and closes them at the end of the test."""
    with ExitStack() as streams:
        yield lambda *arguments, **headers: streams.enter_context(closing(Stream(*arguments, **headers)))


def ids(api: Api, token: str | None = None, after: str = "") -> list[str]:
    return [action["id"] for action in api.get(f"/v1/actions?after={after}", token).json["actions"]]


class TestTokens:
    def test_a_visitor_who_proves_their_id_gets_one(self, api: Api) -> None:
        answer = api.ask_token(writeKey="shop-key", anonymousId=VISITOR, proof=PROOF)
        assert answer.status == 200
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert set(answer.json) == {"token", "expires_at", "seconds", "unsigned_users"}
        assert answer.json["seconds"] == ANY_PORT.token_seconds
        assert api.get("/v1/actions", answer.json["token"]).json == {"actions": []}

    @pytest.mark.parametrize("proof", [{}, {"proof": ""}, {"proof": VISITOR}, {"proof": "another's"}])
    def test_to_know_a_visitor_id_is_not_enough(self, api: Api, proof: dict[str, str]) -> None:
        answer = api.ask_token(writeKey="shop-key", anonymousId=VISITOR, **proof)
        assert (answer.status, answer.json["code"]) == (403, "proof_required")

    @pytest.mark.parametrize(
        "signature", [{}, {"userSignature": ""}, {"userSignature": "u1"}, {"userSignature": hmac_sha256(MASTER.server_key("mobile"), "u1")}]
    )
    def test_to_know_a_user_id_is_not_enough(self, api: Api, signature: dict[str, str]) -> None:
        for more in ({}, {"anonymousId": VISITOR, "proof": PROOF}):
            answer = api.ask_token(writeKey="shop-key", userId="u1", **signature, **more)
            assert (answer.status, answer.json["code"]) == (403, "signature_required")

    def test_who_signed_in_is_the_visitor_and_the_user(self, api: Api, opened: Opened) -> None:
        append(api.log, row(name="d-v", rule="r1"), row("phone", user="u1", name="d-u", rule="r2"), row("phone", user="u2"))
        signature = hmac_sha256(SERVER_KEY, "u1")
        eventually(lambda: ids(api, api.token(userId="u1", userSignature=signature)), ["d-v", "d-u"])
        assert ids(api, api.ask_token(writeKey="shop-key", userId="u1", userSignature=signature.upper()).json["token"]) == ["d-u"]
        token = api.token(userId="u1", userSignature=signature)
        assert api.get("/v1/actions/d-u/eligible", token).json["eligible"]
        stream = opened(api, token)
        assert [json.loads(stream.next()["data"])["id"] for _ in "vu"] == ["d-v", "d-u"]
        append(api.log, row("phone", user="u1", name="next", rule="r3"))
        assert json.loads(stream.next()["data"])["id"] == "next"

    def test_nor_for_an_id_that_another_library_made(self, api: Api) -> None:
        answer = api.ask_token(writeKey="shop-key", anonymousId="5b2c0e1c-uuid", proof="5b2c0e1c-uuid")
        assert (answer.status, answer.json["code"]) == (403, "proof_required")

    def test_the_sites_server_speaks_for_any_id_of_its_dataset(self, api: Api) -> None:
        append(api.log, row("v-of-segment", name="d-v"), row("phone", user="u1", name="d-u"))
        for who, expected in [({"anonymousId": "v-of-segment"}, "d-v"), ({"userId": "u1"}, "d-u")]:
            token = api.ask_token(SERVER_KEY, **who).json["token"]
            eventually(partial(ids, api, token), [expected])

    def test_the_key_of_another_dataset_opens_nothing(self, api: Api) -> None:
        append(api.log, row("v1"))
        other = MASTER.server_key("mobile")
        assert api.ask_token(other, anonymousId="v1", dataset="main").status == 401
        token = api.ask_token(other, anonymousId="v1").json["token"]
        time.sleep(0.1)
        assert ids(api, token) == []

    def test_a_server_names_someone(self, api: Api) -> None:
        assert api.ask_token(SERVER_KEY).json["code"] == "missing_id"
        append(api.log, row("v1", name="d-v", rule="r1"), row("phone", user="u1", name="d-u", rule="r2"))
        eventually(lambda: ids(api, api.ask_token(SERVER_KEY, userId="u1", anonymousId="v1").json["token"]), ["d-v", "d-u"])

    @pytest.mark.parametrize("body", [b"", b"[1]", b"{", b'{"proof": 1}', b"\xff", b"[" * 5000])
    def test_a_broken_request_is_refused(self, api: Api, body: bytes) -> None:
        answer = api.request("POST", "/v1/actions/token", body)
        assert (answer.status, answer.json["code"]) == (400, "invalid_json")

    def test_a_large_request_is_refused(self, api: Api) -> None:
        assert api.request("POST", "/v1/actions/token", b" " * 100_000).status == 413

    def test_an_unknown_write_key_is_refused(self, api: Api) -> None:
        assert api.ask_token(writeKey="nobody's", anonymousId=VISITOR, proof=PROOF).status == 401

    @pytest.mark.parametrize("path", ["/v1/actions", "/v1/actions/stream", "/v1/actions/d1/eligible"])
    def test_nothing_is_given_without_a_token(self, api: Api, path: str) -> None:
        assert api.request("GET", path).json["code"] == "missing_token"
        for token in ("nonsense", "v1.e30.AAAA", "é.é.é", f"{api.token()[:-3]}AAA", "x" * 10_000):
            answer = api.request("GET", f"{path}?token={quote(token)}")
            assert (answer.status, answer.json["code"]) == (401, "invalid_token")

    def test_a_token_of_an_older_version_is_over(self, api: Api) -> None:
        payload = api.token().split(".")[1]
        signature = hmac.digest(MASTER.key("token"), f"v1.{payload}".encode(), "sha256")
        token = f"v1.{payload}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"
        answer = api.get("/v1/actions", token)
        assert (answer.status, answer.json["code"]) == (401, "expired_token")

    def test_a_token_ends(self, tmp_path: Path) -> None:
        now = [1_000_000_000]
        with acting(tmp_path, clock=lambda: now[0]) as api:
            token = api.token()
            assert api.get("/v1/actions", token).status == 200
            now[0] += int(ANY_PORT.token_seconds * 1_000_000)
            assert api.get("/v1/actions", token).json["code"] == "expired_token"


class TestPull:
    def test_a_visitor_sees_their_own_decisions_and_no_others(self, api: Api) -> None:
        mine = row(name="mine", arm="b", expires_us=4102444800000000)
        append(api.log, mine, row("someone", name="theirs"), row(dataset="mobile", name="elsewhere"))
        eventually(lambda: ids(api), ["mine"])
        [action] = api.get("/v1/actions").json["actions"]
        assert action == {
            "id": "mine",
            "rule": "three_items",
            "arm": "b",
            "action": json.loads(mine["properties"])["action"],
            "trigger_id": "m1",
            "expires_at": "2100-01-01T00:00:00.000Z",
            "cursor": "0",
        }

    def test_a_claim_to_be_a_user_gives_nothing_of_the_user(self, api: Api) -> None:
        # A page may `identify` as anyone. That joins the profiles, and what is decided on the joined one tells of the user.
        append(api.log, row("phone", user="u1"), row(VISITOR, user="u1", name="here"), row(name="before", rule="other"))
        eventually(lambda: ids(api), ["before"])
        assert api.get("/v1/actions/here/eligible").json == {"eligible": False, "reason": "unknown"}

    def test_unless_the_site_says_that_it_may(self, tmp_path: Path) -> None:
        rows = [row("phone", user="u1"), row(VISITOR, user="u1", rule="other", name="here")]
        with acting(tmp_path, ActSettings(port=0, unsigned_users=True), rows=rows) as api:
            eventually(lambda: ids(api), ["here"])

    def test_control_webhooks_and_functions_are_not_for_pages(self, api: Api) -> None:
        append(
            api.log,
            row(action=None, rule="r1"),
            row(action={"kind": "webhook", "url": "https://x.example/", "body": {}}, rule="r2"),
            row(action={"kind": "call", "function": "f", "arguments": {}}, rule="r3"),
            row(name="d-last", rule="r4"),
        )
        eventually(lambda: ids(api), ["d-last"])

    def test_expired_and_superseded_ones_are_gone(self, api: Api) -> None:
        append(api.log, row(name="old"), row(rule="r2", expires_us=1), row(name="new"), row(name="r3", rule="r3"))
        eventually(lambda: ids(api), ["new", "r3"])

    def test_a_page_goes_on_where_it_was(self, api: Api) -> None:
        append(api.log, row(name="a", rule="r1"), row(name="b", rule="r2"))
        eventually(lambda: ids(api, after="0"), ["b"])
        assert ids(api, after="1") == []
        # A cursor of another log, or no cursor at all: better twice than never.
        for after in ("99", "-1", "x", "9" * 400):
            assert ids(api, after=after) == ["a", "b"]

    def test_a_row_that_makes_no_sense_stops_nothing(self, api: Api) -> None:
        broken = [row(properties=text) for text in ("{}", "[]", "7", '{"rule": "r"}')]
        append(api.log, *broken, row(rule=None), row(action=7), row(expires_us="soon"), row(name="good"))
        eventually(lambda: ids(api), ["good"])

    def test_what_was_decided_before_the_start_is_found(self, tmp_path: Path) -> None:
        with acting(tmp_path, rows=[row(name="before")]) as api:
            eventually(lambda: api.request("GET", "/ready").status, 200)
            assert ids(api) == ["before"]

    def test_memory_is_bounded_and_the_oldest_go(self, tmp_path: Path) -> None:
        large = {"kind": "popup", "title": "x" * 100_000}
        with acting(
            tmp_path, ActSettings(port=0, memory_mib=1), rows=[row(name=f"d-{n}", rule=f"r{n}", action=large) for n in range(30)]
        ) as api:
            eventually(lambda: ids(api)[-1:], ["d-29"])
            assert ids(api) == [f"d-{n}" for n in range(20, 30)]


class TestEligibility:
    def check(self, api: Api, decision: str, token: str | None = None) -> object:
        return api.get(f"/v1/actions/{decision}/eligible", token).json

    def test_it_is_asked_again_when_it_is_shown(self, tmp_path: Path) -> None:
        bought: set[str | None] = set()
        with acting(tmp_path, ineligible=lambda question: "stopped" if question.decision.visitor_id in bought else None) as api:
            append(api.log, row(name="d"))
            eventually(lambda: self.check(api, "d"), {"eligible": True, "reason": None})
            bought.add(VISITOR)
            assert self.check(api, "d") == {"eligible": False, "reason": "stopped"}

    def test_each_obstacle_has_a_name(self, api: Api) -> None:
        append(
            api.log, row(name="old"), row(name="late", rule="r2", expires_us=1), row(name="none", rule="r3", action=None), row(name="new")
        )
        eventually(lambda: self.check(api, "new"), {"eligible": True, "reason": None})
        for decision, reason in [("old", "superseded"), ("late", "expired"), ("none", "nothing_to_show"), ("nonsense", "unknown")]:
            assert self.check(api, decision) == {"eligible": False, "reason": reason}

    def test_neither_a_pull_nor_a_new_stream_gives_what_does_not_hold(self, tmp_path: Path, opened: Opened) -> None:
        with acting(tmp_path, ineligible=lambda question: "stopped" if question.decision.id == "bought" else None) as api:
            append(api.log, row(name="bought", rule="r1"), row(name="good", rule="r2"))
            eventually(lambda: ids(api), ["good"])
            stream = opened(api, api.token())
            assert json.loads(stream.next()["data"])["id"] == "good"
            append(api.log, row(name="next", rule="r3"))
            assert json.loads(stream.next()["data"])["id"] == "next"

    def test_when_it_cannot_be_told_nothing_is_given_until_it_can(self, tmp_path: Path, opened: Opened) -> None:
        down = [OnlineStoreError("no worker")]

        def ask(_: object) -> None:
            for problem in down:
                raise problem

        with acting(tmp_path, ineligible=ask) as api:
            stream = opened(api, api.token())  # nothing is to be asked about
            assert stream.response.status == 200
            append(api.log, row(name="d1"))
            assert json.loads(stream.next()["data"])["id"] == "d1"  # decided just now
            for path in ("/v1/actions", "/v1/actions/stream", "/v1/actions/d1/eligible"):
                assert (answer := api.get(path)).status == 503
                assert (answer.json["code"], answer.headers["retry-after"]) == ("unavailable", "1")
            down.clear()
            assert ids(api) == ["d1"]

    @pytest.mark.parametrize(
        ("unsigned", "user", "expected"), [(False, None, []), (False, "ann", ["ann"]), (True, None, None), (True, "ann", None)]
    )
    def test_the_state_is_told_which_users_who_asks_has_shown_to_be(
        self, tmp_path: Path, opened: Opened, unsigned: bool, user: str | None, expected: list[str] | None
    ) -> None:
        told: list[object] = []
        with acting(tmp_path, ActSettings(port=0, unsigned_users=unsigned), ineligible=lambda question: told.append(question.users)) as api:
            append(api.log, row(name="d"))
            token = str(api.ask_token(MASTER.server_key("main"), anonymousId=VISITOR, **({"userId": user} if user else {})).json["token"])
            eventually(lambda: self.check(api, "d", token), {"eligible": True, "reason": None})
            assert [each["id"] for each in api.get("/v1/actions", token).json["actions"]] == ["d"]
            assert json.loads(opened(api, token).next()["data"])["id"] == "d"
        assert told == [expected] * 3

    def test_anothers_decision_is_as_unknown_as_none(self, api: Api) -> None:
        append(api.log, row(name="d"))
        eventually(lambda: self.check(api, "d"), {"eligible": True, "reason": None})
        end = api.log.end(0)
        assert self.check(api, "d", api.token("someone else")) == {"eligible": False, "reason": "unknown"}
        assert api.log.end(0) == end  # nor is anything said of it in the log


class TestShown:
    """What was shown is not handed out again, neither by a pull nor by a stream nor by a check."""

    def check(self, api: Api, decision: str, token: str | None = None) -> object:
        return api.get(f"/v1/actions/{decision}/eligible", token).json

    @pytest.mark.parametrize("event", ["action_shown", "action_clicked", "action_closed"])
    def test_it_is_not_handed_out_again(self, api: Api, opened: Opened, event: str) -> None:
        append(api.log, row(name="d", rule="r1"), row(name="good", rule="r2"))
        eventually(lambda: ids(api), ["d", "good"])
        told(api.events, "d", event=event)
        assert self.check(api, "d") == {"eligible": False, "reason": "shown"}  # at once: it was acknowledged
        assert ids(api) == ["good"]
        told(api.events, "good", event=event)
        stream = opened(api, api.token())
        append(api.log, row(name="next", rule="r3"))
        assert json.loads(stream.next()["data"])["id"] == "next"

    def test_nor_after_a_restart(self, tmp_path: Path, opened: Opened) -> None:
        with acting(tmp_path) as api:
            for number in range(300):
                told(api.events, f"other {number}")
            append(api.log, row(name="d", rule="r1"), row(name="good", rule="r2"))
            told(api.events, "d")
        with acting(tmp_path) as api:
            eventually(lambda: api.request("GET", "/ready").status, 200)
            assert ids(api) == ["good"]
            assert self.check(api, "d") == {"eligible": False, "reason": "shown"}

    def test_nor_where_the_clock_was_put_back_since(self, tmp_path: Path) -> None:
        with acting(tmp_path) as api:
            append(api.log, row(name="d", rule="r1"), row(name="good", rule="r2"))
            told(api.events, "d")
            for number in range(30):
                told(api.events, f"other {number}", at=now_us() - 2 * HOUR_US)
        with acting(tmp_path) as api:
            eventually(lambda: api.request("GET", "/ready").status, 200)
            assert ids(api) == ["good"]

    def test_a_page_may_be_faster_than_the_log_of_decisions(self, api: Api) -> None:
        told(api.events, "d")
        told(api.events, "e", "somebody")
        eventually(lambda: ids(api), [])
        append(api.log, row(name="d", rule="r1"), row(name="e", rule="r2"))
        eventually(lambda: ids(api), ["e"])

    def test_of_somebody_elses_decision_nobody_can_say_so(self, api: Api) -> None:
        append(api.log, row(name="d", rule="r1"), row("phone", user="u1", name="d-u", rule="r2"))
        token = api.token(userId="u1", userSignature=hmac_sha256(SERVER_KEY, "u1"))
        eventually(lambda: ids(api, token), ["d", "d-u"])
        for decision in ("d", "d-u"):
            told(api.events, decision, "somebody")
            told(api.events, decision, None, user="somebody")
            told(api.events, decision, None, user=VISITOR)
            told(api.events, decision, "u1")
        assert ids(api, token) == ["d", "d-u"]
        told(api.events, "d-u", "tablet", user="u1")  # the user, on another device
        told(api.events, "d", VISITOR, user="u2")
        assert ids(api, token) == []

    def test_of_two_ids_in_one_event_the_first_counts_as_in_the_lake(self, api: Api) -> None:
        append(api.log, row(name="d", rule="r1"), row(name="e", rule="r2"))
        eventually(lambda: ids(api), ["d", "e"])
        told(api.events, "", properties='{"decision_id": "d", "decision\\u005fid": "e", "decision_id": 1, "far": 1e999}')
        assert ids(api) == ["e"]

    def test_it_is_not_called_ineligible(self, api: Api) -> None:
        append(api.log, row(name="d"))
        told(api.events, "d")
        eventually(lambda: self.check(api, "d"), {"eligible": False, "reason": "shown"})
        assert [event["event_name"] for event in rows(api.log)] == ["action_decided"]


class TestStream:
    def test_a_decision_arrives_at_once(self, api: Api, opened: Opened) -> None:
        stream = opened(api, api.token())
        assert stream.response.status == 200
        assert stream.response.getheader("Content-Type") == "text/event-stream"
        started = time.monotonic()
        offset = append(api.log, row(name="d1"), row("someone", name="theirs"))
        event = stream.next()
        assert time.monotonic() - started < 1
        assert (event["id"], event["event"], json.loads(event["data"])["id"]) == (str(offset), "action", "d1")
        append(api.log, row(name="d2"))
        assert json.loads(stream.next()["data"])["id"] == "d2"

    def test_every_tab_gets_it(self, api: Api, opened: Opened) -> None:
        streams = [opened(api, api.token()) for _ in range(3)]
        append(api.log, row(name="d1"))
        assert {json.loads(stream.next()["data"])["id"] for stream in streams} == {"d1"}

    def test_it_resumes_after_the_last_event_seen(self, tmp_path: Path, opened: Opened, opening: Opening) -> None:
        with acting(tmp_path, opening=opening, rows=[row(name="before", rule="r0")]) as api:
            stream = opened(api, api.token())
            assert json.loads(stream.next()["data"])["id"] == "before"
            offset = append(api.log, row(name="a", rule="r1"))
            seen = stream.next()["id"]
            assert seen == str(offset)
            stream.close()
            append(api.log, row(name="b", rule="r2"), row(name="c", rule="r3"))
            told(api.events, "c")
            append(api.log, row(name="d", rule="r4"))
            eventually(lambda: ids(api), ["before", "a", "b", "d"])
            resumed = opened(api, api.token(), **{"Last-Event-ID": seen})
            assert [json.loads(resumed.next()["data"])["id"] for _ in "bd"] == ["b", "d"]

    def test_an_action_is_one_line_however_it_was_written(self, api: Api, opened: Opened) -> None:
        stream = opened(api, api.token())
        written = row(action=POPUP | {"title": "a\n\nid: 7"})
        append(api.log, written | {"properties": json.dumps(json.loads(written["properties"]), indent=2)})
        assert json.loads(stream.next()["data"])["action"]["title"] == "a\n\nid: 7"

    def test_it_beats_while_nothing_happens(self, tmp_path: Path, opened: Opened) -> None:
        with acting(tmp_path, ActSettings(port=0, heartbeat_seconds=0.05)) as api:
            stream = opened(api, api.token())
            assert [stream.line() for _ in range(6)] == ["retry: 2000\n", "\n", ":\n", "\n", ":\n", "\n"]

    def test_it_ends_with_its_token(self, tmp_path: Path, opened: Opened) -> None:
        with acting(tmp_path, ActSettings(port=0, token_seconds=0.3)) as api:
            stream = opened(api, api.token())
            with pytest.raises(EOFError):
                stream.next()

    def test_streams_of_one_visitor_and_of_all_are_bounded(self, tmp_path: Path, opened: Opened) -> None:
        with acting(tmp_path, ActSettings(port=0, visitor_streams=2, streams=3), proxies=Proxies(())) as api:
            tokens = [api.token(), api.token(), api.token("another"), api.token("a third")]
            open_ = [opened(api, token, f"127.0.0.{number}") for number, token in enumerate(tokens[:2], 2)]
            assert api.get("/v1/actions/stream", tokens[0]).json["code"] == "too_many_streams"
            open_.append(opened(api, tokens[2], "127.0.0.4"))
            answer = api.get("/v1/actions/stream", tokens[3])
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            for stream in open_:
                stream.close()
            eventually(lambda: "sokuji_act_streams 0\n" in api.app.render_metrics(), True)
            again = opened(api, tokens[3])
            assert again.response.status == 200

    def test_a_shutdown_ends_it(self, tmp_path: Path, opened: Opened) -> None:
        ended = threading.Event()
        with acting(tmp_path) as api:
            stream = opened(api, api.token())

            def read() -> None:
                with pytest.raises(EOFError):
                    stream.next()
                ended.set()

            reader = threading.Thread(target=read)
            reader.start()
            started = time.monotonic()
        assert time.monotonic() - started < 5
        assert ended.wait(5)
        reader.join()


class TestProtocol:
    def test_pages_of_any_origin_may_ask(self, api: Api) -> None:
        answer = api.request("OPTIONS", "/v1/actions", headers={"Access-Control-Request-Headers": "authorization"})
        assert (answer.status, answer.headers["access-control-allow-headers"]) == (204, "authorization")

    @pytest.mark.parametrize(
        ("method", "path", "status", "code"),
        [
            ("GET", "/v1/actions/token", 405, "method_not_allowed"),
            ("POST", "/v1/actions", 405, "method_not_allowed"),
            ("HEAD", "/v1/actions/stream", 405, "method_not_allowed"),
            ("GET", "/nothing", 404, "not_found"),
            ("GET", "/", 404, "not_found"),
        ],
    )
    def test_other_requests_are_refused(self, api: Api, method: str, path: str, status: int, code: str) -> None:
        answer = api.request(method, path)
        assert answer.status == status
        if method != "HEAD":
            assert answer.json["code"] == code

    def test_health_and_metrics(self, api: Api) -> None:
        assert api.request("GET", "/health").json == {"status": "ok"}
        eventually(lambda: api.request("GET", "/ready").json, {"status": "ready"})
        assert "sokuji_act_requests_total" in api.app.render_metrics()
        assert api.request("GET", "/metrics").status == 404  # they are for this machine only

    @pytest.mark.parametrize("path", ["/v1/actions", "/v1/actions/stream", "/v1/actions/x/eligible"])
    def test_a_query_of_very_many_parameters_is_a_400(self, api: Api, path: str) -> None:
        query = "&".join(f"{number}=1" for number in range(1_000))
        answer = api.request("GET", f"{path}?{query}")
        assert (answer.status, answer.json["code"]) == (400, "too_many_parameters")

    def test_the_tag_is_sent_once(self, api: Api) -> None:
        answer = api.request("GET", "/sokuji.js")
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/javascript")
        etag = answer.headers["etag"]
        for known in (etag, f'"other", {etag}', etag.removeprefix("W/")):
            again = api.request("GET", "/sokuji.js", headers={"If-None-Match": known})
            assert (again.status, again.body) == (304, b"")
            assert "content-length" not in again.headers  # of what the client has, it would be
        assert api.request("GET", "/sokuji.js", headers={"If-None-Match": '"other"'}).status == 200
        packed = api.request("GET", "/sokuji.js", headers={"Accept-Encoding": "br, gzip"})
        assert packed.headers["content-encoding"] == "gzip"
        assert len(packed.body) <= 6400
        assert gzip.decompress(packed.body) == answer.body


def test_ids_are_commitments() -> None:
    assert visitor_id_of("a") == "s1-ypeBEsobvcr6wjGzmiPcTaeG7_gUfE5yuYB3ha_uSLs"  # base64url of the well-known SHA-256 of "a"


def test_ids_of_another_form_and_endless_secrets_prove_nothing() -> None:
    assert proves("a" * 256, visitor_id_of("a" * 256))
    assert not proves("a" * 257, visitor_id_of("a" * 257))
    assert not proves("a", visitor_id_of("a") + "=")
    assert not proves("", "s1-")
