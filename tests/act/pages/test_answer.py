"""Who gets decisions in the response to an event: over HTTP, with an existing decisions log."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sokuji.act.pages.answer import Answering
from sokuji.act.pages.token import Tokens
from sokuji.act.pages.waiter import Waiter
from sokuji.clock import now_us
from sokuji.config import ActSettings
from sokuji.log.base import Log
from sokuji.proof import visitor_id_of
from sokuji.track.app import Decided
from tests.act.api import ANY_PORT, MASTER, PROOF, VISITOR, append, decisions_log, row
from tests.act.test_api import hmac_sha256
from tests.track.collector import MAIN_SERVER, Collector, collecting

pytestmark = pytest.mark.e2e

OTHER = "the proof of somebody else"
SIGNATURE = hmac_sha256(MASTER.server_key("main"), "u1")
ANALYZED = dict.fromkeys(range(64), 1 << 40)  # all that there will be


@contextmanager
def deciding(folder: Path, rows: list[Any], settings: ActSettings = ANY_PORT) -> Iterator[Collector]:
    """A collector beside a worker that has decided `rows`."""
    with decisions_log(folder) as log:

        def decided(events: Log) -> Decided:
            return Answering(Waiter(log, lambda: ANALYZED), events, MASTER, settings, seconds=5).decided

        with collecting(folder, decided=decided) as collector:
            append(log, *rows)
            yield collector


def answered(collector: Collector, *events: dict[str, Any], query: str = "", **more: Any) -> list[str]:
    """The ids of the decisions in the answer to a batch."""
    batch = [{"type": "track", "event": "view", "messageId": "m1", **event} for event in events]
    answer = collector.post(f"/v1/batch?decisions=wait{query}", {"batch": batch, **more})
    assert answer.status == 200
    return [decision["id"] for decision in answer.json["decisions"]]


def token(*, dataset: str = "main", visitor: str | None = None, user: str | None = None, seconds: float = 3600) -> str:
    return "&token=" + Tokens(MASTER.key("token"), seconds).issue(dataset, visitor, user, now_us())[0]


VISITORS = [row(VISITOR, name="d", trigger_id="m1")]
USERS = [row(VISITOR, user="u1", name="d", trigger_id="m1")]


@pytest.mark.parametrize(
    ("event", "query", "expected"),
    [
        ({"anonymousId": VISITOR}, "", []),
        ({"anonymousId": VISITOR, "proof": PROOF}, "", ["d"]),
        ({"anonymousId": VISITOR, "proof": OTHER}, "", []),
        ({"anonymousId": VISITOR, "proof": VISITOR}, "", []),
        ({"anonymousId": VISITOR, "context": {"proof": PROOF}}, "", []),  # where it would be stored
        ({"anonymousId": VISITOR, "userId": VISITOR}, "", []),
        ({"anonymousId": VISITOR}, token(visitor=VISITOR), ["d"]),
        ({"anonymousId": VISITOR}, token(visitor=visitor_id_of(OTHER)), []),
        ({"anonymousId": VISITOR}, token(user=VISITOR), []),
        ({"anonymousId": VISITOR}, token(visitor=VISITOR, dataset="mobile"), []),
        ({"anonymousId": VISITOR}, token(visitor=VISITOR, seconds=0), []),
        ({"anonymousId": VISITOR}, "&token=nonsense", []),
        # The message of another, sent again by somebody who can prove to be somebody.
        ({"anonymousId": visitor_id_of(OTHER), "proof": OTHER}, "", []),
    ],
)
def test_a_visitors_decision_is_for_who_proves_to_be_the_visitor(
    tmp_path: Path, event: dict[str, Any], query: str, expected: list[str]
) -> None:
    with deciding(tmp_path, VISITORS) as collector:
        assert answered(collector, event, query=query) == expected


@pytest.mark.parametrize(
    ("event", "query", "expected"),
    [
        ({"userId": "u1"}, "", []),
        ({"anonymousId": VISITOR, "userId": "u1", "proof": PROOF}, "", []),
        ({"anonymousId": VISITOR, "userId": "u1", "proof": PROOF, "userSignature": SIGNATURE}, "", ["d"]),
        ({"userId": "u1", "userSignature": SIGNATURE}, "", ["d"]),
        ({"userId": "u1", "context": {"userSignature": SIGNATURE}}, "", ["d"]),
        ({"userId": "u1", "context": {"userSignature": [SIGNATURE]}}, "", []),
        ({"userId": "u1", "context": {"userSignature": hmac_sha256(MASTER.server_key("mobile"), "u1")}}, "", []),
        ({"userId": "u2", "userSignature": SIGNATURE}, "", []),
        ({"userId": "u1"}, token(user="u1"), ["d"]),
        ({"userId": "u1"}, token(visitor="u1"), []),
        ({"anonymousId": VISITOR}, token(visitor=VISITOR), []),
    ],
)
def test_a_decision_on_a_users_profile_is_for_who_proves_to_be_the_user(
    tmp_path: Path, event: dict[str, Any], query: str, expected: list[str]
) -> None:
    with deciding(tmp_path, USERS) as collector:
        assert answered(collector, event, query=query) == expected


def test_a_site_may_let_visitors_claim_to_be_users(tmp_path: Path) -> None:
    with deciding(tmp_path, USERS, ActSettings(unsigned_users=True)) as collector:
        assert answered(collector, {"anonymousId": VISITOR, "userId": "u1", "proof": PROOF}) == ["d"]
        assert answered(collector, {"anonymousId": VISITOR, "userId": "u1"}) == []
        assert answered(collector, {"userId": "u1"}) == []


def test_the_sites_server_speaks_for_everyone_it_names(tmp_path: Path) -> None:
    event = {"type": "track", "event": "view", "messageId": "m1"}
    with deciding(tmp_path, [row("v1", name="d-v", trigger_id="m1"), row("phone", user="u1", name="d-u", trigger_id="m1")]) as collector:
        for who, expected in [({"anonymousId": "v1"}, "d-v"), ({"userId": "u1"}, "d-u")]:
            answer = collector.post("/v1/track?decisions=wait", event | who, key=MAIN_SERVER)
            assert [decision["id"] for decision in answer.json["decisions"]] == [expected]


def test_what_is_expired_is_not_told_to_who_sends_the_message_again(tmp_path: Path) -> None:
    rows = [row(VISITOR, name="late", rule="r1", trigger_id="m1", expires_us=now_us()), row(VISITOR, name="d", rule="r2", trigger_id="m1")]
    with deciding(tmp_path, rows) as collector:
        assert answered(collector, {"anonymousId": VISITOR, "proof": PROOF}) == ["d"]


def test_of_a_batch_each_sender_gets_their_own(tmp_path: Path) -> None:
    rows = [row(f"v{number}", name=f"d{number}", trigger_id=f"m{number}") for number in range(300)]
    mine = row(VISITOR, name="mine", trigger_id="m300")
    with deciding(tmp_path, [*rows, mine]) as collector:
        events = [{"anonymousId": f"v{number}", "messageId": f"m{number}"} for number in range(300)]
        assert answered(collector, *events, {"anonymousId": VISITOR, "messageId": "m300", "proof": PROOF}) == ["mine"]


def test_proofs_are_not_stored(tmp_path: Path) -> None:
    secrets = {"anonymousId": VISITOR, "proof": PROOF, "userSignature": SIGNATURE}
    with collecting(tmp_path) as collector:
        good, refused = {"event": "view", "type": "track", **secrets}, {"event": "", "type": "track", **secrets}
        assert collector.post("/v1/batch", {"batch": [good, refused]}).status == 200
        assert collector.post("/v1/batch", json.dumps({"batch": [good]}).encode()[:-1]).status == 400
        assert collector.post("/v1/track", refused | {"writeKey": MAIN_SERVER}, key=None).status == 400
        stored = str([collector.events(), collector.bad_events()])
    assert len(stored) > 500
    assert VISITOR in stored
    assert PROOF not in stored
    assert SIGNATURE not in stored
    assert MAIN_SERVER not in stored


@pytest.mark.parametrize(
    ("event", "key", "expected"),
    [
        ({"anonymousId": VISITOR, "userId": "u1"}, "shop-key", True),
        ({"anonymousId": VISITOR, "userId": "u1", "proof": OTHER}, "shop-key", True),
        ({"anonymousId": VISITOR, "userId": "u1", "context": {"unproven": False}}, "shop-key", True),
        ({"anonymousId": VISITOR, "userId": "u1", "context": None}, "shop-key", True),
        ({"anonymousId": VISITOR, "userId": "u1", "userSignature": SIGNATURE}, "shop-key", True),
        ({"anonymousId": VISITOR, "userId": "u1", "proof": PROOF}, "shop-key", None),
        ({"anonymousId": VISITOR, "userId": "u1"}, MAIN_SERVER, None),
        ({"anonymousId": VISITOR, "proof": PROOF}, "shop-key", None),
        ({"anonymousId": VISITOR}, "shop-key", None),  # nobody becomes known
        ({"anonymousId": "of another library", "userId": "u1"}, "shop-key", None),  # cannot be proven
        ({"type": "alias", "previousId": VISITOR, "userId": "u1"}, "shop-key", True),
        ({"type": "alias", "previousId": VISITOR, "userId": "u1", "proof": PROOF}, "shop-key", None),
        ({"type": "alias", "previousId": "other", "anonymousId": VISITOR, "userId": "u1", "proof": PROOF}, "shop-key", None),
        ({"type": "alias", "previousId": VISITOR, "anonymousId": visitor_id_of(OTHER), "userId": "u1", "proof": OTHER}, "shop-key", True),
        ({"type": "identify", "anonymousId": VISITOR, "userId": "u1"}, "shop-key", True),
    ],
)
def test_who_makes_a_visitor_known_without_proof_is_marked(tmp_path: Path, event: dict[str, Any], key: str, expected: bool | None) -> None:
    plain = {"type": "track", "event": "view", "anonymousId": "v", "context": {"locale": "en"}}
    odd = {"type": "track", "event": "", "anonymousId": VISITOR, "userId": "u1", "context": 7}  # refused, and others move up
    with collecting(tmp_path) as collector:
        batch = [odd, plain, {"type": "track", "event": "view", **event}]
        assert collector.post("/v1/batch", {"batch": batch}, key=key).status == 200
        stored = [json.loads(row["context"] or "{}") for row in sorted(collector.events(), key=lambda row: row["visitor_id"] == "v")]
    assert [context.get("unproven") for context in stored] == [expected, None]
    assert stored[1] == {"locale": "en"}
