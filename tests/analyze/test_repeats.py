"""A message that is sent again beyond the window is a new event for every reader; within the window it is a repeat for every reader."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from sokuji.dedup.rule import RepeatRule
from sokuji.meta.objects import Ref
from tests.analyze import side as opened
from tests.analyze.side import PARTITIONS, SETTINGS, declare, drain, read_all, side, verifier
from tests.lake.duck import select
from tests.lake.platform import START_US
from tests.log.opening import Opening
from tests.predict.test_features import lookup

FEATURES = """
from sokuji.features import events, view

view("shopper", entity="visitor", n=events().count(), spend=events().sum("revenue"))
"""
STRETCH_ROWS = 10


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "RULE", RepeatRule(2 * STRETCH_ROWS * PARTITIONS, PARTITIONS))


def event(message: str, at: int, visitor: str = "a", user: str | None = None, revenue: int = 1) -> dict[str, Any]:
    ids = {"message_id": message, "visitor_id": visitor, "user_id": user, "received_at": START_US + at}
    return ids | {"event_name": "buy", "type": "track", "properties": {"revenue": revenue}}


def others(at: int, count: int) -> list[dict[str, Any]]:
    return [event(f"o{at + number}", at + number, "b") for number in range(count)]


@pytest.mark.parametrize("crashes", [False, True])
def test_a_message_that_comes_again_much_later_is_another_event(tmp_path: Path, crashes: bool) -> None:
    declared, settings = declare(tmp_path, FEATURES), structs.replace(SETTINGS, served_sample=1.0)
    with side(tmp_path) as shop:
        shop.catalog.create_dataset("shop")
        with shop.worker(declared, settings=settings) as worker:
            for batch in _sent():
                shop.track(*batch)
                drain(worker)
            shop.track(event("m", 90, "c", revenue=100), partition=1)  # visitors of other partitions have messages of their own
            drain(worker)
            if not crashes:
                worker.checkpoint(wait=True)
        with shop.worker(declared, settings=settings) as worker:  # after a crash it works on all of it again
            drain(worker)
            worker.checkpoint(wait=True)
            found = lookup(shop, declared)
            assert [found.features(key, START_US) for key in ("u:w", "u:u", "v:c")] == [
                {"n": 1, "spend": 10.0},
                {"n": 1, "spend": 1.0},
                {"n": 1, "spend": 100.0},
            ]
        shop.sink()
        rows = select(shop.lake.snapshot(Ref("shop", "events")), ["message_id", "revenue"])
        assert sorted(row[1] for row in rows if row[0] == "m") == [1, 10, 100]
        said = [(row["kind"], row["user_id"]) for row in read_all(shop.logs.identities)]
        assert said == [("merged", "u"), ("switched", "w")]
        verified = verifier(shop, declared).verify("shop")
        assert verified.json() == {"rows": 3 + 25, "features": 2, "mismatches": 0, "missing": 0, "extra": 0}, verified.examples


def _sent() -> list[list[dict[str, Any]]]:
    return [
        [event("m", 0, user="u")],
        others(1, STRETCH_ROWS + 5),
        [event("m", 50, user="w", revenue=1000)],  # a repeat: in the stretch after the first
        others(51, STRETCH_ROWS),
        [event("m", 80, user="w", revenue=10)],
        [event("m", 81, user="u", revenue=1000)],
    ]


def test_what_was_deleted_remains_a_repeat_when_the_indexes_are_learned_again(tmp_path: Path, opening: Opening) -> None:
    declared = declare(tmp_path, FEATURES)
    with side(tmp_path, opening=opening) as shop:
        shop.track(event("m", 0), event("n", 1), event("o", 2))
        shop.sink()
        shop.delete("m")
        shutil.rmtree(tmp_path / "sink" / "seen")
        with shop.worker(declared) as worker:  # which has no state
            shop.track(event("m", 3), event("n", 4), event("p", 5))
            drain(worker)
            count = lookup(shop, declared).features("v:a", START_US)["n"]
        shop.sink()
        assert sorted(id_ for (id_,) in select(shop.lake.snapshot(Ref("shop", "events")), ["message_id"])) == ["n", "o", "p"]
        assert count == 3


def test_both_indexes_end_at_the_same_offset(tmp_path: Path, opening: Opening) -> None:
    """Whatever the distance: the lake and the worker take the same of a message that is sent at each of two places."""
    declared = declare(tmp_path, FEATURES)
    with side(tmp_path, opening=opening) as shop:
        shop.catalog.create_dataset("shop")
        with shop.worker(declared) as worker:
            at = 0
            for distance in (1, STRETCH_ROWS - 1, STRETCH_ROWS, 2 * STRETCH_ROWS - 1, 2 * STRETCH_ROWS, 2 * STRETCH_ROWS + 1):
                for _ in range(3):
                    shop.track(event(f"d{distance}", at, f"v{distance}"), *others(at + 1, distance - 1))
                    at += distance
                    drain(worker)
            found = lookup(shop, declared)
            counts = {f"v{distance}": found.features(f"v:v{distance}", START_US)["n"] for distance in (1, 9, 10, 19, 20, 21)}
        shop.sink()
        rows = select(shop.lake.snapshot(Ref("shop", "events")), ["keys"])
        assert counts == {visitor: sum(row[0]["visitor_id"] == visitor for row in rows) for visitor in counts}
        assert [counts["v1"], counts["v20"], counts["v21"]] == [1, 3, 3]
