"""Features by key, read beside a running worker."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sokuji.analyze.compile import Declared
from sokuji.analyze.progress import Progress
from sokuji.errors import OnlineStoreError
from sokuji.predict.features import Lookup
from tests.analyze.side import PARTITIONS, SHARED, Side, declare, drain, following, side
from tests.lake.platform import START_US

FEATURES = """
from sokuji.features import events, view

buys, views = events("buy"), events("view")
view("shopper", entity="visitor", seen=views.count().over("1h"), last_item=views.last("item"))
view("account", entity="user", spend=buys.sum("revenue").over("1h"), by_item=buys.count().by("item", top=2).over("1h"))
"""
SECOND = 1_000_000
NOTHING = {"seen_1h": 0, "last_item": None}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Side]:
    with side(tmp_path, SHARED) as opened:
        yield opened


@pytest.fixture
def declared(shop: Side) -> Declared:
    return declare(shop.folder, FEATURES)


def lookup(shop: Side, declared: Declared) -> Lookup:
    progress = Progress(shop.folder / "analyze" / "progress", PARTITIONS)
    return Lookup(
        "shop",
        following(shop, declared),
        shop.logs.identities,
        shop.folder / "analyze",
        is_led=progress.is_led,
        open_reader=shop.online.read,
    )


def event(name: str, at: int, **more: Any) -> dict[str, Any]:
    ids = {"visitor_id": "a", "message_id": f"{name}{at}", "received_at": START_US + at * SECOND}
    return {"event_name": name, "type": "track", "properties": {"item": "tea", "revenue": 3}, **ids, **more}


def test_what_a_visitor_did_is_read_at_once_and_becomes_the_users_when_they_are_known(shop: Side, declared: Declared) -> None:
    with shop.worker(declared) as worker:
        found = lookup(shop, declared)
        assert found.features("v:a", START_US) == NOTHING, "a view on users has nothing of an unknown visitor"
        shop.track(event("view", 1), event("view", 2))
        drain(worker)
        assert found.features("v:a", START_US) == {"seen_1h": 2, "last_item": "tea"}
        assert found.features("v:a", START_US + 3 * 3600 * SECOND)["seen_1h"] == 0, "windows end when they are read"
        shop.track(event("buy", 3, user_id="u"))
        drain(worker)
        known = {"seen_1h": 2, "last_item": "tea", "spend_1h": 3.0, "by_item_1h": [{"category": "tea", "value": 1}]}
        assert found.features("v:a", START_US) == found.features("u:u", START_US) == known
        assert found.features("u:b", START_US) == NOTHING | {"spend_1h": 0.0, "by_item_1h": []}


def test_who_became_known_before_the_merge_log_begins_is_found_in_what_the_worker_saved(shop: Side, declared: Declared) -> None:
    with shop.worker(declared) as worker:
        shop.track(event("view", 1), event("view", 2, user_id="u"))
        drain(worker)
        worker.checkpoint(wait=True)
        shop.logs.identities.commit("test", {0: shop.logs.identities.end(0)})
        shop.logs.identities.trim(max_age_seconds=0)
        assert lookup(shop, declared).features("v:a", START_US)["seen_1h"] == 2
        shop.track(event("view", 3, user_id="w"), event("view", 4))  # somebody else takes the device
        drain(worker)
        assert lookup(shop, declared).features("v:a", START_US)["seen_1h"] == 2
        assert lookup(shop, declared).features("u:w", START_US)["seen_1h"] == 2


def test_without_a_worker_it_says_so(shop: Side, declared: Declared) -> None:
    with pytest.raises(OnlineStoreError, match="never ran"):
        lookup(shop, declared).features("v:a", START_US)


@pytest.mark.e2e
def test_after_the_worker_was_killed_it_says_so_until_one_has_caught_up(shop: Side, declared: Declared) -> None:
    shop.track(event("view", 1))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.analyze.working", str(shop.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"working\n"
    found = lookup(shop, declared)
    assert wait_for(lambda: found.features("v:a", START_US)["seen_1h"]) == 1
    process.kill()
    process.communicate()
    with pytest.raises(OnlineStoreError, match=r"no worker keeps .* up to date"):
        found.features("v:a", START_US)
    shop.track(event("view", 2))
    with shop.worker(declared) as worker:
        if worker.is_replaying:
            with pytest.raises(OnlineStoreError, match="repeats what was done"):
                found.features("v:a", START_US)
        drain(worker)
        assert found.features("v:a", START_US)["seen_1h"] == 2
    with pytest.raises(OnlineStoreError, match=r"no worker keeps .* up to date"):
        found.features("v:a", START_US)


def wait_for(look: Callable[[], int]) -> int:
    deadline = time.monotonic() + 60
    while not look() and time.monotonic() < deadline:
        time.sleep(0.01)
    return look()
