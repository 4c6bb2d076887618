"""The `MLmodel` file, MLflow's description of a model folder (https://mlflow.org/docs/latest/ml/model/).

`mlflow.pyfunc.load_model(folder)` predicts through `pyfunc.py`; `mlflow.onnx.load_model(folder)` gives the graph, without sokuji.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from sokuji.ml.columns.inputs import InputKind
from sokuji.ml.columns.preprocessing import Preprocessing
from sokuji.ml.values import Floats


def write(folder: Path, preprocessing: Preprocessing, outputs: Mapping[str, Floats]) -> None:
    """Describe the model in `folder`. `outputs` are any predictions of it. JSON is valid YAML, so this needs no YAML writer."""
    columns = [
        {"name": item.name, "type": "string" if item.kind is InputKind.STRING else "double", "required": True}
        for item in preprocessing.inputs
    ]
    tensors = [
        {"name": name, "type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, *values.shape[1:]]}}
        for name, values in outputs.items()
    ]
    document = {
        "flavors": {
            "onnx": {
                "data": "model.onnx",
                "onnx_version": importlib.metadata.version("onnx"),
                "providers": ["CPUExecutionProvider"],
                "code": None,
            },
            "python_function": {
                "loader_module": "sokuji.ml.pyfunc",
                "python_version": platform.python_version(),
                "env": {"virtualenv": "python_env.yaml"},
            },
        },
        "signature": {"inputs": json.dumps(columns), "outputs": json.dumps(tensors), "params": None},
        "utc_time_created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
    }
    (folder / "MLmodel").write_text(json.dumps(document, indent=2))
    (folder / "requirements.txt").write_text(f"sokuji[ml]=={importlib.metadata.version('sokuji')}\n")
    environment = {"python": platform.python_version(), "dependencies": ["-r requirements.txt"]}
    (folder / "python_env.yaml").write_text(json.dumps(environment, indent=2))
