"""The two ways from a property to its typed column, DuckDB in the sink and compiled code in the worker, against a third reader."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from sokuji.sink.shape import Shaper
from tests.fuzz import properties
from tests.searching import examples


@pytest.fixture(name="shaper")
def make_shaper() -> Iterator[Shaper]:
    shaper = Shaper()
    yield shaper
    shaper.close()


def test_hostile_json_is_read_alike(shaper: Shaper) -> None:
    for seed in range(examples(8)):
        properties.compare(shaper, properties.texts(Random(seed)))


@pytest.mark.parametrize(
    "text",
    [
        '{"p":1,"p":2}',
        '{"p":1,"\\u0070":2}',
        '{"\\u0070":1,"p":2}',
        '{"p":null,"p":2}',
        '{"p":"1","p":2}',
        '{"p":{"p":3},"p":2,"P":4}',
        '{"p":1e999}',
        '{"p":9085e20999,"q":1}',
        '{"q":[{"p":-1e309}],"p":2}',
        '{"p":' + "9" * 400 + ',"q":2}',
        '{"p":1e308,"q":' + "9" * 309 + "}",
        '{"p":1,"q":"\\u0000"}',
        '{"p":1,"q":"\\ud83d\\ude00\\"\\\\"}',
        '{"p\\u0000":1,"p":2}',
        '{"p":-0,"q":-0.0,"r":-0e5}',
        '{"p":1e-400,"q":5e-324,"r":9007199254740993,"s":18446744073709551617}',
        '{"p":' + "[" * 200 + "1" + "]" * 200 + ',"q":2}',
        '{"p":' + "[" * 64 + '"\\u005d"' + "]" * 64 + ',"q":2}',
        '{"p":"' + "x" * 1_000_000 + '","q":2}',
        '{"":1,".":2,"\\"":3,"a.b":4,"a b":5}',
    ],
)
def test_known_traps_are_read_alike(shaper: Shaper, text: str) -> None:
    properties.compare(shaper, ['{"p":5,"q":"x"}', text, '{"P":5,"r":0}', text])
