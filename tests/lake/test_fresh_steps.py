"""A lake that many queries use reads on: it shows the same rows as a newly opened lake, and shapes each row once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from sokuji.lake.base import Snapshot
from sokuji.lake.events import FIXED_SCHEMA, Columns
from sokuji.meta.objects import Ref
from sokuji.sink.fresh import Fresh
from sokuji.sink.shape import Shaper
from tests.lake.duck import select
from tests.lake.platform import Lakeside, lakeside, make_sink
from tests.searching import examples

REF = Ref("shop", "events")
COLUMNS = ("number", "text", "flag")


@pytest.fixture
def side(tmp_path: Path) -> Iterator[Lakeside]:
    with lakeside(tmp_path) as side:
        yield side


def event(number: int) -> Mapping[str, Any]:
    """One with some of three properties, the same whenever it is sent."""
    properties = {"number": number / 2, "text": f"t{number}", "flag": number % 3 == 0}
    return {"message_id": f"m{number}", "properties": {name: properties[name] for place, name in enumerate(COLUMNS) if number >> place & 1}}


def rows(snapshot: Snapshot) -> list[tuple[Any, ...]]:
    """The rows of files and tail by message, with whichever of the columns there are."""
    in_files = {name for file in snapshot.files for name in parquet.read_schema(file).names}
    names = ["message_id", *(name for name in COLUMNS if name in in_files)]
    found = [dict(zip(names, row, strict=True)) for row in select(snapshot, names)]
    found += snapshot.tail.to_pylist() if snapshot.tail is not None else []
    return sorted(tuple(row.get(name) for name in ("message_id", *COLUMNS)) for row in found)


def wanted(number: int) -> tuple[Any, ...]:
    sent = event(number)
    return (sent["message_id"], *(sent["properties"].get(name) for name in COLUMNS))


STEPS = st.lists(
    st.just("drain") | st.tuples(st.integers(0, 1), st.lists(st.integers(0, 12), min_size=1, max_size=5)), min_size=1, max_size=8
)


@settings(deadline=None, max_examples=examples(10))
@given(steps=STEPS)
def test_it_shows_each_row_once_and_what_a_new_one_shows(steps: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    tracked: set[int] = set()
    with lakeside(tmp_path_factory.mktemp("steps")) as side:
        for step in steps:
            if step == "drain":
                side.drain()
            else:
                partition, numbers = step
                numbers = [2 * number + partition for number in numbers]
                side.track(*map(event, numbers), partition=partition)
                tracked.update(numbers)
            if not tracked:
                continue
            snapshot = side.fresh.snapshot(REF)
            assert rows(snapshot) == sorted(map(wanted, tracked))
            assert snapshot.tail is None or snapshot.tail.schema == snapshot.schema
        if tracked:
            new = Fresh(
                side.tables,
                side.events,
                side.bad_events,
                side.catalog,
                folder=side.folder / "sink",
                rule=side.rule,
                make_sink=lambda: make_sink(side),
            )
            other = new.snapshot(REF)
            new.close()
            assert (rows(other), sorted(other.schema.names)) == (rows(snapshot), sorted(snapshot.schema.names))


def test_each_row_is_shaped_once(side: Lakeside, monkeypatch: pytest.MonkeyPatch) -> None:
    shaped: list[int] = []
    shape = Shaper.shape

    def counted(self: Shaper, table: pa.Table, columns: Columns, *kept: Any) -> pa.RecordBatchReader:
        shaped.append(table.num_rows)
        return shape(self, table, columns, *kept)

    monkeypatch.setattr(Shaper, "shape", counted)
    for number in range(40):
        side.track(event(number), partition=number % 2)
        assert len(rows(side.fresh.snapshot(REF))) == number + 1
    assert shaped == [1] * 40
    tail = side.fresh.snapshot(REF).tail
    assert tail is not None
    assert tail.column("message_id").num_chunks < 10


def test_a_column_is_as_the_sink_decided(side: Lakeside) -> None:
    side.track({"message_id": "m1", "properties": {"a": "x"}}, partition=1)
    assert side.fresh.snapshot(REF).schema.field("a").type == pa.string()
    side.track({"message_id": "m2", "properties": {"A": 1}})
    side.track({"message_id": "m3", "properties": {"b": True}}, partition=1)
    assert side.fresh.snapshot(REF).schema.names == [*FIXED_SCHEMA.names, "a", "b"]
    side.drain()
    committed = side.tables.snapshot(REF).schema
    side.track({"message_id": "m4", "properties": {"a": 2, "c": "y"}}, partition=1)
    assert side.fresh.snapshot(REF).schema.names == [*committed.names, "c"]
    assert side.fresh.snapshot(REF).schema.field(len(FIXED_SCHEMA)) == committed.field(len(FIXED_SCHEMA))


def test_after_a_drop_columns_start_again(side: Lakeside) -> None:
    side.track({"message_id": "m1", "properties": {"a": 1}})
    side.drain()
    side.track({"message_id": "m2", "properties": {"b": 1}})
    assert side.fresh.snapshot(REF).schema.names == [*FIXED_SCHEMA.names, "a", "b"]
    side.tables.drop(REF)
    side.fresh.forget(REF)
    assert side.fresh.snapshot(REF).schema.names == [*FIXED_SCHEMA.names, "b"]
    assert [row[0] for row in rows(side.fresh.snapshot(REF))] == ["m2"]


def test_an_interrupt_while_reading_on_loses_and_doubles_nothing(side: Lakeside, monkeypatch: pytest.MonkeyPatch) -> None:
    side.track(event(1))
    assert rows(side.fresh.snapshot(REF)) == [wanted(1)]
    side.track(event(2), {**event(2), "dataset": "blog"})
    with monkeypatch.context() as patch:
        patch.setattr(Shaper, "ids", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            side.fresh.snapshot(REF)
    assert rows(side.fresh.snapshot(REF)) == [wanted(1), wanted(2)]
    assert rows(side.fresh.snapshot(Ref("blog", "events"))) == [wanted(2)]
