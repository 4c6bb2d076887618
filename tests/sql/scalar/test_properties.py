"""Properties as columns: the reader in machine code finds the same values as another reader, for any notation of the JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sokuji.sql.scalar.properties import PropertyReader
from sokuji.types import BOOL, FLOAT64, STRING, Type
from tests.json_oracle import columns
from tests.searching import examples

WANTED: dict[str, Type] = {"price": FLOAT64, "name": STRING, "new": BOOL, "in_stock": FLOAT64, "type_prop": STRING}
KEYS = st.sampled_from(
    ["price", "Price", "PRICE", "name", "new", "in stock", "in-stock", "in_stock", "type", "other", "ключ", 'qu"ote', ""],
)
NUMBERS = st.one_of(
    st.integers(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, -0.0, 0.1, 123456.75]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=8), st.sampled_from(["a\\b", 'x"y', "é", "\n"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5,
)
OBJECTS = st.lists(st.tuples(KEYS, VALUES), max_size=6)


def text_of(members: list[tuple[str, Any]], *, ascii_only: bool, indent: str) -> str:
    """JSON that may have a key twice."""
    inner = f",{indent}".join(f"{json.dumps(key, ensure_ascii=ascii_only)}:{indent}{json.dumps(value)}" for key, value in members)
    return f"{indent}{{{indent}{inner}{indent}}}{indent}"


def decoded(text: str | None) -> dict[str, Any]:
    """What the oracle reads."""
    return columns(text, {name: {FLOAT64: float, STRING: str, BOOL: bool}[type_] for name, type_ in WANTED.items()})


def read(reader: PropertyReader, texts: list[str | None]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pa.table(reader.read(pa.array(texts, pa.string()))).to_pylist()
    return found


@settings(max_examples=examples(300), deadline=None)  # the first compiles
@given(st.lists(st.one_of(st.none(), st.tuples(OBJECTS, st.booleans(), st.sampled_from(["", " ", "\n\t"]))), max_size=8))
@example([([("price", 1), ("price", "text")], False, "")])
@example([([("PRICE", None), ("price", 2)], False, " ")])
def test_columns_are_those_of_another_reader(rows: list[tuple[list[tuple[str, Any]], bool, str] | None]) -> None:
    texts = [None if row is None else text_of(row[0], ascii_only=row[1], indent=row[2]) for row in rows]
    reader, wanted = PropertyReader(WANTED), [decoded(text) for text in texts]
    assert read(reader, texts) == wanted
    assert read(reader, texts) == wanted  # with all keys known
    signs = [[math.copysign(1, row["price"]) for row in found if row["price"] is not None] for found in (read(reader, texts), wanted)]
    assert signs[0] == signs[1]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        "null",
        '{"price":1e999}',
        '{"other":[1e999],"price":1}',
        '{"other":{"a":[{"b":"}"}]},"price":1}',
        '{"price":12345678901234567890}',
        '{"price":0.30000000000000004}',
        '{"price":-0}',
        '{"price":' + "9" * 400 + "}",
        '{"other":' + "[" * 200 + "]" * 200 + ',"price":1}',
        '{"price":1,"\\u0070rice":2}',
        '{"\\u0070rice":1}',
        '{"name":"' + "x" * 1_000_000 + '"}',
    ],
)
def test_unusual_objects_are_read_like_any_other(text: str) -> None:
    assert read(PropertyReader(WANTED), [text, '{"price":5}']) == [decoded(text), decoded('{"price":5}')]


def test_keys_that_are_data_are_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sokuji.sql.scalar.properties._KEYS_MAX", 50)
    reader = PropertyReader(WANTED)
    for start in range(0, 4000, 500):
        texts: list[str | None] = [json.dumps({f"k{number}": 1, "price": number}) for number in range(start, start + 500)]
        assert [row["price"] for row in read(reader, texts)] == list(range(start, start + 500))


def test_a_slice_is_read_as_what_it_is() -> None:
    rows = pa.array(['{"price":1}', '{"price":2}', None, '{"price":4}']).slice(1, 3)
    assert PropertyReader({"price": FLOAT64}).read(rows)["price"].to_pylist() == [2.0, None, 4.0]
