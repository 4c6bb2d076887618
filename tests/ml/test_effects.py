"""Every accepted option changes the training; values that would silently ruin a model are refused, or do not ruin it."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sokuji.errors import ModelError, SqlError
from sokuji.ml.options import (
    BOOSTED_TREE_CLASSIFIER,
    BOOSTED_TREE_REGRESSOR,
    CLASSIFIERS,
    KMEANS,
    LINEAR_REG,
    LOGISTIC_REG,
    MODEL_TYPES,
    OPTIONS,
)
from sokuji.ml.split import split
from tests.ml.conftest import Workbench
from tests.ml.tasks import native, task_of, trained_on

# Of each option values, with the options they need; what training makes must differ from what it makes without.
GRADIENT = {"optimize_strategy": "BATCH_GRADIENT_DESCENT"}
CONSTANT = {**GRADIENT, "learn_rate_strategy": "CONSTANT"}
EFFECTS: dict[str, list[tuple[str, dict[str, Any], Any]]] = {
    "MAX_ITERATIONS": [(KMEANS, {"early_stop": False}, 1), (LOGISTIC_REG, {}, 1), (BOOSTED_TREE_CLASSIFIER, {}, 3)],
    "EARLY_STOP": [(KMEANS, {}, False), (LOGISTIC_REG, {}, False), (BOOSTED_TREE_CLASSIFIER, {"max_iterations": 200}, False)],
    "MIN_REL_PROGRESS": [(KMEANS, {}, 0.5), (LOGISTIC_REG, {}, 0.5), (BOOSTED_TREE_CLASSIFIER, {}, 0.5)],
    "CATEGORY_ENCODING_METHOD": [(LINEAR_REG, GRADIENT, "DUMMY_ENCODING"), (BOOSTED_TREE_CLASSIFIER, {}, "ONE_HOT_ENCODING")],
    "AUTO_CLASS_WEIGHTS": [(LOGISTIC_REG, {}, True), (BOOSTED_TREE_CLASSIFIER, {}, True)],
    "CLASS_WEIGHTS": [(LOGISTIC_REG, {}, [("yes", 3.0)]), (BOOSTED_TREE_CLASSIFIER, {}, [("yes", 3.0)])],
    "OPTIMIZE_STRATEGY": [(LINEAR_REG, {}, "BATCH_GRADIENT_DESCENT")],
    "LEARN_RATE_STRATEGY": [(LINEAR_REG, GRADIENT, "CONSTANT"), (LINEAR_REG, {}, "CONSTANT")],
    "LEARN_RATE": [(LINEAR_REG, CONSTANT, 0.01), (BOOSTED_TREE_CLASSIFIER, {}, 0.05)],
    "LS_INIT_LEARN_RATE": [(LINEAR_REG, {**GRADIENT, "max_iterations": 2}, 3.0)],
    "L1_REG": [(LINEAR_REG, {}, 0.5), (BOOSTED_TREE_CLASSIFIER, {}, 2.0)],
    "L2_REG": [(LINEAR_REG, {}, 0.5), (BOOSTED_TREE_CLASSIFIER, {}, 20.0)],
    "FIT_INTERCEPT": [(LINEAR_REG, {}, False)],
    "NUM_CLUSTERS": [(KMEANS, {}, 4)],
    "KMEANS_INIT_METHOD": [(KMEANS, {"num_clusters": 5, "max_iterations": 1}, "KMEANS++")],
    "KMEANS_INIT_COL": [(KMEANS, {"kmeans_init_method": "CUSTOM", "max_iterations": 1}, "chosen")],
    "DISTANCE_TYPE": [(KMEANS, {}, "COSINE")],
    "STANDARDIZE_FEATURES": [(KMEANS, {}, False)],
    "BOOSTER_TYPE": [(BOOSTED_TREE_CLASSIFIER, {"dropout": 0.5}, "DART")],
    "DART_NORMALIZE_TYPE": [(BOOSTED_TREE_CLASSIFIER, {"booster_type": "DART", "dropout": 0.5}, "FOREST")],
    "NUM_PARALLEL_TREE": [(BOOSTED_TREE_CLASSIFIER, {"subsample": 0.5}, 3)],
    "MAX_TREE_DEPTH": [(BOOSTED_TREE_CLASSIFIER, {}, 1), (BOOSTED_TREE_CLASSIFIER, {"max_iterations": 2}, 1000)],
    "DROPOUT": [(BOOSTED_TREE_CLASSIFIER, {"booster_type": "DART"}, 0.5)],
    "TREE_METHOD": [(BOOSTED_TREE_CLASSIFIER, {}, "EXACT")],
    "MIN_TREE_CHILD_WEIGHT": [(BOOSTED_TREE_CLASSIFIER, {}, 20.0)],
    "COLSAMPLE_BYTREE": [(BOOSTED_TREE_CLASSIFIER, {}, 0.4)],
    "COLSAMPLE_BYLEVEL": [(BOOSTED_TREE_CLASSIFIER, {}, 0.4)],
    "COLSAMPLE_BYNODE": [(BOOSTED_TREE_CLASSIFIER, {}, 0.4)],
    "MIN_SPLIT_LOSS": [(BOOSTED_TREE_CLASSIFIER, {}, 3.0)],
    "SUBSAMPLE": [(BOOSTED_TREE_CLASSIFIER, {}, 0.5)],
    "INSTANCE_WEIGHT_COL": [(BOOSTED_TREE_CLASSIFIER, {}, "weight")],
}
# Tested where they act: labels and splits on the query's rows, warm starts on the model before; what describes a model is recorded.
ELSEWHERE = {"INPUT_LABEL_COLS", "WARM_START", "DATA_SPLIT_METHOD", "DATA_SPLIT_EVAL_FRACTION", "DATA_SPLIT_COL"}
RECORDED = {"DESCRIPTION", "FRIENDLY_NAME", "LABELS"}
ONE_VALUE = {option.name for option in OPTIONS if len(option.only) == 1}


def test_every_option_is_in_one_of_these_lists() -> None:
    assert {option.name for option in OPTIONS} == EFFECTS.keys() | ELSEWHERE | RECORDED | ONE_VALUE


@functools.cache
def rows(model_type: str) -> pa.Table:
    random = np.random.default_rng(1)
    x, y = random.normal(size=400), random.normal(size=400) * 3 + 1
    score = x - 0.4 * y + random.normal(size=400)
    columns: dict[str, Any] = {
        "x": x,
        "y": y,
        "z": random.normal(size=400),
        "color": [("red", "green", "blue", None)[each] for each in random.integers(0, 4, 400)],
    }
    if model_type != KMEANS:
        columns["label"] = pa.array(np.where(score > 0.8, "yes", "no")) if model_type in CLASSIFIERS else pa.array(score)
    return pa.table(columns)


def made(model_type: str, options: dict[str, Any]) -> tuple[Any, ...]:
    table = rows(model_type)
    if options.get("kmeans_init_method") == "CUSTOM":
        # Without the option, which needs the other: the first rows, as if they had been chosen.
        chosen = np.arange(table.num_rows) >= 397 if options.pop("kmeans_init_col", None) else np.arange(table.num_rows) < 3
        table, options = table.append_column("chosen", pa.array(chosen)), {**options, "kmeans_init_col": "chosen"}
    if options.get("instance_weight_col"):
        table = table.append_column("weight", pa.array(np.linspace(0, 2, table.num_rows)))
    if options.get("booster_type") != "DART" and "dropout" in options:
        options = {name: value for name, value in options.items() if name != "dropout"}
    trained = trained_on(model_type, table, label=None if model_type == KMEANS else "label", **options)
    history = [(iteration.iteration, iteration.loss) for iteration in trained.history]
    return native(trained, table).tolist(), history


@pytest.mark.parametrize(
    ("name", "model_type", "needed", "value"),
    [(name, *case) for name, cases in EFFECTS.items() for case in cases],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_an_option_changes_the_model(name: str, model_type: str, needed: dict[str, Any], value: Any) -> None:
    assert made(model_type, {**needed, name.lower(): value}) != made(model_type, dict(needed))


def test_options_of_the_split_change_it() -> None:
    table = pa.table({"x": np.arange(1000.0), "last": np.arange(1000), "label": np.arange(1000.0)})
    counts = {}
    for options in (
        {},
        {"data_split_method": "NO_SPLIT"},
        {"data_split_method": "RANDOM"},
        {"data_split_method": "RANDOM", "data_split_eval_fraction": 0.5},
        {"data_split_method": "SEQ", "data_split_col": "last"},
        {"data_split_method": "SEQ", "data_split_col": "x", "data_split_eval_fraction": 0.1},
    ):
        parts = split(table, task_of(LINEAR_REG, table, label="label", **options).options)
        counts[str(options)] = (parts.training.schema.names, parts.training.to_pydict() == table.to_pydict(), str(parts.evaluation))
    assert len({str(value) for value in counts.values()}) >= 5  # AUTO_SPLIT may choose as RANDOM does


@pytest.mark.parametrize("model_type", sorted(MODEL_TYPES - {BOOSTED_TREE_CLASSIFIER, "BOOSTED_TREE_REGRESSOR"}))
@pytest.mark.parametrize(
    ("odd", "words"), [(np.inf, "infinite in 1 of 400 rows"), (-np.inf, "infinite"), (1e20, "tell those apart"), (1e300, "those")]
)
def test_a_value_that_hides_all_others_is_named(model_type: str, odd: float, words: str) -> None:
    table = rows(model_type)
    values = table["x"].to_numpy().copy()
    values[123] = odd
    with pytest.raises(ModelError, match=f"feature 'x' .*{words}"):
        trained_on(model_type, table.set_column(0, "x", pa.array(values)), label=None if model_type == KMEANS else "label")


def test_trees_only_compare_so_that_no_value_hides_others() -> None:
    table = rows(BOOSTED_TREE_CLASSIFIER)
    values = table["x"].to_numpy().copy()
    values[123] = np.inf
    with_inf = native(trained_on(BOOSTED_TREE_CLASSIFIER, table.set_column(0, "x", pa.array(values)), label="label"), table)
    without = native(trained_on(BOOSTED_TREE_CLASSIFIER, table, label="label"), table)
    assert np.abs(with_inf - without).mean() < 0.05


@pytest.mark.parametrize("weight", [1e16, 1e18])
def test_trees_of_weights_too_large_for_their_squares_are_refused(weight: float) -> None:
    table = rows(BOOSTED_TREE_CLASSIFIER)
    expected = native(trained_on(BOOSTED_TREE_CLASSIFIER, table, label="label"), table)
    weighted = table.append_column("w", pa.array(np.full(table.num_rows, weight)))
    if weight == 1e18:
        with pytest.raises(ModelError, match=r"^the weights of all rows add up to 4e\+20, .* below 1e\+19 in all"):
            trained_on(BOOSTED_TREE_CLASSIFIER, weighted, label="label", instance_weight_col="w")
        return
    found = native(trained_on(BOOSTED_TREE_CLASSIFIER, weighted, label="label", instance_weight_col="w"), table)
    assert np.abs(found - expected).mean() < 0.2  # regularisation counts for less, but there are trees


def test_labels_of_trees_too_large_for_their_squares_are_refused() -> None:
    table = rows(BOOSTED_TREE_REGRESSOR)
    large = table.set_column(table.schema.get_field_index("label"), "label", pa.array(table["label"].to_numpy() * 1e18))
    with pytest.raises(ModelError, match=r"the label 'label' reaches .*e\+18, times which the weights of all rows add up to .*e\+21"):
        trained_on(BOOSTED_TREE_REGRESSOR, large, label="label")


@pytest.mark.parametrize("model_type", [KMEANS, LINEAR_REG, LOGISTIC_REG, BOOSTED_TREE_CLASSIFIER])
@pytest.mark.parametrize("constant", [1e300, -7e37, 0.1, 1e18])
def test_a_constant_changes_nothing(model_type: str, constant: float) -> None:
    table, options = rows(model_type), {} if model_type == KMEANS else {"label": "label"}
    if model_type == KMEANS:  # which rows are taken at random follows from all columns
        table = table.append_column("chosen", pa.array(np.arange(table.num_rows) < 3))
        options = {"kmeans_init_method": "CUSTOM", "kmeans_init_col": "chosen"}
    with_constant = table.append_column("same", pa.array(np.full(table.num_rows, constant)))
    found, expected = (native(trained_on(model_type, each, **options), each) for each in (with_constant, table))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_numbers_of_every_size_are_still_features() -> None:
    random = np.random.default_rng(2)
    for values in (10.0 ** random.uniform(0, 30, 400), np.where(np.arange(400) < 5, 1e20, 0.0), random.lognormal(0, 5, 400)):
        table = rows(LINEAR_REG).set_column(0, "x", pa.array(values))
        assert np.isfinite(native(trained_on(LINEAR_REG, table, label="label"), table)).all()


ANOMALIES = "SELECT * FROM ML.DETECT_ANOMALIES(MODEL d.clusters, STRUCT(0.1 AS contamination), ({}))"
CLASHES = {
    "SELECT * FROM ML.PREDICT(MODEL d.line, (SELECT x, y, 7.0 AS PREDICTED_y FROM d.points))": "predicted_y",
    "SELECT CENTROID_ID FROM ML.PREDICT(MODEL d.clusters, (SELECT x, y, 'mine' AS centroid_id FROM d.points))": "CENTROID_ID",
    "SELECT 1 FROM ML.PREDICT(MODEL d.clusters, (SELECT x, y, 1 AS z, 2 AS Z FROM d.points))": "z",
    ANOMALIES.format("SELECT x, y, 1 AS is_anomaly FROM d.points"): "is_anomaly",
}


def test_a_column_of_an_outputs_name_is_refused(workbench: Workbench) -> None:
    workbench.table("d.points", pa.table({"x": [float(n % 7) for n in range(40)], "y": [float(n) for n in range(40)]}))
    workbench.sql("CREATE MODEL d.line OPTIONS(model_type='linear_reg', input_label_cols=['y']) AS SELECT x, y FROM d.points")
    workbench.sql("CREATE MODEL d.clusters OPTIONS(model_type='kmeans', num_clusters=2) AS SELECT x, y FROM d.points")
    for sql, name in CLASHES.items():
        with pytest.raises(SqlError, match=rf"Duplicate column names in the result .* Found duplicate\(s\): {name};"):
            workbench.sql(sql)
