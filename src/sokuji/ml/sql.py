"""What this package adds to SQL: statement handlers, and the ML.* table functions."""

from __future__ import annotations

from collections.abc import Mapping

from sokuji.meta.base import Catalog
from sokuji.ml.create import CreateModel, DropModel, Progress, unheard
from sokuji.ml.functions import features_at_time
from sokuji.ml.functions.anomalies import DetectAnomalies
from sokuji.ml.functions.base import ModelFunction
from sokuji.ml.functions.describe import Centroids, FeatureImportance, FeatureInfo, TrainingInfo, Weights
from sokuji.ml.functions.evaluate import ConfusionMatrix, Evaluate, RocCurve
from sokuji.ml.functions.predict import Predict
from sokuji.models.base import ModelStore
from sokuji.sql.extension import AnyTableFunction, StatementHandler

FUNCTIONS: tuple[type[ModelFunction], ...] = (
    Predict,
    Evaluate,
    ConfusionMatrix,
    RocCurve,
    Centroids,
    Weights,
    FeatureInfo,
    FeatureImportance,
    TrainingInfo,
    DetectAnomalies,
)


def table_functions(store: ModelStore) -> Mapping[str, AnyTableFunction]:
    """The ML.* functions by lower-case name ("ml.predict")."""
    return {**features_at_time.FUNCTIONS, **{function.name.lower(): function(store) for function in FUNCTIONS}}


def statement_handlers(catalog: Catalog, store: ModelStore, *, progress: Progress = unheard) -> Mapping[str, StatementHandler]:
    """CREATE MODEL and DROP MODEL, by their field of `AnyResolvedStatementProto`. The DROP handler receives only models."""
    return {
        "resolved_create_model_stmt_node": CreateModel(catalog, store, progress=progress),
        "resolved_drop_stmt_node": DropModel(catalog, store),
    }
