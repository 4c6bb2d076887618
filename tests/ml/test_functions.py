"""The documented columns of the ML.* functions, for every model type, and their errors for wrong calls."""

from __future__ import annotations

import pytest

from sokuji.errors import NotFoundError, SqlError, UnsupportedSqlError
from tests.ml.conftest import Workbench

CLASSIFICATION = "precision FLOAT64, recall FLOAT64, accuracy FLOAT64, f1_score FLOAT64, log_loss FLOAT64, roc_auc FLOAT64"
REGRESSION = (
    "mean_absolute_error FLOAT64, mean_squared_error FLOAT64, mean_squared_log_error FLOAT64, "
    "median_absolute_error FLOAT64, r2_score FLOAT64, explained_variance FLOAT64"
)
TRAINING = "training_run INT64, iteration INT64, loss FLOAT64, eval_loss FLOAT64, learning_rate FLOAT64, duration_ms INT64"
FEATURES = (
    "input STRING, min FLOAT64, max FLOAT64, mean FLOAT64, median FLOAT64, stddev FLOAT64, "
    "category_count INT64, null_count INT64, dimension INT64"
)
WEIGHTS = "processed_input STRING, weight FLOAT64, category_weights ARRAY<STRUCT<category STRING, weight FLOAT64>>"
IMPORTANCE = "feature STRING, importance_weight FLOAT64, importance_gain FLOAT64, importance_cover FLOAT64"
ROC = (
    "threshold FLOAT64, recall FLOAT64, false_positive_rate FLOAT64, true_positives INT64, false_positives INT64, "
    "true_negatives INT64, false_negatives INT64"
)
INPUT = "x INT64, color STRING, buys BOOL, kind STRING, amount FLOAT64"

DOCUMENTED = {
    "SELECT * FROM ML.PREDICT(MODEL d.clusters, TABLE d.shop)": (
        f"CENTROID_ID INT64, NEAREST_CENTROIDS_DISTANCE ARRAY<STRUCT<CENTROID_ID INT64, DISTANCE FLOAT64>>, {INPUT}"
    ),
    "SELECT * FROM ML.PREDICT(MODEL d.binary, TABLE d.shop)": (
        f"predicted_buys BOOL, predicted_buys_probs ARRAY<STRUCT<label BOOL, prob FLOAT64>>, {INPUT}"
    ),
    "SELECT * FROM ML.PREDICT(MODEL d.multi, TABLE d.shop)": (
        f"predicted_kind STRING, predicted_kind_probs ARRAY<STRUCT<label STRING, prob FLOAT64>>, {INPUT}"
    ),
    "SELECT * FROM ML.PREDICT(MODEL d.trees, TABLE d.shop)": (
        f"predicted_buys BOOL, predicted_buys_probs ARRAY<STRUCT<label BOOL, prob FLOAT64>>, {INPUT}"
    ),
    "SELECT * FROM ML.PREDICT(MODEL d.line, TABLE d.shop)": f"predicted_amount FLOAT64, {INPUT}",
    "SELECT * FROM ML.PREDICT(MODEL d.forest, TABLE d.shop)": f"predicted_amount FLOAT64, {INPUT}",
    "SELECT * FROM ML.EVALUATE(MODEL d.clusters)": "davies_bouldin_index FLOAT64, mean_squared_distance FLOAT64",
    "SELECT * FROM ML.EVALUATE(MODEL d.binary)": CLASSIFICATION,
    "SELECT * FROM ML.EVALUATE(MODEL d.multi, TABLE d.shop)": CLASSIFICATION,
    "SELECT * FROM ML.EVALUATE(MODEL d.trees, (SELECT * FROM d.shop), STRUCT(0.3 AS threshold))": CLASSIFICATION,
    "SELECT * FROM ML.EVALUATE(MODEL d.line)": REGRESSION,
    "SELECT * FROM ML.EVALUATE(MODEL d.forest, TABLE d.shop)": REGRESSION,
    "SELECT * FROM ML.CONFUSION_MATRIX(MODEL d.binary)": "expected_label BOOL, false INT64, true INT64",
    "SELECT * FROM ML.CONFUSION_MATRIX(MODEL d.multi, TABLE d.shop)": "expected_label STRING, _1st INT64, a INT64, b_c INT64",
    "SELECT * FROM ML.ROC_CURVE(MODEL d.binary)": ROC,
    "SELECT * FROM ML.ROC_CURVE(MODEL d.trees, TABLE d.shop, GENERATE_ARRAY(0.4, 0.6, 0.1))": ROC,
    "SELECT * FROM ML.CENTROIDS(MODEL d.clusters)": (
        "centroid_id INT64, feature STRING, numerical_value FLOAT64, "
        "categorical_value ARRAY<STRUCT<category STRING, value FLOAT64>>, geography_value STRING"
    ),
    "SELECT * FROM ML.WEIGHTS(MODEL d.line)": WEIGHTS,
    "SELECT * FROM ML.WEIGHTS(MODEL d.binary, STRUCT(TRUE AS standardize))": WEIGHTS,
    "SELECT * FROM ML.WEIGHTS(MODEL d.multi)": f"{WEIGHTS}, class_label STRING",
    "SELECT * FROM ML.FEATURE_INFO(MODEL d.clusters)": FEATURES,
    "SELECT * FROM ML.FEATURE_INFO(MODEL d.forest)": FEATURES,
    "SELECT * FROM ML.DETECT_ANOMALIES(MODEL d.clusters, STRUCT(0.1 AS contamination), TABLE d.shop)": (
        f"is_anomaly BOOL, normalized_distance FLOAT64, CENTROID_ID INT64, {INPUT}"
    ),
    "SELECT * FROM ML.FEATURE_IMPORTANCE(MODEL d.forest)": IMPORTANCE,
    "SELECT * FROM ML.FEATURE_IMPORTANCE(MODEL d.trees)": IMPORTANCE,
    "SELECT * FROM ML.TRAINING_INFO(MODEL d.line)": TRAINING,
    "SELECT * FROM ML.TRAINING_INFO(MODEL d.trees)": TRAINING,
    "SELECT * FROM ML.TRAINING_INFO(MODEL d.clusters)": (
        "training_run INT64, iteration INT64, loss FLOAT64, learning_rate FLOAT64, duration_ms INT64, "
        "cluster_info ARRAY<STRUCT<centroid_id INT64, cluster_radius FLOAT64, cluster_size INT64>>"
    ),
}

MODELS = {
    "clusters": ("kmeans, num_clusters=3", "x, color"),
    "binary": ("logistic_reg, input_label_cols=['buys']", "x, color, buys"),
    "multi": ("logistic_reg, input_label_cols=['kind']", "x, color, kind"),
    "line": ("linear_reg, input_label_cols=['amount']", "x, color, amount"),
    "trees": ("boosted_tree_classifier, input_label_cols=['buys'], max_iterations=3", "x, color, buys"),
    "forest": ("boosted_tree_regressor, input_label_cols=['amount'], max_iterations=3", "x, color, amount"),
}


@pytest.fixture(scope="module")
def shop(workbench: Workbench) -> Workbench:
    """One table, and a model of every type over it."""
    workbench.sql(
        """
        CREATE TABLE d.shop AS
        SELECT
          x,
          ['red', 'green', 'blue'][MOD(x, 3)] AS color,
          MOD(x * 7, 20) > 8 AS buys, ['a', 'b c', '1st'][DIV(x, 40)] AS kind, x * 2.5 AS amount
        FROM UNNEST(GENERATE_ARRAY(0, 119)) AS x
        """
    )
    for name, (options, columns) in MODELS.items():
        model_type, _, rest = options.partition(",")
        workbench.sql(f"CREATE MODEL d.{name} OPTIONS(model_type='{model_type}'{rest and ','}{rest}) AS SELECT {columns} FROM d.shop")
    return workbench


@pytest.mark.parametrize("query", DOCUMENTED)
def test_columns_are_those_documented(shop: Workbench, query: str) -> None:
    result = shop.sql(query)
    assert ", ".join(f"{field.name} {field.type}" for field in result.schema) == DOCUMENTED[query]
    assert result.rows()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("ML.PREDICT(MODEL d.line, (SELECT x FROM d.shop))", ["needs the columns color STRING", "the input has: x"]),
        ("ML.PREDICT(MODEL d.line, (SELECT 'a' AS x, 'red' AS color))", ["column x is STRING", "trained on INT64", "CAST(x AS INT64)"]),
        ("ML.PREDICT(MODEL d.line, (SELECT 1 AS x, 2 AS X, 'red' AS color))", ["2 columns called x"]),
        ("ML.PREDICT(MODEL d.line)", ["ML.PREDICT needs rows"]),
        ("ML.PREDICT(MODEL d.line, TABLE d.shop, STRUCT(0.5 AS treshold))", ["'treshold'", "did you mean threshold?"]),
        ("ML.PREDICT(MODEL d.line, TABLE d.shop, STRUCT(0.5 AS threshold))", ["threshold is for models of two classes", "no classifier"]),
        ("ML.PREDICT(MODEL d.binary, TABLE d.shop, STRUCT(2 AS threshold))", ["threshold is 2", "from 0 to 1"]),
        ("ML.PREDICT(MODEL d.multi, TABLE d.shop, STRUCT(0.5 AS threshold))", ["two classes", "has 3"]),
        ("ML.PREDICT(MODEL d.line, TABLE d.shop, STRUCT(TRUE AS version))", ["version is True", "'previous'"]),
        ("ML.PREDICT(MODEL d.line, TABLE d.shop, STRUCT(1.0 AS version))", ["version is 1.0", "a number such as 2"]),
        ("ML.EVALUATE(MODEL d.line, (SELECT x, color FROM d.shop))", ["needs the columns amount FLOAT64"]),
        ("ML.EVALUATE(MODEL d.multi, (SELECT 1 AS x, 'red' AS color, 'z' AS kind))", ["1 rows", "not trained on ('z')", "'1st'"]),
        ("ML.CENTROIDS(MODEL d.line)", ["ML.CENTROIDS is for KMEANS", "d.line is LINEAR_REG"]),
        ("ML.CENTROIDS(MODEL d.clusters, STRUCT(1 AS standardize))", ["standardize is 1", "TRUE or FALSE"]),
        ("ML.WEIGHTS(MODEL d.line, TABLE d.shop)", ["takes a model and no table"]),
        ("ML.WEIGHTS(MODEL d.clusters)", ["LINEAR_REG, LOGISTIC_REG"]),
        ("ML.ROC_CURVE(MODEL d.multi)", ["two classes"]),
        ("ML.ROC_CURVE(MODEL d.binary, TABLE d.shop, 0.5)", ["array of numbers"]),
        ("ML.CONFUSION_MATRIX(MODEL d.clusters)", ["LOGISTIC_REG"]),
        ("ML.DETECT_ANOMALIES(MODEL d.clusters, STRUCT(0.6 AS contamination), TABLE d.shop)", ["contamination is 0.6", "from 0 to 0.5"]),
        ("ML.DETECT_ANOMALIES(MODEL d.clusters, TABLE d.shop)", ["contamination is None", "STRUCT(0.02 AS contamination)"]),
        ("ML.DETECT_ANOMALIES(MODEL d.line, STRUCT(0.1 AS contamination), TABLE d.shop)", ["is for KMEANS"]),
        ("ML.FEATURE_INFO(MODEL d.nothing)", ["d.nothing"]),
        ("ML.FEATURE_INF(MODEL d.line)", ["ML.FEATURE_INFO"]),
    ],
)
def test_a_wrong_call_is_refused_with_what_would_be_right(shop: Workbench, call: str, words: list[str]) -> None:
    with pytest.raises(SqlError) as raised:
        shop.sql(f"SELECT * FROM {call}").rows()
    assert [word for word in words if word not in str(raised.value)] == []


def test_input_columns_match_in_any_case_and_any_number_type(shop: Workbench) -> None:
    plain = shop.sql("SELECT predicted_amount FROM ML.PREDICT(MODEL d.line, (SELECT 7 AS x, 'red' AS color))").rows()
    other = shop.sql("SELECT predicted_amount FROM ML.PREDICT(MODEL d.line, (SELECT 'red' AS COLOR, 0 AS z, NUMERIC '7' AS X))").rows()
    assert plain == other


def test_a_prediction_keeps_every_input_column_and_row(shop: Workbench) -> None:
    rows = shop.sql("SELECT x, color, predicted_amount FROM ML.PREDICT(MODEL d.line, TABLE d.shop) ORDER BY x").rows()
    assert [row[0] for row in rows] == list(range(120))
    assert rows[5][1] == "blue"


def test_a_prediction_of_no_rows_has_no_rows(shop: Workbench) -> None:
    for model in MODELS:
        assert shop.sql(f"SELECT * FROM ML.PREDICT(MODEL d.{model}, (SELECT * FROM d.shop WHERE FALSE))").rows() == []


def test_nearest_centroids_come_nearest_first_and_the_first_is_the_assigned_one(shop: Workbench) -> None:
    rows = shop.sql("SELECT CENTROID_ID, NEAREST_CENTROIDS_DISTANCE FROM ML.PREDICT(MODEL d.clusters, TABLE d.shop)").rows()
    for assigned, nearest in rows:
        distances = [item["DISTANCE"] for item in nearest]
        assert nearest[0]["CENTROID_ID"] == assigned
        assert distances == sorted(distances)
        assert {item["CENTROID_ID"] for item in nearest} == {1, 2, 3}


def test_probabilities_start_with_the_greatest_label_and_add_up_to_one(shop: Workbench) -> None:
    ((predicted, probabilities),) = shop.sql(
        "SELECT predicted_kind, predicted_kind_probs FROM ML.PREDICT(MODEL d.multi, (SELECT 5 AS x, 'red' AS color))"
    ).rows()
    assert [item["label"] for item in probabilities] == ["b c", "a", "1st"]
    assert sum(item["prob"] for item in probabilities) == pytest.approx(1)
    assert predicted == max(probabilities, key=lambda item: item["prob"])["label"]
    binary = "SELECT predicted_buys_probs[OFFSET(0)].label AS label FROM ML.PREDICT(MODEL d.binary, TABLE d.shop) LIMIT 1"
    assert shop.sql(binary).rows() == [(True,)]


def test_the_threshold_decides_the_predicted_label(shop: Workbench) -> None:
    for cut, expected in ((0, {True}), (1, {False}), ("NUMERIC '1'", {False})):
        query = f"SELECT DISTINCT predicted_buys FROM ML.PREDICT(MODEL d.binary, TABLE d.shop, STRUCT({cut} AS threshold))"
        assert {row[0] for row in shop.sql(query).rows()} == expected


@pytest.mark.parametrize("model", MODELS)
def test_evaluation_without_data_is_that_of_the_training_rows_when_there_was_no_split(shop: Workbench, model: str) -> None:
    ((*kept,),) = shop.sql(f"SELECT * FROM ML.EVALUATE(MODEL d.{model})").rows()
    ((*again,),) = shop.sql(f"SELECT * FROM ML.EVALUATE(MODEL d.{model}, TABLE d.shop)").rows()
    assert kept == pytest.approx(again)


def test_the_confusion_matrix_counts_what_predict_says(shop: Workbench) -> None:
    for settings in ("", ", STRUCT(0.3 AS threshold)"):
        matrix = shop.sql(f"SELECT * FROM ML.CONFUSION_MATRIX(MODEL d.trees, TABLE d.shop{settings})").rows()
        counted = shop.sql(
            f"""
            SELECT buys, COUNTIF(NOT predicted_buys), COUNTIF(predicted_buys)
            FROM ML.PREDICT(MODEL d.trees, TABLE d.shop{settings}) GROUP BY buys ORDER BY buys
            """
        ).rows()
        assert matrix == counted


def test_the_roc_curve_agrees_with_the_confusion_matrix(shop: Workbench) -> None:
    rows = shop.sql("SELECT * FROM ML.ROC_CURVE(MODEL d.trees, TABLE d.shop, [0.3, 0.6])").rows()
    assert [row[0] for row in rows] == [0.6, 0.3]
    for cut, recall, alarms, *counts in rows:
        matrix = shop.sql(f"SELECT * FROM ML.CONFUSION_MATRIX(MODEL d.trees, TABLE d.shop, STRUCT({cut} AS threshold))").rows()
        (_, negative_right, negative_wrong), (_, positive_wrong, positive_right) = matrix
        assert counts == [positive_right, negative_wrong, negative_right, positive_wrong]
        assert recall == pytest.approx(positive_right / (positive_right + positive_wrong))
        assert alarms == pytest.approx(negative_wrong / (negative_right + negative_wrong))


def test_anomalies_are_the_training_rows_farthest_out_for_the_size_of_their_cluster(shop: Workbench) -> None:
    call = "ML.DETECT_ANOMALIES(MODEL d.clusters, STRUCT({} AS contamination), TABLE d.shop)"
    for contamination, expected in ((0, 0), (0.1, 12), (0.5, 60)):
        ((count,),) = shop.sql(f"SELECT COUNTIF(is_anomaly) FROM {call.format(contamination)}").rows()
        assert expected - 6 <= count <= expected  # rows at the very same distance are on one side
    found = shop.sql(
        f"""
        WITH said AS (
          SELECT x, CENTROID_ID AS id, NEAREST_CENTROIDS_DISTANCE[OFFSET(0)].DISTANCE AS d
          FROM ML.PREDICT(MODEL d.clusters, TABLE d.shop)
        ),
        radius AS (SELECT id, SQRT(AVG(d * d)) AS r FROM said GROUP BY id)
        SELECT MAX(ABS(a.normalized_distance - said.d / radius.r))
        FROM {call.format(0.1)} AS a JOIN said USING (x) JOIN radius USING (id)
        """
    ).rows()
    assert found[0][0] == pytest.approx(0, abs=1e-9)


def test_feature_info_describes_the_training_rows(shop: Workbench) -> None:
    rows = {row[0]: row[1:] for row in shop.sql("SELECT * FROM ML.FEATURE_INFO(MODEL d.line)").rows()}
    assert set(rows) == {"x", "color"}
    assert rows["x"][:3] == (0.0, 119.0, 59.5)
    assert rows["x"][4] == pytest.approx(34.785054)
    assert rows["color"][5:7] == (3, 0)


def test_labels_may_be_any_number_that_equals_one_the_model_knows(shop: Workbench) -> None:
    shop.sql(
        """
        CREATE OR REPLACE MODEL d.whole OPTIONS(model_type='logistic_reg', input_label_cols=['half']) AS
        SELECT x, DIV(x, 60) AS half FROM d.shop
        """
    )
    found = [
        shop.sql(f"SELECT * FROM ML.EVALUATE(MODEL d.whole, (SELECT x, {half} AS half FROM d.shop))").rows()
        for half in ("DIV(x, 60)", "CAST(DIV(x, 60) AS FLOAT64)", "CAST(DIV(x, 60) AS NUMERIC)")
    ]
    assert found[0] == found[1] == found[2]
    with pytest.raises(SqlError, match="not trained on"):
        shop.sql("SELECT * FROM ML.EVALUATE(MODEL d.whole, (SELECT x, 0.5 AS half FROM d.shop))")


def test_training_info_has_an_iteration_a_row(shop: Workbench) -> None:
    rows = shop.sql("SELECT iteration, loss, eval_loss FROM ML.TRAINING_INFO(MODEL d.trees) ORDER BY iteration").rows()
    assert [row[0] for row in rows] == [0, 1, 2]
    assert rows[0][1] > rows[2][1]
    assert {row[2] for row in rows} == {None}
    clusters = shop.sql(
        "SELECT iteration, SUM(c.cluster_size) FROM ML.TRAINING_INFO(MODEL d.clusters), UNNEST(cluster_info) AS c GROUP BY iteration"
    ).rows()
    assert {size for _, size in clusters} == {120}


def test_another_version_of_a_model_can_be_asked_for(shop: Workbench) -> None:
    shop.sql("CREATE MODEL d.versions OPTIONS(model_type='linear_reg', input_label_cols=['y']) AS SELECT x, x * 2.0 AS y FROM d.shop")
    shop.sql(
        "CREATE OR REPLACE MODEL d.versions OPTIONS(model_type='linear_reg', input_label_cols=['y']) AS SELECT x, x * 3.0 AS y FROM d.shop"
    )
    query = "SELECT predicted_y FROM ML.PREDICT(MODEL d.versions, (SELECT 10 AS x){settings})"
    found = {
        settings: shop.sql(query.format(settings=settings)).rows()[0][0]
        for settings in ("", ", STRUCT(1 AS version)", ", STRUCT('previous' AS version)", ", STRUCT(2 AS version)")
    }
    assert list(found.values()) == pytest.approx([30, 20, 20, 30])
    with pytest.raises(NotFoundError):
        shop.sql(query.format(settings=", STRUCT(9 AS version)"))


@pytest.mark.parametrize(
    ("transform", "options"),
    [
        ("TRANSFORM(ML.STANDARD_SCALER(x) OVER () AS x, amount)", ""),
        ("TRANSFORM(ML.BUCKETIZE(x, [10, 20]) AS x, amount)", ""),
        ("", ", l2_reg=HPARAM_RANGE(0, 1)"),
    ],
)
def test_functions_of_preprocessing_and_tuning_say_that_they_are_not_supported_yet(shop: Workbench, transform: str, options: str) -> None:
    with pytest.raises(UnsupportedSqlError, match=r"(ML\.\w+|HPARAM_RANGE) is not supported yet.* \[at 1:\d+\]"):
        shop.sql(
            f"CREATE MODEL d.later {transform} OPTIONS(model_type='linear_reg', input_label_cols=['amount']{options}) "
            "AS SELECT x, amount FROM d.shop"
        )


def test_what_is_not_supported_yet_says_so(shop: Workbench) -> None:
    with pytest.raises(UnsupportedSqlError, match="TRANSFORM"):
        shop.sql(
            "CREATE MODEL d.later TRANSFORM(x + 1 AS x, amount) OPTIONS(model_type='linear_reg', input_label_cols=['amount']) "
            "AS SELECT x, amount FROM d.shop"
        )
