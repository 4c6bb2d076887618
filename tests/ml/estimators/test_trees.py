"""Boosted trees against direct calls of XGBoost, and their graph against both."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sokuji.errors import ModelError
from sokuji.ml.base import Trained
from sokuji.ml.estimators.trees import Trees, load_xgboost
from tests.ml.tasks import native, served, trained_on

Array = np.ndarray[Any, np.dtype[np.float64]]
xgboost = load_xgboost()


def rows_of(count: int = 900, seed: int = 0) -> pa.Table:
    random = np.random.default_rng(seed)
    x, y = random.normal(size=count), np.round(random.normal(size=count), 1)
    kind = random.choice(["low", "mid", "top"], count)
    score = x * y + np.select([kind == "low", kind == "top"], [-1.0, 1.0], 0.0) + random.normal(0, 0.2, count)
    return pa.table(
        {
            "x": pa.array(x, mask=random.random(count) < 0.1),
            "y": y,
            "kind": [None if hidden else str(name) for name, hidden in zip(kind, random.random(count) < 0.1, strict=True)],
            "score": score,
        }
    )


def with_label(label: Any, **more: Any) -> pa.Table:
    rows = rows_of()
    return pa.table({**{name: rows[name] for name in ("x", "y", "kind")}, "label": label(rows["score"].to_numpy()), **more})


REGRESSION = with_label(lambda score: score * 1000)
BINARY = with_label(lambda score: score > 0)
MULTICLASS = with_label(lambda score: np.searchsorted([-1, 0, 1], score) * 10)


def matrix(rows: pa.Table) -> Array:
    """Numbers with NaN for NULL; categories by position from 1, NULL 0."""
    codes = [0 if kind is None else ["low", "mid", "top"].index(kind) + 1 for kind in rows["kind"].to_pylist()]
    return np.column_stack([rows["x"].to_numpy(), rows["y"].to_numpy(), codes]).astype(np.float32)


def model(trained: Trained) -> Trees:
    assert isinstance(trained.estimator, Trees)
    return trained.estimator


@pytest.mark.parametrize(
    ("model_type", "rows", "objective"),
    [
        ("BOOSTED_TREE_REGRESSOR", REGRESSION, {"objective": "reg:squarederror"}),
        ("BOOSTED_TREE_CLASSIFIER", BINARY, {"objective": "binary:logistic"}),
        ("BOOSTED_TREE_CLASSIFIER", MULTICLASS, {"objective": "multi:softprob", "num_class": 4}),
    ],
)
def test_defaults_are_bigquerys_and_the_graph_answers_as_xgboost(
    model_type: str, rows: pa.Table, objective: dict[str, Any], tmp_path: Path
) -> None:
    labels = np.unique(rows["label"].to_numpy(), return_inverse=True)[1] if "CLASS" in model_type else rows["label"].to_numpy()
    data = xgboost.DMatrix(matrix(rows), label=labels)
    oracle = xgboost.train({"max_depth": 6, "eta": 0.3, "base_score": 0.5, "tree_method": "hist", "seed": 0, **objective}, data, 20)
    expected = oracle.predict(data)
    if objective["objective"] == "binary:logistic":
        expected = np.column_stack([1 - expected, expected])

    trained = trained_on(model_type, rows, label="label", early_stop=False)

    np.testing.assert_allclose(native(trained, rows), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(served(trained, rows, tmp_path), expected, rtol=1e-5, atol=1e-5)
    assert len(trained.history) == 20
    assert {iteration.learning_rate for iteration in trained.history} == {0.3}


@pytest.mark.parametrize(
    "options",
    [
        {"booster_type": "DART", "dropout": 0.5},
        {"booster_type": "DART", "dropout": 0.5, "dart_normalize_type": "FOREST"},
        {"num_parallel_tree": 3, "subsample": 0.7, "colsample_bynode": 0.7},
        {"category_encoding_method": "ONE_HOT_ENCODING"},
        {"tree_method": "EXACT", "max_tree_depth": 3},
        {"tree_method": "APPROX", "colsample_bylevel": 0.5, "colsample_bytree": 0.9},
        {"min_split_loss": 1e9},  # trees that are one leaf
        {"l1_reg": 1.0, "l2_reg": 10.0, "min_tree_child_weight": 30, "max_iterations": 3, "learn_rate": 0.05},
    ],
)
@pytest.mark.parametrize(("model_type", "rows"), [("BOOSTED_TREE_REGRESSOR", REGRESSION), ("BOOSTED_TREE_CLASSIFIER", MULTICLASS)])
def test_every_option_trains_and_its_graph_passes_the_gate(
    model_type: str, rows: pa.Table, options: dict[str, Any], tmp_path: Path
) -> None:
    plain, trained = (trained_on(model_type, rows, label="label", **({"max_iterations": 5} | changed)) for changed in ({}, options))
    np.testing.assert_allclose(served(trained, rows, tmp_path), native(trained, rows), rtol=1e-5, atol=1e-5)
    assert np.abs(native(trained, rows) - native(plain, rows)).max() > 1e-3  # the option did something


def test_a_row_on_a_threshold_goes_the_same_way_in_the_graph(tmp_path: Path) -> None:
    trained = trained_on("BOOSTED_TREE_REGRESSOR", REGRESSION, label="label", early_stop=False)
    booster = xgboost.Booster(model_file=bytearray(model(trained).model))
    splits = booster.get_split_value_histogram("f0", as_pandas=False)[:, 0]
    edges = np.concatenate(
        [np.nextafter(splits.astype(np.float32), np.float32(way)) for way in (-np.inf, np.inf)] + [splits.astype(np.float32)]
    )
    between = edges.astype(np.float64) * (1 + 1e-9)  # float64 that float32 rounds onto the threshold
    values = np.concatenate([edges.astype(np.float64), between])
    rows = pa.table({"x": values, "y": np.zeros(len(values)), "kind": ["mid"] * len(values)})
    np.testing.assert_allclose(served(trained, rows, tmp_path), native(trained, rows), rtol=1e-6)


def test_null_and_an_unseen_category_are_the_same(tmp_path: Path) -> None:
    trained = trained_on("BOOSTED_TREE_REGRESSOR", REGRESSION, label="label")
    rows = pa.table({"x": [0.5, 0.5], "y": [1.0, 1.0], "kind": ["never seen", None]})
    first, second = served(trained, rows, tmp_path)
    assert first == second


def test_losses_are_the_mean_squared_error_or_the_log_loss_of_both_sets() -> None:
    rows, others = REGRESSION.slice(0, 600), REGRESSION.slice(600)
    history = trained_on("BOOSTED_TREE_REGRESSOR", rows, label="label", evaluation=others, early_stop=False)
    for part, found in ((rows, history.history[-1].loss), (others, history.history[-1].eval_loss)):
        assert found == pytest.approx(np.mean((native(history, part) - part["label"].to_numpy()) ** 2), rel=1e-4)

    classified = trained_on("BOOSTED_TREE_CLASSIFIER", BINARY, label="label")
    probability = native(classified, BINARY)[np.arange(BINARY.num_rows), BINARY["label"].to_numpy().astype(int)]
    assert classified.history[-1].loss == pytest.approx(-np.log(probability).mean(), rel=1e-4)
    assert classified.history[-1].eval_loss is None


def test_it_stops_when_the_evaluation_loss_stops_falling() -> None:
    trained = trained_on(
        "BOOSTED_TREE_REGRESSOR", REGRESSION.slice(0, 600), label="label", evaluation=REGRESSION.slice(600), max_iterations=200
    )
    losses = [iteration.eval_loss or 0 for iteration in trained.history]
    assert 3 <= len(losses) < 200
    assert losses[-2] - losses[-1] < 0.01 * losses[-2]
    assert all(before - after >= 0.01 * before for before, after in itertools.pairwise(losses[:-1]))


def test_a_row_of_weight_2_counts_as_two_rows() -> None:
    # Few splits: later ones are between candidates so near that the order of a sum decides.
    options = {"label": "label", "tree_method": "EXACT", "max_iterations": 2, "max_tree_depth": 3}
    weights = np.arange(BINARY.num_rows) % 3
    weighted = trained_on("BOOSTED_TREE_CLASSIFIER", BINARY.append_column("w", pa.array(weights)), instance_weight_col="w", **options)
    repeated = trained_on("BOOSTED_TREE_CLASSIFIER", BINARY.take(pa.array(np.repeat(np.arange(BINARY.num_rows), weights))), **options)
    np.testing.assert_allclose(native(weighted, BINARY), native(repeated, BINARY), atol=1e-5)


def test_weights_are_at_least_0() -> None:
    with pytest.raises(ModelError, match=r"'w' is -1\.0 in 1 rows; weights are from 0"):
        trained_on(
            "BOOSTED_TREE_CLASSIFIER", pa.table({"x": [1, 2], "label": [0, 1], "w": [1, -1]}), label="label", instance_weight_col="w"
        )


def test_the_saved_file_is_xgboosts_own(tmp_path: Path) -> None:
    trained = trained_on("BOOSTED_TREE_CLASSIFIER", MULTICLASS, label="label")
    served(trained, MULTICLASS, tmp_path)
    found = xgboost.Booster(model_file=tmp_path / "booster.json").predict(xgboost.DMatrix(matrix(MULTICLASS)))
    np.testing.assert_allclose(found, native(trained, MULTICLASS), atol=1e-6)
    assert trained.classes == (0, 10, 20, 30)
