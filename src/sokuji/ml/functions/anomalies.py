"""ML.DETECT_ANOMALIES: find rows that are far from their cluster, compared with the training rows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa

from sokuji.errors import ModelError
from sokuji.ml import parallel
from sokuji.ml.base import DISTANCES
from sokuji.ml.estimators.kmeans import KMeans
from sokuji.ml.functions.base import BATCH_ROWS, ModelFunction, ModelRows, beside, fraction, restored
from sokuji.ml.options import KMEANS
from sokuji.ml.scores import Ints
from sokuji.ml.serving.artefact import readable
from sokuji.ml.serving.predictor import Predictor
from sokuji.ml.values import Floats
from sokuji.models.folder import check
from sokuji.models.versions import ModelVersion
from sokuji.sql.extension import TableCall
from sokuji.types import BOOL, FLOAT64, INT64, Field, arrow_schema

_FILE = "distances.npy"
_OUTPUTS = (Field("is_anomaly", BOOL), Field("normalized_distance", FLOAT64), Field("CENTROID_ID", INT64))
# distances stored at most; for a larger table the threshold comes from a sample, exact to a tenth of a percent of the rows
_ROWS_KEPT = 50_000


def normalized_distances(predictor: Predictor, rows: pa.RecordBatch) -> tuple[Floats, Ints]:
    """The distance of each row to its centroid, divided by the training rows' root mean square distance; and its cluster, from 0."""
    estimator = predictor.trained.estimator
    if not isinstance(estimator, KMeans):
        raise ModelError(f"{predictor.trained.model_type} models have no clusters")
    distances = predictor.predict(rows)[DISTANCES]
    clusters = distances.argmin(axis=1)
    nearest, radii = distances[np.arange(len(clusters)), clusters], np.array(estimator.radii)[clusters]
    far = np.where(nearest > 0, np.inf, 0.0)  # a radius of 0: all training rows of the cluster were equal
    return np.divide(nearest, radii, out=far, where=radii > 0), clusters


def keep_distances(predictor: Predictor, rows: pa.Table, folder: Path) -> None:
    """Store the training rows' normalised distances, sorted, in the model's folder."""
    if rows.num_rows > _ROWS_KEPT:
        rows = rows.take(pa.array(np.linspace(0, rows.num_rows - 1, _ROWS_KEPT).astype(np.int64)))
    batches = rows.to_batches(max_chunksize=BATCH_ROWS)
    distances = parallel.each(lambda batch: normalized_distances(predictor, batch)[0], batches)
    np.save(folder / _FILE, np.sort(np.concatenate(distances)))


class DetectAnomalies(ModelFunction):
    """ML.DETECT_ANOMALIES(MODEL m, STRUCT(contamination), {TABLE t | (query)}).

    A row is an anomaly if its distance to its centroid is larger than that of all but the fraction `contamination` of the training rows.
    """

    name = "ML.DETECT_ANOMALIES"
    types = frozenset({KMEANS})
    settings: ClassVar[tuple[str, ...]] = ("contamination",)
    takes_rows = needs_rows = True

    def columns(self, version: ModelVersion, call: TableCall) -> tuple[Field, ...]:
        given = call.input or ()
        ModelRows(self.name, version, given, version.signature.inputs)
        self._contamination(call)
        return beside(self.name, _OUTPUTS, given)

    def batches(self, version: ModelVersion, call: TableCall, rows: pa.RecordBatchReader | None) -> Iterable[pa.RecordBatch]:
        given = call.input or ()
        view = ModelRows(self.name, version, given, version.signature.inputs)
        schema = arrow_schema(self.columns(version, call))
        folder = self.folder(version)
        check(folder, _FILE)
        with readable(folder):
            distances_seen = np.load(folder / _FILE)
        cut = np.quantile(distances_seen, 1 - self._contamination(call), method="inverted_cdf")
        for batch in restored(rows or (), given):
            distances, clusters = normalized_distances(self.model(version), view.select(batch))
            columns = [pa.array(distances > cut), pa.array(distances), pa.array(clusters + 1)]
            yield pa.RecordBatch.from_arrays([*columns, *batch.columns], schema=schema)

    def _contamination(self, call: TableCall) -> float:
        return fraction(self.name, "contamination", call.settings.get("contamination"), 0.5, ": STRUCT(0.02 AS contamination)")
