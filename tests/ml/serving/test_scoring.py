"""Models score events in the stream, on the features at each event, where a rule needs the score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sokuji.config import Config, LogSettings
from sokuji.lake.memory import MemoryLake
from sokuji.ml.serving.predictor import Predictor
from sokuji.ml.serving.scorer import Scorer
from sokuji.ml.serving.scoring import Scores
from sokuji.ml.values import Floats
from sokuji.platform import Platform
from tests.analyze.side import PARTITIONS, declare, drain, numbered, side
from tests.lake.platform import START_US

FEATURES = """
from sokuji.features import events, view

buys = events("buy")
view("shopper", entity="visitor", buys=buys.count().over("1d"))
"""
ACTIONS = """
from sokuji.rules import popup, rule

rule("keen", on="buy", when_becomes="scores.keen > 0.5", do=popup(title="Thank you"))
rule("browses", on="view", when="buys_1d > 100", do=popup(title="Hi"))
"""
MODEL = """
CREATE SCHEMA shop;
CREATE MODEL shop.keen OPTIONS(model_type = 'logistic_reg', input_label_cols = ['label']) AS
SELECT MOD(n, 10) AS buys_1d, IF(MOD(n, 10) >= 3, 1, 0) AS label FROM UNNEST(GENERATE_ARRAY(1, 500)) AS n
"""


def test_a_rule_asks_a_model_at_its_own_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Platform(Config(data=tmp_path, log=LogSettings(partitions=PARTITIONS)), tmp_path) as platform:
        platform.sql(MODEL)
    scored = []
    score = Scorer.score

    def counted(self: Scorer, features: pa.RecordBatch) -> Floats:
        scored.append(features.num_rows)
        return score(self, features)

    monkeypatch.setattr(Scorer, "score", counted)
    with side(tmp_path, lake=MemoryLake()) as shop:
        names = ["buy", "view"] * 6
        events = [{"visitor_id": "a", "event_name": name, "received_at": START_US + at} for at, name in enumerate(names)]
        shop.track(*numbered(*events, {"visitor_id": "b", "received_at": START_US + 100}))
        with shop.worker(declare(tmp_path, FEATURES, ACTIONS)) as worker:
            drain(worker)
        decided = [(row["visitor_id"], row["properties"]["rule"], row["properties"]["trigger_id"]) for row in shop.decisions()]
    assert decided in ([("a", "keen", "m4")], [("a", "keen", "m6")])  # the third or the fourth buy: where the model draws the line
    assert sum(scored) == 7  # buys only


def test_a_model_that_was_dropped_and_made_again_is_another_one(tmp_path: Path) -> None:
    features = pa.record_batch({"buys_1d": pa.array([9])})
    with Platform(Config(data=tmp_path), tmp_path) as platform:
        platform.sql(MODEL)
        scores = Scores(platform.models, "shop", ["keen"], {"buys_1d": pa.int64()})
        [before] = scores.score(features).to_pylist()
        platform.sql("DROP MODEL shop.keen;" + MODEL.replace("CREATE SCHEMA shop;", "").replace(">= 3", "< 3"))
        scores.refresh()
        [after] = scores.score(features).to_pylist()
        assert before["keen"] > 0.5 > after["keen"]
        platform.sql("DROP MODEL shop.keen")
        scores.refresh()
        assert scores.score(features).to_pylist() == [{"keen": None}]


def test_a_model_that_is_dropped_while_it_is_loaded_scores_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Platform(Config(data=tmp_path), tmp_path) as platform:
        platform.sql(MODEL)

        def dropped(*arguments: Any) -> Any:
            platform.sql("DROP MODEL IF EXISTS shop.keen")
            return Predictor(*arguments)

        monkeypatch.setattr("sokuji.ml.serving.scorer.Predictor", dropped)
        scores = Scores(platform.models, "shop", ["keen"], {"buys_1d": pa.int64()})
        assert scores.score(pa.record_batch({"buys_1d": pa.array([9])})).to_pylist() == [{"keen": None}]
