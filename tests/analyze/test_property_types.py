"""A property has the same type for the worker, training, `verify` and SQL, whichever value came first."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sokuji.backends import Backends
from sokuji.config import AnalyzeSettings, load
from sokuji.errors import FeatureError
from sokuji.features import known
from sokuji.features.training.offline import OfflineFeatures
from sokuji.lake.base import Kept
from sokuji.lake.events import EVENTS
from sokuji.meta.objects import Ref
from sokuji.predict.features import Lookup
from sokuji.service.metrics import render
from sokuji.types import BOOL, FLOAT64, STRING
from tests.analyze.side import Side, declare, drain, engine, numbered, side, verifier
from tests.lake.platform import START_US
from tests.predict.test_features import lookup

SPEND = """
from sokuji.features import events, property_types, view
view("shopper", entity="visitor", spend=events("buy").sum("revenue"), skus=events("buy").last(5, "sku"))
"""
REF = Ref("shop", EVENTS)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Side]:
    with side(tmp_path) as opened:
        yield opened


def buys(*properties: dict[str, Any], start: int = 0) -> list[dict[str, Any]]:
    events = [{"event_name": "buy", "visitor_id": "v1", "properties": each} for each in properties]
    return [
        {**event, "received_at": START_US + 1_000_000 * (start + number)} for number, event in enumerate(numbered(*events, start=start))
    ]


def served(shop: Side, features: str) -> list[tuple[float, list[Any]]]:
    """`spend` and `skus` at each event that the worker has not worked on."""
    found: list[tuple[float, list[Any]]] = []
    with shop.worker(declare(shop.folder, features)) as worker:
        pipeline = worker.stages["shop"].pipeline
        work = pipeline.work

        def spied(*arguments: Any, **named: Any) -> Any:
            outcome = work(*arguments, **named)
            if outcome.numbers:
                batch = pipeline.kernels[0].decode(outcome.numbers[0])
                found.extend(zip(*(batch.column(name).to_pylist() for name in ("spend", "skus")), strict=True))
            return outcome

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pipeline, "work", spied)
            drain(worker)
        worker.checkpoint(wait=True)
    return found


def trained(shop: Side, features: str) -> tuple[float, list[Any]]:
    """The same of a label after all events."""
    declare(shop.folder, features)
    labels = pa.table({"entity_id": ["v1"], "time": pa.array([START_US + 3_600_000_000], pa.timestamp("us", "UTC"))})
    with engine(shop) as sql:
        made = OfflineFeatures(shop.folder, sql.execute, shop.lake, shop.folder / "analyze").training(labels, dataset="shop")
    return made.column("spend")[0].as_py(), made.column("skus")[0].as_py()


def test_a_text_that_came_first_stops_nobody(shop: Side, caplog: pytest.LogCaptureFixture) -> None:
    shop.track(*buys({"revenue": "5 EUR", "sku": "a"}))
    shop.sink()
    assert shop.lake.snapshot(REF).schema.field("revenue").type == pa.string()
    shop.track(*buys({"revenue": 10, "sku": "b"}, {"revenue": "1 EUR", "sku": 7}, start=1))
    with caplog.at_level(logging.WARNING):
        assert [spend for spend, _ in served(shop, SPEND)][-1] == 10.0
    warnings = [record.getMessage() for record in caplog.records]
    assert any("property revenue: 1 values are no FLOAT64" in warning for warning in warnings)
    shop.sink()
    assert trained(shop, SPEND) == (10.0, ["b", "a"])


@pytest.mark.parametrize(("first", "right"), [("5 EUR", 0.0), (5, 5.0), (True, 0.0)])
@pytest.mark.parametrize("is_seen_first", [False, True])
def test_what_a_file_says_of_a_property_wins(shop: Side, first: object, right: float, is_seen_first: bool) -> None:
    said = SPEND + "property_types(revenue='FLOAT64', sku='FLOAT64')\n"
    events = buys({"revenue": first, "sku": "x"}, {"revenue": 10, "sku": 7}, {"revenue": "no", "sku": True})
    shop.track(*events)
    if is_seen_first:
        shop.sink()
        served(shop, said)
    else:
        assert served(shop, said) == [(right, []), (right + 10, [7.0]), (right + 10, [7.0])]
        shop.sink()
        columns = shop.lake.snapshot(REF).schema
        assert (columns.field("revenue").type, columns.field("sku").type) == (pa.float64(), pa.float64())
    assert trained(shop, said) == (right + 10, [7.0])


def test_a_sink_takes_a_property_for_what_the_worker_took_it_for(shop: Side) -> None:
    with shop.make_sink() as sink:
        shop.track(*buys({}))
        sink.drain()
        with shop.worker(declare(shop.folder, SPEND)) as worker:
            assert worker.stages["shop"].pipeline.types == {"revenue": FLOAT64, "sku": STRING}
            shop.track(*buys({"revenue": "5 EUR", "sku": 12}, {"revenue": 5, "sku": "a"}, start=1))
            sink.drain()  # before the worker, which goes on
            drain(worker)
    columns = shop.lake.snapshot(REF).schema
    assert (columns.field("revenue").type, columns.field("sku").type) == (pa.float64(), pa.string())
    assert trained(shop, SPEND) == (5.0, ["a"])


def test_a_type_that_changes_makes_the_state_again(shop: Side) -> None:
    shop.track(*buys({"sku": "a"}, {"sku": 7}, {"sku": "b"}))
    assert [skus for _, skus in served(shop, SPEND)] == [["a"], ["a"], ["b", "a"]]
    shop.sink()
    shop.track(*buys({"sku": 8}, start=3))
    assert served(shop, SPEND + "property_types(sku='FLOAT64')\n")[-1] == (0.0, [8.0, 7.0])


def test_another_type_of_a_column_is_named_until_the_state_is_rebuilt(shop: Side) -> None:
    declared = declare(shop.folder, SPEND)
    keeping = AnalyzeSettings(profiles_max=10_000, served_sample=1.0)

    def skus(found: Lookup) -> Any:
        return found.features("v:v1", START_US + 60_000_000)["skus"]

    def outdated() -> tuple[str, ...]:
        found = verifier(shop, declared).verify("shop")
        assert (found.rows, found.mismatches, found.missing, found.extra) == (2, 0, 0, 0)
        return found.outdated

    early = lookup(shop, declared)  # of a process that is up before the worker
    with shop.worker(declared, settings=keeping) as worker:
        shop.track(*buys({"sku": "a"}, {"sku": 7}))
        drain(worker)
        worker.checkpoint(wait=True)
        shop.sink()
        assert outdated() == ()
        with engine(shop) as sql:
            sql.execute("ALTER TABLE shop.events ALTER COLUMN sku SET DATA TYPE FLOAT64")
        assert skus(early) == skus(lookup(shop, declared)) == ["a"]
        assert outdated() == ("shop: the worker takes the property sku for STRING, the events table for FLOAT64",)
    with shop.worker(declared, settings=keeping) as worker:
        drain(worker)
        assert skus(early) == skus(lookup(shop, declared)) == [7.0]


def test_a_dropped_property_is_read_as_before(shop: Side) -> None:
    shop.track(*buys({"sku": 1.5}))
    shop.sink()
    shop.lake.keep(REF, {"sku": Kept(pa.float64(), has_column=False)})
    assert known.columns(shop.lake, "shop") == {}
    shop.track(*buys({"sku": 2.5}, start=1))
    assert served(shop, SPEND)[-1] == (0.0, [2.5, 1.5])
    shop.sink()
    assert trained(shop, SPEND) == (0.0, [2.5, 1.5])


def test_the_counts_of_values_that_do_not_fit_are_a_metric(shop: Side) -> None:
    shop.track(*buys({"revenue": 1}, {"revenue": "x"}, {"revenue": True}, {"revenue": None}, {"revenue": [1]}, {"revenue": "a\\nb"}))
    with shop.worker(declare(shop.folder, SPEND)) as worker:
        drain(worker)
        assert 'sokuji_analyze_unfit_values_total{dataset="shop",property="revenue"} 3' in render(worker.metrics)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("property_types(revenue='INT64')", "property revenue: 'INT64' is no type of a property; write STRING, FLOAT64, BOOL"),
        ("property_types({'a b': 'BOOL'})", "no property has the column 'a b'"),
    ],
)
def test_a_type_that_no_property_has_is_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(FeatureError, match=message):
        declare(tmp_path, SPEND + line)
    assert declare(tmp_path, SPEND + "property_types(paid='BOOL')").properties == {"paid": BOOL}


def test_a_dataset_that_the_declarations_do_not_fit_stops_no_other(tmp_path: Path) -> None:
    sources = "".join(f'[sources.{name}]\nwrite_key = "wk_{name}"\ndataset = "{name}"\n' for name in ("bad", "good"))
    (tmp_path / "sokuji.toml").write_text(sources)
    backends = Backends(load(tmp_path))

    def make(dataset: str) -> str:
        if dataset == "bad":
            raise FeatureError("no such property")
        return dataset.upper()

    assert backends._sound(make) == {"good": "GOOD"}
    with pytest.raises(FeatureError, match="no such property"):
        backends._sound(lambda _: make("bad"))


def test_a_dataset_that_was_left_out_for_long_comes_back(shop: Side) -> None:
    declared = declare(shop.folder, SPEND)
    shop.track(*buys({"revenue": 1}))
    with shop.worker(declared, "shop") as worker:
        drain(worker)
        worker.checkpoint(wait=True)
    shop.sink()
    with shop.worker(declared, "other") as worker:  # which takes the batches with it that "shop" has not seen
        for number in range(1, 4):
            shop.track(*buys({"revenue": 10}, start=number))
            drain(worker)
        worker.checkpoint(wait=True)
        shop.sink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shop.logs.batches, "start", lambda _: shop.logs.batches.end(0))
        with shop.worker(declared, "shop") as worker:
            [found] = worker.stages["shop"].state.features(["v:v1"], 0)
            assert found["spend"] == 31.0
