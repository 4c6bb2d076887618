"""LINEAR_REG and LOGISTIC_REG against closed forms and scikit-learn."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import Lasso, LogisticRegression, Ridge

from sokuji.errors import ModelError
from sokuji.ml.base import Trained
from sokuji.ml.columns.encoded import Design
from sokuji.ml.estimators.linear import INTERCEPT, Labelled, Linear, fit, weights
from sokuji.ml.options import effective
from sokuji.ml.values import NULL_CATEGORY
from tests.ml.tasks import native, served, trained_on

Array = np.ndarray[Any, np.dtype[np.float64]]
CONVERGED = {"early_stop": False, "max_iterations": 3000}


def shop(rows: int = 800, seed: int = 0) -> pa.Table:
    random = np.random.default_rng(seed)
    age, spent = random.normal(40, 12, rows), random.exponential(300, rows)
    city = random.choice(["Kyoto", "Osaka", "Tokyo"], rows, p=[0.2, 0.3, 0.5])
    score = 0.05 * age + 0.002 * spent + np.select([city == "Tokyo", city == "Osaka"], [1.0, -1.0], 0.0) + random.normal(0, 0.5, rows)
    return pa.table(
        {
            "age": pa.array(age, mask=random.random(rows) < 0.05),
            "spent": spent,
            "city": [None if hidden else str(name) for name, hidden in zip(city, random.random(rows) < 0.05, strict=True)],
            "label": score,
        }
    )


def classified(rows: pa.Table, *limits: float) -> pa.Table:
    """The label as classes 'c0', 'c1', ..."""
    classes = np.searchsorted(limits, rows["label"].to_numpy())
    return rows.set_column(rows.schema.get_field_index("label"), "label", pa.array([f"c{number}" for number in classes]))


def space(rows: pa.Table) -> Array:
    columns = []
    for name in ("age", "spent"):
        values = rows[name].to_numpy()
        columns.append(np.nan_to_num((values - np.nanmean(values)) / np.nanstd(values, ddof=1)))
    cities = rows["city"].to_pylist()
    columns += [np.array([city == wanted for city in cities], dtype=float) for wanted in ("Kyoto", "Osaka", "Tokyo", None)]
    return np.column_stack(columns)


def parameters(trained: Trained) -> tuple[Array, Array]:
    assert isinstance(trained.estimator, Linear)
    return trained.estimator.weights, trained.estimator.intercept


def test_linear_regression_is_least_squares_on_z_scores_and_one_hot_columns_with_one_for_null() -> None:
    rows = shop()
    matrix = np.column_stack([space(rows), np.ones(rows.num_rows)])
    solution = np.linalg.lstsq(matrix, rows["label"].to_numpy(), rcond=None)[0]  # the shortest of all solutions, as BigQuery's

    trained = trained_on("LINEAR_REG", rows, label="label")

    found, intercept = parameters(trained)
    np.testing.assert_allclose(np.append(found[:, 0], intercept), solution, atol=1e-9)
    np.testing.assert_allclose(native(trained, rows), matrix @ solution, atol=1e-9)
    (iteration,) = trained.history
    assert iteration.loss == pytest.approx(np.mean((matrix @ solution - rows["label"].to_numpy()) ** 2))
    assert trained.options["optimize_strategy"] == "NORMAL_EQUATION"
    assert (iteration.iteration, iteration.eval_loss, iteration.learning_rate) == (0, None, None)


@pytest.mark.parametrize("seed", range(12))
def test_least_squares_is_the_shortest_solution_whatever_the_columns(seed: int) -> None:
    """Also of columns that repeat others, of constants, of categories in every size, with weights and without an intercept."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(300, int(random.integers(0, 4))))
    numbers = np.column_stack([numbers, numbers[:, :1] * 2, np.zeros(300)])
    sizes = tuple(int(size) for size in random.integers(1, 30, size=random.integers(0, 4)))
    codes = tuple(random.integers(0, size + 1, size=300).astype(np.int32) // random.integers(1, 3) for size in sizes)
    rows = Labelled(Design(numbers, codes, sizes), random.normal(size=(300, 1)), random.integers(0, 3, size=300).astype(float))
    intercept = bool(random.integers(2))
    _, options = effective({"model_type": "linear_reg", "fit_intercept": intercept})

    found, _ = fit(rows, None, options | {"optimize_strategy": "NORMAL_EQUATION"}, logistic=False, progress=lambda _: None)

    roots = np.sqrt(rows.weights)[:, None]
    matrix = np.column_stack([rows.design.dense(), np.full(300, float(intercept))])
    expected = np.linalg.lstsq(matrix * roots, rows.targets * roots, rcond=1e-10)[0]
    np.testing.assert_allclose(np.vstack([found.weights, found.intercept]), expected, atol=1e-9)


def test_weights_are_in_the_columns_own_units_unless_standardized() -> None:
    rows = pa.table({"x": [0.0, 1.0, 2.0, 3.0] * 10, "y": [5.0, -5.0] * 20, "label": [1.0, 4.0, 7.0, 10.0] * 10})  # 1 + 3 x
    trained = trained_on("LINEAR_REG", rows, label="label")
    found = {value.feature: value.number for _, value in weights(trained)}
    assert found == pytest.approx({"x": 3, "y": 0, INTERCEPT: 1}, abs=1e-9)
    standardised = {value.feature: value.number for _, value in weights(trained, standardize=True)}
    assert standardised == pytest.approx({"x": 3 * np.std([0.0, 1.0, 2.0, 3.0] * 10, ddof=1), "y": 0, INTERCEPT: 5.5}, abs=1e-9)


def test_an_unseen_category_has_weight_0(tmp_path: Path) -> None:
    rows = shop()
    trained = trained_on("LINEAR_REG", rows, label="label")
    new = pa.table({"age": [None, None], "spent": [None, None], "city": ["Tokyo", "Paris"]}).cast(
        pa.schema([("age", pa.float64()), ("spent", pa.float64()), ("city", pa.string())])
    )
    found, intercept = parameters(trained)
    expected = [found[4, 0] + intercept[0], intercept[0]]
    np.testing.assert_allclose(native(trained, new), expected)
    np.testing.assert_allclose(served(trained, new, tmp_path), expected)


def test_dummy_encoding_gives_the_most_frequent_category_weight_0_and_the_same_predictions() -> None:
    rows = shop()
    dummy = trained_on("LINEAR_REG", rows, label="label", category_encoding_method="DUMMY_ENCODING")
    city = next(value for _, value in weights(dummy) if value.feature == "city")
    assert {item.category: item.value == 0 for item in city.categories} == {
        "Kyoto": False,
        "Osaka": False,
        "Tokyo": True,
        NULL_CATEGORY: False,
    }
    np.testing.assert_allclose(native(dummy, rows), native(trained_on("LINEAR_REG", rows, label="label"), rows), atol=1e-8)


@pytest.mark.parametrize("strategy", ["NORMAL_EQUATION", "BATCH_GRADIENT_DESCENT"])
def test_l2_is_ridge_regression_by_both_strategies(strategy: str) -> None:
    rows = shop()
    oracle = Ridge(alpha=0.1 * rows.num_rows).fit(space(rows), rows["label"].to_numpy())
    options = {} if strategy == "NORMAL_EQUATION" else CONVERGED
    trained = trained_on("LINEAR_REG", rows, label="label", l2_reg=0.1, optimize_strategy=strategy, **options)
    found, intercept = parameters(trained)
    np.testing.assert_allclose(found[:, 0], oracle.coef_, atol=1e-5)
    np.testing.assert_allclose(intercept, oracle.intercept_, atol=1e-5)


def test_l1_is_the_lasso_and_makes_weights_exactly_0() -> None:
    rows = shop()
    oracle = Lasso(alpha=0.1, tol=1e-10).fit(space(rows), rows["label"].to_numpy())
    trained = trained_on("LINEAR_REG", rows, label="label", l1_reg=0.1, **CONVERGED)
    found, _ = parameters(trained)
    np.testing.assert_allclose(found[:, 0], oracle.coef_, atol=1e-5)
    assert ((found[:, 0] == 0) == (oracle.coef_ == 0)).all()
    assert (found == 0).any()
    assert trained.options["optimize_strategy"] == "BATCH_GRADIENT_DESCENT"


@pytest.mark.parametrize("limits", [(3.0,), (2.0, 3.0, 4.0)])
def test_logistic_regression_converges_to_scikit_learns(limits: tuple[float, ...], tmp_path: Path) -> None:
    rows = classified(shop(), *limits)
    oracle = LogisticRegression(C=1 / (0.01 * rows.num_rows), tol=1e-10, max_iter=5000).fit(space(rows), rows["label"].to_pylist())

    trained = trained_on("LOGISTIC_REG", rows, label="label", l2_reg=0.01, **CONVERGED)

    assert trained.classes == tuple(oracle.classes_)
    expected = oracle.predict_proba(space(rows))
    np.testing.assert_allclose(native(trained, rows), expected, atol=1e-4)
    np.testing.assert_allclose(served(trained, rows, tmp_path), native(trained, rows), atol=1e-12)


def test_class_weights_are_row_weights() -> None:
    rows = classified(shop(), 4.0)
    labels = rows["label"].to_pylist()
    balanced = {name: len(labels) / (2 * labels.count(name)) for name in ("c0", "c1")}
    oracle = LogisticRegression(C=1 / (0.01 * len(labels)), class_weight="balanced", tol=1e-10, max_iter=5000).fit(space(rows), labels)

    automatic = trained_on("LOGISTIC_REG", rows, label="label", l2_reg=0.01, auto_class_weights=True, **CONVERGED)
    given = trained_on(
        "LOGISTIC_REG", rows, label="label", l2_reg=0.01, class_weights=[{"a": n, "b": w} for n, w in balanced.items()], **CONVERGED
    )

    np.testing.assert_allclose(native(automatic, rows), oracle.predict_proba(space(rows)), atol=1e-4)
    np.testing.assert_array_equal(native(given, rows), native(automatic, rows))


def test_line_search_doubles_its_rate_while_that_lowers_the_loss_and_stops_early() -> None:
    history = trained_on("LOGISTIC_REG", classified(shop(), 3.0), label="label").history
    rates = [iteration.learning_rate for iteration in history]
    losses = [iteration.loss for iteration in history]
    assert rates[:3] == [0.2, 0.4, 0.8]
    assert all(after < before for before, after in itertools.pairwise(losses))
    assert 2 < len(history) <= 20


def test_a_constant_rate_is_kept_and_divergence_is_an_error() -> None:
    rows = shop()
    options = {
        "optimize_strategy": "BATCH_GRADIENT_DESCENT",
        "learn_rate_strategy": "CONSTANT",
        "early_stop": False,
        "max_iterations": 1000,
    }
    kept = trained_on("LINEAR_REG", rows, label="label", learn_rate=0.05, **options)
    assert {iteration.learning_rate for iteration in kept.history} == {0.05}
    with pytest.raises(ModelError, match=r"diverged in iteration .* with learning rate 50"):
        trained_on("LINEAR_REG", rows, label="label", learn_rate=50, **options)


def test_the_evaluation_rows_only_measure() -> None:
    rows, others = shop(), shop(500, seed=1)
    with_evaluation = trained_on("LINEAR_REG", rows, label="label", evaluation=others)
    np.testing.assert_array_equal(parameters(with_evaluation)[0], parameters(trained_on("LINEAR_REG", rows, label="label"))[0])
    error = native(with_evaluation, others) - others["label"].to_numpy()
    assert with_evaluation.history[-1].eval_loss == pytest.approx(np.mean(error**2))


def test_without_an_intercept_there_is_none() -> None:
    rows = pa.table({"x": [1.0, 2.0, 3.0] * 10, "label": [5.0, 6.0, 7.0] * 10})
    for strategy in ("NORMAL_EQUATION", "BATCH_GRADIENT_DESCENT"):
        trained = trained_on("LINEAR_REG", rows, label="label", fit_intercept=False, optimize_strategy=strategy)
        assert parameters(trained)[1].tolist() == [0]


@pytest.mark.parametrize(
    ("rows", "options", "strategy"),
    [
        (100, {}, "NORMAL_EQUATION"),
        (9, {}, "BATCH_GRADIENT_DESCENT"),  # fewer rows than 10 times the columns
        (100, {"l1_reg": 0.1}, "BATCH_GRADIENT_DESCENT"),
    ],
)
def test_the_strategy_is_chosen_by_bigquerys_rule(rows: int, options: dict[str, Any], strategy: str) -> None:
    values = np.random.default_rng(0).normal(size=(2, rows))
    trained = trained_on("LINEAR_REG", pa.table({"x": values[0], "label": values[1]}), label="label", **options)
    assert trained.options["optimize_strategy"] == strategy


@pytest.mark.parametrize(
    ("model_type", "labels", "options", "message"),
    [
        ("LOGISTIC_REG", ["a", "a"], {}, "label 'label' has 1 different values"),
        ("LOGISTIC_REG", [1, 0], {"optimize_strategy": "NORMAL_EQUATION"}, "NORMAL_EQUATION solves LINEAR_REG without l1_reg"),
        ("LINEAR_REG", ["a", "b"], {}, "label 'label' is STRING; cast it to FLOAT64"),
        ("LINEAR_REG", [1.0, float("nan")], {}, "NaN or infinite in 1 rows"),
        ("LINEAR_REG", pa.array([None, None], pa.float64()), {}, "label 'label' is NULL in every row"),
        ("LOGISTIC_REG", ["a", "b"], {"class_weights": [{"l": "z", "w": 1.0}]}, "class_weights names 'z'"),
    ],
)
def test_what_cannot_be_trained_is_refused(model_type: str, labels: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        trained_on(model_type, pa.table({"x": [1.0, 2.0], "label": labels}), label="label", **options)


def test_rows_without_a_label_are_left_out() -> None:
    rows = pa.table({"x": [0.0, 1.0, 2.0, 50.0] * 10, "label": [1.0, 4.0, 7.0, None] * 10})
    trained = trained_on("LINEAR_REG", rows, label="label")
    assert {value.feature: value.number for _, value in weights(trained)} == pytest.approx({"x": 3, INTERCEPT: 1})
    assert trained.feature_info[0].max == 2


def test_more_than_two_classes_have_weights_each() -> None:
    trained = trained_on("LOGISTIC_REG", classified(shop(), 2.0, 4.0), label="label")
    assert [(label, value.feature) for label, value in weights(trained)] == [
        (label, feature) for label in ("c0", "c1", "c2") for feature in ("age", "spent", "city", INTERCEPT)
    ]
