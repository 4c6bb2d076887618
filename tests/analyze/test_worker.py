"""The worker: events in, features and decisions out, exactly once, also after merges of identities."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sokuji.analyze.state.open import Opener
from sokuji.analyze.worker import Worker
from sokuji.config import AnalyzeSettings
from sokuji.features.kernel.kernel import Kernel
from sokuji.lake.memory import MemoryLake
from sokuji.online.shared.checkpoint import Checkpoint, Checkpoints
from sokuji.proof import visitor_id_of
from tests.analyze.side import SHARED, Side, StateInMemory, declare, drain, numbered, read_all, side
from tests.lake.platform import START_US
from tests.log.opening import Opening

FEATURES = """
from sokuji.features import events, view

buys = events("buy")
view("shopper", entity="visitor", buys=buys.count().over("1d"), spend=buys.sum("revenue").over("1d", "all"), last_item=buys.last("item"))
"""
ACTIONS = """
from sokuji.rules import popup, rule

rule("third_buy", on="buy", when="buys_1d = 3", do=popup(title="Thank you for {item}"))
"""
SECOND = 1_000_000


@pytest.fixture
def shop(tmp_path: Path, opening: Opening) -> Iterator[Side]:
    with side(tmp_path, StateInMemory(), opening, lake=MemoryLake()) as opened:
        yield opened


@pytest.fixture
def shop_on_disk(tmp_path: Path) -> Iterator[Side]:
    with side(tmp_path, SHARED, lake=MemoryLake()) as opened:
        yield opened


def buy(visitor: str | None, revenue: Any = 10, at: int = 0, **more: Any) -> dict[str, Any]:
    properties = {"revenue": revenue, "item": f"i{at}"}
    return {"visitor_id": visitor, "received_at": START_US + at * SECOND, "properties": properties, **more}


def features(worker: Worker, *keys: str, at: int = 100, dataset: str = "shop") -> list[dict[str, Any]]:
    """The features of profiles as a reader sees them."""
    return worker.stages[dataset].state.features(keys, START_US + at * SECOND)


def test_each_decision_sees_the_events_up_to_its_own(shop: Side, tmp_path: Path) -> None:
    shop.track(*numbered(*(buy("a", at=number) for number in range(5)), buy("b", at=9)))
    with shop.worker(declare(tmp_path, FEATURES, ACTIONS)) as worker:
        drain(worker)
        assert features(worker, "v:a", "v:b") == [
            {"buys_1d": 5, "spend_1d": 50.0, "spend": 50.0, "last_item": "i4"},
            {"buys_1d": 1, "spend_1d": 10.0, "spend": 10.0, "last_item": "i9"},
        ]
    [decision] = shop.decisions()
    assert (decision["dataset"], decision["visitor_id"], decision["event_name"]) == ("shop", "a", "action_decided")
    assert decision["properties"]["trigger_id"] == "m2"
    assert decision["properties"]["action"]["title"] == "Thank you for i2"


def test_repeats_count_once(shop: Side, tmp_path: Path) -> None:
    event = numbered(buy("a"))[0]
    shop.track(event, event)
    with shop.worker(declare(tmp_path, FEATURES, ACTIONS)) as worker:
        drain(worker)
        shop.track(event, buy("a", message_id="m1"))
        drain(worker)
        assert features(worker, "v:a")[0]["buys_1d"] == 2


def test_a_visitor_who_becomes_known_brings_their_past_along(shop: Side, tmp_path: Path) -> None:
    shop.track(*numbered(buy("a", at=0), buy("a", at=1)))
    shop.track(
        *numbered(buy("b", at=2), {"visitor_id": "b", "user_id": "u", "event_name": "identify", "type": "identify"}, start=10), partition=1
    )
    with shop.worker(declare(tmp_path, FEATURES, ACTIONS)) as worker:
        drain(worker)
        shop.track(*numbered(buy("a", at=5, user_id="u"), buy("a", at=6), start=20))
        drain(worker)
        assert [row["buys_1d"] for row in features(worker, "u:u", "v:a", "v:b")] == [5, 0, 0]
    links = [(row["kind"], row["visitor_id"], row["user_id"]) for row in read_all(shop.logs.identities)]
    assert links == [("merged", "b", "u"), ("merged", "a", "u")]
    # With the past of b and of a, the event that names the user is the fourth: none of them was the third of a profile.
    assert shop.decisions() == []


def test_bots_and_history_decide_nothing_and_bots_count_nothing(shop: Side, tmp_path: Path) -> None:
    bot = {"context": '{"userAgent": "Googlebot/2.1"}'}
    shop.track(
        *numbered(*(buy("bot", at=number, **bot) for number in range(4)), *(buy("old", at=number, historical=True) for number in range(4)))
    )
    with shop.worker(declare(tmp_path, FEATURES, ACTIONS)) as worker:
        drain(worker)
        assert [row["buys_1d"] for row in features(worker, "v:bot", "v:old")] == [0, 4]
    assert shop.decisions() == []


def test_a_poison_event_is_kept_with_its_reason_and_stops_nothing(shop: Side, tmp_path: Path) -> None:
    declared = declare(tmp_path, FEATURES.replace('sum("revenue")', 'sum("100 / revenue")'), ACTIONS)
    shop.track(*numbered(buy("a", 10), buy("a", 0), buy("a", "x" * 1_000_000), buy("a", 5)))
    with shop.worker(declared) as worker:
        drain(worker)
        assert (features(worker, "v:a")[0]["spend"], features(worker, "v:a")[0]["buys_1d"]) == (30.0, 3)
    [bad] = read_all(shop.logs.bad_events)
    assert (bad["message_id"], bad["code"]) == ("m1", "expression_failed")
    assert "division by zero" in bad["reason"]


def test_poison_in_bulk_stops_nothing_and_all_of_it_is_kept_with_its_reason(shop: Side, tmp_path: Path) -> None:
    """A third of the events fails; others bring numbers that are none, and texts of a megabyte."""
    declared = declare(tmp_path, FEATURES.replace('sum("revenue")', 'sum("100 / revenue")'), ACTIONS)
    poisoned = range(0, 900, 3)
    odd = {1: '{"revenue":1e999}', 4: '{"revenue":"NaN"}', 7: f'{{"item":"{"x" * 1_000_000}","revenue":10}}'}
    events = [buy(f"v{number % 9}", 0 if number in poisoned else 10, at=number) for number in range(900)]
    for number, properties in odd.items():
        events[number]["properties"] = properties
    shop.track(*numbered(*events))
    with shop.worker(declared) as worker:
        drain(worker)
        shop.track(*numbered(buy("after", 20), start=900))
        drain(worker)
        rows = features(worker, *(f"v:v{number}" for number in range(9)), "v:after")
    expected = [
        [number for number in range(900) if number % 9 == visitor and number not in poisoned and number not in {1, 4}]
        for visitor in range(9)
    ]
    assert [row["spend"] for row in rows] == [*(10.0 * len(own) for own in expected), 5.0]
    bad = read_all(shop.logs.bad_events)
    assert [row["message_id"] for row in bad] == [f"m{number}" for number in poisoned]
    assert all(row["code"] == "expression_failed" and "division by zero" in row["reason"] for row in bad)


def test_a_hot_visitor_takes_no_pass_of_its_own(shop: Side, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of all events is one visitor's. Nothing is done event by event, or once more, for the others on their account."""
    events = [buy("hot" if number % 10 == 0 else f"v{number}", at=number) for number in range(2000)]
    shop.track(*numbered(*events))
    with shop.worker(declare(tmp_path, FEATURES, ACTIONS)) as worker:
        passes, update = [], Kernel.update

        def counted(kernel: Kernel, *arguments: Any, **more: Any) -> Any:
            passes.append(len(arguments[1]))
            return update(kernel, *arguments, **more)

        monkeypatch.setattr(Kernel, "update", counted)
        drain(worker)
        assert passes == [2000]
        assert [row["buys_1d"] for row in features(worker, "v:hot", "v:v1", "v:v1999")] == [200, 1, 1]
    assert [(row["visitor_id"], row["properties"]["trigger_id"]) for row in shop.decisions()] == [("hot", "m20")]


def test_datasets_are_apart(shop: Side, tmp_path: Path) -> None:
    shop.track(*numbered(buy("a"), buy("a", dataset="other"), buy("a", dataset="nobody")))
    with shop.worker(declare(tmp_path, FEATURES, ACTIONS), "shop", "other") as worker:
        drain(worker)
        assert [features(worker, "v:a", dataset=name)[0]["buys_1d"] for name in ("shop", "other")] == [1, 1]


def test_after_a_crash_the_state_is_the_same_and_nothing_is_decided_twice(shop: Side, tmp_path: Path) -> None:
    declared = declare(tmp_path, FEATURES, ACTIONS)
    with shop.worker(declared) as worker:
        shop.track(*numbered(buy("a", at=0), buy("a", at=1)))
        drain(worker)
        worker.checkpoint(wait=True)
        shop.track(*numbered(buy("a", at=2), buy("b", at=3), start=2))
        drain(worker)
        before = features(worker, "v:a", "v:b")
        decisions = shop.decisions()
    with shop.worker(declared) as again:  # what came after the checkpoint is gone from the store
        assert again.is_replaying
        drain(again)
        assert features(again, "v:a", "v:b") == before
        assert shop.decisions() == decisions
        shop.track(*numbered(*(buy("b", at=number) for number in (4, 5)), start=4))
        drain(again)
    assert [row["visitor_id"] for row in shop.decisions()] == ["a", "b"]


def test_the_log_keeps_what_a_new_worker_has_not_seen(shop: Side, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its first checkpoint, too, and from the moment that it looks into the lake."""
    shop.track(*numbered(buy("a")))
    shop.sink()
    sent = 1

    def sell(*_: Any, **__: Any) -> None:
        nonlocal sent
        shop.track(*numbered(buy("a", at=sent), start=sent))
        sent += 1
        shop.sink()
        shop.logs.events.trim(max_bytes=0)

    def taken_in(*arguments: Any) -> Any:
        found = take_in(*arguments)
        sell()
        return found

    take_in = Opener._from_lake
    monkeypatch.setattr(Opener, "_from_lake", taken_in)
    with shop.worker(declare(tmp_path, FEATURES, ACTIONS)) as worker:
        sell()
        drain(worker)
        sell()
        drain(worker)
        assert features(worker, "v:a")[0]["buys_1d"] == sent


def test_a_stop_checkpoints_all(shop: Side, tmp_path: Path) -> None:
    declared, stop = declare(tmp_path, FEATURES, ACTIONS), threading.Event()
    shop.track(*numbered(buy("a")))
    stop.set()
    with shop.worker(declared) as worker:
        worker.run(stop)
    with shop.worker(declared) as again:
        assert not again.is_replaying
        assert features(again, "v:a")[0]["buys_1d"] == 1
    assert shop.logs.events.committed("analyze") == {partition: shop.logs.events.end(partition) for partition in range(2)}


def test_work_goes_on_while_a_checkpoint_is_written(shop_on_disk: Side, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the disk takes, and although the next checkpoint is due."""
    shop, disk, stop, save = shop_on_disk, threading.Event(), threading.Event(), Checkpoints._save

    def slowly(self: Checkpoints, checkpoint: Checkpoint) -> None:
        disk.wait(30)
        save(self, checkpoint)

    settings = AnalyzeSettings(checkpoint_seconds=0.01, profiles_max=1000)
    with shop.worker(declare(tmp_path, FEATURES, ACTIONS), settings=settings) as worker:
        monkeypatch.setattr(Checkpoints, "_save", slowly)
        thread = threading.Thread(target=worker.run, args=(stop,))
        thread.start()
        for number in range(5):
            shop.track(*numbered(buy("a", at=number), start=number))
            deadline = time.monotonic() + 20
            while worker._progress.read()[0] <= number:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            time.sleep(0.05)  # a checkpoint is due
        disk.set()
        stop.set()
        thread.join()
        assert features(worker, "v:a")[0]["buys_1d"] == 5


def test_a_profile_not_seen_for_long_is_forgotten(shop: Side, tmp_path: Path) -> None:
    declared, day = declare(tmp_path, FEATURES, ACTIONS), 1 / 86_400
    shop.track(*numbered(buy("a")))
    with shop.worker(declared, settings=AnalyzeSettings(profiles_max=1000, profile_days=day)) as worker:
        drain(worker)
        worker.checkpoint(wait=True)
        assert features(worker, "v:a")[0]["buys_1d"] == 1
        time.sleep(1.2)
        shop.track(*numbered(buy("b", at=1), start=1))
        drain(worker)
        worker.checkpoint(wait=True)
        assert [row["spend"] for row in features(worker, "v:a", "v:b")] == [0.0, 10.0]


def test_a_visitor_whose_id_can_be_proven_becomes_known_by_proof_alone(shop: Side, tmp_path: Path) -> None:
    mine, unproven = visitor_id_of("mine"), {"context": '{"unproven":true}', "event_name": "view"}
    shop.track(
        *numbered(
            buy(mine, at=1),
            buy(mine, at=2, user_id="attacker", **unproven),
            buy(mine, at=3),
            {"type": "alias", "properties": {"previous_id": mine}, "received_at": START_US + 4 * SECOND, "user_id": "attacker"} | unproven,
            buy("other", at=5, user_id="attacker", **unproven),  # an id of another library, that nobody can prove
        )
    )
    with shop.worker(declare(tmp_path, FEATURES, ACTIONS)) as worker:
        drain(worker)
        assert features(worker, f"v:{mine}")[0]["buys_1d"] == 2
        shop.track(*numbered(buy(mine, at=6, user_id="me"), start=9))
        drain(worker)
        assert features(worker, "u:me")[0]["buys_1d"] == 3
    refused = [(row["visitor_id"], row["user_id"], row["kind"]) for row in read_all(shop.logs.identities)]
    assert refused == [(mine, "attacker", "refused")] * 2 + [("other", "attacker", "merged"), (mine, "me", "merged")]
