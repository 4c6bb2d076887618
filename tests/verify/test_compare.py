"""Verification finds no difference in what the kernel served, and finds every change made to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sokuji.verify.compare import Merge, Verification, verify
from tests.features.everything import BIG, BUY, columns, everything, histories, kernel, rows_of
from tests.features.oracle import Event
from tests.searching import examples

MADE = kernel(everything(("1h", "session", "all")))
MADE_SCHEMA = MADE.decode(np.empty((0, MADE.columns_count))).schema
PROFILES = ("v:a", "v:b")


def serve(happened: list[Event]) -> tuple[pa.Table, pa.Table]:
    """The events, alternately of two profiles, as a table, and the rows served at them."""
    of = np.arange(len(happened), dtype=np.int32) % 2
    segment = rows_of(MADE, 2)
    times = np.array([event.time for event in happened], np.int64)
    batch = MADE.update(segment, of, times, columns(MADE, happened)).batch()
    place = {"id": [f"m{n}" for n in range(len(happened))], "key": [PROFILES[each] for each in of]}
    schema = pa.schema([(BUY, pa.bool_()), (BIG, pa.bool_()), ("amount", pa.float64()), ("page", pa.string()), ("shelf", pa.string())])
    said = pa.Table.from_pylist([event.says for event in happened], schema=schema)
    always = pa.array([True] * len(happened), pa.bool_())
    more = {"shown": place["id"], "offset": list(range(100, 100 + len(happened))), "time": times, "counted": always, "expected": always}
    events = pa.table({**place, **more, **dict(zip(said.schema.names, said.columns, strict=True))})
    return events, pa.table({**place, **dict(zip(batch.schema.names, batch.columns, strict=True))})


@settings(max_examples=examples(20), deadline=None)
@given(histories())
def test_what_the_stream_served_is_what_history_says(happened: list[Event]) -> None:
    events, served = serve(happened)
    order = np.random.default_rng(0).permutation(len(happened))  # the lake gives events in any order
    found = verify(MADE, events.take(pa.array(order)), served)
    assert found == Verification(len(happened), len(MADE.fields), 0, 0, 0)
    assert found.json() == {"rows": len(happened), "features": len(MADE.fields), "mismatches": 0, "missing": 0, "extra": 0}


def change(served: pa.Table, name: str, row: int, value: Any) -> pa.Table:
    values = served.column(name).to_pylist()
    values[row] = value
    return served.set_column(served.schema.get_field_index(name), name, pa.array(values, served.schema.field(name).type))


@pytest.fixture(scope="module")
def served() -> tuple[pa.Table, pa.Table]:
    says = {BUY: True, BIG: True, "amount": 2.0, "page": "/", "shelf": "a"}
    return serve([Event(1_767_225_600_000_000 + n * 1_000_000, says) for n in range(10)])


def test_a_wrong_value_is_a_mismatch_of_its_feature(served: tuple[pa.Table, pa.Table]) -> None:
    events, rows = served
    wrong = change(change(rows, "sum_1h", 4, 11.0), "pages", 9, ["/", "/x"])
    found = verify(MADE, events, wrong)
    assert (found.rows, found.mismatches, found.by_feature) == (10, 2, {"sum_1h": 1, "pages": 1})
    assert found.examples[0] == "sum_1h of v:a at m4: served 11.0, computed again 6.0"


def test_rows_not_served_are_missing_and_rows_of_no_event_are_extra(served: tuple[pa.Table, pa.Table]) -> None:
    events, rows = served
    found = verify(MADE, events, pa.concat_tables([rows.slice(2), change(rows.slice(0, 1), "id", 0, "m999")]))
    assert (found.rows, found.mismatches, found.missing, found.extra) == (8, 0, 2, 1)


@given(st.integers(0, 9))
@settings(max_examples=examples(10), deadline=None)
def test_an_event_that_history_lost_shows_in_what_came_after_it(lost: int) -> None:
    says = {BUY: True, BIG: True, "amount": 2.0, "page": "/", "shelf": "a"}
    events, rows = serve([Event(1_767_225_600_000_000 + n * 1_000_000, says) for n in range(10)])
    kept = pa.array([n for n in range(10) if n != lost])
    found = verify(MADE, events.take(kept), rows)
    assert (found.extra, found.by_feature.get("n", 0)) == (1, len([n for n in range(lost + 1, 10) if n % 2 == lost % 2]))


def test_an_event_that_need_not_have_been_served_is_not_missing(served: tuple[pa.Table, pa.Table]) -> None:
    events, rows = served
    found = verify(MADE, change(events, "expected", 1, False), rows.slice(2))
    assert (found.rows, found.mismatches, found.missing, found.extra) == (8, 0, 1, 0)


def test_an_event_that_was_not_counted_was_served_nothing(served: tuple[pa.Table, pa.Table]) -> None:
    events, rows = served
    found = verify(MADE, change(events, "counted", 8, False), rows)
    assert found.by_feature["n"] == 1  # nothing comes after it
    assert "n of v:a at m8: served 5, computed again None" in found.examples


@settings(max_examples=examples(20), deadline=None)
@given(histories(), st.data())
def test_a_profile_that_took_in_another_has_its_past(happened: list[Event], data: st.DataObject) -> None:
    """Event by event, as the stream does it: up to some event the others are of a profile of their own."""
    at = data.draw(st.integers(0, len(happened)))
    is_own = [data.draw(st.booleans()) for _ in range(at)] + [True] * (len(happened) - at)
    segment = rows_of(MADE, 2)
    batches = []
    for place, (event, own) in enumerate(zip(happened, is_own, strict=True)):
        if place == at:
            MADE.merge(segment[:1], segment[1:])
        of, time = np.array([0 if own else 1], np.int32), np.array([event.time], np.int64)
        batches.append(MADE.update(segment, of, time, columns(MADE, [event])).batch())
    events, _ = serve(happened)
    keys = pa.array([PROFILES[0] if own else PROFILES[1] for own in is_own], pa.string())
    events = events.set_column(events.schema.get_field_index("key"), "key", keys)
    values = pa.Table.from_batches(batches, MADE_SCHEMA)
    rows = pa.table({"id": events.column("id"), "key": keys, **dict(zip(values.schema.names, values.columns, strict=True))})
    merges = [Merge(100 + at, PROFILES[1], PROFILES[0])] if at < len(happened) else []
    assert verify(MADE, events, rows, merges).json() == Verification(len(happened), len(MADE.fields), 0, 0, 0).json()


def test_two_verifications_are_one() -> None:
    one, other = Verification(2, 1, 1, 0, 0, {"a": 1}, ("x",)), Verification(3, 2, 1, 1, 1, {"b": 1}, ("y",))
    assert Verification.total([one, other]) == Verification(5, 3, 2, 1, 1, {"a": 1, "b": 1}, ("x", "y"))
