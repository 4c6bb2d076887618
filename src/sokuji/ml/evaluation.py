"""Predictions for rows with known labels, and the metrics computed from them. A classifier stores them for ML.EVALUATE without data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.errors import ModelError, SqlError
from sokuji.ml.base import DISTANCES, PREDICTION, PROBABILITIES
from sokuji.ml.columns.inputs import read_labels
from sokuji.ml.estimators.kmeans import KMeans
from sokuji.ml.options import CLASSIFIERS, KMEANS
from sokuji.ml.scores import CLASSIFICATION, CLUSTERING, REGRESSION, Scores, classification, clustering, regression
from sokuji.ml.serving.artefact import readable
from sokuji.ml.serving.predictor import Predictor
from sokuji.ml.values import Floats
from sokuji.models.folder import check
from sokuji.types import Field, to_arrow

FILE_NAME = "evaluation.arrow"

_METRICS = {KMEANS: CLUSTERING} | dict.fromkeys(CLASSIFIERS, CLASSIFICATION)


def metric_names(model_type: str) -> tuple[str, ...]:
    """The columns of ML.EVALUATE for a model of this type."""
    return _METRICS.get(model_type, REGRESSION)


@dataclass(frozen=True, slots=True)
class LabelledPredictions:
    """Rows with their labels. For a classifier: class codes (positions in the model's classes) and probabilities [N, K]."""

    actual: npt.NDArray[Any]
    predicted: Floats

    def save(self, folder: Path) -> None:
        """Write the rows into a model's folder."""
        columns = {str(number): column for number, column in enumerate(self.predicted.T)}
        table = pa.table({"actual": self.actual, **columns})
        with pa.OSFile(str(folder / FILE_NAME), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)

    @classmethod
    def load(cls, folder: Path) -> LabelledPredictions:
        """Read what `save` wrote.

        Raises:
            ModelError: the file is missing or damaged.
        """
        check(folder, FILE_NAME)
        with readable(folder), pa.OSFile(str(folder / FILE_NAME)) as file:
            table = pa.ipc.open_file(file).read_all()
        return cls(table["actual"].to_numpy(), np.column_stack([column.to_numpy() for column in table.columns[1:]]))


def outcome(predictor: Predictor, label: Field, rows: Iterable[tuple[pa.RecordBatch, pa.Array]]) -> LabelledPredictions:
    """Predict batches of features with their labels. Rows without a label are left out.

    Raises:
        SqlError: the model was not trained on a label's value.
    """
    actual: list[npt.NDArray[Any]] = []
    predicted: list[Floats] = []
    for features, labels in rows:
        known = pc.is_valid(labels)
        said = predictor.predict(features.filter(known))
        predicted.append(said[PROBABILITIES] if predictor.trained.classes else said[PREDICTION])
        actual.append(_label_values(labels.filter(known), label, predictor.trained.classes))
    if not actual:
        shape = (0, len(predictor.trained.classes)) if predictor.trained.classes else (0,)
        return LabelledPredictions(np.empty(0, dtype=np.int64), np.empty(shape))
    return LabelledPredictions(np.concatenate(actual), np.concatenate(predicted))


def _label_values(labels: pa.Array, label: Field, classes: tuple[Any, ...]) -> npt.NDArray[Any]:
    if not classes:
        return np.asarray(labels.cast(pa.float64(), safe=False))
    known = pa.array(classes, type=to_arrow(label.type))
    if labels.type != known.type:  # the labels are another number type than the model's INT64 labels
        labels, known = labels.cast(pa.float64(), safe=False), known.cast(pa.float64(), safe=False)
    codes = pc.index_in(read_labels(labels), value_set=known)
    if codes.null_count:
        unknown = pc.unique(labels.filter(pc.is_null(codes))).to_pylist()
        listed = ", ".join(repr(value) for value in unknown[:5])
        raise SqlError(
            f"{codes.null_count} rows have a {label.name} the model was not trained on ({listed}); "
            f"it knows {', '.join(repr(value) for value in classes)}: leave the others out with WHERE"
        )
    return np.asarray(codes.to_numpy(), dtype=np.int64)


def scores(model_type: str, found: LabelledPredictions, *, threshold: float = 0.5) -> Scores:
    """The row of ML.EVALUATE for a supervised model."""
    if model_type in CLASSIFIERS:
        return classification(found.actual, found.predicted, threshold=threshold)
    return regression(found.actual, found.predicted)


def cluster_scores(predictor: Predictor, rows: Iterable[pa.RecordBatch] | None = None) -> Scores:
    """The row of ML.EVALUATE for k-means, for these rows or for the training rows.

    Raises:
        ModelError: the model has no clusters.
    """
    estimator = predictor.trained.estimator
    if not isinstance(estimator, KMeans):
        raise ModelError(f"{predictor.trained.model_type} models have no clusters")
    between = estimator.between_centroids()
    if rows is None:
        sizes = np.array(estimator.sizes, dtype=np.int64)
        return clustering(np.array(estimator.radii) ** 2 * sizes, sizes, between)
    squared, sizes = np.zeros(len(between)), np.zeros(len(between), dtype=np.int64)
    for batch in rows:
        distances = predictor.predict(batch)[DISTANCES]
        nearest = distances.argmin(axis=1)
        squared += np.bincount(nearest, weights=distances.min(axis=1) ** 2, minlength=len(between))
        sizes += np.bincount(nearest, minlength=len(between))
    return clustering(squared, sizes, between)
