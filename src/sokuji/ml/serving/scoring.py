"""Score events with models: `scores.NAME` in a rule's condition is the score of the dataset's model NAME for the features at that event."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from sokuji.errors import NotFoundError
from sokuji.meta.objects import Ref
from sokuji.models.base import ModelStore

if TYPE_CHECKING:
    from sokuji.ml.serving.scorer import Scorer

SCORES = "scores"
_NAMED = re.compile(rf"\b{SCORES}\s*\.\s*`?(\w+)`?", re.IGNORECASE)


def models_named(conditions: Iterable[str]) -> tuple[str, ...]:
    """The names of the models that `conditions` use, sorted."""
    return tuple(sorted({name for text in conditions for name in _NAMED.findall(text)}))


class Scores:
    """All models that a dataset's rules use. A model that is not trained yet scores NULL."""

    def __init__(self, models: ModelStore, dataset: str, names: Iterable[str], features: Mapping[str, pa.DataType]) -> None:
        """Load the champions of the models `names`."""
        self._models, self._dataset, self._features = models, dataset, dict(features)
        self.names = tuple(names)
        self._scorers: dict[str, Scorer | None] = {name: self._load(name, None) for name in self.names}

    @property
    def inputs(self) -> frozenset[str]:
        """The features that the models in use need."""
        return frozenset(name for scorer in self._scorers.values() if scorer is not None for name in scorer.inputs)

    @property
    def type(self) -> pa.StructType:
        """The type of the column `SCORES`."""
        return pa.struct([(name, pa.float64()) for name in self.names])

    @property
    def versions(self) -> dict[str, int]:
        """The versions in use, by model."""
        return {name: scorer.version for name, scorer in self._scorers.items() if scorer is not None}

    def use(self, versions: Mapping[str, int]) -> None:
        """Load these versions again: a replay needs the versions of the first run."""
        for name in self._scorers.keys() & versions.keys():
            self._scorers[name] = self._load(name, versions[name])

    def refresh(self) -> None:
        """Switch to the current champions. The worker does so only at checkpoints, so that a replay decides the same."""
        for name, scorer in self._scorers.items():
            try:
                champion = self._models.get(Ref(self._dataset, name))
            except NotFoundError:
                champion = None
            # Compare folders, not versions: a model that was dropped and created again counts its versions from the start.
            folder = None if champion is None else champion.folder
            if folder != (scorer.folder if scorer else None):
                self._scorers[name] = None if champion is None else self._load(name, champion.version)

    def score(self, features: pa.RecordBatch) -> pa.StructArray:
        """The scores of each row."""
        columns = [
            pa.nulls(features.num_rows, pa.float64()) if scorer is None or not features.num_rows else pa.array(scorer.score(features))
            for scorer in self._scorers.values()
        ]
        return pa.StructArray.from_arrays(columns, fields=list(self.type)) if columns else pa.nulls(features.num_rows, self.type)

    def _load(self, name: str, version: int | None) -> Scorer | None:
        from sokuji.ml.serving.scorer import Scorer  # imports ONNX Runtime; most declarations name no model

        try:
            return Scorer(self._models, Ref(self._dataset, name), version, self._features)
        except NotFoundError:
            return None
