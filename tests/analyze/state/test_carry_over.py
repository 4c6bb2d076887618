"""A change of the declarations: the state of rules survives it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sokuji.analyze.compile import Declared
from sokuji.analyze.worker import Worker
from sokuji.lake.memory import MemoryLake
from tests.analyze.side import Side, StateInMemory, declare, drain, side

FEATURES = """
from sokuji.features import events, view

view("shopper", entity="visitor", buys=events("buy").count().over("1d"))
"""
MORE_FEATURES = FEATURES + 'view("reader", entity="visitor", pages=events("page").count().over("1h"))\n'
ACTIONS = """
from sokuji.rules import arm, rule, webhook

one, two = webhook("https://shop.example/1"), webhook("https://shop.example/2")
rule("capped", on="buy", do=one, at_most="1 ever")
rule("left", on="cart", after="30m", unless="buy", do=one)
rule("edge", on="buy", when_becomes="buys_1d >= 1", do=one)
"""
MORE_ACTIONS = ACTIONS.replace("rule(", 'rule("new", on="buy", do=two, at_most="9 per 1h")\nrule(', 1)
SECOND, MINUTE = 1_000_000, 60_000_000


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Side]:
    with side(tmp_path, StateInMemory(), lake=MemoryLake()) as opened:
        yield opened


@contextmanager
def working(shop: Side, declared: Declared, *, orderly: bool = True) -> Iterator[Worker]:
    """A worker that ends as a role does, or as one that is killed."""
    with shop.worker(declared) as worker:
        yield worker
        drain(worker)
        if orderly:
            worker.checkpoint(wait=True)


def track(shop: Side, name: str, at_us: int, visitor: str = "a", **more: Any) -> None:
    event = {"event_name": name, "type": "track", "visitor_id": visitor, "received_at": at_us, "message_id": f"{name}{visitor}{at_us}"}
    shop.track(event | more)


def decided(shop: Side) -> list[str]:
    return [each["properties"]["rule"] for each in shop.decisions() if each["event_name"] == "action_decided"]


@pytest.mark.parametrize("features", [FEATURES, MORE_FEATURES])
def test_caps_and_edges_go_on(shop: Side, tmp_path: Path, features: str) -> None:
    start_us = time.time_ns() // 1000
    with working(shop, declare(tmp_path, FEATURES, ACTIONS)):
        track(shop, "buy", start_us)
    assert sorted(decided(shop)) == ["capped", "edge"]
    with working(shop, declare(tmp_path, features, MORE_ACTIONS)):
        track(shop, "buy", start_us + SECOND)
        track(shop, "buy", start_us + SECOND, "b")
    assert sorted(decided(shop)[2:]) == ["capped", "edge", "new", "new"]  # of b: all; of a: what is new


def test_what_a_visitor_brought_into_a_user_is_still_the_users(shop: Side, tmp_path: Path) -> None:
    start_us = time.time_ns() // 1000
    with working(shop, declare(tmp_path, FEATURES, ACTIONS)):
        track(shop, "buy", start_us)
        track(shop, "identify", start_us + SECOND, user_id="u", type="identify")
    with working(shop, declare(tmp_path, FEATURES, MORE_ACTIONS)):
        track(shop, "buy", start_us + 2 * SECOND)
        shop.track({"event_name": "buy", "type": "track", "user_id": "u", "received_at": start_us + 3 * SECOND, "message_id": "elsewhere"})
    assert sorted(decided(shop)[2:]) == ["new", "new"]


@pytest.mark.parametrize("orderly", [True, False])
def test_timers_go_on_after_an_orderly_end_and_not_after_a_crash(shop: Side, tmp_path: Path, orderly: bool) -> None:
    armed_us = time.time_ns() // 1000 - 29 * MINUTE
    with working(shop, declare(tmp_path, FEATURES, ACTIONS)) as worker:
        track(shop, "cart", armed_us, "waits")
        track(shop, "cart", armed_us, "buys")
        drain(worker)
        worker.checkpoint(wait=True)
    with working(shop, declare(tmp_path, FEATURES, ACTIONS), orderly=orderly):
        track(shop, "page", armed_us + MINUTE, "waits")
    with working(shop, declare(tmp_path, FEATURES, MORE_ACTIONS)):
        track(shop, "buy", armed_us + 2 * MINUTE, "buys")
        track(shop, "page", armed_us + 31 * MINUTE, "waits")
        track(shop, "page", armed_us + 31 * MINUTE, "buys")
    assert decided(shop).count("left") == (1 if orderly else 0)


def test_a_second_edit_goes_on_from_the_first(shop: Side, tmp_path: Path) -> None:
    start_us = time.time_ns() // 1000
    for number, actions in enumerate((ACTIONS, MORE_ACTIONS, ACTIONS.replace('"1 ever"', '"2 ever"'))):
        with working(shop, declare(tmp_path, FEATURES, actions)):
            track(shop, "buy", start_us + number * SECOND)
        assert sum(path.is_dir() for path in (shop.folder / "analyze" / "shop").iterdir()) == 1
    assert decided(shop).count("capped") == 2
    assert decided(shop).count("edge") == 1
