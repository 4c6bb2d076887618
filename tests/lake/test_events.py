"""Rows of the log as rows of the events table: every property in its column, and all properties in `properties`."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sokuji.lake.base import Kept
from sokuji.lake.events import COLUMNS_AT_ONCE, COLUMNS_MAX, FIXED_SCHEMA, NAME_LENGTH_MAX, Columns, column_name
from sokuji.sink.shape import Shaper
from tests.lake.platform import START_US, log_rows
from tests.searching import examples

Properties = Mapping[str, Any] | str


@pytest.fixture(scope="module", name="shaper")
def make_shaper() -> Any:
    shaper = Shaper()
    yield shaper
    shaper.close()


def shaped(shaper: Shaper, *properties: Properties, columns: Columns | None = None) -> pa.Table:
    events = [{"message_id": f"m{number}", "properties": one} for number, one in enumerate(properties)]
    columns = {} if columns is None else columns
    return shaper.shape(pa.table(log_rows(events)), columns).read_all()


def values(shaper: Shaper, *properties: Properties, columns: Columns | None = None) -> dict[str, list[Any]]:
    """The property columns."""
    table = shaped(shaper, *properties, columns=columns)
    return {name: table.column(name).to_pylist() for name in table.schema.names if name not in FIXED_SCHEMA.names}


def types(shaper: Shaper, *properties: Properties) -> dict[str, pa.DataType]:
    columns: Columns = {}
    shaped(shaper, *properties, columns=columns)
    return columns


def test_the_fixed_columns_are_those_of_the_log(shaper: Shaper) -> None:
    event = {
        "message_id": "m1",
        "event_name": "buy",
        "visitor_id": "v1",
        "user_id": "u1",
        "type": "track",
        "source": "web",
        "original_time": START_US - 5,
        "sent_at": START_US - 4,
        "received_at": START_US,
        "event_time": START_US - 1,
        "time_rule": "skew",
        "historical": True,
        "context": '{"ip":"203.0.113.7"}',
        "properties": "{}",
    }
    table = shaper.shape(pa.table(log_rows([event])), {}).read_all()
    assert table.schema == FIXED_SCHEMA
    row = table.select(["event_name", "keys", "message_id", "type", "source", "time_rule", "historical", "context"]).to_pylist()
    assert row == [
        {
            "event_name": "buy",
            "keys": {"visitor_id": "v1", "user_id": "u1"},
            "message_id": "m1",
            "type": "track",
            "source": "web",
            "time_rule": "skew",
            "historical": True,
            "context": '{"ip":"203.0.113.7"}',
        }
    ]
    times = [table.column(name).cast(pa.int64())[0].as_py() - START_US for name in ("_date", "received_at", "original_time", "sent_at")]
    assert times == [-1, 0, -5, -4]


def test_events_of_programs_are_marked(shaper: Shaper) -> None:
    contexts = ['{"userAgent": "Googlebot/2.1"}', '{"userAgent": "Mozilla/5.0 Firefox/125.0"}', None]
    rows = pa.table(log_rows([{"message_id": f"m{number}", "context": context} for number, context in enumerate(contexts)]))
    assert shaper.shape(rows, {}).read_all().column("is_bot").to_pylist() == [True, False, False]


def test_rows_without_a_place_have_none(shaper: Shaper) -> None:
    places = shaped(shaper, {"p": 1}).select(["log_partition", "log_offset"])
    assert places.to_pylist() == [{"log_partition": None, "log_offset": None}]


@pytest.mark.parametrize(
    ("value", "type_", "expected"),
    [
        (1, pa.float64(), 1.0),
        (-0.5, pa.float64(), -0.5),
        (1e300, pa.float64(), 1e300),
        (2**53 + 1, pa.float64(), 2.0**53),
        (10**30, pa.float64(), 1e30),
        (True, pa.bool_(), True),
        (False, pa.bool_(), False),
        ("", pa.string(), ""),
        ("12", pa.string(), "12"),
        ("true", pa.string(), "true"),
        ("null", pa.string(), "null"),
        ("2026-01-01T00:00:00Z", pa.string(), "2026-01-01T00:00:00Z"),
        ('"quoted" \\ back\nline\tno\u0000thing', pa.string(), '"quoted" \\ back\nline\tno\u0000thing'),
        ("日本 🙂 é", pa.string(), "日本 🙂 é"),
    ],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_scalar_gets_a_column_of_its_type(shaper: Shaper, value: Any, type_: pa.DataType, expected: Any, ascii_only: bool) -> None:
    properties = json.dumps({"p": value}, ensure_ascii=ascii_only)
    assert types(shaper, properties) == {"p": type_}
    assert values(shaper, properties) == {"p": [expected]}


@pytest.mark.parametrize("value", [None, [], [1, "a"], {}, {"b": {"c": 1}}])
def test_what_is_no_scalar_gets_no_column(shaper: Shaper, value: Any) -> None:
    assert values(shaper, {"p": value}) == {}
    assert shaped(shaper, {"p": value}).column("properties").to_pylist() == [json.dumps({"p": value})]


@pytest.mark.parametrize("properties", ["[1, 2]", '"text"', "1", "null", "{}", "true"])
def test_properties_that_are_no_object_have_no_columns(shaper: Shaper, properties: str) -> None:
    table = shaped(shaper, properties)
    assert table.schema == FIXED_SCHEMA
    assert table.column("properties").to_pylist() == [properties]


def test_missing_properties_stay_missing(shaper: Shaper) -> None:
    rows = log_rows([{"message_id": "m1"}, {"message_id": "m2", "properties": {"a": 1}}])
    rows = rows.set_column(rows.schema.get_field_index("properties"), "properties", pa.array([None, '{"a": 1}']))
    table = shaper.shape(pa.table(rows), {}).read_all()
    assert (table.column("properties").to_pylist(), table.column("a").to_pylist()) == ([None, '{"a": 1}'], [None, 1.0])


def test_the_first_scalar_decides_and_others_are_null_in_the_column(shaper: Shaper) -> None:
    rows: list[Properties] = [{"p": None}, {"p": [1]}, {"p": 3}, {"p": "4"}, {"p": True}, {"p": {"a": 1}}, {"p": 5.5}, {}]
    assert values(shaper, *rows) == {"p": [None, None, 3.0, None, None, None, 5.5, None]}
    assert values(shaper, {"p": "4"}, {"p": 3}, {"p": False}) == {"p": ["4", None, None]}
    assert values(shaper, {"p": False}, {"p": 0}, {"p": "true"}, {"p": True}) == {"p": [False, None, None, True]}
    assert shaped(shaper, *rows).column("properties").to_pylist() == [json.dumps(row) for row in rows]


def test_a_column_the_table_has_keeps_its_type(shaper: Shaper) -> None:
    assert values(shaper, {"p": 1}, {"p": "x"}, columns={"p": pa.string(), "q": pa.bool_()}) == {"p": [None, "x"], "q": [None, None]}


@pytest.mark.parametrize("name", [*FIXED_SCHEMA.names, "_day", "TYPE", "Message_Id"])
def test_a_property_named_like_a_fixed_column_gets_a_suffix(shaper: Shaper, name: str) -> None:
    assert values(shaper, {name: 7}) == {f"{name}_prop": [7.0]}


@pytest.mark.parametrize(
    ("key", "name"),
    [("a b", "a_b"), ("a.b", "a_b"), ("$x", "_x"), ("1st", "_1st"), ("価格", "価格"), ("a-b-c", "a_b_c"), ("'; DROP --", "___DROP___")],
)
def test_what_cannot_stand_in_a_name_is_replaced(shaper: Shaper, key: str, name: str) -> None:
    assert column_name(key) == name
    assert values(shaper, {key: "x"}) == {name: ["x"]}


@pytest.mark.parametrize("key", ["", "x" * (NAME_LENGTH_MAX + 1), "a\0b"])
def test_some_names_get_no_column(shaper: Shaper, key: str) -> None:
    assert column_name(key) is None
    assert values(shaper, {key: "x"}) == {}


def test_names_that_differ_only_in_case_or_in_what_is_replaced_share_a_column(shaper: Shaper) -> None:
    assert values(shaper, {"Price": 1}, {"price": 2}, {"PRICE": "x"}) == {"PRICE": [None, None, "x"]}
    assert values(shaper, {"a.b": 1}, {"a b": 2}, {"a-b": 3, "a_b": 4}) == {"a_b": [1.0, 2.0, 3.0]}
    assert values(shaper, {"b": 2, "B": 1}, columns={"b": pa.float64()}) == {"b": [1.0]}


def test_a_shared_column_takes_the_first_that_fits(shaper: Shaper) -> None:
    assert values(shaper, {"A": "x", "a": 2}, columns={"a": pa.float64()}) == {"a": [2.0]}


@pytest.mark.parametrize("properties", ['{"p":1e999}', '{"p":-1e999,"q":1}', '{"p":"\\ud800"}', '{"\\udc00":1}', '{"p":'])
def test_json_that_duckdb_does_not_read_stops_nothing(shaper: Shaper, properties: str) -> None:
    table = shaped(shaper, properties, {"q": 2})
    kept, plain = table.column("properties").to_pylist()
    assert properties in {kept, json.loads(kept) if kept.startswith('"') else kept}
    assert (plain, table.column("q").to_pylist()[1]) == ('{"q": 2}', 2.0)


def test_a_thousand_properties(shaper: Shaper) -> None:
    row = {f"p{number:04}": number for number in range(COLUMNS_MAX)}
    named = dict.fromkeys(row, Kept(pa.float64()))
    table = shaper.shape(pa.table(log_rows([{"properties": row}])), {}, named).read_all()
    assert {name: table.column(name).to_pylist() for name in row} == {name: [float(value)] for name, value in row.items()}


def test_no_single_event_takes_all_columns(shaper: Shaper) -> None:
    rows: list[Properties] = [{f"rare{place}_{number}": 1 for place in range(40)} | {"z_common": number} for number in range(60)]
    columns: Columns = {}
    table = shaped(shaper, *rows, columns=columns)
    assert len(columns) == COLUMNS_AT_ONCE
    assert table.column("z_common").to_pylist() == [float(number) for number in range(60)]
    assert table.column("properties").to_pylist() == [json.dumps(row) for row in rows]
    before, sightings = dict(columns), Counter[str]()
    for number in range(10):
        assert columns == before
        rows = [{"Again": number}, {f"junk{number}_{place}": 1 for place in range(1_000)}]
        table = shaper.shape(pa.table(log_rows([{"properties": each} for each in rows])), columns, {}, sightings).read_all()
    assert columns == before | {"Again": pa.float64()}
    assert table.column("Again").to_pylist() == [9.0, None]
    named = {"named": Kept(pa.string())}
    assert "named" in shaper.shape(pa.table(log_rows([{"properties": {"named": "x", "other": 1}}])), columns, named).schema.names
    assert "other" not in columns


def test_an_event_counts_once_however_often_it_has_a_property(shaper: Shaper) -> None:
    columns: Columns = {f"p{number}": pa.float64() for number in range(COLUMNS_AT_ONCE)}
    before, sightings = dict(columns), Counter[str]()
    same = [f'"{"".join(each)}": 1' for each in itertools.product(*(letter + letter.upper() for letter in "taken"))]
    text = "{" + ", ".join([*same, *['"again": 1'] * 100]) + "}"
    shaper.shape(pa.table(log_rows([{"properties": text}])), columns, {}, sightings).read_all()
    assert columns == before
    assert sightings == {"taken": 1, "again": 1}


def test_columns_run_out(shaper: Shaper) -> None:
    columns: Columns = {f"p{number}": pa.float64() for number in range(COLUMNS_MAX)}
    rows = log_rows([{"properties": {"one_more": 1}}] * 3)
    assert "one_more" not in shaper.shape(pa.table(rows), columns, {"one_more": Kept(pa.float64())}, Counter(one_more=10**9)).schema.names
    assert len(columns) == COLUMNS_MAX


def test_a_deep_property_is_kept_whole(shaper: Shaper) -> None:
    deep = "[" * 60 + "1" + "]" * 60
    table = shaped(shaper, f'{{"deep":{deep},"flat":1}}')
    assert table.column("properties").to_pylist() == [f'{{"deep":{deep},"flat":1}}']
    assert table.column("flat").to_pylist() == [1.0]


def test_many_rows_have_the_columns_of_all(shaper: Shaper) -> None:
    """More than are shaped at a time, with a property that only the last rows have."""
    count = 70_000
    rows: list[Properties] = [{"n": number} if number < count - 10 else {"n": number, "late": "x"} for number in range(count)]
    table = shaped(shaper, *rows)
    assert table.column("n").to_pylist() == list(range(count))
    assert table.column("late").to_pylist() == [None] * (count - 10) + ["x"] * 10


def test_no_rows(shaper: Shaper) -> None:
    assert shaper.shape(pa.table(log_rows([])), {"p": pa.bool_()}).read_all().num_rows == 0
    assert len(shaper.ids(pa.table(log_rows([]))).high) == 0


def test_messages_are_told_apart_by_source_and_id(shaper: Shaper) -> None:
    told_apart = [("web", "m1"), ("web", "m2"), ("app", "m1"), ("we", "bm1"), ("web", "")]
    rows = log_rows([{"source": source, "message_id": message} for source, message in [*told_apart, ("web", "m1")]])
    ids = list(zip(*(half.tolist() for half in shaper.ids(pa.table(rows))), strict=True))
    assert len(set(ids)) == len(told_apart)
    assert ids[0] == ids[-1]


scalars = (
    st.none() | st.booleans() | st.integers(-(10**25), 10**25) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=6
)
keys = st.sampled_from(["a", "A", "a b", "a.b", "type", "Type_prop", "_day", "1", "é", "É", "", "K", "k", "\u212a"]) | st.text(max_size=6)
objects = st.dictionaries(keys, json_values, max_size=6)


def matches(value: Any, cell: Any) -> bool:
    """Whether a column holds the value, in the column's type."""
    if isinstance(value, bool) or isinstance(cell, bool) or isinstance(value, str):
        return type(value) is type(cell) and value == cell
    return isinstance(value, int | float) and isinstance(cell, float) and math.isclose(value, cell, rel_tol=1e-15)


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(objects, min_size=1, max_size=8), ascii_only=st.booleans())
def test_nothing_of_the_properties_is_lost_and_columns_hold_only_what_is_there(
    shaper: Shaper, rows: list[dict[str, Any]], ascii_only: bool
) -> None:
    texts = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    table = shaped(shaper, *texts)
    kept = table.column("properties").to_pylist()
    assert [json.loads(text) for text in kept] == rows
    names = [name for name in table.schema.names if name not in FIXED_SCHEMA.names]
    assert len({name.lower() for name in table.schema.names}) == len(table.schema.names)
    for row, cells in zip(rows, table.select(names).to_pylist(), strict=True):
        for name, cell in cells.items():
            candidates = [value for key, value in sorted(row.items()) if (column_name(key) or "").lower() == name.lower()]
            fitting = [value for value in candidates if cell is not None and matches(value, cell)]
            assert bool(fitting) == (cell is not None)
    for row in rows:
        for key, value in row.items():
            if isinstance(value, str | bool | int | float) and column_name(key) is not None:
                assert (column_name(key) or "").lower() in {name.lower() for name in names}
