"""Predict with a saved model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from sokuji.ml.serving.artefact import GRAPH_FILE, check_golden, load, readable
from sokuji.ml.serving.runtime import GraphSession
from sokuji.ml.values import Floats


class Predictor:
    """Computes a model's raw outputs, by ONNX Runtime unless the model is served natively. Threads may share a predictor."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        """Load what `artefact.save` wrote, and check the golden rows. A batch is computed by `threads` threads.

        Raises:
            ModelError: the folder cannot be read, or the predictions differ from those at training time.
        """
        self.trained, self.serving = load(folder)
        self._session: GraphSession | None = None
        if self.serving.serving == "onnx":
            with readable(folder):
                self._session = GraphSession((folder / GRAPH_FILE).read_bytes(), threads)
        check_golden(folder, self.predict_columns)

    def predict(self, batch: pa.RecordBatch) -> dict[str, Floats]:
        """`distances`, `probabilities` or `prediction` (see base.py) for rows that have the model's feature columns.

        Raises:
            ModelError: a feature column is missing.
        """
        return self.predict_columns(self.trained.preprocessing.read(batch))

    def predict_columns(self, columns: Mapping[str, Any]) -> dict[str, Floats]:
        """Like `predict`, for raw columns by input name, represented as inputs.py says."""
        if self._session is not None:
            return self._session.run(columns)
        return self.trained.estimator.predict(self.trained.preprocessing.transform(columns))
