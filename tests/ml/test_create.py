"""CREATE MODEL and DROP MODEL in SQL: results on data of known structure, versions, and refusals."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

from sokuji.errors import AlreadyExistsError, NotFoundError, QueryCancelledError, SokujiError, SqlError
from sokuji.meta.objects import Ref
from sokuji.ml.base import Iteration
from sokuji.ml.create import unheard
from sokuji.sql.duckdb import native_calls
from tests.ml.conftest import Workbench
from tests.sql.test_limits import database

CENTERS = {"far": (10.0, 200.0), "near": (0.0, 0.0), "odd": (-10.0, 100.0)}


def groups(rows: int = 300) -> pa.Table:
    """Rows around three centers, well apart."""
    random = np.random.default_rng(7)
    names = np.array(list(CENTERS))[np.arange(rows) % 3]
    points = np.array([CENTERS[name] for name in names]) + random.normal(0, [0.5, 1], (rows, 2))
    return pa.table({"name": names, "u": points[:, 0], "v": points[:, 1]})


def purchases(rows: int = 2000) -> pa.Table:
    """amount = 3 + 2 visits - 5 [mobile] + noise; buys by a logistic curve of visits."""
    random = np.random.default_rng(3)
    visits, device = random.integers(0, 20, rows), np.array(["desktop", "mobile"])[random.integers(0, 2, rows)]
    amount = 3 + 2.0 * visits - 5 * (device == "mobile") + random.normal(0, 0.1, rows)
    buys = random.random(rows) < 1 / (1 + np.exp(-(visits - 10) / 1.5))
    return pa.table({"visits": visits, "device": device, "amount": amount, "buys": buys})


@pytest.fixture(scope="module")
def data(workbench: Workbench) -> Workbench:
    workbench.table("d.groups", groups())
    workbench.table("d.purchases", purchases())
    return workbench


def test_kmeans_finds_the_centers(data: Workbench) -> None:
    message = data.sql(
        """
        CREATE OR REPLACE MODEL d.three OPTIONS(model_type='KMEANS', num_clusters=3, kmeans_init_method='kmeans++') AS
        SELECT u, v FROM d.groups
        """
    ).message
    assert "d.three version 1" in message
    assert "300 rows" in message
    rows = data.sql("SELECT centroid_id, feature, numerical_value FROM ML.CENTROIDS(MODEL d.three)").rows()
    found = sorted(tuple(value for number, _, value in rows if number == centroid) for centroid in (1, 2, 3))
    for center, expected in zip(found, sorted(CENTERS.values()), strict=True):
        assert center == pytest.approx(expected, abs=0.5)
    per_group = data.sql(
        """
        SELECT name, COUNT(DISTINCT CENTROID_ID), COUNT(*)
        FROM ML.PREDICT(MODEL d.three, TABLE d.groups) GROUP BY name ORDER BY name
        """
    ).rows()
    assert per_group == [("far", 1, 100), ("near", 1, 100), ("odd", 1, 100)]


def test_kmeans_metrics_are_those_of_the_clusters(data: Workbench) -> None:
    data.sql(
        """
        CREATE OR REPLACE MODEL d.metric OPTIONS(model_type='kmeans', num_clusters=3, kmeans_init_method='kmeans++') AS
        SELECT u, v FROM d.groups
        """
    )
    ((index, distance),) = data.sql("SELECT * FROM ML.EVALUATE(MODEL d.metric)").rows()
    ((expected,),) = data.sql(
        """
        SELECT AVG(POW(NEAREST_CENTROIDS_DISTANCE[OFFSET(0)].DISTANCE, 2)) FROM ML.PREDICT(MODEL d.metric, TABLE d.groups)
        """
    ).rows()
    assert distance == pytest.approx(expected)
    assert 0 < index < 0.2


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("iterations", [1, 20])
def test_kmeans_metrics_of_training_are_those_of_the_same_rows_again(data: Workbench, distance: str, iterations: int) -> None:
    data.sql(
        f"""
        CREATE OR REPLACE MODEL d.same
        OPTIONS(model_type='kmeans', num_clusters=4, distance_type='{distance}', max_iterations={iterations}) AS
        SELECT u, v, IF(u > 3, NULL, name) AS name FROM d.groups
        """
    )
    (kept,) = data.sql("SELECT * FROM ML.EVALUATE(MODEL d.same)").rows()
    (again,) = data.sql("SELECT * FROM ML.EVALUATE(MODEL d.same, (SELECT u, v, IF(u > 3, NULL, name) AS name FROM d.groups))").rows()
    assert kept == pytest.approx(again, rel=1e-9)


def test_linear_regression_finds_the_coefficients(data: Workbench) -> None:
    data.sql(
        """
        CREATE OR REPLACE MODEL d.line OPTIONS(model_type='linear_reg', input_label_cols=['amount']) AS
        SELECT visits, device, amount FROM d.purchases
        """
    )
    weights = {row[0]: row[1:] for row in data.sql("SELECT * FROM ML.WEIGHTS(MODEL d.line)").rows()}
    assert weights["visits"][0] == pytest.approx(2, abs=0.01)
    device = {item["category"]: item["weight"] for item in weights["device"][1]}
    assert device["mobile"] - device["desktop"] == pytest.approx(-5, abs=0.02)
    ((low, high),) = data.sql(
        "SELECT MIN(ABS(predicted_amount - amount)), MAX(ABS(predicted_amount - amount)) FROM ML.PREDICT(MODEL d.line, TABLE d.purchases)"
    ).rows()
    assert 0 <= low < high < 0.5
    ((score,),) = data.sql("SELECT r2_score FROM ML.EVALUATE(MODEL d.line)").rows()
    assert score > 0.999


@pytest.mark.parametrize("model_type", ["logistic_reg", "boosted_tree_classifier"])
def test_classifiers_find_the_threshold_between_the_classes(data: Workbench, model_type: str) -> None:
    data.sql(
        f"""
        CREATE OR REPLACE MODEL d.buyer OPTIONS(model_type='{model_type}', input_label_cols=['buys']) AS
        SELECT visits, device, buys FROM d.purchases
        """
    )
    ((accuracy, area),) = data.sql("SELECT accuracy, roc_auc FROM ML.EVALUATE(MODEL d.buyer)").rows()
    assert accuracy > 0.85
    assert area > 0.93
    said = data.sql(
        """
        SELECT predicted_buys
        FROM ML.PREDICT(MODEL d.buyer, (SELECT visits, 'mobile' AS device FROM UNNEST([1, 6, 14, 19]) AS visits))
        ORDER BY visits
        """
    ).rows()
    assert said == [(False,), (False,), (True,), (True,)]


def test_class_weights_move_the_decision(data: Workbench) -> None:
    found = []
    for weights in ("STRUCT(FALSE, 1.0), STRUCT(TRUE, 1.0)", "STRUCT(FALSE, 1.0), (TRUE, 20.0)"):
        data.sql(
            f"""
            CREATE OR REPLACE MODEL d.weighted OPTIONS(model_type='logistic_reg', input_label_cols=['buys'], class_weights=[{weights}]) AS
            SELECT visits, buys FROM d.purchases
            """
        )
        ((count,),) = data.sql("SELECT COUNTIF(predicted_buys) FROM ML.PREDICT(MODEL d.weighted, TABLE d.purchases)").rows()
        found.append(count)
    assert found[1] > found[0] + 200


@pytest.mark.parametrize("model_type", ["logistic_reg", "boosted_tree_classifier"])
@pytest.mark.parametrize("label", ["buys", "CAST(buys AS INT64)", "CAST(buys AS STRING)", "IF(buys, 1.5, -0.0)"])
def test_a_label_of_any_type_is_predicted_as_it_is(data: Workbench, model_type: str, label: str) -> None:
    rows = f"SELECT visits, {label} AS l FROM d.purchases"
    data.sql(f"CREATE OR REPLACE MODEL d.label OPTIONS(model_type='{model_type}', input_label_cols=['l']) AS {rows}")
    ((right, greatest_first),) = data.sql(
        f"""
        SELECT COUNTIF(predicted_l = l) / COUNT(*), LOGICAL_AND(predicted_l_probs[OFFSET(0)].label >= l)
        FROM ML.PREDICT(MODEL d.label, ({rows}))
        """
    ).rows()
    assert right > 0.85
    assert greatest_first
    ((accuracy,),) = data.sql(f"SELECT accuracy FROM ML.EVALUATE(MODEL d.label, ({rows}))").rows()
    assert accuracy == pytest.approx(right)


@pytest.mark.parametrize(
    ("model_type", "columns"),
    [
        ("linear_reg", "9223372036854775807 - visits AS y"),
        ("boosted_tree_regressor", "9007199254740993 - visits AS y"),
        ("boosted_tree_regressor", "IF(visits > 3, 1, 0) AS y, 9007199254740993 AS w"),
    ],
)
def test_labels_and_weights_may_be_integers_that_no_float64_holds(data: Workbench, model_type: str, columns: str) -> None:
    options = "input_label_cols=['y']" + (", instance_weight_col='w'" if " AS w" in columns else "")
    query = f"SELECT visits, {columns} FROM d.purchases LIMIT 500"
    data.sql(f"CREATE OR REPLACE MODEL d.huge OPTIONS(model_type='{model_type}', {options}) AS {query}")
    ((error,),) = data.sql("SELECT mean_absolute_error FROM ML.EVALUATE(MODEL d.huge)").rows()
    assert 0 <= error < 1e17


def test_class_weights_may_name_a_label_by_its_text(data: Workbench) -> None:
    found = []
    for weights in ("STRUCT(TRUE, 20.0)", "STRUCT('true', 20.0)"):
        data.sql(
            f"""
            CREATE OR REPLACE MODEL d.weighted OPTIONS(model_type='logistic_reg', input_label_cols=['buys'], class_weights=[{weights}]) AS
            SELECT visits, buys FROM d.purchases
            """
        )
        found.append(data.sql("SELECT * FROM ML.WEIGHTS(MODEL d.weighted)").rows())
    assert found[0] == found[1]


def test_features_of_every_type_are_understood(data: Workbench) -> None:
    features = """
        STRUCT(u AS u, STRUCT(v > 50 AS high) AS inside) AS both, DATE_ADD(DATE '2026-01-01', INTERVAL CAST(v AS INT64) DAY) AS day,
        TIMESTAMP_SECONDS(CAST(u * 1e6 AS INT64)) AS ts, CAST(v AS NUMERIC) AS exact, name
    """
    data.sql(
        f"CREATE OR REPLACE MODEL d.types OPTIONS(model_type='logistic_reg', input_label_cols=['name']) AS SELECT {features} FROM d.groups"
    )
    inputs = [row[0] for row in data.sql("SELECT input FROM ML.FEATURE_INFO(MODEL d.types)").rows()]
    assert inputs == ["both_u", "both_inside_high", "day", "ts", "exact"]
    ((right,),) = data.sql(
        f"SELECT COUNTIF(predicted_name = name) FROM ML.PREDICT(MODEL d.types, (SELECT {features} FROM d.groups))"
    ).rows()
    assert right == 300


def test_boosted_trees_fit_what_no_line_does(data: Workbench) -> None:
    data.sql(
        """
        CREATE OR REPLACE MODEL d.bend
        OPTIONS(model_type='boosted_tree_regressor', input_label_cols=['y'], max_iterations=50, early_stop=FALSE) AS
        SELECT visits, ABS(visits - 10) * 3.0 AS y FROM d.purchases
        """
    )
    ((score,),) = data.sql("SELECT r2_score FROM ML.EVALUATE(MODEL d.bend)").rows()
    assert score > 0.99


def test_the_evaluation_rows_are_set_apart(data: Workbench) -> None:
    result = data.sql(
        """
        CREATE OR REPLACE MODEL d.apart
        OPTIONS(model_type='linear_reg', input_label_cols=['y'], data_split_method='CUSTOM', data_split_col='later') AS
        SELECT visits, IF(visits > 15, 100.0, visits) AS y, visits > 15 AS later FROM d.purchases
        """
    )
    assert "evaluated on" in result.message
    features = data.sql("SELECT input FROM ML.FEATURE_INFO(MODEL d.apart)").rows()
    assert features == [("visits",)]
    ((error,),) = data.sql("SELECT mean_absolute_error FROM ML.EVALUATE(MODEL d.apart)").rows()
    assert error == pytest.approx(82.4, abs=1)  # the line it learnt is y = visits; the rows it never saw are at 100


def test_rows_without_a_label_are_left_out(data: Workbench) -> None:
    result = data.sql(
        "CREATE OR REPLACE MODEL d.some OPTIONS(model_type='linear_reg') AS SELECT u, IF(name = 'odd', NULL, v) AS label FROM d.groups"
    )
    assert "trained on 200 rows" in result.message


def test_a_replaced_model_is_a_new_version_and_the_old_one_is_kept(data: Workbench) -> None:
    create = "CREATE OR REPLACE MODEL d.again OPTIONS(model_type='linear_reg', input_label_cols=['v']) AS SELECT u, v FROM d.groups"
    assert "version 1" in data.sql(create).message
    assert "version 2" in data.sql(create).message
    assert data.store.aliases(Ref("d", "again")) == {"champion": 2, "previous": 1}
    with pytest.raises(AlreadyExistsError, match=r"d\.again; CREATE OR REPLACE"):
        data.sql(create.replace("OR REPLACE ", ""))
    assert "exists already" in data.sql(create.replace("OR REPLACE MODEL", "MODEL IF NOT EXISTS")).message
    assert len(data.store.versions(Ref("d", "again"))) == 2


def test_what_a_version_records(data: Workbench) -> None:
    sql = "CREATE OR REPLACE MODEL d.record OPTIONS(model_type='kmeans', description='three kinds') AS SELECT u, v FROM d.groups"
    data.sql(sql)
    version = data.store.get(Ref("d", "record"))
    assert version.sql == sql
    assert version.options["description"] == "three kinds"
    assert version.options["num_clusters"] == 2
    assert set(version.metrics) == {"davies_bouldin_index", "mean_squared_distance"}
    assert version.serving == "onnx"


def test_of_those_who_create_a_model_at_the_same_time_one_does(data: Workbench) -> None:
    barrier = threading.Barrier(3)

    def together(_ref: Ref, iteration: Iteration) -> None:
        if iteration.iteration == 0:
            barrier.wait(timeout=60)

    def create(clause: str) -> str:
        try:
            options = "model_type='kmeans', num_clusters=2, max_iterations=2"
            return data.sql(f"CREATE {clause} d.together OPTIONS({options}) AS SELECT u, v FROM d.groups").message
        except AlreadyExistsError as error:
            return str(error)

    data.progress = together
    with ThreadPoolExecutor(3) as pool:
        answers = sorted(pool.map(create, ["MODEL", "MODEL", "MODEL IF NOT EXISTS"]))
        versions = data.store.versions(Ref("d", "together"))
        assert sum("version 1" in answer for answer in answers) == 1
        assert all("version 1" in answer or "exists" in answer.lower() for answer in answers), answers
        assert [version.version for version in versions] == [1]
        replaced = pool.map(create, ["OR REPLACE MODEL"] * 3)
        assert sorted(f"version {number}" in answer for answer in replaced for number in (2, 3, 4)).count(True) == 3
    data.progress = unheard
    assert [version.version for version in data.store.versions(Ref("d", "together"))] == [1, 2, 3, 4]
    data.sql("DROP MODEL d.together")


def test_drop_model(data: Workbench) -> None:
    data.sql("CREATE OR REPLACE MODEL d.gone OPTIONS(model_type='kmeans') AS SELECT u, v FROM d.groups")
    data.sql("DROP MODEL d.gone")
    assert data.store.versions(Ref("d", "gone")) == []
    with pytest.raises(SqlError, match=r"d\.gone"):
        data.sql("SELECT * FROM ML.CENTROIDS(MODEL d.gone)")
    with pytest.raises(NotFoundError, match=r"Not found: Model d\.gone"):
        data.sql("DROP MODEL d.gone")
    assert "does not exist" in data.sql("DROP MODEL IF EXISTS d.gone").message


@pytest.mark.parametrize(
    ("options", "query", "words"),
    [
        ("model_type='kmeans', num_clusters=0", "SELECT u FROM d.groups", ["NUM_CLUSTERS is 0", "from 2 to 100"]),
        ("model_type='linear_reg'", "SELECT u, v FROM d.groups", ["INPUT_LABEL_COLS is 'label'", "they are: u, v"]),
        ("model_type='linear_reg', input_label_cols=['name']", "SELECT u, name FROM d.groups", ["name is STRING", "FLOAT64"]),
        (
            "model_type='logistic_reg', input_label_cols=['v']",
            "SELECT u, v FROM d.groups",
            ["'v' is FLOAT64", "300 different", "LINEAR_REG"],
        ),
        ("model_type='linear_reg', input_label_cols=['u', 'v']", "SELECT u, v FROM d.groups", ["exactly one label"]),
        ("model_type='linear_reg', input_label_cols=['v']", "SELECT v FROM d.groups", ["no feature columns"]),
        ("model_type='linear_reg', input_label_cols=['v']", "SELECT u, v FROM d.groups WHERE FALSE", ["gave no rows"]),
        (
            "model_type='logistic_reg', input_label_cols=['l']",
            "SELECT u, 'same' AS l FROM d.groups",
            ["1 different values"],
        ),
        ("model_type='kmeans'", "SELECT u, v + 1 FROM d.groups", ["column 2 has no name"]),
        ("model_type='kmeans'", "SELECT u, v AS U FROM d.groups", ["duplicate name U"]),
        ("model_type='kmeans'", "SELECT u, [v] AS w FROM d.groups", ["w", "ARRAY<FLOAT64>"]),
        ("model_type='kmeans', kmeans_init_method='custom'", "SELECT u FROM d.groups", ["KMEANS_INIT_COL"]),
        ("model_type='kmeans', num_clusters=99", "SELECT u FROM d.groups LIMIT 50", ["99", "50"]),
        ("model_type='kmeans', num_clusters=2, NUM_CLUSTERS=3", "SELECT u FROM d.groups", ["NUM_CLUSTERS is given twice", "[at 1:67]"]),
        ("model_type='kmeans', kmeans_init_col='v'", "SELECT u, v FROM d.groups", ["for KMEANS_INIT_METHOD 'CUSTOM'", "[at 1:51]"]),
        (
            "model_type='kmeans', kmeans_init_method='custom', kmeans_init_col='v'",
            "SELECT u, v FROM d.groups",
            ["KMEANS_INIT_COL is 'v', which is FLOAT64", "BOOL"],
        ),
        (
            "model_type='kmeans', kmeans_init_method='custom', kmeans_init_col='b'",
            "SELECT u, CAST(NULL AS BOOL) AS b FROM d.groups",
            ["TRUE in 0 rows", "from 2 to 100"],
        ),
        (
            "model_type='boosted_tree_regressor', input_label_cols=['v'], instance_weight_col='name'",
            "SELECT u, v, name FROM d.groups",
            ["INSTANCE_WEIGHT_COL is 'name', which is STRING", "FLOAT64"],
        ),
        (
            "model_type='boosted_tree_regressor', input_label_cols=['v'], instance_weight_col='w'",
            "SELECT u, v, 0 AS w FROM d.groups",
            ["every training row has weight 0"],
        ),
        (
            "model_type='boosted_tree_regressor', input_label_cols=['v'], instance_weight_col='w'",
            "SELECT u, v, IEEE_DIVIDE(1, 0) AS w FROM d.groups",
            ["instance_weight_col 'w' is inf in 300 rows", "from 0 to 1e+30"],
        ),
        ("model_type='linear_reg', input_label_cols=['l']", "SELECT u, v * 1e200 AS l FROM d.groups", ["'l' reaches", "below 1e+140"]),
        ("model_type='boosted_tree_regressor', input_label_cols=['l']", "SELECT u, v * 1e30 AS l FROM d.groups", ["below 1e+19"]),
        (
            "model_type='boosted_tree_regressor', input_label_cols=['l'], instance_weight_col='w'",
            "SELECT u, v * 1e16 AS l, 1e25 AS w FROM d.groups",
            ["the weights of all rows add up to", "divide them to below 1e+19"],
        ),
        (
            "model_type='boosted_tree_regressor', input_label_cols=['v'], category_encoding_method='one_hot_encoding'",
            "SELECT CAST(u + x AS STRING) AS s, v FROM d.groups, UNNEST(GENERATE_ARRAY(1, 10)) AS x",
            ["would make 2401 columns", "LABEL_ENCODING"],
        ),
        (
            "model_type='logistic_reg', input_label_cols=['name'], class_weights=[STRUCT('far', 0), ('near', 0), ('odd', 0)]",
            "SELECT u, name FROM d.groups",
            ["every training row has weight 0"],
        ),
        (
            "model_type='logistic_reg', input_label_cols=['l']",
            "SELECT u, IF(u > 0, 1, CAST('nan' AS FLOAT64)) AS l FROM d.groups",
            ["'l' is NaN"],
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing_behind(data: Workbench, options: str, query: str, words: list[str]) -> None:
    with pytest.raises(SokujiError) as raised:
        data.sql(f"CREATE MODEL d.never OPTIONS({options}) AS {query}")
    assert [word for word in words if word not in str(raised.value)] == []
    assert data.store.versions(Ref("d", "never")) == []
    assert Ref("d", "never") not in data.catalog.reserved("d")


def test_a_model_needs_a_dataset_and_a_name_no_table_has(data: Workbench) -> None:
    with pytest.raises(SokujiError, match="nowhere"):
        data.sql("CREATE MODEL nowhere.m OPTIONS(model_type='kmeans') AS SELECT u, v FROM d.groups")
    with pytest.raises(AlreadyExistsError, match=r"d\.groups is a table"):
        data.sql("CREATE OR REPLACE MODEL d.groups OPTIONS(model_type='kmeans') AS SELECT u, v FROM d.groups")


def test_a_training_can_be_cancelled(data: Workbench) -> None:
    cancelled: list[bool] = []
    data.progress = lambda _ref, _iteration: cancelled.append(data.engine.cancel("training"))
    try:
        with pytest.raises(QueryCancelledError, match="training was cancelled"):
            data.engine.execute(
                """
                CREATE MODEL d.ended OPTIONS(model_type='logistic_reg', input_label_cols=['buys'], early_stop=FALSE) AS
                SELECT visits, buys FROM d.purchases
                """,
                query_id="training",
            )
    finally:
        data.progress = unheard
    assert cancelled == [True]
    assert data.store.versions(Ref("d", "ended")) == []


def test_whoever_trains_does_not_wait_for_the_iteration(data: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_calls, "GRACE_SECONDS", 0.01)
    calls, over = database(data.engine).calls, threading.Event()

    def long_iteration(_ref: Ref, _iteration: Iteration) -> None:
        data.engine.cancel("training")
        over.wait()

    data.progress = long_iteration
    try:
        with pytest.raises(QueryCancelledError, match="training was cancelled"):
            data.engine.execute(
                """
                CREATE MODEL d.ended OPTIONS(model_type='boosted_tree_regressor', input_label_cols=['amount'], early_stop=FALSE) AS
                SELECT visits, amount FROM d.purchases
                """,
                query_id="training",
            )
        assert calls.left == 1
    finally:
        data.progress = unheard
        over.set()
    while calls.under_way:
        time.sleep(0.01)
    assert data.store.versions(Ref("d", "ended")) == []


def test_training_reports_every_iteration_and_can_be_ended_by_what_is_told(data: Workbench) -> None:
    class EndedError(Exception):
        pass

    seen: list[tuple[Ref, int]] = []

    def stop_at_the_third(ref: Ref, iteration: Iteration) -> None:
        seen.append((ref, iteration.iteration))
        if iteration.iteration == 2:
            raise EndedError

    data.progress = stop_at_the_third
    try:
        with pytest.raises(EndedError):
            data.sql(
                """
                CREATE MODEL d.ended OPTIONS(model_type='boosted_tree_regressor', input_label_cols=['amount'], early_stop=FALSE) AS
                SELECT visits, amount FROM d.purchases
                """
            )
    finally:
        data.progress = unheard
    assert seen == [(Ref("d", "ended"), number) for number in range(3)]
    assert data.store.versions(Ref("d", "ended")) == []


RFM = """
CREATE OR REPLACE MODEL `karte.rfm`
OPTIONS(model_type='kmeans', num_clusters=3, kmeans_init_method='KMEANS++') AS
SELECT recency, frequency, monetary
FROM (
  SELECT
    keys.visitor_id AS visitor_id,
    UNIX_SECONDS(MAX(_date)) AS recency,
    COUNT(*) AS frequency,
    SUM(revenue) AS monetary
  FROM `karte.events`
  WHERE event_name = 'buy'
  GROUP BY keys.visitor_id
)
"""


def test_recency_frequency_and_money_make_segments(workbench: Workbench) -> None:
    random = np.random.default_rng(5)
    visitors = [number for number in range(90) for _ in range(1 + 10 * (number % 3 == 0))]
    days = np.array([300 if visitor % 3 == 1 else 1 for visitor in visitors]) + random.integers(0, 5, len(visitors))
    times = np.datetime64("2026-11-23T00:00:00", "us") - days * np.timedelta64(86_400_000_000, "us")
    keys_type = pa.struct({"visitor_id": pa.string(), "user_id": pa.string()})
    events = {
        "event_name": ["buy"] * len(visitors),
        "keys": pa.array([{"visitor_id": f"v{visitor}"} for visitor in visitors], keys_type),
        "_date": pa.array(times, pa.timestamp("us", tz="UTC")),
        "revenue": random.uniform(10, 20, len(visitors)),
    }
    workbench.catalog.create_dataset("karte")
    workbench.table("karte.events", pa.table(events))
    assert "trained on 90 rows" in workbench.sql(RFM).message
    segments = workbench.sql(
        """
        SELECT COUNT(*) AS size, ROUND(AVG(frequency)) AS frequency
        FROM ML.PREDICT(MODEL `karte.rfm`, (
          SELECT keys.visitor_id, UNIX_SECONDS(MAX(_date)) AS recency, COUNT(*) AS frequency, SUM(revenue) AS monetary
          FROM `karte.events` WHERE event_name = 'buy' GROUP BY keys.visitor_id
        ))
        GROUP BY CENTROID_ID ORDER BY frequency, size
        """
    ).rows()
    assert segments == [(30, 1.0), (30, 1.0), (30, 11.0)]
