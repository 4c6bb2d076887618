"""Finding the place in a log to read from."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sokuji.act.pages.shown import _first
from sokuji.events import EVENT_SCHEMA
from sokuji.log.local.log import LocalLog
from sokuji.rules.decision import own_events
from tests.searching import examples

TIMES = st.lists(st.integers(0, 50), max_size=30)


@given(TIMES, st.integers(-1, 51))
@settings(max_examples=examples(30))
def test_the_first_row_of_a_time_is_found(tmp_path_factory: pytest.TempPathFactory, times: list[int], wanted: int) -> None:
    with LocalLog(tmp_path_factory.mktemp("log"), EVENT_SCHEMA, name="events", partitions=1) as log:
        for time in sorted(times):
            log.append(0, own_events({"dataset": ["main"], "message_id": ["m"], "event_name": ["e"], "event_time": [time]}, time))
        assert _first(log, 0, wanted) == sum(time < wanted for time in times)
