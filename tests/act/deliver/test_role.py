"""Webhooks and functions, against a real HTTP server and real processes."""

import base64
import hashlib
import hmac
import json
import multiprocessing
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sokuji.act.deliver.functions import Perform
from sokuji.act.deliver.perform import performer
from sokuji.act.deliver.retry import Breaker, pause_seconds
from sokuji.act.deliver.role import CONSUMER
from sokuji.act.fate import DELIVERED, Fate, to_events
from sokuji.clock import now_us
from sokuji.config import WebhookSettings
from tests.act.api import MASTER, VISITOR, append, decisions_log, row
from tests.act.receiver import Delivering, Received, Receiver, delivering, payload, quick
from tests.log.opening import Opening
from tests.searching import examples

pytestmark = pytest.mark.e2e

KILLS = examples(9)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with closing(Receiver()) as running:
        yield running


def eventually_empty(role: Delivering, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while "sokuji_deliver_queue 0\n" not in role.deliverer.render_metrics() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "sokuji_deliver_queue 0\n" in role.deliverer.render_metrics()


class TestRequest:
    def test_it_is_the_rules_body_signed(self, tmp_path: Path, receiver: Receiver) -> None:
        with delivering(tmp_path, quick(receiver.host)) as role:
            append(role.log, receiver.webhook("/hook?x=1", name="d1"))
            assert receiver.wait_for(1) == ["d1"]
        [request] = receiver.received
        assert (request.path, json.loads(request.body)) == ("/hook?x=1", {"item": "tea", "count": 3})
        assert request.headers["content-type"] == "application/json"
        assert request.headers["idempotency-key"] == "d1"
        # As a receiver checks it, by the text of standardwebhooks.com.
        secret = MASTER.webhook_secret(f"http://{receiver.host}")
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = b".".join([b"d1", request.headers["webhook-timestamp"].encode(), request.body])
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert request.headers["webhook-signature"].split() == [f"v1,{expected}"]
        assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 10

    def test_every_endpoint_has_a_secret_of_its_own(self) -> None:
        assert len({MASTER.webhook_secret(f"https://a.example:{port}") for port in range(10)}) == 10

    def test_only_webhooks_are_sent(self, tmp_path: Path, receiver: Receiver) -> None:
        with delivering(tmp_path, quick(receiver.host)) as role:
            append(role.log, row(), row(action=None), receiver.webhook(name="d1"))
            assert receiver.wait_for(1) == ["d1"]
            eventually_empty(role)
            assert role.dead() == []


class TestRetries:
    def test_a_failure_is_tried_again_until_it_works(self, tmp_path: Path, receiver: Receiver) -> None:
        receiver.answer = lambda _: 500 if len(receiver.received) < 4 else 204
        with delivering(tmp_path, quick(receiver.host)) as role:
            append(role.log, receiver.webhook(name="d1"))
            assert receiver.wait_for(4) == ["d1"] * 4
            eventually_empty(role)
            assert role.dead() == []

    @pytest.mark.parametrize("restarted", [False, True])
    def test_a_clock_that_is_put_back_makes_no_pause_longer(self, tmp_path: Path, receiver: Receiver, restarted: bool) -> None:
        ahead_us, again = 3 * 86_400_000_000, threading.Event()
        receiver.answer = lambda _: 200 if again.is_set() else 500

        def clock() -> int:
            return now_us() + (0 if again.is_set() else ahead_us)

        settings = quick(receiver.host, first_retry_seconds=60.0 if restarted else 0.5)
        with delivering(tmp_path, settings, clock=clock) as role:
            append(role.log, receiver.webhook(expires_us=now_us() + 2 * ahead_us))
            receiver.wait_for(1)
            if restarted:
                time.sleep(0.1)  # so that it is put down when it is due
            again.set()
            receiver.wait_for(1 if restarted else 2)
        with delivering(tmp_path, settings, clock=clock) as role:
            role.wait_for_outcomes(1)
        assert len(receiver.received) == 2

    def test_after_the_last_attempt_it_is_a_bad_event(self, tmp_path: Path, receiver: Receiver) -> None:
        receiver.answer = lambda _: 503
        with delivering(tmp_path, quick(receiver.host, attempts=3)) as role:
            append(role.log, receiver.webhook(name="d1"))
            [dead] = role.wait_for_dead(1)
        assert receiver.ids == ["d1"] * 3
        assert (dead["dataset"], dead["source"], dead["code"], dead["message_id"]) == ("main", "sokuji", "delivery_error_status", "d1")
        assert dead["reason"] == f"http://{receiver.host} answered 503"
        assert payload(dead) == {"item": "tea", "count": 3}

    @pytest.mark.parametrize(("status", "code"), [(400, "delivery_rejected"), (410, "delivery_rejected"), (302, "delivery_redirect")])
    def test_what_would_fail_again_is_not_tried_again(self, tmp_path: Path, receiver: Receiver, status: int, code: str) -> None:
        receiver.answer = lambda _: (status, {"Location": f"http://{receiver.host}/elsewhere"})
        with delivering(tmp_path, quick(receiver.host)) as role:
            append(role.log, receiver.webhook())
            assert [dead["code"] for dead in role.wait_for_dead(1)] == [code]
        assert [request.path for request in receiver.received] == ["/hook"]

    def test_the_receiver_may_say_when_to_come_again(self, tmp_path: Path, receiver: Receiver) -> None:
        receiver.answer = lambda _: (429, {"Retry-After": "1"}) if len(receiver.received) == 1 else 200
        with delivering(tmp_path, quick(receiver.host)) as role:
            append(role.log, receiver.webhook())
            receiver.wait_for(2)
        first, second = receiver.received
        assert second.at - first.at >= 1

    @pytest.mark.parametrize("behaviour", [b"", b"SMTP ready\r\n\r\n", b"HTTP/1.1 200 " + b"x" * 100_000, None])
    def test_what_is_no_answer_is_a_failure(self, tmp_path: Path, behaviour: bytes | None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            host = f"127.0.0.1:{server.getsockname()[1]}"

            def serve() -> None:
                connection, _ = server.accept()
                with connection:
                    if behaviour is None:
                        time.sleep(0.5)
                    connection.recv(10_000)
                    connection.sendall(behaviour or b"")

            thread = threading.Thread(target=serve)
            thread.start()
            with delivering(tmp_path, quick(host, attempts=1, timeout_seconds=0.2)) as role:
                append(role.log, row(action={"kind": "webhook", "url": f"http://{host}/", "body": {}}))
                [dead] = role.wait_for_dead(1)
            thread.join()
        assert dead["code"] == ("delivery_timeout" if behaviour is None else "delivery_no_answer")

    def test_nobody_there_is_a_failure(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            host = f"127.0.0.1:{server.getsockname()[1]}"
        with delivering(tmp_path, quick(host, attempts=1)) as role:
            append(role.log, row(action={"kind": "webhook", "url": f"http://{host}/", "body": {}}))
            assert role.wait_for_dead(1)[0]["code"] == "delivery_no_answer"

    def test_what_was_decided_too_long_ago_is_not_delivered(self, tmp_path: Path, receiver: Receiver) -> None:
        with delivering(tmp_path, quick(receiver.host)) as role:
            append(role.log, receiver.webhook(expires_us=1))
            assert role.wait_for_dead(1)[0]["code"] == "delivery_expired"
        assert receiver.received == []

    def test_a_row_that_makes_no_sense_stops_nothing(self, tmp_path: Path, receiver: Receiver) -> None:
        with delivering(tmp_path, quick(receiver.host)) as role:
            append(role.log, row(properties='{"rule": 1}'), row(action={"kind": "webhook"}), receiver.webhook(name="good"))
            assert receiver.wait_for(1) == ["good"]
            assert {dead["code"] for dead in role.wait_for_dead(2)} == {"delivery_malformed", "delivery_refused_address"}

    def test_pauses_double_with_jitter_up_to_a_bound(self) -> None:
        settings = WebhookSettings()
        for attempt in range(1, 200):
            longest = min(2.0 ** (attempt - 1), 3600.0)
            pauses = [pause_seconds(attempt, 0, settings) for _ in range(20)]
            assert all(longest / 2 <= pause <= longest for pause in pauses)
            assert len(set(pauses)) > 1
        assert pause_seconds(1, 77, settings) == 77
        assert pause_seconds(1, 1e12, settings) == 24 * 3600


class TestOutcomes:
    def test_what_is_delivered_is_an_event_of_whom_it_was_about(self, tmp_path: Path, receiver: Receiver) -> None:
        receiver.answer = lambda _: 500 if len(receiver.received) < 3 else 200
        with delivering(tmp_path, quick(receiver.host)) as role:
            append(role.log, receiver.webhook(name="d1", user="u1"))
            [event] = role.wait_for_outcomes(1)
        assert (event["event_name"], event["source"], event["type"], event["dataset"]) == ("action_delivered", "sokuji", "track", "main")
        assert (event["visitor_id"], event["user_id"]) == (VISITOR, "u1")
        assert event["properties"] == {
            "decision_id": "d1",
            "rule": "three_items",
            "arm": "a",
            "reason": None,
            "message": None,
            "attempts": 3,
            "endpoint": f"http://{receiver.host}",
        }

    @pytest.mark.parametrize(
        ("status", "fields", "reason", "attempts"),
        [(503, {}, "error_status", 2), (410, {}, "rejected", 1), (200, {"expires_us": 1}, "expired", 1)],
    )
    def test_so_is_what_fails_for_good_with_the_reason(
        self, tmp_path: Path, receiver: Receiver, status: int, fields: dict[str, Any], reason: str, attempts: int
    ) -> None:
        receiver.answer = lambda _: status
        with delivering(tmp_path, quick(receiver.host, attempts=2)) as role:
            append(role.log, receiver.webhook(name="d1", **fields))
            [event] = role.wait_for_outcomes(1)
            eventually_empty(role)
            assert [dead["code"] for dead in role.dead()] == [f"delivery_{reason}"]
        assert event["event_name"] == "action_failed"
        assert (event["properties"]["reason"], event["properties"]["attempts"]) == (reason, attempts)
        assert event["properties"]["message"]

    def test_what_there_is_no_room_for_has_failed(self, tmp_path: Path, receiver: Receiver) -> None:
        receiver.answer = lambda _: 500
        with delivering(tmp_path, quick(receiver.host, endpoint_queue=2, first_retry_seconds=60.0)) as role:
            append(role.log, *(receiver.webhook(name=f"d{number}") for number in range(5)))
            found = role.wait_for_outcomes(3)
        assert [(event["properties"]["decision_id"], event["properties"]["reason"]) for event in found] == [
            (f"d{number}", "backlog") for number in (2, 3, 4)
        ]

    def test_one_that_was_put_down_before_a_crash_is_neither_told_nor_delivered_again(
        self, tmp_path: Path, receiver: Receiver, opening: Opening
    ) -> None:
        receiver.answer = lambda _: 500
        settings = quick(receiver.host, first_retry_seconds=60.0)
        with delivering(tmp_path, settings, opening=opening) as role:
            append(role.log, receiver.webhook(name="d1"))
            receiver.wait_for(1)
            while '{result="error_status"} 1\n' not in role.deliverer.render_metrics():
                time.sleep(0.01)
        with decisions_log(tmp_path, opening) as log:  # as if it had died between the log and the queue
            done = [Fate(DELIVERED, name, "main", VISITOR, None, "three_items", "a", None, {}) for name in ("d1", "d2")]
            log.append(0, to_events(done, now_us()))
            append(log, receiver.webhook(name="d2"), receiver.webhook(name="d3"))
        receiver.answer = lambda _: 200
        with delivering(tmp_path, settings, opening=opening) as role:
            assert receiver.wait_for(2) == ["d1", "d3"]
            assert [event["properties"]["decision_id"] for event in role.wait_for_outcomes(3)] == ["d1", "d2", "d3"]
            eventually_empty(role)


class TestIsolation:
    def test_a_receiver_that_hangs_holds_no_other_back(self, tmp_path: Path, receiver: Receiver) -> None:
        release = threading.Event()

        def hang(_: Received) -> int:
            release.wait()
            return 200

        with closing(Receiver()) as slow, delivering(tmp_path, quick(receiver.host, slow.host, timeout_seconds=60)) as role:
            slow.answer = hang
            append(role.log, *(slow.webhook() for _ in range(100)), *(receiver.webhook() for _ in range(100)))
            try:
                assert len(receiver.wait_for(100)) == 100
                concurrency = quick().endpoint_concurrency
                assert len(slow.wait_for(concurrency)) == concurrency
            finally:
                release.set()

    def test_an_endpoint_that_is_down_rests(self, tmp_path: Path, receiver: Receiver) -> None:
        receiver.answer = lambda _: 500
        settings = quick(receiver.host, breaker_failures=3, breaker_seconds=0.5, endpoint_concurrency=1, first_retry_seconds=0.01)
        with delivering(tmp_path, settings) as role:
            append(role.log, *(receiver.webhook() for _ in range(20)))
            receiver.wait_for(3)
            time.sleep(0.3)
            assert len(receiver.received) == 3
            receiver.answer = lambda _: 200
            receiver.wait_for(23)
            eventually_empty(role)
        assert receiver.received[3].at - receiver.received[2].at >= 0.45
        assert len(set(receiver.ids)) == 20

    def test_a_breaker_lets_one_through_after_its_rest(self) -> None:
        breaker = Breaker(failures_max=2, rest_seconds=10)
        breaker.record(is_up=False, now=0)
        assert breaker.limit(8, 0) == 8
        breaker.record(is_up=False, now=1)
        assert [breaker.limit(8, now) for now in (1, 10.9, 11)] == [0, 0, 1]
        breaker.record(is_up=False, now=11)
        assert [breaker.limit(8, now) for now in (20, 21)] == [0, 1]
        breaker.record(is_up=True, now=21)
        assert breaker.limit(8, 21) == 8

    def test_a_backlog_is_bounded(self, tmp_path: Path, receiver: Receiver) -> None:
        receiver.answer = lambda _: 500
        with delivering(tmp_path, quick(receiver.host, endpoint_queue=10, first_retry_seconds=60.0)) as role:
            append(role.log, *(receiver.webhook() for _ in range(25)))
            dead = role.wait_for_dead(15)
            assert {event["code"] for event in dead} == {"delivery_backlog"}
            assert len(dead) == 15


class TestAddresses:
    REFUSED = (
        "http://127.0.0.1:9/",
        "https://127.0.0.1/",
        "https://localhost/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",  # by NAT64
        "https://[2002:7f00:1::]/",  # by 6to4
        "https://0/",
        "https://0x7f000001/",
        "http://93.184.216.34/",  # not private, but not https
        "https://user:password@93.184.216.34/",
        "ftp://93.184.216.34/",
        "https:///path",
        "https://93.184.216.34/\u00e9",
        "https://93.184.216.34/a b",
        "https://93.184.216.34:99999/",
        "javascript:alert(1)",
        "",
        None,
    )

    def test_private_networks_and_other_schemes_are_refused(self, tmp_path: Path) -> None:
        with delivering(tmp_path, quick(breaker_failures=100)) as role:
            append(role.log, *(row(name=str(url), action={"kind": "webhook", "url": url, "body": {}}) for url in self.REFUSED))
            dead = role.wait_for_dead(len(self.REFUSED))
        assert {event["message_id"]: event["code"] for event in dead} == {str(url): "delivery_refused_address" for url in self.REFUSED}

    def test_a_receiver_of_ones_own_is_named_by_host_and_port(self, tmp_path: Path, receiver: Receiver) -> None:
        with delivering(tmp_path, quick("127.0.0.1:1")) as role:
            append(role.log, receiver.webhook())
            [dead] = role.wait_for_dead(1)
        assert f'"{receiver.host}"' in dead["reason"]
        assert "webhooks.private_hosts" in dead["reason"]
        assert receiver.received == []


def perform(file: Path, decision: Mapping[str, Any]) -> None:
    match decision["rule"]:
        case "raises":
            raise RuntimeError("no such customer")
        case "hangs":
            time.sleep(60)
        case "exits":
            os._exit(3)
    with file.open("a") as target:
        target.write(json.dumps(decision) + "\n")


def load(file: Path) -> Perform:
    return partial(perform, file)


def broken() -> Perform:
    raise ImportError("no module named shop")


def call(rule: str, **fields: Any) -> dict[str, Any]:
    return row(rule=rule, action={"kind": "call", "arguments": {"to": "a@shop.example"}}, **fields)


class TestFunctions:
    def test_it_gets_the_decision(self, tmp_path: Path) -> None:
        file = tmp_path / "called"
        with delivering(tmp_path, quick(), partial(load, file)) as role:
            append(role.log, call("mail", name="d1", user="u1"))
            eventually_called(file, 1)
        [decision] = [json.loads(line) for line in file.read_text().splitlines()]
        assert (decision["id"], decision["rule"], decision["user_id"]) == ("d1", "mail", "u1")
        assert decision["action"]["arguments"] == {"to": "a@shop.example"}

    @pytest.mark.parametrize(
        ("rule", "code", "reason"),
        [
            ("raises", "delivery_raised", "no such customer"),
            ("hangs", "delivery_timeout", "within 0.3 s"),
            ("exits", "delivery_died", "status 3"),
        ],
    )
    def test_one_that_fails_is_tried_again_and_stops_no_other(self, tmp_path: Path, rule: str, code: str, reason: str) -> None:
        file = tmp_path / "called"
        with delivering(tmp_path, quick(attempts=2, function_seconds=0.3), partial(load, file)) as role:
            append(role.log, call(rule, name="bad"), call("mail", name="good"))
            [dead] = role.wait_for_dead(1)
            eventually_called(file, 1)
        assert (dead["message_id"], dead["code"]) == ("bad", code)
        assert reason in dead["reason"]

    def test_those_of_a_projects_actions_are_called(self, tmp_path: Path) -> None:
        actions = tmp_path / "actions.py"
        file = tmp_path / "called"
        actions.write_text(
            "import json, pathlib\n"
            "from sokuji.rules import call, rule\n"
            "def mail(decision, to):\n"
            f"    pathlib.Path({str(file)!r}).write_text(json.dumps([decision['visitor_id'], to]) + '\\n')\n"
            "rule('thank', on='buy', do=call(mail, to='{email}'))\n"
        )
        with delivering(tmp_path, quick(), partial(performer, actions)) as role:
            append(role.log, call("thank", arm="action"))
            eventually_called(file, 1)
        assert json.loads(file.read_text()) == [VISITOR, "a@shop.example"]

    def test_code_that_cannot_be_loaded_is_a_failure(self, tmp_path: Path) -> None:
        with delivering(tmp_path, quick(attempts=1), broken) as role:
            append(role.log, call("mail"))
            assert "no module named shop" in role.wait_for_dead(1)[0]["reason"]

    def test_without_functions_it_is_refused(self, tmp_path: Path) -> None:
        with delivering(tmp_path, quick()) as role:
            append(role.log, call("mail"))
            assert role.wait_for_dead(1)[0]["code"] == "delivery_no_functions"


def eventually_called(file: Path, count: int) -> None:
    deadline = time.monotonic() + 20
    while not (file.exists() and len(file.read_text().splitlines()) >= count) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(file.read_text().splitlines()) == count


def deliver(folder: Path, host: str) -> None:
    with delivering(folder, quick(host, first_retry_seconds=0.01, breaker_seconds=0.05)):
        time.sleep(60)


def taken(role: Delivering) -> int:
    return role.log.committed(CONSUMER).get(0, 0)


@pytest.mark.slow
def test_killed_at_any_moment_it_loses_nothing(tmp_path: Path, receiver: Receiver) -> None:
    chance = random.Random(7)
    accepted: list[str] = []

    def answer(request: Received) -> int:
        if chance.random() < 0.2:
            return 500
        accepted.append(request.id)
        return 200

    receiver.answer = answer
    context = multiprocessing.get_context("spawn")
    sent: list[str] = []
    with decisions_log(tmp_path) as log:
        for _ in range(KILLS):
            process = context.Process(target=deliver, args=(tmp_path, receiver.host))
            process.start()
            before = len(receiver.received)
            for _ in range(10):
                batch = [receiver.webhook() for _ in range(20)]
                sent += [each["message_id"] for each in batch]
                append(log, *batch)
                time.sleep(0.02)
            receiver.wait_for(before + 1)
            time.sleep(chance.random() * 0.3)
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()
    with delivering(tmp_path, quick(receiver.host)) as role:
        while taken(role) < len(sent):
            time.sleep(0.01)
        eventually_empty(role, 30)
        assert role.dead() == []
        # What came of each is told once.
        assert sorted(event["properties"]["decision_id"] for event in role.outcomes()) == sorted(sent)
    assert set(accepted) == set(sent)
    # What comes again was under way when the process died: at each death at most what may be under way at one endpoint.
    assert len(accepted) - len(sent) <= KILLS * quick().endpoint_concurrency


def test_the_documentation_checks_a_signature(tmp_path: Path, receiver: Receiver) -> None:
    text = (Path(__file__).parents[3] / "docs" / "actions.md").read_text().partition("## Webhooks")[2]
    names: dict[str, Any] = {}
    exec(text.split("```python\n")[1].split("```")[0], names)
    is_genuine = names["is_genuine"]
    with delivering(tmp_path, quick(receiver.host)) as role:
        append(role.log, receiver.webhook())
        receiver.wait_for(1)
    [request] = receiver.received
    secret = MASTER.webhook_secret(f"http://{receiver.host}")
    assert is_genuine(request.headers, request.body, secret)
    assert not is_genuine(request.headers, request.body + b" ", secret)
    assert not is_genuine(request.headers, request.body, MASTER.webhook_secret("https://other.example:443"))
    for header, value in [("webhook-timestamp", "1700000000"), ("webhook-id", "another")]:
        assert not is_genuine({**request.headers, header: value}, request.body, secret)
