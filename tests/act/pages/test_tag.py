"""sokuji.js in a real browser, against a real collector and a real `api` role.

`make test` has the way of a visitor from the page to the popup, what a page may not lose or store, and what may not become code;
`make test-long` has the rest.
"""

import functools
import http.server
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sokuji.act.pages.answer import Answering
from sokuji.act.pages.waiter import Waiter
from sokuji.log.base import Log
from sokuji.proof import sign_user
from sokuji.track.app import Decided
from tests.act.api import ANY_PORT, MASTER, POPUP, Api, acting, append, row
from tests.act.browser import CHROMIUM, Browser, Page, browsing
from tests.track.collector import PARTITIONS, Collector, collecting

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome here, and tests/sdk/install cannot install it"),
]

SITE = Path(__file__).parents[3] / "examples" / "shop" / "site"
DIALOG = "document.querySelector('#sokuji-action')?.shadowRoot.querySelector"


class Site:
    """The shop, the collector and the `api` role, each on its own origin."""

    def __init__(self, collector: Collector, api: Api, url: str, still: set[str]) -> None:
        self.collector, self.api, self.url = collector, api, url
        self.ineligible = still  # ids of decisions that do not hold any more

    def settings(self, **more: Any) -> dict[str, Any]:
        ports = {"host": self.collector.port, "actions": self.api.port}
        return {"key": "shop-key"} | {name: f"http://127.0.0.1:{port}" for name, port in ports.items()} | more

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """What was tracked, each event once, in the order of the client."""
        stored = {event["message_id"]: event for event in self.collector.events()}
        found = [event for event in stored.values() if name in {None, event["event_name"]}]
        return sorted(found, key=lambda event: event["event_time"])

    def wait_for(self, name: str, count: int = 1) -> list[dict[str, Any]]:
        pause = threading.Event()
        for _ in range(500):
            if len(found := self.events(name)) >= count:
                return found
            pause.wait(0.02)
        raise AssertionError(f"{len(self.events(name))} of {count} {name} events; there are {[e['event_name'] for e in self.events()]}")


@contextmanager
def shop(folder: Path, collector: Collector, api: Api, ineligible: set[str]) -> Iterator[Site]:
    site = Site(collector, api, "", ineligible)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/settings.js":
                self._send("text/javascript", f"window.shop = {json.dumps(site.settings())}")
            elif self.path.startswith("/blank"):
                self._send(
                    "text/html; charset=utf-8",
                    f"<!doctype html><title>Blank</title><script src='http://127.0.0.1:{api.port}/sokuji.js'></script>",
                )
            else:
                super().do_GET()

        def _send(self, content_type: str, text: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(SITE)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    site.url = f"http://localhost:{server.server_address[1]}"
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    ineligible: set[str] = set()
    with (
        collecting(tmp_path) as collector,
        acting(tmp_path, ANY_PORT, ineligible=lambda question: "stopped" if question.decision.id in ineligible else None) as api,
        shop(tmp_path, collector, api, ineligible) as running,
    ):
        yield running


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """A tab of a browser without cookies and storage."""
    with browser.private_page() as opened:
        yield opened


def begin(page: Page, site: Site, **more: Any) -> str:
    """Open a page with the tag alone, and start it; gives the visitor's id."""
    page.open(f"{site.url}/blank")
    page.run(f"sokuji('init', {json.dumps(site.settings(**more))})")
    return str(page.run("sokuji.visitor()"))


def properties(event: dict[str, Any]) -> Any:
    return json.loads(event["properties"])


def streaming(site: Site) -> bool:
    return "sokuji_act_streams 1\n" in site.api.app.render_metrics()


def until_streaming(site: Site, page: Page) -> None:
    for _ in range(300):
        if streaming(site):
            return
        page.run("new Promise((done) => setTimeout(done, 20))")
    raise AssertionError("no stream")


class TestTracking:
    def test_events_arrive_whole_and_in_order(self, site: Site, page: Page) -> None:
        visitor = begin(page, site)
        page.run("sokuji('page'); sokuji('identify', 'u1', {plan: 'gold'}); sokuji('track', 'buy', {revenue: 30.5, name: '即時 😀'})")
        [buy] = site.wait_for("buy")
        assert [event["event_name"] for event in site.events()] == ["page", "identify", "buy"]
        assert {event["visitor_id"] for event in site.events()} == {visitor}
        assert [event["user_id"] for event in site.events()] == [None, "u1", "u1"]
        assert properties(buy) == {"revenue": 30.5, "name": "即時 😀"}
        context = json.loads(buy["context"])
        assert context["library"]["name"] == "sokuji.js"
        assert context["page"]["url"] == f"{site.url}/blank"
        assert "timezone" in context
        assert site.collector.bad_events() == []

    @pytest.mark.long
    def test_a_visitor_stays_the_same_until_reset(self, site: Site, page: Page) -> None:
        first = begin(page, site)
        assert begin(page, site) == first
        page.run("localStorage.clear()")
        assert begin(page, site) == first  # by the cookie
        page.run("document.cookie = 'sokuji_id=; Max-Age=0; Path=/'")
        assert begin(page, site) == first  # by the storage
        page.run("sokuji('identify', 'u1'); sokuji('reset'); sokuji('track', 'after')")
        [after] = site.wait_for("after")
        assert after["visitor_id"] not in {first, None}
        assert after["user_id"] is None

    @pytest.mark.long
    def test_misuse_says_what_there_is(self, site: Site, page: Page) -> None:
        page.open(f"{site.url}/blank")
        attempt = "(() => { try { sokuji(%s) } catch (error) { return error.message } })()"
        assert page.run(attempt % "'track', 'buy'") == "sokuji: track before init"
        assert "there is no command trak; there are init" in page.run(attempt % "'trak', 'buy'")

    def test_offline_nothing_is_lost_not_even_with_the_page(self, site: Site, page: Page) -> None:
        begin(page, site)
        page.offline(True)
        page.run("for (let n = 0; n < 150; n++) sokuji('track', 'buy', {n})")
        page.run("new Promise((done) => setTimeout(done, 300))")
        assert site.events("buy") == []
        page.offline(False)
        begin(page, site)  # another page; the first one's events were on the device
        assert sorted(properties(event)["n"] for event in site.wait_for("buy", 150)) == list(range(150))

    @pytest.mark.long
    def test_online_again_it_sends_by_itself(self, site: Site, page: Page) -> None:
        begin(page, site)
        page.offline(True)
        page.run("sokuji('track', 'buy', {n: 1})")
        page.run("new Promise((done) => setTimeout(done, 300))")
        page.offline(False)
        assert [properties(event)["n"] for event in site.wait_for("buy")] == [1]

    @pytest.mark.long
    def test_the_queue_is_bounded_and_keeps_the_newest(self, site: Site, page: Page) -> None:
        begin(page, site)
        page.offline(True)
        page.run("for (let n = 0; n < 1100; n++) sokuji('track', 'buy', {n})")
        page.offline(False)
        found = site.wait_for("buy", 1000)
        assert {properties(event)["n"] for event in found} == set(range(100, 1100))

    @pytest.mark.long
    def test_an_event_that_is_too_large_is_left_out(self, site: Site, page: Page) -> None:
        begin(page, site)
        page.run("sokuji('track', 'large', {text: 'x'.repeat(40000)}); sokuji('track', 'small')")
        site.wait_for("small")
        assert site.events("large") == []

    @pytest.mark.long
    def test_what_is_tracked_as_the_page_is_left_arrives(self, site: Site, page: Page) -> None:
        begin(page, site)
        page.run("addEventListener('pagehide', () => sokuji('track', 'left')); sokuji('track', 'stayed')")
        page.open("about:blank?")
        site.wait_for("left")
        site.wait_for("stayed")


class TestConsent:
    def test_before_it_nothing_is_stored_or_sent(self, site: Site, page: Page) -> None:
        visitor = begin(page, site, consent="required")
        page.run("sokuji('page'); sokuji('track', 'before')")
        page.run("new Promise((done) => setTimeout(done, 400))")
        assert page.run("[document.cookie, localStorage.length]") == ["", 0]
        assert site.events() == []
        assert 'sokuji_act_requests_total{status="200"} 1\n' in site.api.app.render_metrics()  # the tag itself
        page.run("sokuji('consent', true)")
        [before] = site.wait_for("before")
        assert before["visitor_id"] == visitor
        # And it is remembered.
        assert begin(page, site, consent="required") == visitor
        page.run("sokuji('track', 'next')")
        site.wait_for("next")

    @pytest.mark.long
    def test_withdrawn_it_leaves_nothing_behind(self, site: Site, page: Page) -> None:
        visitor = begin(page, site, consent="required")
        page.run("sokuji('consent', true); sokuji('track', 'with')")
        site.wait_for("with")
        page.run("sokuji('consent', false); sokuji('track', 'without')")
        page.run("new Promise((done) => setTimeout(done, 300))")
        assert page.run("[document.cookie, localStorage.length]") == ["", 0]
        assert site.events("without") == []
        assert page.run("sokuji.visitor()") != visitor

    @pytest.mark.long
    def test_an_objection_is_remembered_where_consent_is_not_asked_for(self, site: Site, page: Page) -> None:
        begin(page, site)
        page.run("sokuji('track', 'with')")
        site.wait_for("with")
        page.run("sokuji('consent', false)")
        begin(page, site)
        page.run("sokuji('track', 'without')")
        page.run("new Promise((done) => setTimeout(done, 300))")
        assert page.run("[document.cookie, Object.keys(localStorage)]") == ["", ["sokuji.consent"]]
        page.run("sokuji('consent', true); sokuji('track', 'again')")
        site.wait_for("again")
        assert site.events("without") == []


class TestActions:
    @pytest.mark.long
    def test_a_popup_is_shown_and_clicked(self, site: Site, page: Page) -> None:
        visitor = begin(page, site)
        until_streaming(site, page)
        append(site.api.log, row(visitor, name="d1", action=POPUP | {"link": "#offer"}))
        assert page.wait_for(f"{DIALOG}('h2')?.textContent") == "Three looked at"
        [shown] = site.wait_for("action_shown")
        page.click(f"{DIALOG}('.go')")
        [clicked] = site.wait_for("action_clicked")
        for event in (shown, clicked):
            assert properties(event) == {"decision_id": "d1", "rule": "three_items", "arm": "a"}
            assert event["visitor_id"] == visitor
        assert page.run("location.hash") == "#offer"
        assert page.run("document.querySelector('#sokuji-action')") is None

    @pytest.mark.long
    @pytest.mark.parametrize("how", ["button", "escape", "outside"])
    def test_it_is_closed_in_each_way(self, site: Site, page: Page, how: str) -> None:
        append(site.api.log, row(begin(page, site), name="d1"))
        page.wait_for(f"{DIALOG}('h2')")
        if how == "button":
            page.click(f"{DIALOG}('.x')")
        elif how == "escape":
            page.call("Input.dispatchKeyEvent", type="keyDown", key="Escape", windowsVirtualKeyCode=27)
        else:
            page.call("Input.dispatchMouseEvent", type="mousePressed", x=3, y=3, button="left", clickCount=1)
            page.call("Input.dispatchMouseEvent", type="mouseReleased", x=3, y=3, button="left", clickCount=1)
        [closed] = site.wait_for("action_closed")
        assert properties(closed)["how"] == how
        assert site.events("action_clicked") == []

    def test_markup_in_a_message_is_text(self, site: Site, page: Page) -> None:
        evil = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>"
        attack = {
            "kind": "popup",
            "title": evil,
            "body": evil,
            "button": evil,
            "link": "javascript:window.hacked=1",
            "image": "javascript:window.hacked=1",
        }
        append(site.api.log, row(begin(page, site), action=attack))
        assert page.wait_for(f"{DIALOG}('h2')?.textContent") == evil
        assert page.run(f"{DIALOG}('p').textContent") == evil
        assert page.run(f"{DIALOG}('img')") is None
        assert page.run(f"{DIALOG}('.go').tagName") == "BUTTON"  # the link was refused
        page.click(f"{DIALOG}('.go')")
        site.wait_for("action_clicked")
        assert page.run("window.hacked") is None

    @pytest.mark.parametrize(
        "link",
        [
            " java\tscript:alert(1)",
            *(
                pytest.param(link, marks=pytest.mark.long)
                for link in ("data:text/html,x", "vbscript:x", "file:///etc/passwd", "blob:x", "http://[")
            ),
        ],
    )
    def test_links_of_other_schemes_are_refused(self, site: Site, page: Page, link: str) -> None:
        append(site.api.log, row(begin(page, site), action=POPUP | {"link": link}))
        page.wait_for(f"{DIALOG}('h2')")
        assert page.run(f"{DIALOG}('.go').tagName") == "BUTTON"

    @pytest.mark.long
    def test_what_does_not_hold_any_more_is_not_shown(self, site: Site, page: Page) -> None:
        visitor = begin(page, site)
        site.ineligible.add("late")
        append(site.api.log, row(visitor, name="late", rule="r1"), row(visitor, name="good", rule="r2", action=POPUP | {"title": "Good"}))
        assert page.wait_for(f"{DIALOG}('h2')?.textContent") == "Good"
        assert [properties(event)["decision_id"] for event in site.wait_for("action_shown")] == ["good"]

    @pytest.mark.long
    def test_it_is_shown_once_whatever_is_loaded_again(self, site: Site, page: Page) -> None:
        visitor = begin(page, site)
        append(site.api.log, row(visitor, name="d1"))
        page.wait_for(f"{DIALOG}('h2')")
        site.wait_for("action_shown")
        begin(page, site)
        append(site.api.log, row(visitor, name="d2", rule="r2", action=POPUP | {"title": "The next"}))
        assert page.wait_for(f"{DIALOG}('h2')?.textContent") == "The next"
        assert [properties(event)["decision_id"] for event in site.wait_for("action_shown", 2)] == ["d1", "d2"]

    @pytest.mark.long
    def test_one_at_a_time(self, site: Site, page: Page) -> None:
        visitor = begin(page, site)
        append(site.api.log, row(visitor, rule="r1", action=POPUP | {"kind": "banner", "title": "First"}), row(visitor, rule="r2"))
        assert page.wait_for(f"{DIALOG}('h2')?.textContent") == "First"
        assert page.run("document.querySelectorAll('#sokuji-action').length") == 1
        page.click(f"{DIALOG}('.x')")
        page.wait_for(f"{DIALOG}('h2')?.textContent === 'Three looked at'")

    @pytest.mark.long
    def test_a_page_may_show_it_itself(self, site: Site, page: Page) -> None:
        page.open(f"{site.url}/blank")
        page.run("window.onAction = (decision, tell) => { window.own = decision.action; tell('shown'); return false }")
        page.run(f"sokuji('init', {{...{json.dumps(site.settings())}, onAction}})")
        append(site.api.log, row(page.run("sokuji.visitor()"), action={"kind": "confetti", "colour": "red"}))
        assert page.wait_for("window.own") == {"kind": "confetti", "colour": "red"}
        site.wait_for("action_shown")
        assert page.run("document.querySelector('#sokuji-action')") is None

    @pytest.mark.long
    def test_where_streams_do_not_pass_it_pulls(self, site: Site, page: Page) -> None:
        page.open(f"{site.url}/blank")
        page.run("window.EventSource = class { constructor() { setTimeout(() => this.onerror()) } close() {} addEventListener() {} }")
        page.run(f"sokuji('init', {json.dumps(site.settings())})")
        append(site.api.log, row(page.run("sokuji.visitor()")))
        page.wait_for(f"{DIALOG}('h2')")

    @pytest.mark.long
    def test_a_user_whose_id_is_signed_gets_what_is_for_the_user(self, site: Site, page: Page, tmp_path: Path) -> None:
        begin(page, site)
        rows = [row("phone", user="u1", name="d1", rule="r1"), row("phone", user="u2", rule="r1")]
        append(site.api.log, *rows)
        page.run("sokuji('identify', 'u1', {plan: 'gold'})")
        until_streaming(site, page)
        assert page.run("document.querySelector('#sokuji-action')") is None
        signature = sign_user(MASTER.server_key("main"), "u1")
        page.run(f"sokuji('identify', 'u1', {{}}, {{signature: '{signature}'}})")
        assert page.wait_for(f"{DIALOG}('h2')?.textContent") == "Three looked at"
        page.screenshot(Path(os.environ.get("TAG_SCREENSHOT", tmp_path / "tag.png")))
        [shown] = site.wait_for("action_shown")
        assert (properties(shown)["decision_id"], shown["user_id"]) == ("d1", "u1")
        # The next page knows, too, and whoever signs out leaves it.
        append(site.api.log, row("phone", user="u1", name="d2", rule="r2"))
        begin(page, site)
        page.wait_for(f"{DIALOG}('h2')")
        page.run("sokuji('reset')")
        assert page.run("[localStorage['sokuji.user'], localStorage['sokuji.signature']]") == ["null", "null"]
        assert signature not in str(site.events())

    @pytest.mark.long
    def test_a_wrong_signature_leaves_the_visitors_own_messages(self, site: Site, page: Page) -> None:
        visitor = begin(page, site)
        page.run("sokuji('identify', 'u1', {}, {signature: 'of somebody else'})")
        append(site.api.log, row("phone", user="u1", rule="r1", action=POPUP | {"title": "Not mine"}), row(visitor, rule="r2"))
        assert page.wait_for(f"{DIALOG}('h2')?.textContent") == "Three looked at"

    @pytest.mark.long
    def test_a_hidden_page_holds_no_connection(self, site: Site, page: Page, browser: Browser) -> None:
        visitor = begin(page, site)
        until_streaming(site, page)
        page.hidden(True)
        for _ in range(100):
            if not streaming(site):
                break
            page.run("new Promise((done) => setTimeout(done, 50))")
        assert not streaming(site)
        append(site.api.log, row(visitor))
        page.hidden(False)
        page.wait_for(f"{DIALOG}('h2')")


@pytest.mark.long
def test_what_is_decided_on_an_event_comes_with_its_answer(browser: Browser, tmp_path: Path) -> None:
    with acting(tmp_path) as api:
        analyzed: dict[int, int] = {}

        def decided(events: Log) -> Decided:
            return Answering(Waiter(api.log, lambda: analyzed), events, MASTER, ANY_PORT, seconds=30).decided

        with (
            collecting(tmp_path, decided=decided) as collector,
            shop(tmp_path, collector, api, set()) as site,
            browser.private_page() as page,
        ):
            page.open(f"{site.url}/blank")
            page.run("window.EventSource = class { close() {} addEventListener() {} }")  # a stream that never opens
            page.run(f"sokuji('init', {json.dumps(site.settings())}); sokuji('track', 'view')")
            [view] = site.wait_for("view")
            theirs = row("somebody", trigger_id=view["message_id"], action=POPUP | {"title": "Not mine"})
            append(api.log, theirs, row(view["visitor_id"], trigger_id=view["message_id"], rule="r2"))
            assert page.wait_for(f"{DIALOG}('h2')?.textContent") == "Three looked at"
            analyzed |= dict.fromkeys(range(PARTITIONS), 1 << 40)
            assert [properties(event)["rule"] for event in site.wait_for("action_shown")] == ["r2"]


def test_three_items_of_the_shop_and_a_popup(site: Site, page: Page) -> None:
    page.open(site.url)
    for item in ("sencha", "gyokuro", "hojicha"):
        page.click(f"document.querySelector('a[href=\"#{item}\"]')")
        page.wait_for("document.querySelector('#detail:not([hidden]) h2')")
        if item != "hojicha":
            page.click("document.querySelector('.back')")
            page.wait_for("!document.querySelector('#list').hidden")
    views = site.wait_for("view", 3)
    assert [properties(event)["item"] for event in views] == ["sencha", "gyokuro", "hojicha"]
    # What the worker does when a rule's condition turns true.
    offer = {
        "kind": "popup",
        "title": "Still choosing?",
        "body": "Three teas looked at: here is 10 % off the next cup.",
        "button": "Take the offer",
        "link": "#cart",
    }
    append(site.api.log, row(views[0]["visitor_id"], name="d1", action=offer, trigger_id=views[2]["message_id"]))
    page.wait_for(f"{DIALOG}('h2')")
    site.wait_for("action_shown")
    assert page.run("document.activeElement.id") == "sokuji-action"  # the keyboard is in the window
    page.click(f"{DIALOG}('.go')")
    site.wait_for("action_clicked")
    page.wait_for("!document.querySelector('#cart').hidden")
