"""Preprocessing: which rows it is fitted from, and that the graph computes the same as numpy for any value."""

from __future__ import annotations

import string
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from sokuji import types as t
from sokuji.errors import ModelError
from sokuji.ml.columns.encoded import Design
from sokuji.ml.columns.inputs import InputKind
from sokuji.ml.columns.preprocessing import Preprocessing, fit, read
from sokuji.ml.graph import Graph
from sokuji.ml.serving.runtime import GraphSession
from sokuji.ml.values import NULL_CATEGORY, FeatureStatistics
from tests.searching import examples

NUMBERS = pa.array([1.0, 2.0, None, 3.0, 6.0])  # mean 3, sample deviation sqrt(14/3)


def table(**columns: Any) -> pa.Table:
    return pa.table(columns)


def fields(**types: t.Type) -> list[t.Field]:
    return [t.Field(name, type_) for name, type_ in types.items()]


def fitted(
    features: list[t.Field], rows: pa.Table, *, standardize: bool = True, trees: bool = False
) -> tuple[Preprocessing, tuple[FeatureStatistics, ...]]:
    return fit(*read(features, rows), standardize=standardize, trees=trees)


def encoded(preprocessing: Preprocessing, columns: dict[str, Any]) -> Design:
    """What the graph makes of the columns."""
    graph = Graph({item.name: item.kind is InputKind.STRING for item in preprocessing.inputs})
    tensors = preprocessing.export(graph)
    outputs = {f"code {number}": graph.cast(codes, 11) for number, (codes, _) in enumerate(tensors.codes)}
    ranks = dict.fromkeys(outputs, 1)
    if tensors.numbers is not None:
        outputs, ranks = {"numbers": tensors.numbers, **outputs}, {"numbers": 2, **ranks}
    found = GraphSession(graph.build(outputs, ranks).SerializeToString()).run(columns)
    rows = len(next(iter(columns.values())))
    return Design(
        found.get("numbers", np.empty((rows, 0))),
        tuple(found[f"code {number}"].astype(np.int32) for number in range(len(tensors.codes))),
        tuple(size for _, size in tensors.codes),
    )


def assert_same(first: Design, second: Design) -> None:
    np.testing.assert_array_equal(first.numbers, second.numbers)
    assert first.sizes == second.sizes
    for ours, theirs in zip(first.codes, second.codes, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_numbers_become_z_scores_of_the_sample_and_null_the_mean() -> None:
    preprocessing, (info,) = fitted(fields(x=t.FLOAT64), table(x=NUMBERS))

    design = preprocessing.transform(preprocessing.read(table(x=NUMBERS)))

    deviation = np.sqrt(14 / 3)
    np.testing.assert_allclose(design.numbers[:, 0], np.array([-2, -1, 0, 0, 3]) / deviation)
    assert (info.input, info.min, info.max, info.mean, info.median, info.null_count) == ("x", 1.0, 6.0, 3.0, 2.5, 1)
    assert info.stddev == pytest.approx(deviation)
    assert (info.category_count, info.dimension) == (None, None)


def test_without_standardisation_numbers_stay_and_null_is_still_the_mean() -> None:
    preprocessing, _ = fitted(fields(x=t.FLOAT64), table(x=NUMBERS), standardize=False)
    assert preprocessing.transform(preprocessing.read(table(x=NUMBERS))).numbers[:, 0].tolist() == [1, 2, 3, 3, 6]


def test_for_trees_numbers_stay_and_null_is_missing() -> None:
    preprocessing, _ = fitted(fields(x=t.FLOAT64), table(x=NUMBERS), trees=True)
    np.testing.assert_array_equal(preprocessing.transform(preprocessing.read(table(x=NUMBERS))).numbers[:, 0], [1, 2, np.nan, 3, 6])


@pytest.mark.parametrize("values", [[5.0, 5.0, 5.0], [7.0], [None, None], [0.1 + 0.2, 0.3, 0.3]])
def test_a_column_that_does_not_vary_becomes_zero(values: list[float | None]) -> None:
    rows = table(x=pa.array(values, pa.float64()))
    preprocessing, _ = fitted(fields(x=t.FLOAT64), rows)
    np.testing.assert_allclose(preprocessing.transform(preprocessing.read(rows)).numbers, 0, atol=1e-12)


def test_categories_are_sorted_then_null_then_whatever_is_new() -> None:
    rows = table(c=["b", None, "a", "b", ""], flag=[True, None, True, True, True])
    preprocessing, (info, flag) = fitted(fields(c=t.STRING, flag=t.BOOL), rows)

    assert preprocessing.categories[0].labels == ("", "a", "b", NULL_CATEGORY)
    assert preprocessing.categories[1].labels == ("true", NULL_CATEGORY)
    assert (info.category_count, info.null_count, info.mean) == (3, 1, None)
    assert (flag.category_count, flag.null_count) == (1, 1)
    new = preprocessing.transform(preprocessing.read(table(c=["b", None, "new"], flag=[True, None, False])))
    assert [codes.tolist() for codes in new.codes] == [[2, 3, 4], [0, 1, 2]]


def test_dates_and_times_are_categories_written_as_googlesql_writes_them() -> None:
    rows = table(
        day=[date(2024, 2, 29)],
        moment=[datetime(2024, 2, 29, 1, 2, 3)],  # noqa: DTZ001 a DATETIME has no zone
        clock=[time(1, 2, 3, 500000)],
    )
    preprocessing, _ = fitted(fields(day=t.DATE, moment=t.DATETIME, clock=t.TIME), rows)
    assert [category.keys for category in preprocessing.categories] == [
        ("2024-02-29",),
        ("2024-02-29 01:02:03",),
        ("01:02:03.500000",),
    ]


def test_a_timestamp_becomes_its_calendar_parts_and_its_standardised_seconds() -> None:
    rows = table(
        at=pa.array([datetime(2024, 2, 29, 23, 5, tzinfo=UTC), datetime(2023, 1, 1, 1, tzinfo=UTC), None], pa.timestamp("us", "UTC"))
    )

    preprocessing, (info,) = fitted(fields(at=t.TIMESTAMP), rows)

    assert {category.name: category.labels[:-1] for category in preprocessing.categories} == {
        "_TS_DOM_at": ("1", "29"),
        "_TS_DOW_at": ("1", "5"),
        "_TS_MOY_at": ("1", "2"),
        "_TS_HOD_at": ("1", "23"),
        "_TS_MOH_at": ("0", "5"),
        "_TS_WOY_at": ("1", "8"),
        "_TS_YEAR_at": ("2023", "2024"),
    }
    assert [number.name for number in preprocessing.numbers] == ["at"]
    assert info.min == datetime(2023, 1, 1, 1, tzinfo=UTC).timestamp()
    design = preprocessing.transform(preprocessing.read(rows))
    np.testing.assert_allclose(design.numbers[:, 0], [np.sqrt(0.5), -np.sqrt(0.5), 0])
    assert design.codes[0].tolist() == [1, 0, 2]


def test_structs_are_flattened_whatever_their_depth() -> None:
    keys = t.struct([t.Field("id", t.STRING), t.Field("geo", t.struct([t.Field("lat", t.FLOAT64)]))])
    rows = table(keys=[{"id": "a", "geo": {"lat": 1.0}}, {"id": "b", "geo": None}, None])

    _, infos = fitted([t.Field("keys", keys)], rows)

    assert [info.input for info in infos] == ["keys_id", "keys_geo_lat"]
    assert [info.null_count for info in infos] == [1, 2]


@pytest.mark.parametrize("type_", [t.array(t.FLOAT64), t.BYTES, t.JSON, t.INTERVAL])
def test_a_type_no_model_can_use_is_named(type_: t.Type) -> None:
    with pytest.raises(ModelError, match=f"feature 'x' is {type_}"):
        fitted([t.Field("x", type_)], table(x=[None]))


def test_flattened_names_must_differ() -> None:
    with pytest.raises(ModelError, match="repeated: a_b"):
        fitted([t.Field("a_b", t.INT64), t.Field("a", t.struct([t.Field("b", t.INT64)]))], table(a_b=[1], a=[{"b": 1}]))


def test_a_missing_column_is_named() -> None:
    preprocessing, _ = fitted(fields(x=t.INT64), table(x=[1]))
    with pytest.raises(ModelError, match="needs the column 'x', the rows have: y"):
        preprocessing.read(table(y=[1]))


def test_decimals_and_integers_are_numbers() -> None:
    rows = table(n=pa.array([Decimal("1.5"), None], pa.decimal128(38, 9)), i=[2**60, 1])
    preprocessing, _ = fitted(fields(n=t.NUMERIC, i=t.INT64), rows, trees=True)
    np.testing.assert_array_equal(preprocessing.transform(preprocessing.read(rows)).numbers, [[1.5, 2.0**60], [np.nan, 1.0]])


TEXT = st.one_of(
    st.text(max_size=5), st.text(st.sampled_from(string.ascii_lowercase[:3]), max_size=2), st.just(NULL_CATEGORY), st.just("a\0b")
)
ROW = st.tuples(
    st.one_of(st.none(), st.floats()),
    st.one_of(st.none(), st.booleans()),
    st.one_of(st.none(), st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31))),  # noqa: DTZ001
    st.one_of(st.none(), TEXT),
)
TYPES = {"x": t.FLOAT64, "flag": t.BOOL, "at": t.TIMESTAMP, "c": t.STRING}


def rows_of(rows: list[tuple[Any, ...]]) -> pa.Table:
    arrow = [pa.float64(), pa.bool_(), pa.timestamp("us", "UTC"), pa.string()]
    return pa.table({name: pa.array([row[place] for row in rows], arrow[place]) for place, name in enumerate(TYPES)})


def fitted_if_useful(training: list[tuple[Any, ...]], *, trees: bool = False) -> Preprocessing:
    """Fitted to the rows; an example of which a few values make a feature worthless is refused, and is none."""
    try:
        return fitted(fields(**TYPES), rows_of(training), trees=trees)[0]
    except ModelError:
        reject()


@given(st.lists(ROW, min_size=1, max_size=6), st.lists(ROW, min_size=1, max_size=12), st.booleans())
@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.too_slow])
def test_the_graph_encodes_any_row_exactly_as_numpy_does(training: list[Any], rows: list[Any], trees: bool) -> None:
    preprocessing = fitted_if_useful(training, trees=trees)
    columns = preprocessing.read(rows_of(training + rows))
    assert_same(encoded(preprocessing, columns), preprocessing.transform(columns))


@given(st.lists(st.floats(), min_size=1, max_size=20))
def test_raw_numbers_of_any_size_are_encoded_the_same_for_every_kind(values: list[float]) -> None:
    """What a client of real-time serving may send: a BOOL of 0.3, a TIMESTAMP of 1e300 seconds."""
    preprocessing, _ = fitted(fields(**TYPES), rows_of([(1.0, True, datetime(2024, 1, 1), "a"), (3.0, False, None, None)]))  # noqa: DTZ001
    columns = {name: np.array(values) for name in ("x", "flag", "at")} | {"c": pa.array(["a"] * len(values))}
    assert_same(encoded(preprocessing, columns), preprocessing.transform(columns))


@given(st.lists(ROW, min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_products_are_those_of_the_one_hot_matrix(rows: list[Any], seed: int) -> None:
    preprocessing = fitted_if_useful(rows[:4])
    design = preprocessing.transform(preprocessing.read(rows_of(rows)))
    design = Design(np.random.default_rng(seed).normal(size=design.numbers.shape), design.codes, design.sizes)
    matrix = np.hstack(
        [design.numbers, *(np.eye(size + 1)[codes][:, :size] for codes, size in zip(design.codes, design.sizes, strict=True))]
    )
    random = np.random.default_rng(seed)
    weights, values, importance = random.normal(size=(design.width, 2)), random.normal(size=(len(rows), 2)), random.random(len(rows))

    np.testing.assert_array_equal(design.dense(), matrix)
    np.testing.assert_allclose(design.dot(weights), matrix @ weights)
    np.testing.assert_allclose(design.transposed_dot(values), matrix.T @ values, atol=1e-12)
    np.testing.assert_allclose(design.gram(importance), (matrix * importance[:, None]).T @ matrix, atol=1e-12)
    np.testing.assert_allclose(design.squared_norms(), (matrix**2).sum(axis=1))
