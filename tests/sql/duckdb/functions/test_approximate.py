"""Aggregates that the reference implementation lacks: exact results, and sketches within their error."""

from __future__ import annotations

import random
from typing import Any

import pytest

from sokuji.errors import SqlError
from sokuji.sql.duckdb.functions import sketch
from sokuji.sql.engine import Engine


def rows(engine: Engine, sql: str) -> list[tuple[Any, ...]]:
    return engine.execute(sql).rows()


def test_top_count_and_top_sum(engine: Engine) -> None:
    values = "UNNEST([STRUCT('a' AS v, 1 AS w), ('b', 5), ('a', 3), (NULL, 2), ('c', NULL), (NULL, NULL), ('a', NULL)])"
    (found,) = rows(engine, f"SELECT APPROX_TOP_COUNT(v, 2), APPROX_TOP_SUM(v, w, 9) FROM {values}")
    assert found[0] == [{"value": "a", "count": 3}, {"value": None, "count": 2}]
    assert [(entry["value"], entry["sum"]) for entry in found[1]] == [("b", 5), ("a", 4), (None, 2), ("c", None)]
    assert rows(
        engine, "SELECT APPROX_TOP_COUNT(x, 3)[OFFSET(0)] FROM UNNEST(GENERATE_ARRAY(1, 100000)) AS y, UNNEST([MOD(y, 50000)]) AS x"
    )


def test_quantiles(engine: Engine) -> None:
    assert rows(engine, "SELECT APPROX_QUANTILES(x, 4) FROM UNNEST(GENERATE_ARRAY(0, 100)) AS x") == [([0, 25, 50, 75, 100],)]


def test_sketches_count_merge_and_are_exact_for_few(engine: Engine) -> None:
    sketches = """WITH s AS (SELECT g, HLL_COUNT.INIT(x) AS sketch
            FROM UNNEST(GENERATE_ARRAY(1, 1500)) AS x, UNNEST([MOD(x, 3), 9]) AS g GROUP BY g)
        SELECT HLL_COUNT.MERGE(sketch), HLL_COUNT.EXTRACT(HLL_COUNT.MERGE_PARTIAL(sketch)), MAX(HLL_COUNT.EXTRACT(sketch)) FROM s"""
    assert rows(engine, sketches) == [(1500, 1500, 1500)]
    nothing = (
        "SELECT HLL_COUNT.INIT(x), HLL_COUNT.MERGE(CAST(NULL AS BYTES)), HLL_COUNT.EXTRACT(NULL) FROM UNNEST([CAST(NULL AS STRING)]) AS x"
    )
    assert rows(engine, nothing) == [(None, 0, 0)]
    sizes = "HLL_COUNT.EXTRACT(HLL_COUNT.INIT(x, 12)), HLL_COUNT.EXTRACT(HLL_COUNT.INIT(CAST(x AS BYTES)))"
    types = f"SELECT {sizes} FROM UNNEST(['a', 'b', 'a']) AS x"
    assert rows(engine, types) == [(2, 2)]
    with pytest.raises(SqlError, match="between 10 and 24"):
        rows(engine, "SELECT HLL_COUNT.INIT(1, 30) FROM UNNEST([1])")
    with pytest.raises(SqlError, match="Invalid or unsupported HLL sketch"):
        rows(engine, "SELECT HLL_COUNT.EXTRACT(b'abc')")


@pytest.mark.parametrize("count", [4_000, 60_000, 300_000])
@pytest.mark.parametrize("precision", [12, 15])
def test_the_error_of_an_estimate(count: int, precision: int) -> None:
    numbers = random.Random(count)
    hashes = [numbers.getrandbits(63) for _ in range(count)]
    made = sketch.read(sketch.make(hashes, precision))
    error = 1.04 / (1 << precision) ** 0.5
    assert made.count() == pytest.approx(count, rel=4 * error)


def test_merging_is_the_sketch_of_everything_at_the_lowest_precision() -> None:
    numbers = random.Random(7)
    hashes = [numbers.getrandbits(63) for _ in range(50_000)]
    together = sketch.make(hashes, 11)
    parts = [sketch.make(hashes[:20_000], 14), sketch.make(hashes[10_000:], 11), sketch.make(hashes[:100], 13)]
    assert sketch.merge(parts).to_bytes() == together
