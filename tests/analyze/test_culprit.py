"""The search for an event that kills the worker finds this event only, and all readers leave the event out from then on."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from sokuji.analyze.crashes import Crashes
from sokuji.analyze.search import KILLED, Search
from sokuji.events import TIMESTAMP
from sokuji.features.training.offline import OfflineFeatures
from sokuji.sql.duckdb.backend import DuckDb
from sokuji.sql.engine import Engine
from tests.analyze.dying import KILL, RAISE, dying
from tests.analyze.side import SETTINGS, SHARED, Side, declare, numbered, read_all, side, verifier
from tests.lake.platform import START_US
from tests.searching import examples

FEATURES = """
from sokuji.features import events, view

view("shopper", entity="visitor", n=events().count(), spend=events().sum("revenue"))
"""
ACTIONS = """
from sokuji.rules import popup, rule

rule("any_buy", on="buy", do=popup(title="Thank you"))
"""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Side]:
    with side(tmp_path, SHARED) as opened:
        opened.catalog.create_dataset("shop")
        yield opened


def _events(culprit: str) -> list[dict[str, Any]]:
    names = ["buy", "buy", "view", "buy", culprit, "buy", "view"]
    return [
        *numbered(
            *(
                {"event_name": name, "visitor_id": f"v{at % 2}", "received_at": START_US + at, "properties": {"revenue": 2**at}}
                for at, name in enumerate(names)
            )
        )
    ]


EXPECTED = {"v0": (3, 1.0 + 4 + 64), "v1": (3, 2.0 + 8 + 32)}  # without the culprit, which is v0's


def _stopped() -> threading.Event:
    stop = threading.Event()
    stop.set()
    return stop


def _features(worker: Any) -> dict[str, tuple[int, float]]:
    found = worker.stages["shop"].state.features([f"v:{visitor}" for visitor in EXPECTED], 0)
    return {visitor: (row["n"], row["spend"]) for visitor, row in zip(EXPECTED, found, strict=True)}


def _check(shop: Side, declared: Any, reason: str) -> None:
    """Everyone leaves the culprit out: the state, the decisions, a state rebuilt from the lake, `verify` and training."""
    [bad] = read_all(shop.logs.bad_events)
    assert (bad["message_id"], bad["code"], bad["reason"], bad["dataset"]) == ("m4", "stopped_worker", reason, "shop")
    assert sorted(row["properties"]["trigger_id"] for row in shop.decisions() if row["event_name"] == "action_decided") == [
        "m0", "m1", "m3", "m5"
    ]  # fmt: skip
    shop.sink()
    verified = verifier(shop, declared).verify("shop")
    assert (verified.rows, verified.mismatches, verified.missing, verified.extra) == (6, 0, 0, 0)
    shutil.rmtree(shop.folder / "analyze" / "shop")
    with dying(), shop.worker(declared) as worker:
        assert _features(worker) == EXPECTED
    labels = pa.table({"entity_id": list(EXPECTED), "time": pa.array([START_US + 100] * 2, TIMESTAMP)})
    with Engine(shop.catalog, shop.lake, DuckDb([shop.folder / "lake"], shop.folder / "tmp")) as engine:
        made = OfflineFeatures(shop.folder, engine.execute, shop.lake, shop.folder / "analyze").training(labels, dataset="shop").to_pylist()
    assert {row["entity_id"]: (row["n"], row["spend"]) for row in made} == EXPECTED


def test_an_event_that_raises_is_found_and_left_out_by_everyone(shop: Side) -> None:
    declared = declare(shop.folder, FEATURES, ACTIONS)
    served = structs.replace(SETTINGS, served_sample=1.0)
    shop.track(*_events(RAISE))
    with dying():
        for _ in range(2):
            with shop.worker(declared, settings=served) as worker, pytest.raises(ValueError, match="it dies of this"):
                worker.run(_stopped())
        steps, again = 0, True
        while again:
            with shop.worker(declared, settings=served) as worker:
                again, steps = worker.run(_stopped()), steps + 1
                if not again:
                    assert _features(worker) == EXPECTED
    assert steps <= 9, "halves, alone, without any, alone again, and the work itself"
    _check(shop, declared, "ValueError: it dies of this")


@pytest.mark.long
@pytest.mark.e2e
def test_an_event_that_ends_the_process_is_found_and_left_out_by_everyone(shop: Side) -> None:
    declared = declare(shop.folder, FEATURES, ACTIONS)
    shop.track(*_events(KILL))
    command, deaths = [sys.executable, "-m", "tests.analyze.dying", str(shop.folder)], 0
    while subprocess.run(command, check=False).returncode:
        deaths += 1
        assert deaths < 10
    with shop.worker(declared) as worker:
        assert _features(worker) == EXPECTED
    [bad] = read_all(shop.logs.bad_events)
    assert (bad["message_id"], bad["code"], bad["reason"]) == ("m4", "stopped_worker", KILLED)


@settings(max_examples=examples(200))
@given(count=st.integers(1, 300), data=st.data())
def test_the_search_finds_the_one_row_and_never_another(count: int, data: st.DataObject) -> None:
    culprit = data.draw(st.none() | st.integers(0, count - 1))  # none: nothing alone kills it
    search = Search(7, 0, count)
    for _ in range(13):
        search.trial = first, last = search.next_trial()
        search.settle("dead" if culprit is not None and first <= culprit < last else None)
        if search.is_over:
            break
    assert search.is_over
    assert search.culprit == culprit


@settings(max_examples=examples(200))
@given(count=st.integers(1, 300), data=st.data())
def test_a_death_from_outside_in_any_trial_blames_no_other_event(count: int, data: st.DataObject) -> None:
    culprit = data.draw(st.none() | st.integers(0, count - 1))
    search, outside = Search(7, 0, count), data.draw(st.integers(0, 13))
    for trial in range(14):
        search.trial = first, last = search.next_trial()
        search.settle("dead" if trial == outside or (culprit is not None and first <= culprit < last) else None)
        if search.is_over:
            break
    assert search.is_over
    assert search.culprit in {culprit, None}


def test_what_happens_without_any_event_is_no_events_fault() -> None:
    search = Search(7, 0, 5)
    while not search.is_over:
        search.trial = search.next_trial()
        search.settle("dead")
    assert search.culprit is None


def test_deaths_are_counted_by_batch_and_in_a_row(tmp_path: Path) -> None:
    def start() -> Crashes:
        return Crashes(tmp_path / "attempts")

    crashes = start()
    crashes.begin(4)
    crashes = start()
    assert (crashes.deaths(4), crashes.deaths(5)) == (1, 0)
    crashes.begin(3)
    crashes.done(3)
    crashes.begin(4)
    crashes = start()
    assert crashes.deaths(4) == 2
    crashes = start()
    assert crashes.deaths(4) == 2, "a start without work is no death"
    crashes.begin(4)
    crashes.done(4)
    assert start().deaths(4) == 0
