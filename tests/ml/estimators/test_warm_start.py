"""WARM_START: training continues from the champion, on other rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sokuji.errors import ModelError, SqlError
from sokuji.ml.base import TrainingTask
from sokuji.ml.estimators.kmeans import KMeans, centroids
from sokuji.ml.estimators.warm_start import carry_points
from sokuji.ml.train import train
from tests.ml.conftest import Workbench
from tests.ml.tasks import native, task_of, trained_on


def rows(seed: int, count: int = 400, shift: float = 0.0) -> pa.Table:
    """Two numbers and a category, of which `old` comes with seed 0 only and `new` with others only."""
    random = np.random.default_rng(seed)
    x, y = random.normal(shift, 1 + seed, count), random.normal(size=count)
    kinds = ["a", "b", None, "new" if seed else "old"]
    kind = [kinds[place] for place in random.integers(4, size=count)]
    label = 2 * x - y + np.array([1.0 if name == "a" else 0.0 for name in kind])
    return pa.table({"x": x, "y": y, "kind": kind, "label": label, "sign": label > 0})


def going_on(model_type: str, first: pa.Table, then: pa.Table, label: str | None, **options: Any) -> TrainingTask:
    """A task that goes on from a model of `first`, with `then` and these options."""
    start = trained_on(model_type, first, label=label)
    task = task_of(model_type, then, label=label, warm_start=True, **options)
    return replace(task, start=start)


@pytest.mark.parametrize(("model_type", "label"), [("LINEAR_REG", "label"), ("LOGISTIC_REG", "sign"), ("LOGISTIC_REG", "kind")])
def test_a_carried_model_predicts_as_before_until_it_learns(model_type: str, label: str) -> None:
    """One step at a rate of nearly nothing: other means, deviations and categories, and the same predictions."""
    first = rows(0).drop_columns([name for name in ("label", "sign") if name != label])
    first = first if label != "kind" else first.filter(pa.compute.is_in(first["kind"], pa.array(["a", "b"])))
    then = rows(1, shift=5).drop_columns([name for name in ("label", "sign") if name != label])
    then = then if label != "kind" else then.filter(pa.compute.is_in(then["kind"], pa.array(["a", "b"])))
    options = {"learn_rate_strategy": "CONSTANT", "learn_rate": 1e-15, "max_iterations": 1}
    task = going_on(model_type, first, then, label, **options)
    assert task.start is not None
    seen = then if label == "kind" else then.filter(pa.compute.is_in(then["kind"], pa.array(["a", "b", None])))
    np.testing.assert_allclose(native(train(task), seen), native(task.start, seen), rtol=1e-9, atol=1e-9)


def test_centroids_stay_at_their_place_among_other_rows() -> None:
    first, then = (rows(seed, shift=seed).select(["x", "y", "kind"]) for seed in (0, 3))
    start = trained_on("KMEANS", first, num_clusters=3)
    assert isinstance(start.estimator, KMeans)
    other = trained_on("KMEANS", then, num_clusters=3)
    carried = KMeans(carry_points(start.preprocessing, other.preprocessing, start.estimator.centroids), False, (), ())

    before, after = (
        {(number, value.feature): value for number, value in centroids(model)} for model in (start, replace(other, estimator=carried))
    )
    for place, value in before.items():
        found = {item.category: item.value for item in after[place].categories}
        expected = {item.category: item.value for item in value.categories if item.category != "old"}
        assert after[place].number == pytest.approx(value.number)
        assert found == expected | ({"new": 0.0} if expected else {})


# The label, options that make gradient descent go on at the same rate, and a number of ML.PREDICT.
SUPERVISED = "learn_rate_strategy='constant', optimize_strategy='batch_gradient_descent', data_split_method='no_split', "
ONE_RUN = {
    "kmeans": ("", "", "NEAREST_CENTROIDS_DISTANCE[OFFSET(0)].DISTANCE"),
    "linear_reg": (", x * 2.5 AS label", SUPERVISED, "predicted_label"),
    "logistic_reg": (", x > 70 AS label", SUPERVISED, "predicted_label_probs[OFFSET(0)].prob"),
}


@pytest.mark.parametrize("model_type", ONE_RUN)
def test_two_runs_are_as_good_as_one_and_both_are_shown(model_type: str, workbench: Workbench) -> None:
    """Options of the first run hold in the second, where they are not given again."""
    label, options, number = ONE_RUN[model_type]
    query = f"SELECT MOD(x * 37, 101) AS u, IF(MOD(x, 3) = 0, 'a', NULL) AS s{label} FROM UNNEST(GENERATE_ARRAY(1, 150)) AS x"
    first = f"model_type='{model_type}', early_stop=FALSE, {options}"
    workbench.sql(f"CREATE OR REPLACE MODEL d.one OPTIONS({first} max_iterations=7) AS {query}")
    workbench.sql(f"CREATE OR REPLACE MODEL d.two OPTIONS({first} max_iterations=4) AS {query}")
    workbench.sql(f"CREATE OR REPLACE MODEL d.two OPTIONS(model_type='{model_type}', warm_start=TRUE, max_iterations=3) AS {query}")

    one, two = (workbench.sql(f"SELECT {number} FROM ML.PREDICT(MODEL {model}, ({query}))").rows() for model in ("d.one", "d.two"))
    np.testing.assert_allclose(two, one, rtol=1e-9)
    runs = workbench.sql("SELECT training_run, COUNT(*), MIN(iteration) FROM ML.TRAINING_INFO(MODEL d.two) GROUP BY 1 ORDER BY 1").rows()
    assert runs == [(0, 4, 0), (1, 3, 0)]


@pytest.mark.parametrize(
    ("options", "query", "words"),
    [
        ("model_type='kmeans'", "SELECT 1 AS x, 'a' AS s", ["the columns d.start was trained on: KMEANS of x INT64"]),
        ("model_type='kmeans'", "SELECT 1.0 AS x", ["KMEANS of x INT64"]),
        ("model_type='linear_reg', input_label_cols=['y']", "SELECT 1 AS x, 2 AS y", ["KMEANS of x INT64"]),
        ("model_type='kmeans', num_clusters=4", "SELECT 1 AS x", ["NUM_CLUSTERS is 4", "d.start", "has 3"]),
    ],
)
def test_what_cannot_go_on_is_refused(options: str, query: str, words: list[str], workbench: Workbench) -> None:
    workbench.sql("CREATE OR REPLACE MODEL d.start OPTIONS(model_type='kmeans', num_clusters=3) AS SELECT x FROM UNNEST([1, 2, 3, 4]) AS x")
    with pytest.raises(SqlError) as raised:
        workbench.sql(f"CREATE OR REPLACE MODEL d.start OPTIONS({options}, warm_start=TRUE) AS {query}")
    assert [word for word in words if word not in str(raised.value)] == []
    assert raised.value.line == 1


def test_there_must_be_a_model_to_go_on_from(workbench: Workbench) -> None:
    with pytest.raises(SqlError, match=r"d\.nothing does not exist; leave it out \[at 1:"):
        workbench.sql("CREATE OR REPLACE MODEL d.nothing OPTIONS(model_type='kmeans', warm_start=TRUE) AS SELECT 1 AS x")


def test_other_classes_are_refused(workbench: Workbench) -> None:
    statement = (
        "CREATE OR REPLACE MODEL d.classes OPTIONS(model_type='logistic_reg'{}) AS SELECT x, {} AS label FROM UNNEST([1, 2, 3, 4]) AS x"
    )
    workbench.sql(statement.format("", "x > 2"))
    workbench.sql(statement.format("", "MOD(x, 3)"))
    with pytest.raises(ModelError, match=r"values are \(0, 1\).* has \(0, 1, 2\)"):
        workbench.sql(statement.format(", warm_start=TRUE", "MOD(x, 2)"))
