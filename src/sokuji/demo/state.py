"""The features of single visitors as the worker has them now, read from its shared memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sokuji.analyze.project import Declared, compile_for
from sokuji.analyze.rows import RowLayout
from sokuji.backends import Backends
from sokuji.features.vocabulary import Strings, Vocabulary
from sokuji.online.reader import SharedReader


class State:
    """Reads the first view of a dataset's profiles."""

    def __init__(self, backends: Backends, project: Path, dataset: str) -> None:
        """Of a worker that runs on the project."""
        compiled = compile_for(dataset, Declared.load(project), backends.catalog, backends.models, Vocabulary())
        compiled.close()  # no events are evaluated here
        layout = RowLayout.of(compiled.kernels, compiled.rules)
        folder = backends.config.data / "analyze" / dataset
        self._kernel, self._where, self._width = compiled.kernels[0], layout.views[0], layout.width
        self._strings = Strings(folder / "strings.jsonl")
        self._reader = SharedReader(folder / layout.fingerprint / "rows")

    def features(self, profiles: Sequence[str]) -> list[dict[str, Any]]:
        """The features of each profile as of now."""
        rows = np.zeros((len(profiles), self._width), np.uint8)
        for row, profile in zip(rows, profiles, strict=True):
            found = self._reader.get(profile)
            if found is not None:
                row[:] = np.frombuffer(found, np.uint8)
        features: list[dict[str, Any]] = self._kernel.finalize(rows[:, self._where], time.time_ns() // 1000, self._strings).to_pylist()
        return features
