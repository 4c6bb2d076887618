"""The search for the log position from which to read."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sokuji.act.pages.shown import _first
from sokuji.events import EVENT_SCHEMA
from sokuji.rules.decision import own_events
from tests.log.opening import InMemory, Opening, on_disk
from tests.searching import examples

TIMES = st.lists(st.integers(0, 50), max_size=30)


@pytest.mark.parametrize("opens", [lambda: on_disk, InMemory], ids=["on disk", "in memory, with gaps"])
@given(TIMES, st.integers(-1, 51))
@settings(max_examples=examples(30))
def test_the_first_row_of_a_time_is_found(
    tmp_path_factory: pytest.TempPathFactory, opens: Callable[[], Opening], times: list[int], wanted: int
) -> None:
    with opens()(tmp_path_factory.mktemp("log"), EVENT_SCHEMA, "events", 1) as log:
        for time in sorted(times):
            log.append(0, own_events({"dataset": ["main"], "message_id": ["m"], "event_name": ["e"], "event_time": [time]}, time))
        found = log.read(0, _first(log, 0, wanted), 100).batch.column("received_at").cast("int64").to_pylist()
        assert found == sorted(time for time in times if time >= wanted)
