"""Models scored in the stream: `scores.NAME` in a rule's condition is what the dataset's model NAME says of the features at that event."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa

from sokuji.errors import ModelError, NotFoundError
from sokuji.meta.objects import Ref
from sokuji.ml.base import DISTANCES, PREDICTION, PROBABILITIES
from sokuji.ml.serving.predictor import Predictor
from sokuji.ml.values import Floats
from sokuji.models.base import CHAMPION, ModelStore
from sokuji.types import to_arrow

SCORES = "scores"
_NAMED = re.compile(rf"\b{SCORES}\s*\.\s*`?(\w+)`?", re.IGNORECASE)


def models_named(conditions: Iterable[str]) -> tuple[str, ...]:
    """The models that conditions ask for, sorted."""
    return tuple(sorted({name for text in conditions for name in _NAMED.findall(text)}))


class Scorer:
    """One model, which answers with a number: a binary classifier with the probability of the positive class (1, TRUE, the greater
    label), one of more classes with that of the likeliest class, a regression with its value, k-means with the CENTROID_ID.
    """

    def __init__(self, models: ModelStore, ref: Ref, version: int | None, features: Mapping[str, pa.DataType]) -> None:
        """Load `version`, the champion if None; `features` are the columns that rows will have.

        Raises:
            NotFoundError: there is no such model, or it was dropped meanwhile.
            ModelError: its files are damaged, or it needs a column that is no feature.
        """
        found = models.get(ref, CHAMPION if version is None else version)
        self.version, self.folder = found.version, found.folder
        for field in found.signature.inputs:
            if field.name not in features:
                raise ModelError(
                    f"model {ref} needs {field.name} {field.type}, which is no feature: a model can be scored in the stream when its "
                    f"columns are features ({', '.join(sorted(features))})"
                )
        self._schema = pa.schema([pa.field(field.name, to_arrow(field.type)) for field in found.signature.inputs])
        try:
            self._predictor = Predictor(found.folder)
        except ModelError as error:
            if models.has(found):
                raise
            raise NotFoundError(f"Not found: Model {ref}: it was dropped meanwhile") from error

    @property
    def inputs(self) -> list[str]:
        """The features it needs."""
        return list(self._schema.names)

    def score(self, features: pa.RecordBatch) -> Floats:
        """A number for each row."""
        columns = [features.column(field.name).cast(field.type) for field in self._schema]
        said = self._predictor.predict(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        if DISTANCES in said:
            nearest: Floats = np.argmin(said[DISTANCES], axis=1) + 1.0
            return nearest
        if PROBABILITIES in said:
            probabilities = said[PROBABILITIES]
            likeliest: Floats = probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities.max(axis=1)
            return likeliest
        return said[PREDICTION]


class Scores:
    """All models that a dataset's rules ask for. A model that is not trained yet scores NULL."""

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
        """Of the column `SCORES`."""
        return pa.struct([(name, pa.float64()) for name in self.names])

    @property
    def versions(self) -> dict[str, int]:
        """The versions that are in use."""
        return {name: scorer.version for name, scorer in self._scorers.items() if scorer is not None}

    def use(self, versions: Mapping[str, int]) -> None:
        """Go back to these versions: those that a replay needs."""
        for name in self._scorers.keys() & versions.keys():
            self._scorers[name] = self._load(name, versions[name])

    def refresh(self) -> None:
        """Go over to the champions of now. Between two checkpoints the versions stay, so that a replay decides the same."""
        for name, scorer in self._scorers.items():
            try:
                champion = self._models.get(Ref(self._dataset, name))
            except NotFoundError:
                champion = None
            # By the folder: a model that was dropped and made again begins to count its versions again.
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
        try:
            return Scorer(self._models, Ref(self._dataset, name), version, self._features)
        except NotFoundError:
            return None
