"""Run a model's ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from sokuji.errors import ModelError
from sokuji.ml.values import Floats

_ERRORS = (errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.NotImplemented, errors.RuntimeException, errors.InvalidProtobuf)
_FATAL_ONLY = 4


class GraphSession:
    """One loaded graph. Several threads may call `run` at once."""

    def __init__(self, model: bytes, threads: int = 1) -> None:
        """Load the graph. A call of `run` uses `threads` threads. Raises ModelError."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = _FATAL_ONLY  # errors are raised; a log would repeat them
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning threads would take cores from other work
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except _ERRORS as error:
            raise ModelError(f"ONNX Runtime {onnxruntime.__version__} cannot load the model's graph: {error}") from error
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._outputs = [node.name for node in self._session.get_outputs()]

    def run(self, columns: Mapping[str, Any]) -> dict[str, Floats]:
        """Compute the outputs, by name, for columns as `Preprocessing.read` returns them. Raises ModelError."""
        feeds = {name: _tensor(columns[name]) for name in self._inputs}
        try:
            values = self._session.run(self._outputs, feeds)
        except _ERRORS as error:
            raise ModelError(f"ONNX Runtime {onnxruntime.__version__} cannot run the model's graph: {error}") from error
        return dict(zip(self._outputs, values, strict=True))


def _tensor(column: Any) -> np.ndarray[Any, Any]:
    return np.asarray(column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column)
