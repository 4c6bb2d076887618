"""JSON in Python as the lake reads it: the first of two keys, null for a number beyond FLOAT64, everything else unchanged."""

from __future__ import annotations

from random import Random

import pyarrow as pa
import pytest

from sokuji.json_text import decode, members, readable, readable_values
from tests import hostile, json_oracle
from tests.searching import examples


def texts(seed: int) -> list[str]:
    random = Random(seed)
    return [hostile.object_(random, is_valid=True) for _ in range(100)]


@pytest.mark.parametrize("seed", range(examples(3)))
def test_values_are_those_of_another_reader(seed: int) -> None:
    for text in texts(seed):
        assert repr(decode(text)) == repr(json_oracle.meaning(text))


@pytest.mark.parametrize("seed", range(examples(3)))
def test_members_are_as_they_are_written(seed: int) -> None:
    for text in texts(seed):
        found = {key: json_oracle.pairs(bytes(raw).decode()) for key, raw in members(text.encode()).items()}
        assert found == dict(reversed(json_oracle.pairs(text)))


@pytest.mark.parametrize("count", [1, 2000])  # short texts are searched in another way than long ones
def test_numbers_beyond_float64_are_null_and_nothing_else_changes(count: int) -> None:
    written = [number for seed in range(20) for number in (*hostile.NUMBERS, hostile.number(Random(seed)))]
    for start in range(0, len(written), count):
        part = written[start : start + count]
        rows = [f'{{"id":"3e985-1e999","n":[{number} ],"s":"{number}"}}' for number in part]
        kept = ["null" if json_oracle.meaning(number) is None else number for number in part]
        expected = [f'{{"id":"3e985-1e999","n":[{left} ],"s":"{number}"}}' for number, left in zip(part, kept, strict=True)]
        assert readable(pa.array([None, *rows, None, "{}"], pa.string()).slice(1)).to_pylist() == [*expected, None, "{}"]
        assert readable_values(pa.array([*part, None, '"1e999"'], pa.string())).to_pylist() == [*kept, None, '"1e999"']


def test_what_has_no_such_number_is_not_copied() -> None:
    rows = pa.array(['{"id":"123e4567-e89b-12d3-a456-426614174000","n":1e5}', None] * 2000, pa.string())
    assert readable(rows) is rows
    assert readable_values(rows) is rows
    assert readable(rows.slice(0, 0)).to_pylist() == []


@pytest.mark.parametrize("size", range(65_500, 65_560, 3))
def test_a_number_across_two_blocks_is_found(size: int) -> None:
    rows = [f'{{"x":"{"x" * size}"}}', '{"n":[1e+999,2]}', '{"n":' + "9" * 309 + "}"]
    assert readable(pa.array(rows, pa.string())).to_pylist() == [rows[0], '{"n":[null,2]}', '{"n":null}']


@pytest.mark.parametrize("text", ["", "{", '{"a":1}x', "NaN", '"\\ud800"'])
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|truncated"):
        decode(text)


def test_numbers_longer_than_python_reads_are_left_as_they_are() -> None:
    number = "9" * 5000
    assert members(f'{{"a":{number},"b":":","a":1}}'.encode()).keys() == {"a", "b"}
    assert decode(f'{{"a":{number},"b":1,"b":2}}') == {"a": None, "b": 1}
