"""JSON of rows that were stored before the collector replaced numbers beyond FLOAT64: every function reads all of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sokuji.meta.objects import Ref
from sokuji.sql.duckdb.backend import DuckDb
from sokuji.sql.engine import Engine
from tests.lake.platform import lakeside

EVENTS = Ref("shop", "events")
STORED = [
    '{"sha":9085e20999,"a":1,"\\u0061":2,"o":{"x":1e309,"y":[-1e999,1],"z":1}}',
    '{"sha":' + "9" * 400 + ',"a":3}',
    '{"sha":5,"a":4,"a":"x"}',
]
READ = [
    {"sha": None, "a": 1, "o": {"x": None, "y": [None, 1], "z": 1}},
    {"sha": None, "a": 3},
    {"sha": 5, "a": 4},
]
FUNCTIONS: list[tuple[str, list[object]]] = [
    ("TO_JSON_STRING({})", [json.dumps(row, sort_keys=True, separators=(",", ":")) for row in READ]),
    ("TO_JSON_STRING([{}])", [json.dumps([row], sort_keys=True, separators=(",", ":")) for row in READ]),
    ("JSON_VALUE({}, '$.sha')", [None, None, "5"]),
    ("JSON_VALUE({}, '$.a')", ["1", "3", "4"]),
    ("LAX_FLOAT64({}.sha)", [None, None, 5.0]),
    ("JSON_TYPE({}.sha)", ["null", "null", "number"]),
    ("JSON_QUERY({}, '$.o')", ['{"x":null,"y":[null,1],"z":1}', None, None]),
    ("JSON_KEYS({}, 1)", [["a", "o", "sha"], ["a", "sha"], ["a", "sha"]]),
    ("JSON_STRIP_NULLS({}.o)", ['{"y":[1],"z":1}', None, None]),
    ("INT64({}.a)", [1, 3, 4]),
]


@pytest.fixture(params=["lake", "log"], name="engine")
def make_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with lakeside(tmp_path) as side:
        side.catalog.create_dataset("shop")
        side.track(*({"message_id": f"m{number}", "properties": text, "context": text} for number, text in enumerate(STORED)))
        if request.param == "lake":
            side.drain()
        with Engine(side.catalog, side.tables, DuckDb([tmp_path / "lake"], tmp_path / "spill"), acknowledged=side.fresh) as engine:
            yield engine


def test_functions_read_them(engine: Engine) -> None:
    calls = [function.format(column) for column in ("properties", "context") for function, _ in FUNCTIONS]
    rows = engine.execute(f"SELECT {', '.join(calls)} FROM shop.events ORDER BY message_id").rows()
    for position, call in enumerate(calls):
        assert [row[position] for row in rows] == FUNCTIONS[position % len(FUNCTIONS)][1], call


def test_the_typed_columns_say_the_same(engine: Engine) -> None:
    assert engine.execute("SELECT sha, a FROM shop.events ORDER BY message_id").rows() == [(None, 1.0), (None, 3.0), (5.0, 4.0)]


def test_columns_written_before_say_null_and_are_mended_as_files_are_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with lakeside(tmp_path) as side:
        side.catalog.create_dataset("shop")

        def stored() -> list[float | None]:
            return [sha for file in side.tables.snapshot(EVENTS).files for sha in pq.read_table(file).column("sha").to_pylist()]

        with monkeypatch.context() as before:  # as files were written then
            before.setattr("sokuji.sink.shape.finite", lambda column: column)
            before.setattr("sokuji.lake.delta.files.seal", lambda path: path)
            side.track(*({"message_id": f"m{number}", "properties": text} for number, text in enumerate(STORED)))
            side.drain()
        side.track({"message_id": "m3", "properties": '{"sha":6}'})
        side.drain()
        assert sum(math.isinf(sha or 0) for sha in stored()) == 2
        with Engine(side.catalog, side.tables, DuckDb([tmp_path / "lake"], tmp_path / "spill"), acknowledged=side.fresh) as engine:
            read = [("m0", None), ("m1", None), ("m2", 5.0), ("m3", 6.0)]
            assert engine.execute("SELECT message_id, sha FROM shop.events ORDER BY 1").rows() == read
            assert engine.execute("SELECT COUNT(*), MAX(sha) FROM shop.events WHERE sha > 5").rows() == [(1, 6.0)]
            engine.execute("DELETE FROM shop.events WHERE message_id = 'm2'")
            side.tables.maintain([EVENTS])
            assert sorted(stored(), key=str) == [6.0, None, None]
            assert engine.execute("SELECT message_id, sha FROM shop.events ORDER BY 1").rows() == [read[0], read[1], read[3]]
