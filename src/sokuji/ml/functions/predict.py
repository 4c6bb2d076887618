"""ML.PREDICT: predict each row, as a stream."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, cast

import numpy as np
import pyarrow as pa

from sokuji.errors import SqlError
from sokuji.ml.base import DISTANCES, PREDICTION, PROBABILITIES
from sokuji.ml.functions.base import ModelFunction, ModelRows, beside, fraction, restored
from sokuji.ml.options import CLASSIFIERS, KMEANS
from sokuji.ml.scores import predicted_classes
from sokuji.ml.serving.predictor import Predictor
from sokuji.ml.values import Floats
from sokuji.models.versions import ModelVersion
from sokuji.sql.extension import TableCall
from sokuji.types import FLOAT64, INT64, Field, array, arrow_schema, struct, to_arrow

NEAREST_MAX = 5
DEFAULT_THRESHOLD = 0.5


def output_columns(model_type: str, labels: tuple[Field, ...]) -> tuple[Field, ...]:
    """The columns that ML.PREDICT adds in front of its input's columns, for a model of this type and label."""
    if model_type == KMEANS:
        nearest = struct([Field("CENTROID_ID", INT64), Field("DISTANCE", FLOAT64)])
        return Field("CENTROID_ID", INT64), Field("NEAREST_CENTROIDS_DISTANCE", array(nearest))
    (label,) = labels
    if model_type not in CLASSIFIERS:
        return (Field(f"predicted_{label.name}", FLOAT64),)
    probability = struct([Field("label", label.type), Field("prob", FLOAT64)])
    return Field(f"predicted_{label.name}", label.type), Field(f"predicted_{label.name}_probs", array(probability))


def threshold(function: str, call: TableCall, classes: int) -> float:
    """The setting `threshold`, which exists only for models of two classes.

    Raises:
        SqlError: the threshold is not a number from 0 to 1, or the number of classes is not two.
    """
    value = call.settings.get("threshold")
    if value is None:
        return DEFAULT_THRESHOLD
    if classes != 2:
        kind = f"has {classes}" if classes else "is no classifier"
        raise SqlError(f"{function}: threshold is for models of two classes, and this one {kind}")
    return fraction(function, "threshold", value, 1)


class Predict(ModelFunction):
    """ML.PREDICT(MODEL m, {TABLE t | (query)} [, STRUCT(threshold)])."""

    name = "ML.PREDICT"
    settings: ClassVar[tuple[str, ...]] = ("threshold",)
    takes_rows = needs_rows = True

    def columns(self, version: ModelVersion, call: TableCall) -> tuple[Field, ...]:
        given = call.input or ()
        ModelRows(self.name, version, given, version.signature.inputs)
        return beside(self.name, version.signature.outputs, given)

    def batches(self, version: ModelVersion, call: TableCall, rows: pa.RecordBatchReader | None) -> Iterable[pa.RecordBatch]:
        given = call.input or ()
        view = ModelRows(self.name, version, given, version.signature.inputs)
        schema = arrow_schema(self.columns(version, call))
        predictor = self.model(version)
        cut = threshold(self.name, call, len(predictor.trained.classes))
        for batch in restored(rows or (), given):
            columns = _columns(version, predictor, view.select(batch), cut)
            yield pa.RecordBatch.from_arrays([*columns, *batch.columns], schema=schema)


def _columns(version: ModelVersion, predictor: Predictor, features: pa.RecordBatch, cut: float) -> list[pa.Array]:
    outputs, said = version.signature.outputs, predictor.predict(features)
    if DISTANCES in said:
        return _clusters(said[DISTANCES], outputs)
    if PROBABILITIES in said:
        return _classes(said[PROBABILITIES], predictor.trained.classes, cut, outputs)
    return [pa.array(said[PREDICTION])]


def _clusters(distances: Floats, outputs: tuple[Field, ...]) -> list[pa.Array]:
    count = min(distances.shape[1], NEAREST_MAX)
    order = np.argsort(distances, axis=1, kind="stable")[:, :count]
    nearest = np.take_along_axis(distances, order, axis=1)
    ids = order + 1
    return [pa.array(ids[:, 0].copy()), _lists([pa.array(ids.ravel()), pa.array(nearest.ravel())], count, outputs[1])]


def _classes(probabilities: Floats, classes: tuple[Any, ...], cut: float, outputs: tuple[Field, ...]) -> list[pa.Array]:
    labels = pa.array(classes, type=to_arrow(outputs[0].type))
    predicted = labels.take(pa.array(predicted_classes(probabilities, cut)))
    # Labels descend: docs/decisions/0081-ml-results.md.
    descending = pa.array(np.tile(np.arange(len(classes))[::-1], len(probabilities)))
    probs = [labels.take(descending), pa.array(probabilities[:, ::-1].ravel())]
    return [predicted, _lists(probs, len(classes), outputs[1])]


def _lists(values: list[pa.Array], length: int, output: Field) -> pa.Array:
    """Arrays of `length` structs each. `values` has one flat array per field."""
    type_ = cast("pa.ListType", to_arrow(output.type))
    fields = list(cast("pa.StructType", type_.value_type))
    offsets = np.arange(0, len(values[0]) + 1, length, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.StructArray.from_arrays(values, fields=fields), type=type_)
