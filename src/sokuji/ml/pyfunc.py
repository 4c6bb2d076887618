"""The entry point of `mlflow.pyfunc.load_model` for a model folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sokuji.ml.columns.inputs import InputKind
from sokuji.ml.serving.predictor import Predictor
from sokuji.ml.values import NULL_CATEGORY, Floats


class FrameModel:
    """Predicts data frames. Their columns are the graph's inputs: numbers, BOOL as 0 and 1, TIMESTAMP as seconds since 1970, strings.

    Missing values are NULL.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, frame: Any, params: Mapping[str, Any] | None = None) -> dict[str, Floats]:  # noqa: ARG002 MLflow passes it
        """Call `Predictor.predict_columns` with a data frame's columns."""
        inputs = self._predictor.trained.preprocessing.inputs
        return self._predictor.predict_columns({item.name: _column(frame[item.name], item.kind) for item in inputs})


def _column(series: Any, kind: InputKind) -> Any:
    if kind is InputKind.STRING:
        return pa.array([NULL_CATEGORY if missing else value for value, missing in zip(series, series.isna(), strict=True)], pa.string())
    return series.to_numpy(dtype=np.float64, na_value=np.nan)


def _load_pyfunc(folder: str) -> FrameModel:
    return FrameModel(Predictor(Path(folder)))
