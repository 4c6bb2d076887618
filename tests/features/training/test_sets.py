"""Training sets from a lake, against an oracle that gets only the events that each label may see."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sokuji.errors import FeatureError
from sokuji.events import TIMESTAMP
from sokuji.features import events, sessions, view
from sokuji.features.kernel.strings import Vocabulary
from sokuji.features.training.sets import training
from sokuji.sql.duckdb.backend import DuckDb
from sokuji.sql.engine import Engine
from tests.features.kernel.test_kernel import assert_same
from tests.features.oracle import US, Event, Oracle
from tests.lake.platform import START_US, Lakeside, lakeside

VIEW = view(
    "shopper",
    entity="visitor",
    spend=events("buy").sum("revenue").over("1h", "7d"),
    views=events("page").count().over("1d", "all"),
    deviation=events("buy").stddev("revenue").over("7d"),
    last=events("page").last("url"),
    pages=events("page").last(3, "url"),
    kinds=events().distinct("url").over("1d"),
    visit=sessions.number(),
    visit_events=sessions.events(),
)
BUY, PAGE = "event_name = 'buy'", "event_name = 'page'"


@pytest.fixture
def side(tmp_path: Path) -> Iterator[Lakeside]:
    with lakeside(tmp_path) as made:
        made.catalog.create_dataset("shop")
        yield made


@pytest.fixture
def engine(side: Lakeside) -> Iterator[Engine]:
    with Engine(side.catalog, side.tables, DuckDb([side.folder / "lake"], side.folder / "tmp"), acknowledged=side.fresh) as made:
        yield made


def labels(*rows: tuple[str, int]) -> pa.Table:
    names, times = zip(*rows, strict=True)
    return pa.table({"entity_id": names, "time": pa.array(times, TIMESTAMP), "label": [n % 2 == 0 for n in range(len(rows))]})


def run(engine: Engine, asked: pa.Table, **more: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = training(VIEW, asked, engine.execute, vocabulary=Vocabulary(), dataset="shop", **more).to_pylist()
    return found


def event(number: int, visitor: str, time: int, name: str = "buy", *, received: int | None = None, **more: Any) -> dict[str, Any]:
    properties = {"revenue": float(number), "url": f"/{number % 5}"}
    return {
        "message_id": str(number),
        "visitor_id": visitor,
        "event_time": time,
        "event_name": name,
        "received_at": time if received is None else received,
        "properties": properties,
        **more,
    }


def test_a_label_sees_what_the_oracle_sees_of_events_before_it_that_had_been_received(side: Lakeside, engine: Engine) -> None:
    chance = random.Random(7)
    rows = []
    for number in range(300):
        time = START_US + chance.randrange(20 * 86_400) * US
        late = chance.choice([0, 0, 0, 1, 3600, 90_000]) * US
        rows.append(event(number, f"v{chance.randrange(6)}", time, chance.choice(["buy", "page"]), received=time + late))
    side.track(*rows[:200])
    side.drain()
    side.track(*rows[200:])  # in the log only
    moments = [row["event_time"] + chance.choice([0, 0, 1, 50 * US, 86_400 * US]) for row in rows[::3]]
    asked = labels(*((f"v{chance.randrange(7)}", moment) for moment in moments))
    for row, found in zip(asked.to_pylist(), run(engine, asked), strict=True):
        at = int(row["time"].timestamp() * US)
        seen = [each for each in rows if each["visitor_id"] == row["entity_id"] and each["event_time"] < at and each["received_at"] <= at]
        seen.sort(key=lambda each: (max(each["event_time"] + 1, each["received_at"]), each["event_time"]))
        oracle = Oracle(VIEW, [Event(each["event_time"], _says(each)) for each in seen])
        assert found.pop("label") == row["label"]
        assert (found.pop("entity_id"), found.pop("time")) == (row["entity_id"], row["time"])
        assert_same(found, oracle.read(at))


def _says(row: dict[str, Any]) -> dict[str, Any]:
    return {BUY: row["event_name"] == "buy", PAGE: row["event_name"] == "page", **row["properties"]}


def test_a_label_sees_neither_its_own_event_nor_a_later_one_nor_one_received_later(side: Lakeside, engine: Engine) -> None:
    at = START_US + 3600 * US
    side.track(
        event(1, "v1", at - 1),
        event(2, "v1", at),
        event(4, "v1", at + 1),
        event(8, "v1", at - 10, received=at + 1),
        event(16, "v1", at - 10, received=at),
        event(32, "v2", at - 10),
    )
    assert run(engine, labels(("v1", at)))[0]["spend_1h"] == 1 + 16
    assert run(engine, labels(("v1", at + 1)))[0]["spend_1h"] == 1 + 16 + 2 + 8


def test_labels_of_before_an_import_are_told_of_it_and_may_see_it(side: Lakeside, engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    imported = START_US + 100 * 3600 * US
    side.track(
        *(event(number, "v1", START_US + number * 60 * US, received=imported, historical=True) for number in (1, 2, 4)),
        event(8, "v1", START_US + 90 * US),
        event(16, "v1", START_US + 30 * US, received=imported),  # late, but no history
    )
    asked = labels(("v1", START_US + 60 * US), ("v1", START_US + 60 * US + 1), ("v1", START_US + 150 * US))
    assert [row["spend_7d"] for row in run(engine, asked)] == [0.0, 0.0, 8.0]
    assert [(record.message, record.__dict__["events"]) for record in caplog.records] == [
        ("labels do not see history that was imported after their time; history_as_it_happened=True counts it when it happened", 2)
    ]
    caplog.clear()
    assert [row["spend_7d"] for row in run(engine, asked, history_as_it_happened=True)] == [0.0, 1.0, 11.0]
    run(engine, labels(("v1", imported)))
    assert not caplog.records


def test_bots_are_left_out(side: Lakeside, engine: Engine) -> None:
    context = json.dumps({"userAgent": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"})
    side.track(event(1, "v1", START_US), event(2, "v1", START_US, context=context))
    assert run(engine, labels(("v1", START_US + US)))[0]["spend_1h"] == 1


def test_labels_of_entities_never_seen_have_the_features_of_nothing(side: Lakeside, engine: Engine) -> None:
    side.track(event(1, "v1", START_US))
    found = run(engine, labels(("nobody", START_US + US)))[0]
    assert (found["spend_1h"], found["views"], found["last"], found["pages"], found["visit"]) == (0.0, 0, None, [], 0)


def test_what_is_wrong_with_labels_is_said(side: Lakeside, engine: Engine) -> None:
    side.track(event(1, "v1", START_US))
    with pytest.raises(FeatureError, match=r"labels need the columns entity_id \(STRING\) and time \(TIMESTAMP\); they have who"):
        run(engine, pa.table({"who": ["v1"]}))
    # Numbers could be seconds: they were microseconds, of 1970, and every feature 0. Floats are no ids: 5.0 is not user "5".
    for wrong in (
        pa.table({"entity_id": ["v1"], "time": [START_US]}),
        pa.table({"entity_id": [5.0], "time": pa.array([START_US], TIMESTAMP)}),
    ):
        with pytest.raises(FeatureError, match=r"labels have (time of type int64|entity_id of type double), which must be"):
            run(engine, wrong)
    with pytest.raises(FeatureError, match="time with nanoseconds"):
        run(engine, pa.table({"entity_id": ["v1"], "time": pa.array([START_US * 1000 + 1], pa.timestamp("ns", "UTC"))}))
    with pytest.raises(FeatureError, match="every label needs an entity_id and a time"):
        run(engine, pa.table({"entity_id": ["v1"], "time": pa.nulls(1, TIMESTAMP)}))
    with pytest.raises(FeatureError, match="features of view shopper are called: last; rename"):
        run(engine, labels(("v1", START_US)).append_column("last", pa.array(["x"])))
