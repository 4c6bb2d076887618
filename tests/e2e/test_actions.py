"""The example shop, whole: three items viewed over HTTP, a popup decided, pulled by the page, and both in SQL."""

from __future__ import annotations

import base64
import json
import re
import shutil
import time
import urllib.request
from collections.abc import Iterator
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
SELECT keys.visitor_id, JSON_VALUE(properties.rule), (SELECT MIN(item) FROM shop.events)
FROM shop.events WHERE event_name = 'action_decided'
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The example's folder, on free ports, with everyone outside of the control arm, and running."""
    folder = tmp_path_factory.mktemp("shop") / "shop"
    shutil.copytree(SHOP, folder, ignore=shutil.ignore_patterns(".sokuji"))
    ports = f"\n[analyze]\nhealth_port = {free_port()}\n[webhooks]\nhealth_port = {free_port()}\n[lake]\nhealth_port = {free_port()}\n"
    settings = re.sub(r"port = \d+", lambda _: f"port = {free_port()}", (folder / "sokuji.toml").read_text())
    (folder / "sokuji.toml").write_text(settings + ports)
    actions = (folder / "actions.py").read_text()
    (folder / "actions.py").write_text(actions.replace("    control=0.1,\n", ""))
    with ExitStack() as stack:
        stack.enter_context(running(folder))
        yield folder


def _post(port: int, path: str, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "Authorization": "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: dict[str, Any] = json.loads(response.read())
    return answer


def _pulled(port: int, token: str) -> list[dict[str, Any]]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/actions", headers={"Authorization": f"Bearer {token}"})
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with urllib.request.urlopen(request, timeout=10) as response:
            actions: list[dict[str, Any]] = json.loads(response.read())["actions"]
        if actions:
            return actions
        time.sleep(0.05)
    raise AssertionError("no action came in 20 s")


def test_three_items_viewed_bring_the_popup_and_all_of_it_is_in_the_lake(shop: Path) -> None:
    config = load(shop)
    proof = "known to the browser alone"
    visitor = visitor_id_of(proof)
    token = _post(config.act.port, "/v1/actions/token", {"writeKey": KEY, "anonymousId": visitor, "proof": proof})["token"]
    for item in ("cup", "pot", "tray"):
        _post(config.track.port, "/v1/track", {"event": "view", "anonymousId": visitor, "properties": {"item": item}})
    [action] = _pulled(config.act.port, token)
    assert (action["rule"], action["action"]["title"]) == ("browsing", "Still looking?")
    deadline = time.monotonic() + 20
    with sokuji.open(shop) as platform:
        while time.monotonic() < deadline:
            rows = platform.sql(DECIDED).rows()
            if rows:
                break
            time.sleep(0.2)
    assert rows == [(visitor, "browsing", "cup")]


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
