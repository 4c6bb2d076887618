"""CREATE MODEL kmeans on a million rows, against scikit-learn on the same numpy array.

Both start from the same rows and make the same number of iterations. Ours is the whole statement: analysis, reading the table, statistics
and standardisation, training, the parity gate, evaluation, registration; scikit-learn's is `KMeans.fit` on the array it is given.
Each is the best of the runs, which take turns, so that other work on the machine meets both. Beside it: the ratio of processor time,
and both with their own rule to stop.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import sokuji
from bench._report import report
from sokuji.config import Config
from sokuji.lake.delta.tables import DeltaLake
from sokuji.meta.objects import Ref
from sokuji.platform import Platform


def main(argv: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--clusters", type=int, default=8)
    parser.add_argument("--iterations", type=int, default=20, help="of both (BigQuery's default of MAX_ITERATIONS)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)

    values = _blobs(arguments.rows, arguments.columns, arguments.clusters)
    with tempfile.TemporaryDirectory() as folder, sokuji.open(folder) as platform:
        _make_table(platform, Path(folder), values, arguments.clusters)
        early, full = (_statement(arguments.clusters, arguments.iterations, early_stop=stop) for stop in (True, False))
        ours, peer, ours_early, peer_early = _best(
            [
                lambda: _create(platform, full),
                lambda: _peer(values, arguments.clusters, max_iter=arguments.iterations, tol=0),
                lambda: _create(platform, early),
                lambda: _peer(values, arguments.clusters),
            ],
            arguments.runs,
        )
    report(
        "CREATE MODEL kmeans over scikit-learn",
        ours.seconds / peer.seconds,
        "times",
        as_json=arguments.json,
        packages=("numpy", "scikit-learn"),
        rows=arguments.rows,
        columns=arguments.columns,
        clusters=arguments.clusters,
        processor_time_ratio=round(ours.processor_seconds / peer.processor_seconds, 4),
        iterations=ours.iterations,
        seconds=round(ours.seconds, 3),
        scikit_learn_iterations=peer.iterations,
        scikit_learn_seconds=round(peer.seconds, 3),
        early_stop_seconds=round(ours_early.seconds, 3),
        early_stop_iterations=ours_early.iterations,
        scikit_learn_tol_seconds=round(peer_early.seconds, 3),
        scikit_learn_tol_iterations=peer_early.iterations,
    )


def _blobs(rows: int, columns: int, clusters: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    random = np.random.default_rng(0)
    middles = random.normal(0, 2, (clusters, columns))
    return middles[random.integers(clusters, size=rows)] + random.normal(size=(rows, columns))


def _make_table(platform: Platform, folder: Path, values: np.ndarray[Any, Any], clusters: int) -> None:
    """`d.points` with the values, and TRUE in `first` for the rows both start from."""
    columns = {f"x{column}": values[:, column] for column in range(values.shape[1])}
    platform.sql(f"CREATE SCHEMA d; CREATE TABLE d.points ({', '.join(f'{name} FLOAT64' for name in columns)}, first BOOL)")
    rows = pa.table(columns | {"first": np.arange(len(values)) < clusters})
    # In batches as a query would write them: then the file has row groups, which DuckDB reads with all its threads.
    DeltaLake(folder / Config().data / "lake").append(Ref("d", "points"), rows.to_reader(max_chunksize=65_536))


def _statement(clusters: int, iterations: int, *, early_stop: bool) -> str:
    return f"""
        CREATE OR REPLACE MODEL d.clusters
        OPTIONS(model_type='kmeans', num_clusters={clusters}, max_iterations={iterations}, early_stop={early_stop},
                kmeans_init_method='CUSTOM', kmeans_init_col='first')
        AS SELECT * FROM d.points
    """


def _create(platform: Platform, statement: str) -> Callable[[], int]:
    platform.sql(statement)
    return lambda: len(platform.sql("SELECT iteration FROM ML.TRAINING_INFO(MODEL d.clusters)").rows())


def _peer(values: np.ndarray[Any, Any], clusters: int, **parameters: Any) -> Callable[[], int]:
    from sklearn.cluster import KMeans

    fitted = KMeans(clusters, init=values[:clusters], n_init=1, **parameters).fit(values)
    return lambda: int(fitted.n_iter_)


@dataclass
class _Best:
    seconds: float = math.inf
    processor_seconds: float = math.inf  # of all threads
    iterations: int = 0  # of the last run


def _best(tasks: Sequence[Callable[[], Callable[[], int]]], runs: int) -> list[_Best]:
    """The fastest run of each task; a task gives a function that tells its iterations."""
    found = [_Best() for _ in tasks]
    for _ in range(runs):
        for task, best in zip(tasks, found, strict=True):
            started, processor = time.perf_counter(), time.process_time()
            iterations = task()
            best.seconds = min(best.seconds, time.perf_counter() - started)
            best.processor_seconds = min(best.processor_seconds, time.process_time() - processor)
            best.iterations = iterations()
    return found


if __name__ == "__main__":
    main()
