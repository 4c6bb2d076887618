"""Feast's online reads by key: from SQLite, from Redis, and from Redis by the vectors that it makes of a feature service beforehand.

    python -m bench.peers.feast VALUES

The features are precomputed: Feast has no windows to compute online. Feast's registry is read once and never again.
"""

from __future__ import annotations

import json
import logging
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd  # type: ignore[import-not-found,import-untyped,unused-ignore]
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType  # type: ignore[import-not-found]
from feast.types import Array, Float64, Int64, String  # type: ignore[import-not-found]

from bench.peers.contract import measure_reads

_JSON = frozenset({"shelf_1d"})
"""Lists of structs, which Feast keeps as text."""


def _store(folder: Path, online: dict[str, Any]) -> Any:
    config = RepoConfig(
        project="shop",
        provider="local",
        registry={"path": str(folder / "registry.db"), "cache_ttl_seconds": 0},
        online_store=online,
        offline_store={"type": "file"},
        entity_key_serialization_version=3,
    )
    return FeatureStore(config=config)


def _type(values: pd.Series) -> Any:
    some = next(value for value in values if value is not None)
    return {int: Int64, float: Float64, str: String, list: Array(String)}[type(some)]


def _fill(store: Any, folder: Path, rows: pd.DataFrame) -> None:
    rows.to_parquet(folder / "rows.parquet")
    source = FileSource(path=str(folder / "rows.parquet"), timestamp_field="event_timestamp")
    entity = Entity(name="visitor", join_keys=["visitor"], value_type=ValueType.STRING)
    fields = [Field(name=name, dtype=_type(rows[name])) for name in rows.columns if name not in {"visitor", "event_timestamp"}]
    view = FeatureView(name="shopper", entities=[entity], schema=fields, source=source, ttl=timedelta(0), online=True)
    services = [FeatureService(name="plain", features=[view]), FeatureService(name="vectors", features=[view], precompute_online=True)]
    store.apply([entity, view, *services])
    store.write_to_online_store("shopper", rows)


def _measure(store: Any, service: str, values: Path, *, full_names: bool = False) -> dict[str, float]:
    chosen = store.get_feature_service(service)

    def read(visitor: str) -> dict[str, Any]:
        found = store.get_online_features(features=chosen, entity_rows=[{"visitor": visitor}], full_feature_names=full_names).to_dict()
        plain = {name.removeprefix("shopper__"): value for name, [value] in found.items()}
        return {name: json.loads(value) if name in _JSON else value for name, value in plain.items()}

    return measure_reads(read, values)


@contextmanager
def _redis() -> Iterator[int]:
    """A server of its own on a free port; the block gets the port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    process = subprocess.Popen(
        ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--loglevel", "warning"],
        stdout=subprocess.DEVNULL,
    )
    try:
        for _ in range(100):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def main(values: Path) -> None:
    """Fill each store and read from it."""
    logging.getLogger("feast").setLevel(logging.ERROR)
    said = [json.loads(line) for line in values.read_text().splitlines()]
    plain = [{name: json.dumps(value) if name in _JSON else value for name, value in row.items()} for row in said]
    rows = pd.DataFrame(plain, dtype=object)
    rows["event_timestamp"] = datetime.now(UTC)
    found = {}
    with tempfile.TemporaryDirectory() as name:
        store = _store(Path(name), {"type": "sqlite", "path": f"{name}/online.db"})
        _fill(store, Path(name), rows)
        found["Feast, SQLite"] = _measure(store, "plain", values)
    versions = {package: version(package) for package in ("feast", "redis")}
    if shutil.which("redis-server"):
        with tempfile.TemporaryDirectory() as name, _redis() as port:
            store = _store(Path(name), {"type": "redis", "connection_string": f"127.0.0.1:{port}"})
            _fill(store, Path(name), rows)
            found["Feast, Redis"] = _measure(store, "plain", values)
            store.precompute_feature_service("vectors")
            # This version finds vectors by full names only.
            found["Feast, Redis, precomputed vectors"] = _measure(store, "vectors", values, full_names=True)
        said_version = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout
        versions["redis-server"] = said_version.split("v=")[1].split()[0]
    print(json.dumps({"stores": found, "versions": versions}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
