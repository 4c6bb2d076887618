"""Reading one row gives the same values as the oracle, and as reading columns of many rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sokuji.errors import FeatureError
from sokuji.features import events, view
from sokuji.features.kernel.kernel import Kernel
from sokuji.features.kernel.reader import FeatureReader
from sokuji.features.kernel.strings import Strings, Vocabulary
from sokuji.types import BOOL, FLOAT64, STRING, Type
from tests.features.everything import feed, histories, rows_of
from tests.features.kernel.test_kernel import _SETTINGS, assert_same, shared
from tests.features.oracle import US, Event, Oracle

BUY = "event_name = 'buy'"
TYPES: dict[str, Type] = {BUY: BOOL, "amount": FLOAT64, "page": STRING}


def kernel(vocabulary: Vocabulary, **features: Any) -> Kernel:
    return Kernel(view("small", entity="visitor", features=features), TYPES, vocabulary)


@_SETTINGS
@given(histories(), st.sampled_from([0, 1, 60, 1801, 7200, 86_400, 691_200]))
def test_a_row_is_read_as_the_oracle_says(happened: list[Event], later: int) -> None:
    made = shared()
    segment = rows_of(made, 1)
    feed(made, segment, happened)
    at = max(event.time for event in happened) + later * US
    found = FeatureReader(made, made._vocabulary).read(segment.tobytes(), at)
    assert_same(found, Oracle(made.view, happened).read(at))
    [wanted] = made.finalize(segment, at).to_pylist()
    assert found == wanted
    assert [type(value) for value in found.values()] == [type(value) for value in wanted.values()]


def test_what_has_no_finite_value_is_null() -> None:
    buys = events("buy")
    total, count = buys.sum("amount"), buys.count()
    made = kernel(
        Vocabulary(),
        ratio=total / count,
        huge=total * 1e308 * 1e308,
        none=1 / (total * 1e308 * 1e308),
        mean=buys.mean("amount").default(-1),
    )
    empty, row = rows_of(made, 1), rows_of(made, 1)
    reader = FeatureReader(made, Vocabulary())
    assert reader.read(empty.tobytes(), 0) == {"ratio": None, "huge": 0.0, "none": None, "mean": -1.0}
    feed(made, row, [Event(US, {BUY: True, "amount": 5.0})])
    assert reader.read(row.tobytes(), US) == {"ratio": 5.0, "huge": None, "none": None, "mean": 5.0}


def test_strings_that_the_writer_adds_are_found(tmp_path: Path) -> None:
    with Vocabulary(tmp_path / "strings.jsonl") as vocabulary:
        made = kernel(vocabulary, page=events().last("page"))
        reader = FeatureReader(made, Strings(tmp_path / "strings.jsonl"))
        for page in ("/", "/new"):
            row = rows_of(made, 1)
            feed(made, row, [Event(US, {"page": page})])
            vocabulary.flush()
            assert reader.read(row.tobytes(), US) == {"page": page}


def test_a_row_of_another_width_is_refused() -> None:
    made = kernel(Vocabulary(), count=events().count())
    with pytest.raises(FeatureError, match="of other declarations"):
        FeatureReader(made, Vocabulary()).read(np.zeros(made.width + 8, np.uint8).tobytes(), 0)
