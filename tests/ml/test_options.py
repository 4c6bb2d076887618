"""OPTIONS(...) of CREATE MODEL: names, values, defaults, and errors that say what would be right."""

from __future__ import annotations

from typing import Any

import pytest

from sokuji.errors import SqlError, UnsupportedSqlError
from sokuji.ml.options import MODEL_TYPES, effective


def test_names_and_enumerated_values_ignore_case() -> None:
    model_type, options = effective({"Model_Type": "kmeans", "Kmeans_Init_Method": "kmeans++", "NUM_CLUSTERS": 4})
    assert model_type == "KMEANS"
    assert (options["kmeans_init_method"], options["num_clusters"]) == ("KMEANS++", 4)


@pytest.mark.parametrize(
    ("model_type", "defaults"),
    [
        (
            "KMEANS",
            {
                "num_clusters": None,
                "kmeans_init_method": "RANDOM",
                "distance_type": "EUCLIDEAN",
                "standardize_features": True,
                "max_iterations": 20,
                "early_stop": True,
                "min_rel_progress": 0.01,
            },
        ),
        (
            "LINEAR_REG",
            {
                "input_label_cols": ("label",),
                "l1_reg": 0.0,
                "l2_reg": 0.0,
                "fit_intercept": True,
                "learn_rate": 0.1,
                "category_encoding_method": "ONE_HOT_ENCODING",
                "data_split_method": "AUTO_SPLIT",
                "data_split_eval_fraction": 0.2,
            },
        ),
        ("LOGISTIC_REG", {"auto_class_weights": False, "class_weights": None, "optimize_strategy": "AUTO_STRATEGY"}),
        (
            "BOOSTED_TREE_CLASSIFIER",
            {
                "booster_type": "GBTREE",
                "max_tree_depth": 6,
                "learn_rate": 0.3,
                "l2_reg": 1.0,
                "subsample": 1.0,
                "min_tree_child_weight": 1.0,
                "category_encoding_method": "LABEL_ENCODING",
                "tree_method": "AUTO",
            },
        ),
    ],
)
def test_defaults_are_bigquerys(model_type: str, defaults: dict[str, Any]) -> None:
    options = effective({"model_type": model_type})[1]
    assert {name: options[name] for name in defaults} == defaults


def test_longer_spellings_of_a_model_type() -> None:
    assert effective({"model_type": "linear_regression"})[0] == "LINEAR_REG"
    assert effective({"model_type": "logistic_regression"})[0] == "LOGISTIC_REG"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, ["model_type", *sorted(MODEL_TYPES)]),
        ({"model_type": "kmean"}, ["'kmean'", "did you mean KMEANS?", "LOGISTIC_REG"]),
        ({"model_type": "kmeans", "num_cluster": 4}, ["NUM_CLUSTER ", "did you mean NUM_CLUSTERS?", "DISTANCE_TYPE"]),
        ({"model_type": "kmeans", "num_clusters": 1}, ["NUM_CLUSTERS is 1", "an integer from 2 to 100"]),
        ({"model_type": "kmeans", "num_clusters": 2.5}, ["NUM_CLUSTERS is 2.5", "an integer"]),
        ({"model_type": "kmeans", "num_clusters": True}, ["NUM_CLUSTERS is True"]),
        ({"model_type": "kmeans", "num_clusters": None}, ["NUM_CLUSTERS is None"]),
        ({"model_type": "kmeans", "distance_type": "manhattan"}, ["'manhattan'", "'EUCLIDEAN', 'COSINE'"]),
        ({"model_type": "kmeans", "input_label_cols": ["y"]}, ["INPUT_LABEL_COLS is for", "not for KMEANS"]),
        ({"model_type": "linear_reg", "num_clusters": 3}, ["NUM_CLUSTERS is for KMEANS, not for LINEAR_REG"]),
        ({"model_type": "linear_reg", "l2_reg": -1}, ["L2_REG is -1", "at least 0"]),
        ({"model_type": "linear_reg", "l2_reg": float("nan")}, ["L2_REG is nan"]),
        ({"model_type": "linear_reg", "learn_rate": 0}, ["LEARN_RATE is 0", "above 0"]),
        ({"model_type": "linear_reg", "learn_rate": "0.5"}, ["LEARN_RATE is '0.5'", "a number above 0"]),
        ({"model_type": "linear_reg", "early_stop": "yes"}, ["EARLY_STOP is 'yes'", "TRUE or FALSE"]),
        ({"model_type": "linear_reg", "input_label_cols": "y"}, ["INPUT_LABEL_COLS is 'y'", "array of column names"]),
        ({"model_type": "linear_reg", "data_split_eval_fraction": 1.5}, ["DATA_SPLIT_EVAL_FRACTION is 1.5", "from 0 to 1"]),
        ({"model_type": "boosted_tree_regressor", "subsample": 0}, ["SUBSAMPLE is 0", "to 1"]),
        ({"model_type": "boosted_tree_regressor", "max_tree_depth": 2**31}, ["MAX_TREE_DEPTH is 2147483648", "from 1 to 1000"]),
        ({"model_type": "boosted_tree_regressor", "l1_reg": 1e300}, ["L1_REG is 1e+300", "to 1e+38"]),
        ({"model_type": "boosted_tree_regressor", "tree_method": "exact", "colsample_bynode": 0.5}, ["COLSAMPLE_BYNODE", "'HIST'"]),
        ({"model_type": "boosted_tree_regressor", "dropout": 0.5}, ["DROPOUT needs BOOSTER_TYPE 'DART'", "'GBTREE'"]),
        ({"model_type": "boosted_tree_regressor", "dart_normalize_type": "forest"}, ["DART_NORMALIZE_TYPE", "'DART'"]),
        ({"model_type": "linear_reg", "learn_rate": 0.5}, ["LEARN_RATE needs LEARN_RATE_STRATEGY", "'CONSTANT'"]),
        (
            {"model_type": "linear_reg", "learn_rate_strategy": "constant", "ls_init_learn_rate": 0.5},
            ["LS_INIT_LEARN_RATE", "'LINE_SEARCH'"],
        ),
        ({"model_type": "kmeans", "early_stop": False, "min_rel_progress": 0.5}, ["MIN_REL_PROGRESS", "EARLY_STOP True"]),
        ({"model_type": "linear_reg", "data_split_eval_fraction": 0.5}, ["DATA_SPLIT_EVAL_FRACTION", "'RANDOM' or 'SEQ'"]),
        ({"model_type": "linear_reg", "optimize_strategy": "normal_equation", "max_iterations": 5}, ["MAX_ITERATIONS", "GRADIENT_DESCENT"]),
        (
            {"model_type": "boosted_tree_regressor", "auto_class_weights": True},
            ["AUTO_CLASS_WEIGHTS is for", "not for BOOSTED_TREE_REGRESSOR"],
        ),
        ({"model_type": "logistic_reg", "class_weights": [{"a": "x", "b": 1}, {"a": "x", "b": 2}]}, ["CLASS_WEIGHTS", "each label once"]),
        ({"model_type": "logistic_reg", "class_weights": [{"a": "x", "b": 1}], "auto_class_weights": True}, ["exclude each other"]),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(given: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SqlError) as raised:
        effective(given)
    assert not isinstance(raised.value, UnsupportedSqlError)
    assert [word for word in words if word not in str(raised.value)] == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"model_type": "dnn_classifier"}, ["'dnn_classifier' is not supported yet", "KMEANS"]),
        ({"model_type": "linear_reg", "num_trials": 10}, ["NUM_TRIALS", "hyperparameter tuning"]),
        ({"model_type": "linear_reg", "kms_key_name": "k"}, ["KMS_KEY_NAME"]),
        ({"model_type": "kmeans", "model_registry": "vertex_ai"}, ["MODEL_REGISTRY", "sokuji models"]),
        ({"model_type": "kmeans", "expiration_timestamp": "2030-01-01"}, ["EXPIRATION_TIMESTAMP", "DROP MODEL"]),
        ({"model_type": "boosted_tree_regressor", "xgboost_version": "1.1"}, ["XGBOOST_VERSION", "leave it out"]),
        ({"model_type": "linear_reg", "enable_global_explain": True}, ["ENABLE_GLOBAL_EXPLAIN is True", "only False"]),
        ({"model_type": "linear_reg", "calculate_p_values": True}, ["CALCULATE_P_VALUES is True", "only False"]),
        (
            {"model_type": "boosted_tree_regressor", "category_encoding_method": "target_encoding"},
            ["'target_encoding'", "'LABEL_ENCODING' or 'ONE_HOT_ENCODING'"],
        ),
    ],
)
def test_what_bigquery_has_and_sokuji_has_not_is_refused_rather_than_ignored(given: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UnsupportedSqlError) as raised:
        effective(given)
    assert [word for word in words if word not in str(raised.value)] == []


def test_options_that_describe_a_model_are_recorded() -> None:
    options = effective({"model_type": "kmeans", "friendly_name": "Segments", "labels": [{"a": "team", "b": "shop"}]})[1]
    assert (options["friendly_name"], options["labels"]) == ("Segments", [{"a": "team", "b": "shop"}])


def test_class_weights_come_as_pairs_whatever_the_fields_are_called() -> None:
    options = effective({"model_type": "logistic_reg", "class_weights": [{"label": "yes", "w": 2}, {"_field_1": "no", "_field_2": 0.5}]})[1]
    assert options["class_weights"] == (("yes", 2.0), ("no", 0.5))
