"""History is read in the order of its arrival, for any distribution over files and any size of the slices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sokuji.analyze.state import history as module
from sokuji.analyze.state.history import history
from sokuji.events import EVENT_SCHEMA, OWN_SOURCE
from sokuji.lake.events import EVENTS, FIXED_SCHEMA, TIME_COLUMN
from sokuji.lake.memory import MemoryLake
from sokuji.meta.objects import Ref
from tests.searching import examples

REF = Ref("shop", EVENTS)

Event = dict[str, Any]


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """Slices of some four rows, in batches of three."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "_SLICE_ROWS", 4)
        patched.setattr(module, "_SAMPLED", 1)
        patched.setattr(module, "HISTORY_ROWS", 3)
        yield


def event(number: int, received: int, place: tuple[int, int] | None, source: str) -> Event:
    row: Event = dict.fromkeys(FIXED_SCHEMA.names)
    row |= {"source": source, "message_id": f"m{number}", "type": "track", "event_name": "buy", "time_rule": "client", "historical": False}
    row |= {"keys": {"visitor_id": f"v{number}", "user_id": None}, "received_at": received, TIME_COLUMN: number}
    row["log_partition"], row["log_offset"] = place or (None, None)
    return row


@st.composite
def tables(draw: st.DrawFn) -> list[list[Event]]:
    """Events by file: some of the platform's own, some from before places were kept."""
    partitions = draw(st.sampled_from([1, 3]))
    count = draw(st.integers(0, 25))
    offsets = draw(st.permutations(range(count)))
    events = []
    for number in range(count):
        place = (draw(st.integers(0, partitions - 1)), offsets[number]) if draw(st.integers(0, 4)) else None
        events.append(event(number, draw(st.integers(0, 6)), place, draw(st.sampled_from(["web", "web", "web", OWN_SOURCE]))))
    cuts = sorted(draw(st.lists(st.integers(0, count), max_size=4)))
    return [events[start:end] for start, end in zip([0, *cuts], [*cuts, count], strict=True)]


def in_order(events: list[Event]) -> list[Event]:
    def last(value: int | None) -> tuple[bool, int]:
        return value is None, value or 0

    def arrived(row: Event) -> tuple[Any, ...]:
        return row["received_at"], last(row["log_partition"]), last(row["log_offset"]), row[TIME_COLUMN]

    def stood(row: Event) -> tuple[Any, ...]:
        return row["log_offset"] is not None, row["log_offset"] or 0, arrived(row)

    partitions = {row["log_partition"] for row in events} - {None}
    return sorted(events, key=arrived if len(partitions) > 1 else stood)


@settings(max_examples=examples(150))
@given(tables(), st.dictionaries(st.integers(0, 2), st.integers(0, 25), max_size=2))
def test_history_is_what_was_sent_as_it_arrived(files: list[list[Event]], until: dict[int, int]) -> None:
    lake = MemoryLake()
    lake.create(REF, FIXED_SCHEMA, day_of=TIME_COLUMN)
    for file in files:
        lake.append(REF, pa.Table.from_pylist(file, schema=FIXED_SCHEMA).to_reader())
    batches = list(history("shop", lake, lake.snapshot(REF), until))
    every = in_order([row for file in files for row in file])
    sent = [row for row in every if row["source"] != OWN_SOURCE]
    wanted = [row for row in sent if row["log_offset"] is None or row["log_offset"] < until.get(row["log_partition"], 100)]
    found = [row for batch in batches for row in batch.to_pylist()]
    assert [row["message_id"] for row in found] == [row["message_id"] for row in wanted]
    assert all(batch.schema == EVENT_SCHEMA and 0 < batch.num_rows <= 3 for batch in batches)
    assert all((row["dataset"], row["visitor_id"], row["user_id"]) == ("shop", f"v{row['message_id'][1:]}", None) for row in found)
