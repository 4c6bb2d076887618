"""The complete example shop: from the visitors' events, over HTTP, to the messages on their pages, with all of it in SQL."""

from __future__ import annotations

import base64
import functools
import http.server
import json
import os
import re
import shutil
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest
from scipy.stats.contingency import relative_risk

import sokuji
from sokuji.act.secret import Secret
from sokuji.config import load
from sokuji.proof import sign_user, visitor_id_of
from sokuji.roles.base import ROLES, Role
from sokuji.roles.up import running
from tests.act.browser import CHROMIUM, browsing
from tests.e2e.command import sql
from tests.e2e.ports import free_port
from tests.private import readable_by_others

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
SHOP = Path(__file__).parents[2] / "examples" / "shop"
KEY = "shop-key"
OFFER = """
from sokuji.rules import arm, banner

arms = [arm("red", popup(title="Red")), arm("blue", banner(title="Blue"), weight=2)]
rule("offer", on="ask", do=arms, control=0.3, goal=goal("order", within="1h"))
"""
PERSON = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
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
    settings = re.sub(r"port = \d+", lambda _: f"port = {free_port()}\nhealth_port = {free_port()}", (folder / "sokuji.toml").read_text())
    patient = settings.replace("[track]\n", "[track]\ndecisions_seconds = 10\n")  # the machine may be busy
    (folder / "sokuji.toml").write_text(patient + ports)
    actions = (folder / "actions.py").read_text().replace("    control=0.1,\n", "").replace('after="30m"', 'after="1s"')
    (folder / "actions.py").write_text(actions + OFFER)
    with ExitStack() as stack:
        stack.enter_context(running(folder))
        yield folder
    assert readable_by_others(folder / ".sokuji") == []


def _post(port: int, path: str, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "Authorization": "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: dict[str, Any] = json.loads(response.read())
    return answer


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_role_says_how_it_is(shop: Path, role: Role) -> None:
    _, host, port = role.health(load(shop))
    for path in ("health", "ready", "metrics"):
        with urllib.request.urlopen(f"http://{host}:{port}/{path}", timeout=20) as response:
            assert response.status == 200
            said = response.read().decode()
    assert "# TYPE sokuji_" in said


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


def eventually(check: Callable[[], Any], is_enough: Callable[[Any], bool] = bool, seconds: float = 120) -> Any:
    """What `check` gives once it is enough: something, if nothing is said. The first events wait for the kernel to be compiled."""
    deadline = time.monotonic() + seconds
    while not is_enough(found := check()):
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


def test_action_results_are_there_for_whoever_asks_insql(shop: Path) -> None:
    assert sql(shop, "SELECT * FROM shop.action_results WHERE rule = 'offer'") == []  # before anything has happened
    people = [f"person{number}" for number in range(60)]
    _batch(shop, [{"event": "ask", "anonymousId": person} for person in people])
    query = "SELECT keys.visitor_id AS person, arm, message_id FROM shop.events WHERE event_name = 'action_decided' AND rule = 'offer'"
    rows = eventually(lambda: sql(shop, query), lambda rows: len(rows) == len(people))
    decided = {row["person"]: row for row in rows}
    # What pages track, and a goal: more often reached in one arm, and by some who were not shown anything.
    shown = [row for row in decided.values() if row["arm"] != "control"][::2]
    about = [{"anonymousId": row["person"], "properties": {"decision_id": row["message_id"]}} for row in shown]
    _batch(shop, [{"event": event, **each} for each in about for event in ("action_shown", "action_clicked")])
    share = {"red": 2, "blue": 3, "control": 5}
    buyers = [person for number, person in enumerate(people) if number % share[decided[person]["arm"]] == 0]
    _batch(shop, [{"event": "order", "anonymousId": person} for person in [*buyers, *buyers, "stranger"]])

    asked = "SELECT * FROM shop.action_results WHERE rule = 'offer' ORDER BY arm"
    found = eventually(lambda: sql(shop, asked), lambda rows: sum(row["conversions"] for row in rows) == len(buyers))
    people_of = {name: [person for person in people if decided[person]["arm"] == name] for name in ("blue", "control", "red")}
    bought_of = {name: len({*own} & {*buyers}) for name, own in people_of.items()}
    assert [(row["arm"], row["exposures"], row["conversions"]) for row in found] == [
        (name, len(own), bought_of[name]) for name, own in people_of.items()
    ]
    for row in found:
        wilson = binomtest(row["conversions"], row["exposures"]).proportion_ci(0.95, method="wilson")
        assert (row["rate_low"], row["rate_high"]) == pytest.approx((wilson.low, wilson.high))
        if row["arm"] == "control":
            assert (row["lift"], row["baseline"]) == (None, None)
            continue
        risk = relative_risk(row["conversions"], row["exposures"], bought_of["control"], len(people_of["control"]))
        katz = risk.confidence_interval(0.95)
        assert (row["lift"], row["lift_low"], row["lift_high"]) == pytest.approx((risk.relative_risk - 1, katz.low - 1, katz.high - 1))
    events = "SELECT event_name, COUNT(*) AS n FROM shop.events WHERE event_name IN ('action_shown', 'action_clicked') GROUP BY event_name"
    assert {row["event_name"]: row["n"] for row in sql(shop, events)} == dict.fromkeys(("action_shown", "action_clicked"), len(shown))


def _batch(shop: Path, events: list[dict[str, Any]]) -> None:
    _post(load(shop).track.port, "/v1/batch", {"batch": [{"type": "track", **event} for event in events]})


@pytest.mark.long  # in `make test` the page is in tests/act/pages/test_tag.py, and the platform below
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome here, and tests/sdk/install cannot install it")
def test_a_browser_that_looks_at_three_teas_gets_the_popup(shop: Path, tmp_path: Path) -> None:
    config = load(shop)
    ports = {"host": config.track.port, "actions": config.act.port}
    settings = {"key": KEY} | {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    (shop / "site" / "settings.js").write_text(f"window.shop = {json.dumps(settings)}")
    popup = "document.querySelector('#sokuji-action')?.shadowRoot.querySelector"
    with _static(shop / "site") as url, browsing(tmp_path / "profile") as browser, browser.private_page() as page:
        page.call("Network.setUserAgentOverride", userAgent=PERSON)  # a headless browser is a bot
        page.open(url)
        visitor = page.wait_for("sokuji.visitor && sokuji.visitor()")
        for item in ("sencha", "gyokuro", "matcha"):
            page.click(f"document.querySelector('a[href=\"#{item}\"]')")
            page.wait_for("document.querySelector('#detail:not([hidden]) h2')")
            if item != "matcha":
                page.click("document.querySelector('.back')")
                page.wait_for("!document.querySelector('#list').hidden")
        assert page.wait_for(f"{popup}('h2')?.textContent", 120) == "Still looking?"
        assert "looked at 3 teas" in page.run(f"{popup}('p').textContent")
        page.wait_for(f"{popup}('img').naturalWidth > 0")
        page.screenshot(Path(os.environ.get("SHOP_SCREENSHOT", tmp_path / "shop.png")))  # docs/shop.png is one
        page.click(f"{popup}('.go')")
        page.wait_for("!document.querySelector('#cart').hidden")
    told = "SELECT event_name FROM shop.events WHERE keys.visitor_id = @visitor AND STARTS_WITH(event_name, 'action_') ORDER BY _date"
    with sokuji.open(shop) as platform:
        found = eventually(lambda: platform.sql(told, {"visitor": visitor}).rows(), lambda rows: len(rows) == 3)
    assert found == [("action_decided",), ("action_shown",), ("action_clicked",)]


@contextmanager
def _static(folder: Path) -> Iterator[str]:
    """A static file server on the folder."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://localhost:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_a_request_that_waits_gets_the_decision_in_its_answer(shop: Path) -> None:
    port, me, seen = load(shop).track.port, Visitor(shop, "waits"), [{"item": item} for item in "abc"]
    mine = [{"type": "track", "event": "view", "anonymousId": me.id, "proof": "waits", "properties": each} for each in seen]
    answer = _post(port, "/v1/batch?decisions=wait", {"batch": mine})
    [decision] = answer["decisions"]
    assert (answer["success"], decision["rule"], decision["action"]["title"]) == (True, "browsing", "Still looking?")
    calm = {"event": "view", "anonymousId": visitor_id_of("calm"), "proof": "calm", "properties": {"item": "a"}}
    assert _post(port, "/v1/track?decisions=wait", calm) == {"success": True, "results": {}, "decisions": []}


def test_who_names_others_is_told_nothing_of_them(shop: Path) -> None:
    port, track = load(shop).track.port, "/v1/batch?decisions=wait"
    views = [{"type": "track", "event": "view", "properties": {"item": item}} for item in "abc"]
    victim = Visitor(shop, "the victim")
    _post(port, "/v1/batch", {"batch": [{**view, "userId": "victim"} for view in views[:2]]})
    proven = {"anonymousId": visitor_id_of("attacker"), "proof": "attacker"}
    claims = [
        {"userId": "victim"},
        {"anonymousId": victim.id},
        {"anonymousId": victim.id, "proof": "attacker"},
        {**proven, "userId": "victim"},
        {"anonymousId": victim.id, "userId": "attacker's own"},
    ]
    others = [{"anonymousId": f"person {number}"} for number in range(300)]
    for who in claims:
        assert _post(port, track, {"batch": [{**view, **who} for view in views]})["decisions"] == [], who
    assert _post(port, track, {"batch": [{**view, **who} for who in others for view in views]})["decisions"] == []
    decided = "SELECT COUNT(*) FROM shop.events WHERE event_name = 'action_decided' AND STARTS_WITH(keys.visitor_id, 'person ')"
    eventually(ask(shop, decided, victim), lambda rows: rows == [(300,)])  # so it was not for want of decisions
    assert Visitor(shop, "attacker").pull() == []
    # Whereas the user, whose id the site's server signed, gets what is theirs.
    signature = sign_user(Secret.open(load(shop).data / "secret").server_key("shop"), "signed in")
    mine = [{**view, "userId": "signed in", "context": {"userSignature": signature}} for view in views]
    [decision] = _post(port, track, {"batch": mine})["decisions"]
    assert decision["rule"] == "browsing"


def test_who_names_a_visitor_their_own_user_learns_nothing_of_the_visitor(shop: Path) -> None:
    port, path = load(shop).track.port, "/v1/batch?decisions=wait"
    views = [{"type": "track", "event": "view", "properties": {"item": item}} for item in "abc"]
    signature = sign_user(Secret.open(load(shop).data / "secret").server_key("shop"), "thief")
    victim = Visitor(shop, "two teas looked at")
    for item in "ab":
        victim.track("view", item=item)
    claims = [{"type": "page", "anonymousId": victim.id, "userId": "thief"}, {"type": "alias", "previousId": victim.id, "userId": "thief"}]
    _post(port, path, {"batch": claims})
    mine = {"userId": "thief", "userSignature": signature}
    assert _post(port, path, {"batch": [{**views[2], **mine}]})["decisions"] == []  # the first tea of the thief
    assert [each["rule"] for each in _post(port, path, {"batch": [{**view, **mine} for view in views[:2]]})["decisions"]] == ["browsing"]
    victim.track("view", item="c")
    assert victim.wait_for_action()["rule"] == "browsing"
