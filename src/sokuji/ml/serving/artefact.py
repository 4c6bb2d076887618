"""Save a trained model as a folder of files, and load it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa

from sokuji.errors import ModelError
from sokuji.ml.base import RANKS, Estimator, Iteration, Serving, Trained
from sokuji.ml.columns.inputs import InputKind
from sokuji.ml.columns.preprocessing import Preprocessing
from sokuji.ml.estimators.kmeans import KMeans
from sokuji.ml.estimators.linear import Linear
from sokuji.ml.estimators.trees import Trees
from sokuji.ml.graph import Graph
from sokuji.ml.serving import mlmodel
from sokuji.ml.serving.parity import TOLERANCE, adversarial, difference
from sokuji.ml.serving.runtime import GraphSession
from sokuji.ml.values import FeatureStatistics, Floats
from sokuji.models.folder import check

if TYPE_CHECKING:
    import onnx

GRAPH_FILE = "model.onnx"
_PREPROCESSING_FILE = "preprocessing.json"
_TRAINING_FILE = "training.json"
_GOLDEN_FILE = "golden.arrow"
_ROWS_COMPARED = 2000
_GOLDEN_ROWS = 32

_LOADERS: dict[str, Callable[[Path], Estimator]] = {
    "KMEANS": KMeans.load,
    "LINEAR_REG": Linear.load,
    "LOGISTIC_REG": Linear.load,
    "BOOSTED_TREE_CLASSIFIER": Trees.load,
    "BOOSTED_TREE_REGRESSOR": Trees.load,
}


@dataclass(frozen=True, slots=True)
class _Training:
    """The content of training.json."""

    model_type: str
    options: dict[str, Any]
    classes: tuple[Any, ...]
    history: tuple[Iteration, ...]
    feature_info: tuple[FeatureStatistics, ...]
    serving: Serving


def save(trained: Trained, folder: Path, rows: pa.Table) -> Serving:
    """Write the model into `folder`, which must exist, and decide how the model is served.

    `rows` are real rows, such as the training rows. The parity gate compares up to 2,000 of them, spread evenly.
    """
    positions = np.unique(np.linspace(0, rows.num_rows - 1, min(rows.num_rows, _ROWS_COMPARED)).astype(np.int64))
    real = trained.preprocessing.read(rows.take(positions))
    columns = _stacked(real, adversarial(trained.preprocessing, real))
    native = trained.estimator.predict(trained.preprocessing.transform(columns))
    graph = build_graph(trained).SerializeToString()
    serving = _gate(graph, columns, native)

    (folder / GRAPH_FILE).write_bytes(graph)
    (folder / _PREPROCESSING_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(trained.preprocessing)))
    training = _Training(trained.model_type, dict(trained.options), trained.classes, trained.history, trained.feature_info, serving)
    (folder / _TRAINING_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(training)))
    trained.estimator.save(folder)
    _write_golden(folder, columns, native)
    mlmodel.write(folder, trained.preprocessing, native)
    return serving


def load(folder: Path) -> tuple[Trained, Serving]:
    """Read what `save` wrote.

    Raises:
        ModelError: a file is missing or damaged.
        FormatError: a newer release wrote it.
    """
    check(folder)
    with readable(folder):
        training = msgspec.json.decode((folder / _TRAINING_FILE).read_bytes(), type=_Training)
        preprocessing = msgspec.json.decode((folder / _PREPROCESSING_FILE).read_bytes(), type=Preprocessing)
        estimator = _LOADERS[training.model_type](folder)
    trained = Trained(
        training.model_type, training.options, preprocessing, estimator, training.classes, training.history, training.feature_info
    )
    return trained, training.serving


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Turn the errors of a missing or damaged file in a model's folder into a ModelError that names the folder."""
    try:
        yield
    except (OSError, ValueError) as error:  # the errors of Arrow, NumPy and JSON readers
        raise ModelError(f"the model in {folder} cannot be read: {error}; train it again") from error


def build_graph(trained: Trained) -> onnx.ModelProto:
    """Build the whole model, preprocessing included, as one graph."""
    graph = Graph({item.name: item.kind is InputKind.STRING for item in trained.preprocessing.inputs})
    return graph.build(trained.estimator.export(graph, trained.preprocessing.export(graph)), RANKS)


def check_golden(folder: Path, predict: Callable[[Mapping[str, Any]], Mapping[str, Floats]]) -> None:
    """Predict the rows stored with the model again, and compare.

    Raises:
        ModelError: the predictions differ from those at training time; a library version changed, or a file is damaged.
    """
    with readable(folder), pa.OSFile(str(folder / _GOLDEN_FILE)) as file:
        golden = pa.ipc.open_file(file).read_all().combine_chunks()
    outputs = [name for name in golden.schema.names if name.startswith(_OUTPUT)]
    arrays = {name: golden[name].combine_chunks() for name in golden.schema.names if name not in outputs}
    columns = {name: column if pa.types.is_string(column.type) else column.to_numpy() for name, column in arrays.items()}
    expected = {name: np.array(golden[name].to_pylist(), dtype=np.float64) for name in outputs}
    apart = difference(expected, predict(columns))
    if apart > TOLERANCE:
        raise ModelError(f"the model in {folder} answers differently than when it was trained (by {apart:.3g}); train it again")


def _gate(graph: bytes, columns: Mapping[str, Any], native: Mapping[str, Floats]) -> Serving:
    rows = len(next(iter(native.values())))
    try:
        apart = difference(native, GraphSession(graph).run(columns))
    except ModelError as error:
        return Serving("native", str(error), rows=rows)
    if apart > TOLERANCE:
        return Serving("native", f"ONNX differs from the trained model by {apart:.3g}, allowed is {TOLERANCE:g}", apart, rows)
    return Serving("onnx", "", apart, rows)


def _stacked(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: pa.concat_arrays([column, second[name]]) if isinstance(column, pa.Array) else np.concatenate([column, second[name]])
        for name, column in first.items()
    }


_OUTPUT = "\0output "  # prefix of an output's name; no column name begins with it


def _write_golden(folder: Path, columns: Mapping[str, Any], native: Mapping[str, Floats]) -> None:
    """Store some of the real and adversarial rows, spread evenly, with their native predictions."""
    rows = len(next(iter(native.values())))
    positions = np.unique(np.linspace(0, rows - 1, min(rows, _GOLDEN_ROWS)).astype(np.int64))
    table = pa.table(
        {
            name: column.take(pa.array(positions)) if isinstance(column, pa.Array) else pa.array(column[positions])
            for name, column in columns.items()
        }
        | {_OUTPUT + name: pa.array(values[positions].tolist()) for name, values in native.items()}
    )
    with pa.OSFile(str(folder / _GOLDEN_FILE), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
