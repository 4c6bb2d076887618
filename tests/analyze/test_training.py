"""A training set uses the worker's identities, left-out events and string ids."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sokuji.analyze.state.base import DatasetState
from sokuji.events import TIMESTAMP
from sokuji.features.training.offline import OfflineFeatures
from sokuji.features.training.sets import LEFT_OUT
from sokuji.sql.duckdb.backend import DuckDb
from sokuji.sql.engine import Engine
from tests.analyze.side import Side, StateInMemory, declare, drain, numbered, side
from tests.lake.platform import START_US

SECOND = 1_000_000
FEATURES = """
from sokuji.features import events, sessions, view

buys = events("buy")
view(
    "shopper",
    entity="visitor",
    n=events().count(),
    spend=buys.sum("revenue").over("1d", "all"),
    price=buys.mean("100 / revenue"),
    shelf=events().count().by("shelf", top=2),
    visit=sessions.number(),
)
year = events().last("EXTRACT(YEAR FROM PARSE_DATE('%Y', year))")
view("person", entity="user", person_n=events().count(), cost=buys.sum("revenue"), year=year)
"""
ACTIONS = """
from sokuji.rules import popup, rule

rule("any_buy", on="buy", do=popup(title="Thank you"))
"""
BOT: dict[str, Any] = {"context": '{"userAgent": "Googlebot/2.1"}'}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Side]:
    with side(tmp_path, StateInMemory()) as opened:
        opened.catalog.create_dataset("shop")
        yield opened


def event(at: int, visitor: str | None, user: str | None = None, revenue: float = 10, **more: Any) -> dict[str, Any]:
    said = {"revenue": revenue, "shelf": f"s{at % 3}", "year": "2026"} | more.pop("properties", {})
    times = {"received_at": START_US + at * SECOND, "event_time": START_US + at * SECOND - 1}
    return {"visitor_id": visitor, "user_id": user, "properties": said, **times, **more}


def test_labels_have_what_the_worker_served_then(shop: Side, tmp_path: Path) -> None:
    happened = numbered(
        event(0, "a"),
        event(1, "b", "ann"),
        event(2, "a", **BOT),
        event(3, "a", revenue=0),  # price fails on it
        event(4, "c", properties={"year": "none"}),  # and year on it, which is of the other view
        event(5, "a"),
        event(5, "a", "ann", type="identify", event_name=None),
        event(6, None, "ann"),
        event(7, "a", "bob"),
        event(8, "c"),
        event(9, None, "cid", type="alias", event_name=None, properties={"previous_id": "c"}),
        event(10, "c"),
        event(11, "b"),
    )
    served: list[dict[str, Any]] = []
    asked: list[tuple[str, int]] = []
    with shop.worker(declare(tmp_path, FEATURES, ACTIONS)) as worker:
        state = worker.stages["shop"].state
        for at, together in itertools.groupby(happened, key=lambda each: each["received_at"]):
            shop.track(*together)
            drain(worker)
            for visitor in ("a", "b", "c", "nobody"):
                served += of_view(state, "shopper", [state.identity.profile(visitor)], at)
                asked.append((visitor, at))
        people = of_view(state, "person", ["u:ann", "u:bob", "u:cid"], at)
    assert len(shop.decisions()) == 8  # which are events of the lake, but none of the stream's
    shop.sink()
    with Engine(shop.catalog, shop.lake, DuckDb([tmp_path / "lake"], tmp_path / "tmp")) as engine:
        offline = OfflineFeatures(tmp_path, engine.execute, shop.lake, tmp_path / "analyze")
        made = offline.training(labels(asked), view="shopper", dataset="shop")
        assert made.drop_columns(["entity_id", "time"]).to_pylist() == served
        assert (made.schema.metadata or {})[LEFT_OUT] == b"2"
        made = offline.training(labels([(name, at) for name in ("ann", "bob", "cid")]), view="person", dataset="shop")
        assert made.drop_columns(["entity_id", "time"]).to_pylist() == people


def of_view(state: DatasetState, view: str, keys: list[str], at_us: int) -> list[dict[str, Any]]:
    """The features of one view."""
    [names] = [[each.name for each in kernel.fields] for kernel in state.kernels if kernel.view.name == view]
    return [{name: row[name] for name in names} for row in state.features(keys, at_us)]


def labels(asked: list[tuple[str, int]]) -> pa.Table:
    return pa.table({"entity_id": [name for name, _ in asked], "time": pa.array([time for _, time in asked], TIMESTAMP)})
