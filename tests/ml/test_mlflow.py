"""The folder of a registered model is an MLflow model: MLflow, in a separate process, predicts the same as ML.PREDICT."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sokuji.meta.objects import Ref
from tests.ml.conftest import Workbench

MLFLOW = Path(__file__).parents[2] / ".venv" / "ml" / "mlflow"
LOAD = """
import json, sys
import mlflow, pandas
frame = pandas.DataFrame(json.load(sys.stdin))
answer = mlflow.pyfunc.load_model(sys.argv[1]).predict(frame)
graph = mlflow.onnx.load_model(sys.argv[1])
answer = {name: values.tolist() for name, values in answer.items()}
print(json.dumps({"answer": answer, "inputs": [item.name for item in graph.graph.input]}))
"""

PROBABILITIES = "ARRAY(SELECT prob FROM UNNEST(predicted_label_probs) ORDER BY label)"
# By model type: the label, the name of the graph's output, and the same from a row of ML.PREDICT.
MODELS = {
    "kmeans": (None, "distances", "ARRAY(SELECT DISTANCE FROM UNNEST(NEAREST_CENTROIDS_DISTANCE) ORDER BY CENTROID_ID)"),
    "logistic_reg": ("IFNULL(kind, '')", "probabilities", PROBABILITIES),
    "boosted_tree_classifier": ("visits > 5", "probabilities", PROBABILITIES),
    "linear_reg": ("visits * 2.5", "prediction", "predicted_label"),
}
FEATURES = "IF(visits = 4, NULL, visits) AS visits, kind, seen, member, STRUCT(visits * 1.5 AS spent) AS inside"


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.skipif(not (MLFLOW / ".done").exists(), reason="mlflow is not here; run tests/ml/install")
@pytest.mark.parametrize("model_type", MODELS)
def test_mlflow_predicts_what_ml_predict_does(model_type: str, workbench: Workbench) -> None:
    label, output, answer = MODELS[model_type]
    workbench.sql(
        """
        CREATE OR REPLACE TABLE d.sessions AS
        SELECT x, MOD(x * 7, 11) AS visits, ['web', '', 'app', NULL][MOD(x, 4)] AS kind, MOD(x, 3) = 0 AS member,
               TIMESTAMP_ADD(TIMESTAMP '2024-02-27', INTERVAL x * 5 HOUR) AS seen
        FROM UNNEST(GENERATE_ARRAY(1, 80)) AS x
        """
    )
    training = f"SELECT {FEATURES}{f', {label} AS label' if label else ''} FROM d.sessions"
    workbench.sql(f"CREATE OR REPLACE MODEL d.mlflow OPTIONS(model_type='{model_type}') AS {training}")
    call = f"ML.PREDICT(MODEL d.mlflow, (SELECT x, {FEATURES} FROM d.sessions))"
    said = workbench.sql(f"SELECT {answer} FROM {call} ORDER BY x").rows()
    version = workbench.store.get(Ref("d", "mlflow"))

    found = in_mlflow(version.folder, frame(workbench))

    np.testing.assert_allclose(found["answer"][output], [row[0] for row in said], rtol=1e-5, atol=1e-7)
    assert found["inputs"] == ["visits", "kind", "seen", "member", "inside_spent"]


def frame(workbench: Workbench) -> dict[str, list[Any]]:
    """The rows as MLflow's callers have them: BOOL as 0 and 1, TIMESTAMP as seconds, STRUCTs flattened."""
    result = workbench.sql(
        f"""
        SELECT visits, kind, UNIX_MICROS(seen) / 1e6 AS seen, CAST(member AS INT64) AS member, inside.spent AS inside_spent
        FROM (SELECT x, {FEATURES} FROM d.sessions) ORDER BY x
        """
    )
    columns = zip(*result.rows(), strict=True)
    return {field.name: list(values) for field, values in zip(result.schema, columns, strict=True)}


def in_mlflow(folder: Path, columns: dict[str, list[Any]]) -> dict[str, Any]:
    """Load `folder` and predict, without this process's packages first."""
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD, str(folder)],
        input=json.dumps(columns),
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(MLFLOW), "PATH": "/usr/bin:/bin"},
    )
    assert finished.returncode == 0, finished.stderr
    found: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return found
