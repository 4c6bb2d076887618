"""ML.CENTROIDS, ML.WEIGHTS, ML.FEATURE_INFO, ML.FEATURE_IMPORTANCE, ML.TRAINING_INFO: describe a trained model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import pyarrow as pa

from sokuji.errors import SqlError
from sokuji.ml.base import Iteration, Trained
from sokuji.ml.estimators.importance import importances
from sokuji.ml.estimators.kmeans import centroids
from sokuji.ml.estimators.linear import weights
from sokuji.ml.functions.base import ModelFunction, table_batch
from sokuji.ml.options import GLM, KMEANS, TREES
from sokuji.ml.values import FeatureValue
from sokuji.models.versions import ModelVersion
from sokuji.sql.extension import TableCall
from sokuji.types import FLOAT64, INT64, STRING, Field, Type, array, struct


def _fields(type_: Type, *names: str) -> tuple[Field, ...]:
    return tuple(Field(name, type_) for name in names)


class _Description(ModelFunction):
    """A function whose only input is a model."""

    @abstractmethod
    def fields(self, trained: Trained) -> tuple[Field, ...]:
        """The columns of the result."""

    @abstractmethod
    def rows(self, trained: Trained, settings: Mapping[str, Any]) -> Iterable[tuple[Any, ...]]:
        """The rows of the result. A row may be longer than `fields`; extra values are left out."""

    def columns(self, version: ModelVersion, call: TableCall) -> tuple[Field, ...]:  # noqa: ARG002 a description has no input to look at
        return self.fields(self.model(version).trained)

    def batches(self, version: ModelVersion, call: TableCall, rows: pa.RecordBatchReader | None) -> Iterable[pa.RecordBatch]:  # noqa: ARG002
        columns = self.columns(version, call)
        found = list(self.rows(self.model(version).trained, call.settings))
        yield table_batch(columns, [[row[position] for row in found] for position in range(len(columns))])


class Centroids(_Description):
    """ML.CENTROIDS(MODEL m [, STRUCT(standardize)]), in the units of the columns unless `standardize`."""

    name = "ML.CENTROIDS"
    types = frozenset({KMEANS})
    settings: ClassVar[tuple[str, ...]] = ("standardize",)

    def fields(self, trained: Trained) -> tuple[Field, ...]:  # noqa: ARG002 the same for every model
        share = array(struct([Field("category", STRING), Field("value", FLOAT64)]))
        return (
            Field("centroid_id", INT64),
            Field("feature", STRING),
            Field("numerical_value", FLOAT64),
            Field("categorical_value", share),
            Field("geography_value", STRING),
        )

    def rows(self, trained: Trained, settings: Mapping[str, Any]) -> Iterable[tuple[Any, ...]]:
        for number, value in centroids(trained, standardize=_standardize(self.name, settings)):
            yield number, value.feature, value.number, _categories(value, "value"), None


class Weights(_Description):
    """ML.WEIGHTS(MODEL m [, STRUCT(standardize)]), in the units of the columns unless `standardize`."""

    name = "ML.WEIGHTS"
    types = GLM
    settings: ClassVar[tuple[str, ...]] = ("standardize",)

    def fields(self, trained: Trained) -> tuple[Field, ...]:
        weight = array(struct([Field("category", STRING), Field("weight", FLOAT64)]))
        fields = Field("processed_input", STRING), Field("weight", FLOAT64), Field("category_weights", weight)
        return (*fields, Field("class_label", STRING)) if len(trained.classes) > 2 else fields

    def rows(self, trained: Trained, settings: Mapping[str, Any]) -> Iterable[tuple[Any, ...]]:
        for label, value in weights(trained, standardize=_standardize(self.name, settings)):
            yield value.feature, value.number, _categories(value, "weight"), str(label)


class FeatureInfo(_Description):
    """ML.FEATURE_INFO(MODEL m): statistics of the training rows, one row per feature."""

    name = "ML.FEATURE_INFO"

    def fields(self, trained: Trained) -> tuple[Field, ...]:  # noqa: ARG002
        numbers = _fields(FLOAT64, "min", "max", "mean", "median", "stddev")
        return Field("input", STRING), *numbers, *_fields(INT64, "category_count", "null_count", "dimension")

    def rows(self, trained: Trained, settings: Mapping[str, Any]) -> Iterable[tuple[Any, ...]]:  # noqa: ARG002
        for info in trained.feature_info:
            numbers = (info.min, info.max, info.mean, info.median, info.stddev)
            yield info.input, *numbers, info.category_count, info.null_count, info.dimension


class FeatureImportance(_Description):
    """ML.FEATURE_IMPORTANCE(MODEL m): how often a tree model splits by a feature, and how much these splits gain."""

    name = "ML.FEATURE_IMPORTANCE"
    types = TREES

    def fields(self, trained: Trained) -> tuple[Field, ...]:  # noqa: ARG002
        return Field("feature", STRING), *_fields(FLOAT64, "importance_weight", "importance_gain", "importance_cover")

    def rows(self, trained: Trained, settings: Mapping[str, Any]) -> Iterable[tuple[Any, ...]]:  # noqa: ARG002
        for found in importances(trained):
            yield found.feature, found.weight, found.gain, found.cover


class TrainingInfo(_Description):
    """ML.TRAINING_INFO(MODEL m): one row per iteration."""

    name = "ML.TRAINING_INFO"

    def fields(self, trained: Trained) -> tuple[Field, ...]:
        start = _fields(INT64, "training_run", "iteration")
        if trained.model_type != KMEANS:
            return *start, *_fields(FLOAT64, "loss", "eval_loss", "learning_rate"), Field("duration_ms", INT64)
        cluster = [Field("centroid_id", INT64), Field("cluster_radius", FLOAT64), Field("cluster_size", INT64)]
        found = Field("cluster_info", array(struct(cluster)))
        return *start, *_fields(FLOAT64, "loss", "learning_rate"), Field("duration_ms", INT64), found

    def rows(self, trained: Trained, settings: Mapping[str, Any]) -> Iterable[tuple[Any, ...]]:  # noqa: ARG002
        for iteration in trained.history:
            start = iteration.run, iteration.iteration, iteration.loss
            if iteration.clusters:
                yield *start, iteration.learning_rate, iteration.duration_ms, _clusters(iteration)
            else:
                yield *start, iteration.eval_loss, iteration.learning_rate, iteration.duration_ms


def _clusters(iteration: Iteration) -> list[dict[str, Any]]:
    return [
        {"centroid_id": cluster.centroid_id, "cluster_radius": cluster.radius, "cluster_size": cluster.size}
        for cluster in iteration.clusters
    ]


def _standardize(function: str, settings: Mapping[str, Any]) -> bool:
    value = settings.get("standardize", False)
    if not isinstance(value, bool):
        raise SqlError(f"{function}: standardize is {value!r}; expected TRUE or FALSE")
    return value


def _categories(value: FeatureValue, name: str) -> list[dict[str, Any]]:
    return [{"category": item.category, name: item.value} for item in value.categories]
