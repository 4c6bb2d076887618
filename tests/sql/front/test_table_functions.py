"""ML.* table functions wherever BigQuery allows them, with functions whose result is easy to check."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sokuji.config import SqlSettings
from sokuji.errors import ModelError, SqlError, UnsupportedSqlError
from sokuji.lake.delta.tables import DeltaLake
from sokuji.meta.objects import Ref
from sokuji.meta.store import SqlCatalog
from sokuji.models.base import ModelStore
from sokuji.models.memory import MemoryModelStore
from sokuji.models.versions import ModelSignature, ModelVersion
from sokuji.sql.duckdb.backend import DuckDb
from sokuji.sql.engine import Engine
from sokuji.sql.extension import TableCall, TableFunction
from sokuji.types import BOOL, FLOAT64, INT64, Field, to_arrow

MODEL = ModelSignature(Ref("shop", "m"), "KMEANS", (Field("x", INT64),), (), (Field("centroid_id", INT64),))


class Predict:
    """Puts `centroid_id` = x * factor in front of every row of the input."""

    def __init__(self) -> None:
        self.calls: list[TableCall] = []

    def schema(self, call: TableCall) -> tuple[Field, ...]:
        if call.settings.keys() - {"factor", "fail"}:
            raise SqlError(f"unknown setting {sorted(call.settings)}")
        assert call.model is not None
        assert call.input is not None
        return (*call.model.outputs, *call.input)

    def run(self, call: TableCall, rows: pa.RecordBatchReader | None) -> pa.RecordBatchReader:
        self.calls.append(call)
        assert rows is not None
        target = pa.schema([(field.name, to_arrow(field.type)) for field in self.schema(call)])

        def batches() -> Iterator[pa.RecordBatch]:
            for batch in rows:
                if call.settings.get("fail"):
                    raise ModelError("the model does not like this row")
                scaled = pc.multiply(batch.column("x"), call.settings.get("factor", 1))
                yield pa.RecordBatch.from_arrays([scaled, *batch.columns], schema=target)

        return pa.RecordBatchReader.from_batches(target, batches())


class Centroids:
    """The call's own arguments as rows."""

    def schema(self, call: TableCall) -> tuple[Field, ...]:
        assert call.input is None
        return (Field("centroid_id", INT64), Field("standardize", BOOL), Field("threshold", FLOAT64))

    def run(self, call: TableCall, rows: pa.RecordBatchReader | None) -> pa.RecordBatchReader:
        assert rows is None
        thresholds = [float(item) for item in call.arguments[0]] if call.arguments else [0.0]
        ids, standardize = list(range(1, len(thresholds) + 1)), [bool(call.settings.get("standardize"))] * len(thresholds)
        return pa.table({"centroid_id": ids, "standardize": standardize, "threshold": thresholds}).to_reader()


def register(models: ModelStore) -> None:
    """Make the model that these tests call."""
    models.register(ModelVersion(MODEL, 0, models.stage(MODEL.ref), created_at_us=0, sql="", options={}, serving="onnx"))


@pytest.fixture
def predict() -> Predict:
    return Predict()


@pytest.fixture
def engine(tmp_path: Path, predict: Predict) -> Iterator[Engine]:
    lake = tmp_path / "lake"
    functions: dict[str, TableFunction] = {"ml.predict": predict, "ml.centroids": Centroids()}
    with (
        SqlCatalog(f"sqlite:///{tmp_path}/catalog.db") as catalog,
        MemoryModelStore(tmp_path / "models", catalog) as models,
        Engine(catalog, DeltaLake(lake), DuckDb([lake], tmp_path / "spill"), models=models, table_functions=functions) as engine,
    ):
        catalog.create_dataset("shop")
        register(models)
        engine.execute("CREATE TABLE shop.t AS SELECT x, x * 10 AS y FROM UNNEST([1, 2, 3]) AS x")
        yield engine


def rows(engine: Engine, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    return sorted(engine.execute(sql, parameters).rows())


ALL = [(1, 1, 10), (2, 2, 20), (3, 3, 30)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM ML.PREDICT(MODEL shop.m, TABLE shop.t)",
        "SELECT * FROM ml.predict(MODEL `shop.m`, TABLE `shop.t`)",
        "SELECT * FROM `ML`.PREDICT(MODEL `project.shop.m`, (SELECT x, y FROM shop.t))",
        "SELECT p.* FROM ML.PREDICT(MODEL shop.m, (SELECT * FROM shop.t), STRUCT(1 AS factor)) AS p",
        "WITH q AS (SELECT * FROM shop.t) SELECT * FROM ML.PREDICT(MODEL shop.m, TABLE q)",
        "WITH q AS (SELECT * FROM shop.t), r AS (SELECT * FROM q) SELECT * FROM ML.PREDICT(MODEL shop.m, (SELECT * FROM r))",
        "WITH q AS (SELECT * FROM ML.PREDICT(MODEL shop.m, TABLE shop.t)) SELECT * FROM q",
        "SELECT * FROM (SELECT * FROM ML.PREDICT(MODEL shop.m, (WITH q AS (SELECT * FROM shop.t) SELECT * FROM q)))",
        "SELECT centroid_id, x, y FROM ML.PREDICT(MODEL shop.m, TABLE shop.t) WHERE centroid_id > 0",
        "-- é漢\nSELECT centroid_id, x, y FROM ML.PREDICT(MODEL shop.m, (SELECT *, 'é' AS s FROM shop.t))",
    ],
)
def test_a_call_reads_like_a_table(engine: Engine, sql: str) -> None:
    assert rows(engine, sql) == ALL


def test_columns_have_the_functions_names_and_types(engine: Engine) -> None:
    result = engine.execute("SELECT * FROM ML.PREDICT(MODEL shop.m, (SELECT x, STRUCT('a' AS s) AS k, [1.5] AS f FROM shop.t))")
    assert [f"{field.name} {field.type}" for field in result.schema] == [
        "centroid_id INT64",
        "x INT64",
        "k STRUCT<s STRING>",
        "f ARRAY<FLOAT64>",
    ]
    assert sorted(row[2]["s"] for row in result.rows()) == ["a"] * 3


def test_calls_nest(engine: Engine) -> None:
    inner = "(SELECT centroid_id AS x FROM ML.PREDICT(MODEL shop.m, TABLE shop.t, STRUCT(10 AS factor)))"
    assert rows(engine, f"SELECT * FROM ML.PREDICT(MODEL shop.m, {inner}, STRUCT(2 AS factor))") == [(20, 10), (40, 20), (60, 30)]


def test_one_call_may_be_read_twice(engine: Engine, predict: Predict) -> None:
    sql = "WITH p AS (SELECT * FROM ML.PREDICT(MODEL shop.m, TABLE shop.t)) SELECT COUNT(*) FROM p AS a JOIN p AS b USING (centroid_id)"
    assert rows(engine, sql) == [(3,)]


def test_a_function_without_input_takes_settings_and_arrays(engine: Engine) -> None:
    assert rows(engine, "SELECT * FROM ML.CENTROIDS(MODEL shop.m)") == [(1, False, 0.0)]
    assert rows(engine, "SELECT standardize FROM ML.CENTROIDS(MODEL shop.m, STRUCT(TRUE AS standardize))") == [(True,)]
    sql = "SELECT threshold FROM ML.CENTROIDS(MODEL shop.m, GENERATE_ARRAY(0.5, 1, 0.25))"
    assert rows(engine, sql) == [(0.5,), (0.75,), (1.0,)]


def test_calls_stand_in_expressions_and_joins(engine: Engine) -> None:
    sql = "SELECT x, (SELECT COUNT(*) FROM {0}) FROM shop.t WHERE x IN (SELECT centroid_id FROM {0})"
    assert rows(engine, sql.format("ML.CENTROIDS(MODEL shop.m)")) == [(1, 1)]


def test_settings_and_inputs_take_parameters(engine: Engine) -> None:
    sql = "SELECT @a, centroid_id FROM ML.PREDICT(MODEL shop.m, (SELECT x FROM shop.t WHERE x = @a), STRUCT(@f AS factor))"
    assert rows(engine, sql, {"a": 2, "f": 5}) == [(2, 10)]
    sql = "SELECT ?, centroid_id FROM ML.PREDICT(MODEL shop.m, (SELECT x FROM shop.t WHERE x = ?), STRUCT(? AS factor)) WHERE x < ?"
    assert rows(engine, sql, ["é", 2, 5, 9]) == [("é", 10)]


def test_calls_stand_in_statements_that_write(engine: Engine) -> None:
    engine.execute("CREATE TABLE shop.p AS SELECT centroid_id FROM ML.PREDICT(MODEL shop.m, TABLE shop.t)")
    assert rows(engine, "SELECT * FROM shop.p") == [(1,), (2,), (3,)]


def test_a_view_may_call(engine: Engine) -> None:
    engine.execute("CREATE VIEW shop.v AS SELECT centroid_id AS c FROM ML.PREDICT(MODEL shop.m, TABLE shop.t)")
    assert engine.catalog.table(Ref("shop", "v")).query == "SELECT centroid_id AS c FROM ML.PREDICT(MODEL shop.m, TABLE shop.t)"
    assert rows(engine, "SELECT c FROM shop.v") == [(1,), (2,), (3,)]
    assert rows(engine, "SELECT * FROM ML.PREDICT(MODEL shop.m, (SELECT c AS x FROM shop.v))") == [(1, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize(
    ("sql", "message", "line", "column"),
    [
        (
            "SELECT *\nFROM ML.PREDCT(MODEL shop.m)",
            "Table function not found: ML.PREDCT; did you mean ML.PREDICT.* Known: ML.CENTROIDS",
            2,
            6,
        ),
        ("SELECT *\nFROM ML.PREDICT(MODEL shop.mm, TABLE shop.t)", "Not found: Model shop.mm", 2, 23),
        ("SELECT *\nFROM ML.PREDICT(MODEL shop.m, (\n\tSELECT z FROM shop.t))", "Unrecognized name: z", 3, 9),
        ("SELECT *\nFROM ML.PREDICT(MODEL shop.m, TABLE shop.u)", "Table not found: shop.u", 2, 37),
        ("SELECT 1;\nSELECT 'é', z FROM ML.PREDICT(MODEL shop.m, TABLE shop.t)", "Unrecognized name: z", 2, 13),
        ("SELECT *\nFROM ML.PREDICT(MODEL shop.m, TABLE shop.t, STRUCT(1 AS fctor))", "unknown setting", 2, 6),
        ("SELECT *\nFROM ML.PREDICT(MODEL shop.m, TABLE shop.t, STRUCT(x AS factor))", "Unrecognized name: x", 2, 52),
        ("WITH q AS (SELECT 1 AS x)\nSELECT * FROM ML.PREDICT(MODEL shop.m, (SELECT x, z FROM q))", "Unrecognized name: z", 2, 51),
    ],
)
def test_an_error_names_its_place(engine: Engine, sql: str, message: str, line: int, column: int) -> None:
    with pytest.raises(SqlError, match=message) as caught:
        engine.execute(sql)
    assert (caught.value.line, caught.value.column) == (line, column)


def test_named_arguments_and_a_second_input_are_refused(engine: Engine) -> None:
    with pytest.raises(UnsupportedSqlError, match=r"ML\.PREDICT does not take further relation arguments"):
        engine.execute("SELECT * FROM ML.PREDICT(MODEL shop.m, TABLE shop.t, (SELECT 1 AS x))")
    with pytest.raises(UnsupportedSqlError, match=r"ML\.CENTROIDS does not take named arguments"):
        engine.execute("SELECT * FROM ML.CENTROIDS(MODEL shop.m, standardize => TRUE)")


def test_an_error_of_the_function_comes_through_as_it_is(engine: Engine) -> None:
    with pytest.raises(ModelError, match="does not like this row"):
        engine.execute("SELECT * FROM ML.PREDICT(MODEL shop.m, TABLE shop.t, STRUCT(1 AS fail))")


def test_a_result_larger_than_memory_goes_to_disk(tmp_path: Path, predict: Predict) -> None:
    lake = tmp_path / "lake"
    with (
        SqlCatalog(f"sqlite:///{tmp_path}/catalog.db") as catalog,
        MemoryModelStore(tmp_path / "models", catalog) as models,
        Engine(
            catalog,
            DeltaLake(lake),
            DuckDb([lake], tmp_path / "spill", SqlSettings(memory_limit_mib=100)),
            models=models,
            table_functions={"ml.predict": predict},
        ) as engine,
    ):
        catalog.create_dataset("shop")
        register(models)
        engine.execute("CREATE TABLE shop.t AS SELECT x, REPEAT(CAST(x AS STRING), 50) AS s FROM UNNEST(GENERATE_ARRAY(1, 1000)) AS x")
        pairs = "SELECT x, s || y AS s FROM shop.t, (SELECT s AS y FROM shop.t)"
        [(count, length)] = rows(engine, f"SELECT COUNT(*), SUM(LENGTH(s)) FROM ML.PREDICT(MODEL shop.m, ({pairs}))")
    assert (count, length) == (1_000_000, 2 * 1000 * 50 * sum(len(str(x)) for x in range(1, 1001)))
