"""Score events with one model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from sokuji.errors import ModelError, NotFoundError
from sokuji.meta.objects import Ref
from sokuji.ml.base import DISTANCES, PREDICTION, PROBABILITIES
from sokuji.ml.serving.predictor import Predictor
from sokuji.ml.values import Floats
from sokuji.models.base import ModelStore
from sokuji.models.versions import CHAMPION
from sokuji.types import arrow_schema


class Scorer:
    """One model that scores with one number per row.

    Binary classifier: the probability of the positive class (1, TRUE, the greater label). More classes: the probability of the most
    probable class. Regression: the value. K-means: the CENTROID_ID.
    """

    def __init__(self, models: ModelStore, ref: Ref, version: int | None, features: Mapping[str, pa.DataType]) -> None:
        """Load `version`, or the champion if None. `features` are the columns that rows will have.

        Raises:
            NotFoundError: there is no such model, or it was dropped meanwhile.
            ModelError: the model's files are damaged, or the model needs a column that is not a feature.
        """
        found = models.get(ref, CHAMPION if version is None else version)
        self.version, self.folder = found.version, found.folder
        for field in found.signature.inputs:
            if field.name not in features:
                raise ModelError(
                    f"model {ref} needs {field.name} {field.type}, which is not a feature: a model can be scored in the stream when its "
                    f"columns are features ({', '.join(sorted(features))})"
                )
        self._schema = arrow_schema(found.signature.inputs)
        try:
            self._predictor = Predictor(models.fetch(found))
        except ModelError as error:
            if models.has(found):
                raise
            raise NotFoundError(f"Not found: Model {ref}: it was dropped a moment ago") from error

    @property
    def inputs(self) -> list[str]:
        """The features that the model needs."""
        return list(self._schema.names)

    def score(self, features: pa.RecordBatch) -> Floats:
        """One number for each row."""
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
