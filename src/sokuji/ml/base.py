"""The contract between training and the SQL statements that use it.

    trained = train.train(task, progress)             # -> Trained
    serving = artefact.save(trained, folder, rows)    # writes a staged folder, runs the parity gate -> Serving
    predictor = Predictor(folder)                     # predictor.trained is what was saved
    predictor.predict(batch)                          # -> {"distances": ...} | {"probabilities": ...} | {"prediction": ...}

`linear.weights(trained, standardize)` and `kmeans.centroids(trained, standardize)` give the rows of ML.WEIGHTS and ML.CENTROIDS.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sokuji.ml.values import FeatureStatistics, Floats
from sokuji.types import Field

if TYPE_CHECKING:
    from sokuji.ml.columns.encoded import Design
    from sokuji.ml.columns.preprocessing import Preprocessing
    from sokuji.ml.graph import Encoded, Graph, Tensor


# What `Predictor.predict` gives, by model type. N rows, K clusters or classes.
DISTANCES = "distances"  # KMEANS: float64 [N, K], to every centroid; centroid_id is the position from 1
PROBABILITIES = "probabilities"  # classifiers: float64 [N, K], in the order of `classes`
PREDICTION = "prediction"  # regressors: float64 [N]
RANKS = {DISTANCES: 2, PROBABILITIES: 2, PREDICTION: 1}


@dataclass(frozen=True, slots=True)
class TrainingTask:
    """One checked CREATE MODEL statement.

    `options` has the effective value of every option of the model type, by lower-case name. An option is None where training derives it
    from the data. The tables have the feature columns, the label column and the special columns that options name (`kmeans_init_col`,
    `instance_weight_col`). Training ignores other columns, and rows whose label is NULL.
    """

    model_type: str
    options: Mapping[str, Any]
    features: tuple[Field, ...]
    labels: tuple[Field, ...]  # empty for KMEANS, else one
    training: pa.Table
    evaluation: pa.Table | None = None  # None when the data was not split
    start: Trained | None = None  # WARM_START: the model that training continues from, of the same type, features and label


@dataclass(frozen=True, slots=True)
class Cluster:
    """The state of a cluster after an iteration."""

    centroid_id: int  # from 1
    radius: float  # root mean square distance of its rows to its centroid
    size: int


@dataclass(frozen=True, slots=True)
class Iteration:
    """One row of ML.TRAINING_INFO."""

    iteration: int  # from 0
    loss: float
    eval_loss: float | None
    learning_rate: float | None
    duration_ms: int
    clusters: tuple[Cluster, ...] = ()
    run: int = 0  # the number of the training run; WARM_START adds one


def stalled(losses: Sequence[float], min_rel_progress: float) -> bool:
    """Whether EARLY_STOP ends the training: the last iteration lowered the loss by less than the fraction `min_rel_progress`."""
    if len(losses) < 2:
        return False
    before, after = losses[-2:]
    return before - after < min_rel_progress * before or before == 0


Progress = Callable[[Iteration], None]
"""Called after every iteration, in the training thread. An exception that it raises ends the training."""


class Estimator(ABC):
    """The fitted parameters, as plain arrays. An estimator predicts in Python, and exports itself into an ONNX graph."""

    @abstractmethod
    def predict(self, design: Design) -> dict[str, Floats]:
        """Predict preprocessed rows: DISTANCES, PROBABILITIES or PREDICTION."""

    @abstractmethod
    def export(self, graph: Graph, encoded: Encoded) -> dict[str, Tensor]:
        """Add nodes that compute the same as `predict` from the preprocessed tensors, in float64."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the parameters. `load(folder)` of the same class reads exactly these values."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A fitted model in memory."""

    model_type: str
    options: Mapping[str, Any]  # the options given, with None replaced by the derived value
    preprocessing: Preprocessing
    estimator: Estimator
    classes: tuple[Any, ...]  # label values, ascending; of two classes, the last is the positive class. Empty for models without classes
    history: tuple[Iteration, ...]
    feature_info: tuple[FeatureStatistics, ...]


@dataclass(frozen=True, slots=True)
class Serving:
    """How a saved model is served, and why."""

    serving: str  # "onnx" or "native"
    reason: str = ""  # why the model is not served by ONNX
    max_difference: float = 0.0  # between native and ONNX predictions, over the rows compared
    rows: int = 0
