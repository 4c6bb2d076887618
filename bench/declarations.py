"""How long a change of the declarations stops decisions: state made anew at the start of the worker, or beside the one before.

A lake of a shop's events, the features and rules of `bench/shop`, then one view more. No events come meanwhile: what is timed is the start
and the first checkpoint of a worker that takes over what was prepared, of one that makes its state itself (`rebuild`), and of any other.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from bench._report import report
from bench._shopper import PROJECT
from bench.training import make_events
from sokuji.backends import Backends
from sokuji.config import AnalyzeSettings, Config, Source
from sokuji.lake.delta.tables import DeltaLake

_PROPERTIES = """
  url := 'https://shop.example/item/' || item, category := 'shelf ' || item % 30, revenue := CASE WHEN dice < 0.1 THEN round(price, 2) END
"""
_MORE = 'view("more", entity="visitor", more_pages=events("page").count().over("30d"))\n'


def main(argv: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--visitors", type=int, default=50_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        _run(arguments, Path(name))


def _run(arguments: argparse.Namespace, folder: Path) -> None:
    analyze = AnalyzeSettings(profiles_max=2 * arguments.visitors)
    source = Source(write_key="wk_bench", dataset="shop")
    config = msgspec.structs.replace(Config(), data=folder / "data", analyze=analyze, sources={"web": source})
    backends = Backends(config)
    lake = backends.tables
    assert isinstance(lake, DeltaLake)
    make_events(lake, backends.catalog, events=arguments.events, visitors=arguments.visitors, days=90, threads=2, properties=_PROPERTIES)
    for each in ("features.py", "actions.py"):
        (folder / each).write_text((PROJECT / each).read_text())

    def start() -> None:
        with backends.make_worker(folder) as worker:
            worker.checkpoint(wait=True)

    start()  # compiles, once a machine
    with (folder / "features.py").open("a") as features:
        features.write(_MORE)
    prepare = _seconds(lambda: backends.prepare_worker(folder))
    taken_over = _seconds(start)
    ordinary = _seconds(start)
    (folder / "features.py").write_text((PROJECT / "features.py").read_text())
    rebuild = _seconds(start)
    backends.close()
    report(
        "changed declarations: decisions stop", taken_over, "s", as_json=arguments.json, packages=("duckdb", "numba"),
        events=arguments.events, visitors=arguments.visitors, prepare_seconds=round(prepare, 2), rebuild_seconds=round(rebuild, 2),
        ordinary_seconds=round(ordinary, 2),
    )  # fmt: skip


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
