"""What every `DatasetState` must do. A backend joins by adding a function that makes one to `BACKENDS`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from sokuji.analyze.pipeline import BatchOutcome
from sokuji.analyze.state import served
from sokuji.analyze.state.base import States
from sokuji.analyze.state.folder import FolderReader, FolderStates
from sokuji.analyze.state.memory import KeptStates, MemoryStates, read_in_memory
from sokuji.analyze.state.reader import OpenStateReader
from sokuji.analyze.state.served import SERVED_LOG, SERVED_SCHEMA, OpenLog
from sokuji.config import AnalyzeSettings
from sokuji.dedup.rule import RepeatRule
from sokuji.errors import OnlineStoreError
from sokuji.online.memory import MemoryStores
from sokuji.online.shared.reader import SharedReader
from sokuji.online.shared.store import SharedStore
from tests.analyze.state.streaming import AT_US, KEYS, MINUTE_US, NOTHING, STREAM, Stream, Streaming, expected, place
from tests.lake.platform import START_US
from tests.log.opening import InMemory

SETTINGS = AnalyzeSettings(profiles_max=1_000, served_sample=1.0)
RULE = RepeatRule(1_000, 1)
COUNT = len(STREAM)


class Backend(NamedTuple):
    states: States
    read: OpenStateReader


def folder(open_log: OpenLog) -> Backend:
    return Backend(FolderStates(SharedStore, open_log, SETTINGS, RULE), lambda path: FolderReader(path, SharedReader))


def folder_with_rows_in_memory(open_log: OpenLog) -> Backend:
    stores = MemoryStores()
    return Backend(FolderStates(stores.open, open_log, SETTINGS, RULE), lambda path: FolderReader(path, stores.read))


def memory(open_log: OpenLog) -> Backend:
    kept = KeptStates()
    return Backend(MemoryStates(kept, open_log, SETTINGS, RULE), lambda path: read_in_memory(kept, path))


BACKENDS: list[Callable[[OpenLog], Backend]] = [folder, folder_with_rows_in_memory, memory]


@pytest.fixture
def open_log() -> OpenLog:
    opening = InMemory()
    return lambda folder: opening(folder, SERVED_SCHEMA, SERVED_LOG, 1)


@pytest.fixture(params=BACKENDS, ids=lambda make: make.__name__)
def backend(request: pytest.FixtureRequest, open_log: OpenLog) -> Backend:
    made: Backend = request.param(open_log)
    return made


@pytest.fixture
def states(backend: Backend) -> States:
    return backend.states


@pytest.fixture
def streaming(states: States, tmp_path: Path) -> Streaming:
    return Streaming(tmp_path, states)


@pytest.fixture
def open_stream(streaming: Streaming) -> Iterator[Callable[[], Stream]]:
    """Opens the state; the one before is given up without a checkpoint."""
    opened: list[Stream] = []

    def again(**more: Any) -> Stream:
        if opened:
            opened.pop().close()
        opened.append(streaming.open(**more))
        return opened[0]

    yield again
    for each in opened:
        each.close()


OpenStream = Callable[[], Stream]


def decided(outcomes: list[BatchOutcome]) -> list[tuple[str, str, str]]:
    return [(each.rule, each.profile, each.trigger_id) for outcome in outcomes for each in outcome.decisions if not each.suppressed]


def shown(outcomes: list[BatchOutcome]) -> list[Any]:
    """What others see of batches."""
    return [
        # Of numbers as text, as NaN is not like itself.
        (outcome.duplicates, outcome.keys.to_pylist(), str([each.tolist() for each in outcome.numbers]), outcome.links, outcome.decisions)
        for outcome in outcomes
    ]


def test_features_are_what_the_stream_had(open_stream: OpenStream) -> None:
    stream = open_stream()
    for number in range(COUNT):
        assert stream.features() == expected(number)
        stream.work(number, number + 1)
    assert stream.features() == expected(COUNT)
    assert stream.state.features(["v:nobody", "u:u"], AT_US) == [NOTHING, expected(COUNT)[-1]]
    assert stream.state.features([], AT_US) == []
    [much_later] = stream.state.features(["u:u"], AT_US + 3 * 24 * 60 * MINUTE_US)
    assert much_later == {**expected(COUNT)[-1], "spend_1d": 0.0}


def test_a_state_opens_as_at_its_last_checkpoint(open_stream: OpenStream) -> None:
    stream = open_stream()
    assert (stream.state.is_new, stream.state.position()) == (True, place(0))
    stream.work(0, 6)
    stream.save(6, {"keen": 3})
    stream.work(6, COUNT)
    stream = open_stream()
    state = stream.state
    assert stream.features() == expected(6)
    assert (state.is_new, state.knows_messages, state.position(), state.versions) == (False, True, place(6), {"keen": 3})
    assert state.timers.keys() == ["v:c"]
    assert [state.identity.profile(visitor) for visitor in "abc"] == ["u:u", "v:b", "v:c"]
    assert [outcome.duplicates for outcome in stream.work(3, 4)] == [1], "of a message that it had"
    assert [outcome.duplicates for outcome in stream.work(6, COUNT)] == [0, 0], "of those that it had not"
    assert stream.features() == expected(COUNT)
    assert [state.timers.due(START_US + minute * MINUTE_US, 10) for minute in (33, 34)] == [[], ["v:c"]]


def test_a_state_without_a_checkpoint_opens_new(open_stream: OpenStream) -> None:
    open_stream().work(0, COUNT)
    stream = open_stream()
    assert (stream.state.is_new, stream.state.position(), stream.features()) == (True, place(0), expected(0))
    assert [outcome.duplicates for outcome in stream.work(0, COUNT)] == [0, 0, 0, 1, 0, 0, 0, 0]
    assert stream.features() == expected(COUNT)


@pytest.mark.parametrize("every", [1, 3])
def test_a_state_that_was_opened_again_goes_on_exactly(open_stream: OpenStream, tmp_path: Path, every: int) -> None:
    never_closed = Streaming(tmp_path / "other", memory(_no_log).states).open(serves=False)
    wanted = never_closed.work(0, COUNT)
    assert decided(wanted) == [("second_buy", "u:u", "m5")]
    stream, at = open_stream(), 0
    while at < COUNT:
        last = min(COUNT, at + every)
        assert shown(stream.work(at, last)) == shown(wanted[at:last])
        stream.save(last)
        lost = stream.work(last, min(COUNT, last + 1))
        stream, at = open_stream(), last
        assert shown(lost) == shown(wanted[last : last + 1]), "and once more after the next opening"
    keys = pa.array(KEYS, pa.string())
    np.testing.assert_array_equal(stream.state.get_many(keys), never_closed.state.get_many(keys))
    assert stream.state.timers.keys() == never_closed.state.timers.keys()
    never_closed.close()


def _no_log(_: Path) -> Any:
    raise AssertionError("nothing that is served is to be kept")


def test_a_position_never_runs_ahead_of_the_state(open_stream: OpenStream) -> None:
    stream = open_stream()
    for number in range(COUNT):
        stream.work(number, number + 1)
        stream.save(number + 1, wait=False)
        said = stream.state.position()
        assert said in [place(each) for each in range(number + 2)]
        stream = open_stream()
        assert said.number <= stream.state.position().number
        assert stream.features() == expected(stream.state.position().number)
        stream.work(stream.state.position().number, number + 1)


def test_a_checkpoint_replaces_the_one_before_whole(open_stream: OpenStream) -> None:
    stream = open_stream()
    stream.work(0, 5)
    stream.save(5, {"keen": 3, "loyal": 1})
    assert stream.state.timers.due(AT_US + 60 * MINUTE_US, 10) == ["v:c"]
    stream.save(5, {"keen": 4})
    state = open_stream().state
    assert (state.versions, state.timers.keys()) == ({"keen": 4}, [])


def test_rows_not_seen_for_long_expire_with_the_next_checkpoint(open_stream: OpenStream) -> None:
    stream = open_stream()
    stream.work(0, 5)
    stream.save(5)
    stream.state.expire(START_US + 2 * MINUTE_US)  # a is from before that
    gone = [NOTHING, *expected(5)[1:]]
    assert stream.features() == gone
    stream = open_stream()
    assert stream.features() == expected(5)
    stream.state.expire(START_US + 2 * MINUTE_US)
    stream.save(5)
    assert open_stream().features() == gone


def test_rows_are_read_into_the_room_that_is_given(open_stream: OpenStream) -> None:
    stream = open_stream()
    stream.work(0, 3)
    keys = pa.array(["v:b", "v:nobody", "v:a"], pa.string())
    room = np.full((5, stream.state.layout.width), 7, np.uint8)
    rows = stream.state.get_many(keys, room)
    np.testing.assert_array_equal(rows, stream.state.get_many(keys))
    assert not rows[1].any()
    assert np.shares_memory(rows, room)
    assert (room[3:] == 7).all()


def test_what_was_served_is_kept_once(open_stream: OpenStream, streaming: Streaming, open_log: OpenLog) -> None:
    stream = open_stream()
    stream.work(0, 4)
    stream.save(4)
    stream.work(4, 6)
    stream.save(6)
    stream.work(6, COUNT)
    stream = open_stream()
    stream.work(6, COUNT)
    stream.state.caught_up()
    stream.save(COUNT)
    kept = served.read(streaming.path, open_log, 1.0)
    assert kept.rows.column("offset").to_pylist() == [number for number in range(COUNT) if number != 3]  # the repeat
    assert kept.rows.column("key").to_pylist() == ["v:a", "v:b", "v:b", "v:c", "u:u", "u:u", "u:u"]
    assert [numbers[0] for numbers in kept.rows.column("numbers").to_pylist()] == [1.0, 1.0, 2.0, 1.0, 2.0, 3.0, 6.0]
    assert (kept.starts, kept.ends) == ([4], [COUNT])


def test_what_is_served_without_being_asked_to_is_not_kept(open_stream: Callable[..., Stream], streaming: Streaming) -> None:
    stream = open_stream(serves=False)
    stream.work(0, COUNT)
    stream.save(COUNT)
    assert stream.features() == expected(COUNT)
    assert not (streaming.path / SERVED_LOG).exists()


def test_what_rules_remember_is_read_without_the_rest(states: States, streaming: Streaming) -> None:
    stream = streaming.open()
    stream.work(0, 6)
    stream.save(6)
    width, keys = stream.state.layout.width, pa.array([*KEYS, "v:nobody"], pa.string())
    rows = stream.state.get_many(keys)
    stream.work(6, COUNT)
    stream.close()
    with states.remembered(streaming.path, width) as remembered:
        np.testing.assert_array_equal(remembered.get_many(keys), rows)
        assert remembered.timers.keys() == ["v:c"]
        assert remembered.position == place(6)


def test_a_state_moves_and_goes_with_its_folder(streaming: Streaming) -> None:
    stream = streaming.open(serves=False)
    stream.work(0, 6)
    stream.save(6)
    stream.close()
    moved = streaming.path.with_name("moved")
    streaming.path.rename(moved)
    streaming.path = moved
    stream = streaming.open(serves=False)
    assert stream.features() == expected(6)
    stream.close()
    shutil.rmtree(moved)
    stream = streaming.open(serves=False)
    assert (stream.state.is_new, stream.features()) == (True, expected(0))
    stream.close()


def test_a_reader_sees_rows_as_last_put_and_the_rest_as_at_the_last_checkpoint(
    open_stream: OpenStream, backend: Backend, streaming: Streaming
) -> None:
    stream = open_stream()
    stream.work(0, 4)
    with backend.read(streaming.path) as reader:
        assert (reader.position(), reader.users()) == (place(0), {})
        stream.work(4, 6)
        stream.save(6)
        stream.work(6, COUNT)
        rows = stream.state.get_many(pa.array(KEYS, pa.string()))
        assert [reader.get(key) for key in KEYS] == [row.tobytes() for row in rows]
        assert reader.get("v:nobody") is None
        assert reader.position() == place(6)
        assert reader.users().items() >= {"a": "u"}.items()
        stream.save(COUNT)
        assert (reader.position(), reader.users()) == (place(COUNT), {"a": "u", "b": "u"})


def test_there_is_nothing_to_read_while_no_writer_has_the_state_open(backend: Backend, streaming: Streaming) -> None:
    with pytest.raises(OnlineStoreError):
        backend.read(streaming.path)
    stream = streaming.open()
    backend.read(streaming.path).close()
    stream.close()
    with pytest.raises(OnlineStoreError):
        backend.read(streaming.path)
