"""ML.EVALUATE, ML.CONFUSION_MATRIX, ML.ROC_CURVE: the quality of a model, on given rows or on rows stored at its training."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from sokuji.errors import SqlError
from sokuji.ml.evaluation import LabelledPredictions, cluster_scores, metric_names, outcome, scores
from sokuji.ml.functions.base import ModelFunction, ModelRows, restored, table_batch
from sokuji.ml.functions.predict import threshold
from sokuji.ml.options import CLASSIFIERS, KMEANS
from sokuji.ml.scores import Floats, confusion_matrix, predicted_classes, roc_curve
from sokuji.models.versions import ModelVersion
from sokuji.sql.extension import TableCall
from sokuji.types import FLOAT64, INT64, Field


class _Evaluation(ModelFunction):
    """A function of the given rows, which must have the label column, or else of the rows the model was evaluated on at its training."""

    takes_rows = True

    def needed(self, version: ModelVersion) -> tuple[Field, ...]:
        return *version.signature.inputs, *version.signature.labels

    def check_rows(self, version: ModelVersion, call: TableCall) -> None:
        if call.input is not None:
            ModelRows(self.name, version, call.input, self.needed(version))

    def selected(self, version: ModelVersion, call: TableCall, rows: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        given = call.input or ()
        view = ModelRows(self.name, version, given, self.needed(version))
        return (view.select(batch) for batch in restored(rows, given))

    def outcome(self, version: ModelVersion, call: TableCall, rows: pa.RecordBatchReader | None) -> LabelledPredictions:
        if rows is None:
            return LabelledPredictions.load(self.folder(version))
        (label,) = version.signature.labels
        batches = self.selected(version, call, rows)
        return outcome(self.model(version), label, ((batch.drop_columns([label.name]), batch[label.name]) for batch in batches))


class Evaluate(_Evaluation):
    """ML.EVALUATE(MODEL m [, {TABLE t | (query)}] [, STRUCT(threshold)])."""

    name = "ML.EVALUATE"
    settings: ClassVar[tuple[str, ...]] = ("threshold",)

    def columns(self, version: ModelVersion, call: TableCall) -> tuple[Field, ...]:
        self.check_rows(version, call)
        return tuple(Field(metric, FLOAT64) for metric in metric_names(version.signature.model_type))

    def batches(self, version: ModelVersion, call: TableCall, rows: pa.RecordBatchReader | None) -> Iterable[pa.RecordBatch]:
        columns = self.columns(version, call)
        found = self._scores(version, call, rows)
        yield table_batch(columns, [[found.get(column.name)] for column in columns])

    def _scores(self, version: ModelVersion, call: TableCall, rows: pa.RecordBatchReader | None) -> dict[str, Any]:
        model_type = version.signature.model_type
        cut = threshold(self.name, call, len(self.model(version).trained.classes))
        if model_type in CLASSIFIERS:
            return scores(model_type, self.outcome(version, call, rows), threshold=cut)
        if rows is None:
            return dict(version.metrics)
        if model_type == KMEANS:
            return cluster_scores(self.model(version), self.selected(version, call, rows))
        return scores(model_type, self.outcome(version, call, rows))


class ConfusionMatrix(_Evaluation):
    """ML.CONFUSION_MATRIX(MODEL m [, {TABLE t | (query)}] [, STRUCT(threshold)])."""

    name = "ML.CONFUSION_MATRIX"
    types = CLASSIFIERS
    settings: ClassVar[tuple[str, ...]] = ("threshold",)

    def columns(self, version: ModelVersion, call: TableCall) -> tuple[Field, ...]:
        self.check_rows(version, call)
        (label,) = version.signature.labels
        return Field("expected_label", label.type), *(Field(name, INT64) for name in column_names(self.model(version).trained.classes))

    def batches(self, version: ModelVersion, call: TableCall, rows: pa.RecordBatchReader | None) -> Iterable[pa.RecordBatch]:
        classes = self.model(version).trained.classes
        cut = threshold(self.name, call, len(classes))
        found = self.outcome(version, call, rows)
        counts = confusion_matrix(found.actual, predicted_classes(found.predicted, cut), len(classes))
        yield table_batch(self.columns(version, call), [classes, *counts.T.tolist()])


def column_names(labels: Iterable[Any]) -> list[str]:
    """A distinct column name for each label. Characters that a name cannot have become `_`; a leading digit gets a `_` in front."""
    names: list[str] = []
    for label in labels:
        text = str(label).lower() if isinstance(label, bool) else str(label)
        name = re.sub(r"\W", "_", text)
        name = f"_{name}" if not name or name[0].isdigit() else name
        taken = {other.lower() for other in names}
        while name.lower() in taken | {"expected_label"}:
            name += "_"
        names.append(name)
    return names


class RocCurve(_Evaluation):
    """ML.ROC_CURVE(MODEL m [, {TABLE t | (query)}] [, array of thresholds])."""

    name = "ML.ROC_CURVE"
    types = CLASSIFIERS
    takes_arguments = 1

    def columns(self, version: ModelVersion, call: TableCall) -> tuple[Field, ...]:
        self.check_rows(version, call)
        counts = ("true_positives", "false_positives", "true_negatives", "false_negatives")
        ratios = ("threshold", "recall", "false_positive_rate")
        return *(Field(name, FLOAT64) for name in ratios), *(Field(name, INT64) for name in counts)

    def batches(self, version: ModelVersion, call: TableCall, rows: pa.RecordBatchReader | None) -> Iterable[pa.RecordBatch]:
        thresholds = self._thresholds(call)
        classes = self.model(version).trained.classes
        if len(classes) != 2:
            raise SqlError(f"{self.name} is for models with two classes; {version.signature.ref} has {len(classes)}")
        found = self.outcome(version, call, rows)
        curve = roc_curve(found.actual, found.predicted[:, 1], thresholds)
        hits, alarms = curve.true_positives.tolist(), curve.false_positives.tolist()
        columns = [
            curve.thresholds.tolist(),
            [hit / curve.positives if curve.positives else None for hit in hits],
            [alarm / curve.negatives if curve.negatives else None for alarm in alarms],
            hits,
            alarms,
            [curve.negatives - alarm for alarm in alarms],
            [curve.positives - hit for hit in hits],
        ]
        yield table_batch(self.columns(version, call), columns)

    def _thresholds(self, call: TableCall) -> Floats | None:
        if not call.arguments:
            return None
        (values,) = call.arguments
        if not isinstance(values, list | tuple) or not all(isinstance(value, int | float | Decimal) for value in values):
            raise SqlError(f"{self.name}: thresholds are {values!r}; expected an array of numbers such as GENERATE_ARRAY(0.1, 0.9, 0.1)")
        return np.array(values, dtype=np.float64)
