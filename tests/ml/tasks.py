"""Training tasks for tests of training: options as SQL would give them, types from the Arrow columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sokuji.ml.base import Trained, TrainingTask
from sokuji.ml.options import effective
from sokuji.ml.serving.artefact import save
from sokuji.ml.serving.predictor import Predictor
from sokuji.ml.train import train
from sokuji.types import Field, from_arrow


def task_of(
    model_type: str, rows: pa.Table, *, label: str | None = None, evaluation: pa.Table | None = None, **options: Any
) -> TrainingTask:
    _, effective_options = effective({"model_type": model_type, **options})
    special = {label, options.get("kmeans_init_col"), options.get("instance_weight_col")}
    columns = [Field(column.name, from_arrow(column.type)) for column in rows.schema]
    return TrainingTask(
        model_type=model_type,
        options=effective_options,
        features=tuple(column for column in columns if column.name not in special),
        labels=tuple(column for column in columns if column.name == label),
        training=rows,
        evaluation=evaluation,
    )


def trained_on(model_type: str, rows: pa.Table, **arguments: Any) -> Trained:
    return train(task_of(model_type, rows, **arguments))


def native(trained: Trained, rows: pa.Table) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The estimator's own answer, without a graph."""
    (answer,) = trained.estimator.predict(trained.preprocessing.transform(trained.preprocessing.read(rows))).values()
    return answer


def served(trained: Trained, rows: pa.Table, folder: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The answer after saving and loading, through ONNX Runtime."""
    assert save(trained, folder, rows).serving == "onnx"
    (answer,) = Predictor(folder).predict(rows.combine_chunks().to_batches()[0]).values()
    return answer
