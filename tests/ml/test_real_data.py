"""Models on real data: the penguins of BigQuery ML's tutorials against its published numbers, and real shop sessions."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import sklearn.cluster
import sklearn.metrics
import xgboost

from tests.ml.conftest import Workbench

PENGUINS = Path(__file__).parents[2] / ".venv" / "ml" / "palmerpenguins" / "palmerpenguins" / "data" / "penguins.csv"
SHOPPERS = Path(__file__).parents[3] / "shared" / "data" / "online_shoppers_intention.csv"

# ML.EVALUATE of the tutorial's model as Google's own published samples and tests show it
# (https://cloud.google.com/bigquery/docs/linear-regression-tutorial).
TUTORIAL = {
    "mean_absolute_error": 227.01223667447218,
    "mean_squared_error": 81838.15989216768,
    "mean_squared_log_error": 0.0050704473735013,
    "median_absolute_error": 173.08081641661738,
    "r2_score": 0.8723772534253441,
    "explained_variance": 0.8723772534253442,
}


@pytest.fixture(scope="module")
def penguins(workbench: Workbench) -> Workbench:
    if not PENGUINS.exists():
        pytest.skip("palmerpenguins, the tutorials' table, is not here; run tests/ml/install")
    options = pyarrow.csv.ConvertOptions(null_values=["NA"], strings_can_be_null=True)
    table = pyarrow.csv.read_csv(str(PENGUINS), convert_options=options)
    # BigQuery's copy writes the sex in capitals, and that of one Gentoo, with this culmen and flipper, as ".".
    birds = zip(*(table[name].to_pylist() for name in ("sex", "bill_length_mm", "flipper_length_mm")), strict=True)
    sex = ["." if sex is None and (length, flipper) == (44.5, 217) else sex and sex.upper() for sex, length, flipper in birds]
    table = table.set_column(table.column_names.index("sex"), "sex", pa.array(sex))
    names = {"bill_length_mm": "culmen_length_mm", "bill_depth_mm": "culmen_depth_mm"}
    table = table.rename_columns([names.get(name, name) for name in table.column_names]).drop_columns(["year"])
    workbench.table("d.penguins", table)
    return workbench


def test_linear_regression_gives_the_tutorials_numbers(penguins: Workbench) -> None:
    penguins.sql(
        """
        CREATE OR REPLACE MODEL `d.penguins_model` OPTIONS (model_type='linear_reg', input_label_cols=['body_mass_g']) AS
        SELECT * FROM `d.penguins` WHERE body_mass_g IS NOT NULL
        """
    )
    result = penguins.sql("SELECT * FROM ML.EVALUATE(MODEL `d.penguins_model`, (SELECT * FROM `d.penguins` WHERE body_mass_g IS NOT NULL))")
    names = [field.name for field in result.schema]
    (row,) = result.rows()
    assert dict(zip(names, row, strict=True)) == pytest.approx(TUTORIAL, rel=1e-6)


def test_logistic_regression_comes_near_to_bigquerys(penguins: Workbench) -> None:
    """Gradient descent ends where it is stopped, so this is not exact. That one of three labels occurs once shows the macro averages."""
    rows = "SELECT * FROM d.penguins WHERE sex IS NOT NULL"
    penguins.sql(f"CREATE OR REPLACE MODEL d.sexes OPTIONS (model_type='logistic_reg', input_label_cols=['sex']) AS {rows}")
    (scores,) = penguins.sql(f"SELECT precision, recall, accuracy, f1_score, roc_auc FROM ML.EVALUATE(MODEL d.sexes, ({rows}))").rows()
    assert scores == pytest.approx((0.616753, 0.618615, 0.92515, 0.617681, 0.975807), rel=0.025)


@pytest.fixture(scope="module")
def shoppers(workbench: Workbench) -> Workbench:
    if not SHOPPERS.exists():
        pytest.skip(f"the UCI online shoppers data is not beside the checkout ({SHOPPERS.name})")
    table = pyarrow.csv.read_csv(str(SHOPPERS))
    table = table.rename_columns([name.strip().replace(" ", "") for name in table.column_names])
    workbench.table("d.sessions", table)
    return workbench


@pytest.mark.parametrize(("model_type", "least"), [("boosted_tree_classifier", 0.92), ("logistic_reg", 0.88)])
def test_purchases_of_real_sessions_are_predicted(shoppers: Workbench, model_type: str, least: float) -> None:
    message = shoppers.sql(
        f"""
        CREATE OR REPLACE MODEL d.purchase OPTIONS (model_type='{model_type}', input_label_cols=['Revenue']) AS
        SELECT * REPLACE (CAST(Month AS STRING) AS Month, Revenue = 1 AS Revenue) FROM d.sessions
        """
    ).message
    assert "trained on 9864 rows, evaluated on 2466" in message
    ((area, recall),) = shoppers.sql("SELECT roc_auc, recall FROM ML.EVALUATE(MODEL d.purchase)").rows()
    assert area > least
    assert 0.2 < recall < 0.9


SESSION_ROWS = "SELECT * REPLACE (CAST(Month AS STRING) AS Month, Revenue = 1 AS Revenue) FROM d.sessions"


def columns(workbench: Workbench, sql: str) -> dict[str, np.ndarray[Any, Any]]:
    table = workbench.sql(sql).arrow()
    return {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}


def test_metrics_on_real_sessions_are_scikit_learns(shoppers: Workbench) -> None:
    shoppers.sql(
        f"CREATE OR REPLACE MODEL d.oracle OPTIONS (model_type='boosted_tree_classifier', input_label_cols=['Revenue']) AS {SESSION_ROWS}"
    )
    found = columns(
        shoppers,
        f"""
        SELECT Revenue, predicted_Revenue AS predicted, predicted_Revenue_probs[OFFSET(0)].prob AS prob
        FROM ML.PREDICT(MODEL d.oracle, ({SESSION_ROWS}), STRUCT(0.3 AS threshold))
        """,
    )
    said = found["predicted"] == (found["prob"] >= 0.3)
    assert said.all()
    actual, predicted, prob = found["Revenue"].astype(int), found["predicted"].astype(int), found["prob"]
    expected = (
        sklearn.metrics.precision_score(actual, predicted),
        sklearn.metrics.recall_score(actual, predicted),
        sklearn.metrics.accuracy_score(actual, predicted),
        sklearn.metrics.f1_score(actual, predicted),
        sklearn.metrics.log_loss(actual, prob),
        sklearn.metrics.roc_auc_score(actual, prob),
    )
    call = f"(MODEL d.oracle, ({SESSION_ROWS}), STRUCT(0.3 AS threshold))"
    assert shoppers.sql(f"SELECT * FROM ML.EVALUATE{call}").rows() == [pytest.approx(expected)]
    matrix = [row[1:] for row in shoppers.sql(f"SELECT * FROM ML.CONFUSION_MATRIX{call}").rows()]
    assert np.array(matrix).tolist() == sklearn.metrics.confusion_matrix(actual, predicted).tolist()
    curve = shoppers.sql(f"SELECT * FROM ML.ROC_CURVE(MODEL d.oracle, ({SESSION_ROWS}), [0.1, 0.3, 0.7])").rows()
    for cut, recall, alarms, *counts in curve:
        (true_negatives, false_positives), (false_negatives, true_positives) = sklearn.metrics.confusion_matrix(actual, prob >= cut)
        assert counts == [true_positives, false_positives, true_negatives, false_negatives]
        assert (recall, alarms) == pytest.approx((true_positives / actual.sum(), false_positives / (1 - actual).sum()))


def test_trees_on_real_sessions_are_xgboosts(shoppers: Workbench) -> None:
    """Numbers as they are, categories by their place from 1 in sorted order, base score 0.5, BigQuery's defaults."""
    shoppers.sql(
        f"""
        CREATE OR REPLACE MODEL d.oracle
        OPTIONS (model_type='boosted_tree_classifier', input_label_cols=['Revenue'], data_split_method='NO_SPLIT', early_stop=FALSE) AS
        {SESSION_ROWS}
        """
    )
    rows = columns(shoppers, SESSION_ROWS)
    label = rows.pop("Revenue").astype(int)
    months = sorted(set(rows["Month"]))
    matrix = np.column_stack(
        [[1 + months.index(month) for month in values] if name == "Month" else values.astype(float) for name, values in rows.items()]
    )
    # Our own order of columns: numbers first.
    order = [*(place for place, name in enumerate(rows) if name != "Month"), list(rows).index("Month")]
    data = xgboost.DMatrix(matrix[:, order], label=label)
    parameters = {"objective": "binary:logistic", "max_depth": 6, "eta": 0.3, "lambda": 1, "base_score": 0.5, "tree_method": "hist"}
    expected = xgboost.train(parameters, xgboost.QuantileDMatrix(matrix[:, order], label=label), 20).predict(data)
    found = columns(shoppers, f"SELECT predicted_Revenue_probs[OFFSET(0)].prob FROM ML.PREDICT(MODEL d.oracle, ({SESSION_ROWS}))")
    (prob,) = found.values()
    np.testing.assert_allclose(prob, expected, atol=1e-5)


CDNOW = "lifetimes/datasets/CDNOW_master.txt"


@pytest.fixture(scope="module")
def customers(workbench: Workbench) -> Workbench:
    """Recency, frequency and money of CDNOW's 23,570 customers."""
    try:
        path = Path(str(importlib.metadata.distribution("lifetimes").locate_file(CDNOW)))
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("lifetimes, which has CDNOW's purchases, is not installed; make demo installs it")
    purchases = np.loadtxt(path, skiprows=1)
    names, place = np.unique(purchases[:, 0], return_inverse=True)
    last = np.zeros(len(names))
    np.maximum.at(last, place, purchases[:, 1])
    count, money = np.bincount(place), np.bincount(place, weights=purchases[:, 3])
    workbench.table("d.customers", pa.table({"last": last, "count": count, "money": money, "first": np.arange(len(names)) < 5}))
    return workbench


def test_segments_of_real_customers_are_scikit_learns(customers: Workbench) -> None:
    customers.sql(
        """
        CREATE OR REPLACE MODEL d.segments
        OPTIONS (model_type='kmeans', num_clusters=5, kmeans_init_method='CUSTOM', kmeans_init_col='first',
                 early_stop=FALSE, max_iterations=100)
        AS SELECT last, count, money, first FROM d.customers
        """
    )
    rows = columns(customers, "SELECT last, count, money FROM d.customers")
    values = np.column_stack(list(rows.values())).astype(float)
    scaled = (values - values.mean(axis=0)) / values.std(axis=0, ddof=1)
    first = scaled[:5][np.lexsort(scaled[:5].T[::-1])]  # centroids are numbered in the order of the values of these rows
    oracle = sklearn.cluster.KMeans(5, init=first, n_init=1, tol=0, max_iter=100).fit(scaled)

    centroids = customers.sql("SELECT numerical_value FROM ML.CENTROIDS(MODEL d.segments) ORDER BY centroid_id").rows()
    expected = oracle.cluster_centers_ * values.std(axis=0, ddof=1) + values.mean(axis=0)
    np.testing.assert_allclose(np.array(centroids).reshape(5, 3), expected, rtol=1e-9)

    said = columns(customers, "SELECT CENTROID_ID FROM ML.PREDICT(MODEL d.segments, TABLE d.customers)")["CENTROID_ID"] - 1
    np.testing.assert_array_equal(said, oracle.labels_)
    scatter = np.array([np.sqrt(((scaled[said == k] - oracle.cluster_centers_[k]) ** 2).sum(axis=1).mean()) for k in range(5)])
    apart = np.linalg.norm(oracle.cluster_centers_[:, None] - oracle.cluster_centers_, axis=2)
    ratios = (scatter[:, None] + scatter) / np.where(apart == 0, np.inf, apart)
    metrics = customers.sql("SELECT * FROM ML.EVALUATE(MODEL d.segments)").rows()
    assert metrics == [pytest.approx((ratios.max(axis=1).mean(), oracle.inertia_ / len(scaled)))]
