"""ML.FEATURE_IMPORTANCE, against XGBoost's own count for the same trees."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from sokuji.meta.objects import Ref
from sokuji.ml.estimators.trees import Trees
from sokuji.ml.functions.base import load
from tests.ml.conftest import Workbench

xgboost = pytest.importorskip("xgboost", reason="boosted trees are an extra")


@pytest.mark.parametrize("options", ["max_iterations=5", "max_iterations=5, booster_type='dart'"])
@pytest.mark.parametrize("encoding", ["label_encoding", "one_hot_encoding"])
def test_importance_is_that_of_the_trees(workbench: Workbench, options: str, encoding: str) -> None:
    random = np.random.default_rng(1)
    x, kind = random.normal(size=(600, 2)), random.choice(["a", "b", "c"], 600)
    table = pa.table({"u": x[:, 0], "v": x[:, 1], "kind": kind, "constant": np.ones(600), "y": x[:, 0] * 3 + (kind == "b") + x[:, 1] ** 2})
    name = f"d.y_{encoding}_{len(options)}"
    workbench.table(f"{name}_rows", table)
    given = f"model_type='boosted_tree_regressor', input_label_cols=['y'], category_encoding_method='{encoding}', {options}"
    workbench.sql(f"CREATE MODEL {name} OPTIONS({given}) AS SELECT * FROM {name}_rows")
    found = {feature: values for feature, *values in workbench.sql(f"SELECT * FROM ML.FEATURE_IMPORTANCE(MODEL {name})").rows()}

    estimator = load(workbench.store.fetch(workbench.store.get(Ref(*name.split("."))))).trained.estimator
    assert isinstance(estimator, Trees)
    booster = xgboost.Booster(model_file=bytearray(estimator.model))
    columns = ["u", "v", "constant", *(["kind"] if encoding == "label_encoding" else ["kind"] * 4)]
    scores = {kind: booster.get_score(importance_type=kind) for kind in ("weight", "total_gain", "total_cover")}
    expected = {}
    for feature in ("u", "v", "constant", "kind"):
        places = [f"f{place}" for place, column in enumerate(columns) if column == feature]
        weight, gain, cover = (sum(score.get(place, 0) for place in places) for score in scores.values())
        expected[feature] = [weight, gain / max(weight, 1), cover / max(weight, 1)]
    assert found.keys() == expected.keys()
    assert found["constant"] == [0, 0, 0]
    assert [found[feature] for feature in found] == [pytest.approx(expected[feature], rel=1e-4) for feature in found]
