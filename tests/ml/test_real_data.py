"""Models on real data: the penguins of BigQuery ML's tutorials against its published numbers, and real shop sessions."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest

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
