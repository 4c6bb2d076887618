"""Arrow's results equal the query's: the same values, the same errors, for random expressions over random rows."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sokuji.sql.scalar.expressions import Expressions
from sokuji.types import FLOAT64, STRING
from tests.lake.platform import log_rows
from tests.searching import examples

COLUMNS = {"views": pa.int64(), "spend": pa.float64(), "known": pa.bool_(), "scores": pa.struct([("buyer", pa.float64())])}
PROPERTIES = {"price": FLOAT64, "shelf": STRING}

INTEGERS = st.recursive(
    st.sampled_from(["views", "0", "3", "-7", "9223372036854775807"]),
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*"]), inner),
        st.builds("MOD({}, {})".format, inner, st.sampled_from(["5", "1"])),
        st.builds("COALESCE({}, {})".format, inner, inner),
    ),
    max_leaves=3,
)
FLOATS = st.recursive(
    st.one_of(st.sampled_from(["spend", "price", "scores.buyer", "0.5", "1e308", "-0.0"]), INTEGERS.map("CAST({} AS FLOAT64)".format)),
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "/"]), inner),
        st.builds("IF({} > 1, {}, {})".format, inner, inner, inner),
        st.builds("IFNULL({}, {})".format, inner, inner),
    ),
    max_leaves=3,
)
STRINGS = st.sampled_from(["shelf", "event_name", "'a'", "'B'", "''", "'é'", "COALESCE(shelf, event_name)"])
COMPARED = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
CONDITIONS = st.recursive(
    st.one_of(
        st.sampled_from(["known", "TRUE", "known IS TRUE", "known IS FALSE", "known = (views > 2)"]),
        *(st.builds("{} {} {}".format, kind, COMPARED, kind) for kind in (INTEGERS, FLOATS, STRINGS)),
        *(st.builds("{} BETWEEN {} AND {}".format, kind, kind, kind) for kind in (INTEGERS, FLOATS, STRINGS)),
        *(st.builds("{} IN ({}, {})".format, kind, kind, kind) for kind in (INTEGERS, FLOATS, STRINGS)),
        *(st.builds("{} IS {}".format, kind, st.sampled_from(["NULL", "NOT NULL"])) for kind in (INTEGERS, FLOATS, STRINGS)),
    ),
    lambda inner: st.one_of(st.builds("({}) {} ({})".format, inner, st.sampled_from(["AND", "OR"]), inner), inner.map("NOT ({})".format)),
    max_leaves=4,
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "views": st.none() | st.sampled_from([0, 1, 2, 5, -3, 2**62]),
            "spend": st.none() | st.sampled_from([0.0, -0.0, 1.5, 1e308, -2.0, 5e-324]),
            "known": st.none() | st.booleans(),
            "buyer": st.none() | st.sampled_from([0.1, 0.9]),
            "price": st.none() | st.sampled_from([0, 2, 2.5]),
            "shelf": st.none() | st.sampled_from(["a", "B", "", "é", "z"]),
        }
    ),
    min_size=1,
    max_size=5,
)


def batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    events = log_rows(
        [
            {"message_id": str(number), "event_name": "a", "properties": {name: row[name] for name in ("price", "shelf")}}
            for number, row in enumerate(rows)
        ]
    )
    scores = [None if row["buyer"] is None else {"buyer": row["buyer"]} for row in rows]
    more = [pa.array([row[name] for row in rows], type_) for name, type_ in COLUMNS.items() if name != "scores"]
    names = [*events.schema.names, *COLUMNS]
    return pa.RecordBatch.from_arrays([*events.columns, *more, pa.array(scores, COLUMNS["scores"])], names=names)


@pytest.mark.slow
@settings(max_examples=examples(40), deadline=None)
@given(st.lists(st.one_of(CONDITIONS, FLOATS, INTEGERS, STRINGS), min_size=1, max_size=6, unique=True), ROWS)
def test_values_and_errors_are_those_of_the_query(texts: list[str], rows: list[dict[str, Any]]) -> None:
    expressions = Expressions(texts, properties=PROPERTIES, columns=COLUMNS)
    asked = Expressions([*texts, "JSON_VALUE(context, '$.a')"], properties=PROPERTIES, columns=COLUMNS)
    try:
        assert expressions._compiled.rest is None
        found, by_query = expressions.evaluate(batch(rows)), asked._queried(asked._rows(batch(rows), {}))
        assert found.failed.keys() == by_query.failed.keys()
        for text in texts:
            assert repr(found.values.column(text).to_pylist()) == repr(by_query.values.column(text).to_pylist()), text
            assert found.values.column(text).type == by_query.values.column(text).type
    finally:
        expressions.close()
        asked.close()


@pytest.mark.parametrize("text", ["LOWER(shelf) = 'a'", "price IN UNNEST([1.0, 2.0])", "SAFE_DIVIDE(price, views) > 1", "shelf LIKE 'a%'"])
def test_what_arrow_does_not_know_is_left_to_the_query(text: str) -> None:
    row = {"views": 1, "spend": 1.0, "known": True, "buyer": 0.5, "price": 2, "shelf": "a"}
    expressions = Expressions(["views > 0", text], properties=PROPERTIES, columns=COLUMNS)
    assert expressions.evaluate(batch([row])).values.to_pylist() == [{"views > 0": True, text: True}]
    expressions.close()
