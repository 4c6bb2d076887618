"""Popular clients, each in its own process, against a running collector (tests/sdk/install fetches the clients)."""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.track.collector import Collector

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SDK = Path(__file__).parents[2] / ".venv" / "sdk"
NODE_MODULES = SDK / "node" / "node_modules"

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not here, and tests/sdk/install cannot install it")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

SEGMENT = """
import datetime, sys
import segment.analytics as analytics
from segment.analytics.version import VERSION
assert VERSION == sys.argv[2], VERSION
errors = []
analytics.write_key = "shop-key"
analytics.host = sys.argv[1]
analytics.on_error = lambda error, items: errors.append(error)
analytics.gzip = sys.argv[3] == "gzip"
analytics.identify("u1", {"plan": "gold"})
for number in range(250):
    analytics.track("u1", "buy", {"revenue": number + 0.5, "when": datetime.datetime(2026, 1, 1)}, anonymous_id="v1")
analytics.page("u1", "Docs", "Pricing", {"url": "https://shop.example/"})
analytics.screen("u1", "Main", "Home")
analytics.group("u1", "g1", {"seats": 3})
analytics.alias("before", "u1")
analytics.track("u1", "odd", {"value": float("nan")})
analytics.shutdown()
assert not errors, errors
"""

RUDDER = """
import sys
import rudderstack.analytics as analytics
errors = []
analytics.write_key = "shop-key"
analytics.dataPlaneUrl = sys.argv[1]
analytics.on_error = lambda error, items: errors.append(error)
analytics.identify("u1", {"plan": "gold"})
for number in range(250):
    analytics.track("u1", "buy", {"revenue": number + 0.5}, anonymous_id="v1")
analytics.page("u1", "Docs", "Pricing", {"url": "https://shop.example/"})
analytics.group("u1", "g1", {"seats": 3})
analytics.shutdown()
assert not errors, errors
"""

NODE = """
const { Analytics } = require('@segment/analytics-node')
const analytics = new Analytics({ writeKey: 'shop-key', host: process.argv[2], flushAt: 20 })
const errors = []
analytics.on('error', (error) => errors.push(error))
analytics.identify({ userId: 'u1', traits: { plan: 'gold' } })
for (let number = 0; number < 250; number++)
  analytics.track({ userId: 'u1', anonymousId: 'v1', event: 'buy', properties: { revenue: number + 0.5, text: 'half \\ud83d' } })
analytics.page({ userId: 'u1', category: 'Docs', name: 'Pricing', properties: { url: 'https://shop.example/' } })
analytics.group({ userId: 'u1', groupId: 'g1', traits: { seats: 3 } })
analytics.alias({ previousId: 'before', userId: 'u1' })
analytics.closeAndFlush().then(() => { if (errors.length) { console.error(errors); process.exit(1) } })
"""

BROWSER = """<!doctype html><title>Shop</title><script src="/umd/index.js"></script><script>
const [analytics] = [AnalyticsNext.AnalyticsBrowser.load(
  { writeKey: 'shop-key', cdnURL: 'COLLECTOR' },
  { integrations: { 'Segment.io': { deliveryStrategy: { strategy: 'STRATEGY', config: { size: 4, timeout: 200 } } } } })]
analytics.identify('u1', { plan: 'gold' })
analytics.page('Docs', 'Pricing')
for (let number = 0; number < 5; number++) analytics.track('buy', { revenue: number + 0.5, name: '即時 😀' })
analytics.group('g1', { seats: 3 })
</script>"""


def run(command: list[str], **environment: str) -> None:
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def of_type(events: list[dict[str, Any]], type_: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == type_]


def check(events: list[dict[str, Any]]) -> None:
    """What every client below sent is there, once, in order, in its columns."""
    assert len({event["message_id"] for event in events}) == len(events)
    buys = [event for event in events if event["event_name"] == "buy"]
    assert [json.loads(event["properties"])["revenue"] for event in buys] == [number + 0.5 for number in range(len(buys))]
    assert {event["user_id"] for event in events} == {"u1"}
    assert {(event["dataset"], event["source"], event["time_rule"]) for event in events} == {("main", "shop", "client")}
    assert all(abs(event["event_time"] - event["received_at"]).total_seconds() < 60 for event in events)
    assert json.loads(of_type(events, "identify")[0]["properties"]) == {"plan": "gold"}
    page = json.loads(of_type(events, "page")[0]["properties"])
    assert (page["category"], page["name"]) == ("Docs", "Pricing")
    assert json.loads(of_type(events, "group")[0]["properties"]) == {"seats": 3, "group_id": "g1"}
    assert all("library" in json.loads(event["context"]) for event in events)


@pytest.mark.parametrize(
    ("version", "encoding"),
    [
        ("2.4.0", "gzip"),
        pytest.param("2.4.0", "plain", marks=pytest.mark.long),
        pytest.param("2.3.4", "gzip", marks=pytest.mark.long),
        pytest.param("2.3.4", "plain", marks=pytest.mark.long),
    ],
)
def test_segment_python(collector: Collector, version: str, encoding: str) -> None:
    path = str(SDK / f"segment-analytics-python=={version}")
    run([sys.executable, "-c", SEGMENT, f"http://127.0.0.1:{collector.port}", version, encoding], PYTHONPATH=path)
    events = collector.events()
    assert len(events) == 256
    check(events)
    assert json.loads(of_type(events, "alias")[0]["properties"]) == {"previous_id": "before"}
    assert json.loads(of_type(events, "screen")[0]["properties"]) == {"category": "Main", "name": "Home"}
    assert [json.loads(event["properties"]) for event in events if event["event_name"] == "odd"] == [{"value": None}]  # it was NaN
    assert collector.bad_events() == []


def test_rudder_python(collector: Collector) -> None:
    run([sys.executable, "-c", RUDDER, f"http://127.0.0.1:{collector.port}"], PYTHONPATH=str(SDK / "rudder-sdk-python==2.1.9"))
    events = collector.events()
    assert len(events) == 253
    check(events)
    assert collector.bad_events() == []


@needs_node
def test_segment_node(collector: Collector) -> None:
    run(["node", "-e", NODE, "-", f"http://127.0.0.1:{collector.port}"], NODE_PATH=str(NODE_MODULES))
    events = collector.events()
    assert len(events) == 254
    # Batches are sent side by side, so their order is not the client's (docs/how-it-works.md).
    check(sorted(events, key=lambda event: json.loads(event["properties"]).get("revenue", -1)))
    assert {json.loads(event["properties"])["text"] for event in events if event["event_name"] == "buy"} == {"half \ufffd"}
    assert collector.bad_events() == []


class _Page(http.server.SimpleHTTPRequestHandler):
    page = b""

    def do_GET(self) -> None:
        if self.path != "/":
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.page)
        return None

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def site(request: pytest.FixtureRequest, collector: Collector) -> Iterator[str]:
    """A shop's own web site, on another origin than the collector."""
    page = BROWSER.replace("COLLECTOR", f"http://127.0.0.1:{collector.port}").replace("STRATEGY", request.param)
    handler = type("_Site", (_Page,), {"page": page.encode()})
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(handler, directory=str(NODE_MODULES / "@segment" / "analytics-next" / "dist"))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://localhost:{server.server_address[1]}/"
    server.shutdown()
    thread.join()
    server.server_close()


@needs_node
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome here, and tests/sdk/install cannot install it")
@pytest.mark.parametrize("site", ["standard", pytest.param("batching", marks=pytest.mark.long)], indirect=True)
def test_segment_browser(collector: Collector, site: str, tmp_path: Path) -> None:
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={tmp_path / 'profile'}"]
    browser = subprocess.Popen([str(CHROMIUM), *options, site], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        events = collector.wait_for(8, seconds=60)
    finally:
        browser.terminate()
        browser.wait(20)
    assert len(events) == 8, collector.bad_events()
    # A page's requests are under way side by side, so order is not the client's.
    check(sorted(events, key=lambda event: json.loads(event["properties"]).get("revenue", -1)))
    assert len({event["visitor_id"] for event in events}) == 1
    assert {json.loads(event["properties"])["name"] for event in events if event["event_name"] == "buy"} == {"即時 😀"}
    assert collector.bad_events() == []
