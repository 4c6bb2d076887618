"""The example shop, whole: from what visitors do, over HTTP, to what their pages show, and all of it in SQL."""

from __future__ import annotations

import base64
import json
import re
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import sokuji
from sokuji.act.token import visitor_id_of
from sokuji.config import load
from sokuji.roles import running
from tests.e2e.ports import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
SHOP = Path(__file__).parents[2] / "examples" / "shop"
KEY = "shop-key"
DECIDED = """
SELECT JSON_VALUE(properties.rule), (SELECT MIN(item) FROM shop.events)
FROM shop.events WHERE event_name = 'action_decided' AND keys.visitor_id = @visitor
"""
WITHHELD = """
SELECT JSON_VALUE(properties.decision_id), JSON_VALUE(properties.rule), JSON_VALUE(properties.reason)
FROM shop.events WHERE event_name = 'action_ineligible' AND keys.visitor_id = @visitor
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The example's folder, on free ports, with everyone outside of the control arm, and running."""
    folder = tmp_path_factory.mktemp("shop") / "shop"
    shutil.copytree(SHOP, folder, ignore=shutil.ignore_patterns(".sokuji"))
    ports = f"\n[analyze]\nhealth_port = {free_port()}\n[webhooks]\nhealth_port = {free_port()}\n[lake]\nhealth_port = {free_port()}\n"
    settings = re.sub(r"port = \d+", lambda _: f"port = {free_port()}", (folder / "sokuji.toml").read_text())
    patient = settings.replace("[track]\n", "[track]\ndecisions_seconds = 10\n")  # the machine may be busy
    (folder / "sokuji.toml").write_text(patient + ports)
    actions = (folder / "actions.py").read_text()
    (folder / "actions.py").write_text(actions.replace("    control=0.1,\n", "").replace('after="30m"', 'after="1s"'))
    with ExitStack() as stack:
        stack.enter_context(running(folder))
        yield folder


def _post(port: int, path: str, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "Authorization": "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: dict[str, Any] = json.loads(response.read())
    return answer


class Visitor:
    """A visitor with a proof, as a browser has one."""

    def __init__(self, shop: Path, name: str) -> None:
        config = load(shop)
        self.track_port, self.act_port, self.id = config.track.port, config.act.port, visitor_id_of(name)
        body = {"writeKey": KEY, "anonymousId": self.id, "proof": name}
        self._token = _post(self.act_port, "/v1/actions/token", body)["token"]

    def track(self, event: str, **properties: Any) -> None:
        _post(self.track_port, "/v1/track", {"event": event, "anonymousId": self.id, "properties": properties})

    def get(self, path: str) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.act_port}{path}", headers={"Authorization": f"Bearer {self._token}"})
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.loads(response.read())

    def pull(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/v1/actions")["actions"]
        return found

    def wait_for_action(self) -> dict[str, Any]:
        [action] = eventually(self.pull)
        assert isinstance(action, dict)
        return action


def eventually(check: Callable[[], Any], seconds: float = 20) -> Any:
    """What `check` gives once it is something."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def ask(shop: Path, sql: str, visitor: Visitor) -> Callable[[], list[tuple[Any, ...]]]:
    def rows() -> list[tuple[Any, ...]]:
        with sokuji.open(shop) as platform:
            return platform.sql(sql, {"visitor": visitor.id}).rows()

    return rows


def test_three_items_viewed_bring_the_popup_and_all_of_it_is_in_the_lake(shop: Path) -> None:
    visitor = Visitor(shop, "known to the browser alone")
    for item in ("cup", "pot", "tray"):
        visitor.track("view", item=item)
    action = visitor.wait_for_action()
    assert (action["rule"], action["action"]["title"]) == ("browsing", "Still looking?")
    assert visitor.get(f"/v1/actions/{action['id']}/eligible") == {"eligible": True, "reason": None}
    assert eventually(ask(shop, DECIDED, visitor)) == [("browsing", "cup")]


@pytest.mark.parametrize(
    ("done", "rule", "reason"),
    [
        ([("cart", {"item": "cup"})], "left_cart", "stopped"),  # `unless`
        ([("view", {"item": item}) for item in "abc"], "browsing", "no_longer_true"),  # `still`
    ],
)
def test_who_buys_before_it_is_shown_is_not_shown_it(shop: Path, done: list[tuple[str, Any]], rule: str, reason: str) -> None:
    visitor = Visitor(shop, f"buys in spite of {rule}")
    for event, properties in done:
        visitor.track(event, **properties)
    decision = visitor.wait_for_action()
    assert decision["rule"] == rule
    visitor.track("buy", revenue=30)
    # At once, and however often it is asked: all that is acknowledged counts.
    assert visitor.pull() == []
    for _ in range(3):
        assert visitor.get(f"/v1/actions/{decision['id']}/eligible") == {"eligible": False, "reason": reason}
    assert eventually(ask(shop, WITHHELD, visitor)) == [(decision["id"], rule, reason)]


def test_a_request_that_waits_gets_the_decision_in_its_answer(shop: Path) -> None:
    port = load(shop).track.port
    events = [
        {"type": "track", "event": "view", "anonymousId": "waits", "messageId": f"w{item}", "properties": {"item": item}} for item in "abc"
    ]
    answer = _post(port, "/v1/batch?decisions=wait", {"batch": events})
    [decision] = answer["decisions"]
    assert (answer["success"], decision["rule"], decision["action"]["title"]) == (True, "browsing", "Still looking?")
    calm = _post(port, "/v1/track?decisions=wait", {"event": "view", "anonymousId": "calm", "properties": {"item": "a"}})
    assert calm == {"success": True, "results": {}, "decisions": []}
