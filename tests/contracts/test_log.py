"""The contract of `Log`. A new backend adds a function that opens it to `BACKENDS`."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sokuji.errors import LogError, OffsetTrimmedError
from sokuji.log.base import Log
from sokuji.log.local.log import LocalLog
from sokuji.log.memory import Memory, MemoryLog
from tests.log.rows import SCHEMA, numbers, rows
from tests.searching import examples

PARTITIONS = 3


class OpenLog(Protocol):
    """Opens one and the same log each time, as another process would."""

    def __call__(self) -> Log: ...


def local(folder: Path) -> Log:
    """Segments of 4 KiB, so that small tests cross many of them."""
    return LocalLog(folder, SCHEMA, name="events", partitions=PARTITIONS, segment_bytes=4096)


def in_memory(gap: int) -> Callable[[Path], Callable[[], Log]]:
    """A log that leaves out so many offsets past each append."""

    def begin(_: Path) -> Callable[[], Log]:
        memory = Memory()
        return lambda: MemoryLog(memory, SCHEMA, name="events", partitions=PARTITIONS, gap=gap)

    return begin


BACKENDS: dict[str, Callable[[Path], Callable[[], Log]]] = {
    "local": lambda folder: partial(local, folder),
    "memory": in_memory(gap=0),
    "memory, gaps": in_memory(gap=3),
}


@pytest.fixture(params=BACKENDS)
def open_log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenLog]:
    opened: list[Log] = []
    again = BACKENDS[request.param](tmp_path)

    def open_one() -> Log:
        opened.append(again())
        return opened[-1]

    yield open_one
    for log in opened:
        log.close()


@pytest.fixture
def log(open_log: OpenLog) -> Log:
    return open_log()


def read_from(log: Log, partition: int, offset: int, limit: int = 1000, until: int | None = None) -> list[tuple[int, int]]:
    """(offset, number) of each row from `offset` on."""
    found: list[tuple[int, int]] = []
    end = log.end(partition) if until is None else min(until, log.end(partition))
    while offset < end:
        batch, offsets, following = log.read(partition, offset, limit, until=until)
        assert len(offsets) == batch.num_rows <= limit
        assert offset < following <= end
        assert all(offset <= each < following for each in offsets)
        found += zip(offsets.tolist(), numbers(batch), strict=True)
        offset = following
    assert offset == end
    assert [place for place, _ in found] == sorted({place for place, _ in found})
    return found


def read_all(log: Log, partition: int, limit: int = 1000) -> list[int]:
    return [number for _, number in read_from(log, partition, log.start(partition), limit)]


def offset_of(log: Log, number: int, partition: int = 0) -> int:
    """Where a row stands."""
    return {found: offset for offset, found in read_from(log, partition, log.start(partition))}[number]


def test_offsets_increase_in_each_partition(log: Log) -> None:
    assert [(log.start(partition), log.end(partition)) for partition in range(PARTITIONS)] == [(0, 0)] * PARTITIONS
    firsts = [log.append(0, rows(0, 5)), log.append(0, rows(5, 1)), log.append(0, rows(6, 3))]
    other = log.append(1, rows(0, 2))
    places = [offset for offset, _ in read_from(log, 0, 0)]
    assert [places[0], places[5], places[6]] == firsts
    assert places[-1] < log.end(0)
    assert read_from(log, 1, 0)[0] == (other, 0)
    assert other < log.end(1)
    assert (log.start(2), log.end(2)) == (0, 0)


def test_from_any_offset_come_the_rows_that_are_there_or_later(log: Log) -> None:
    for first in range(0, 20, 4):
        log.append(0, rows(first, 4))
    every = read_from(log, 0, 0)
    for offset in range(log.end(0)):
        for limit in (1, 2, 5, 100):
            assert read_from(log, 0, offset, limit) == [each for each in every if each[0] >= offset]


def test_a_read_stops_before_an_offset(log: Log) -> None:
    for first in range(0, 20, 4):
        log.append(0, rows(first, 4))
    every = read_from(log, 0, 0)
    for until in range(log.end(0) + 3):
        for limit in (1, 3, 100):
            assert read_from(log, 0, 0, limit, until) == [each for each in every if each[0] < until]
    assert log.read(0, every[3][0], 10, until=every[2][0]).next_offset == every[3][0]


def test_how_many_rows_lie_from_some_offsets_on(log: Log) -> None:
    assert log.lag({0: 0, 1: 0}) == 0
    for first in range(0, 20, 4):
        log.append_many({0: rows(first, 4), 1: rows(first, 2)})
    for number in range(20):
        assert log.lag({0: offset_of(log, number), 2: 0}) >= 20 - number
    assert log.lag({0: offset_of(log, 19)}) > 0
    assert log.lag({0: log.end(0), 1: log.end(1)}) == 0
    assert log.lag({0: log.end(0) + 5}) == 0
    assert log.lag({0: 0, 1: 0}) == log.lag({0: 0}) + log.lag({1: 0}) >= 30


def test_where_the_last_rows_begin(log: Log) -> None:
    assert log.before_end(0, 3) == log.start(0)
    for first in range(0, 20, 4):
        log.append(0, rows(first, 4))
    every = read_from(log, 0, 0)
    for count in (0, 1, 3, 8, 20, 100):
        last = read_from(log, 0, log.before_end(0, count))
        assert len(last) <= count
        assert last == every[len(every) - len(last) :]
    assert log.before_end(0, 0) == log.end(0)
    assert log.before_end(0, 100) == log.start(0)


def test_several_partitions_in_one_commit(log: Log) -> None:
    log.append(2, rows(0, 4))
    assert log.append_many({2: rows(4, 2), 0: rows(0, 3), 1: rows(0, 0)}) == {0: 0, 1: 0, 2: offset_of(log, 4, 2)}
    assert log.append_many({}) == {}
    assert [read_all(log, partition) for partition in range(PARTITIONS)] == [[0, 1, 2], [], [0, 1, 2, 3, 4, 5]]


def test_rows_come_back_as_they_were(log: Log) -> None:
    batches = [rows(0, 7), rows(7, 500, text_bytes=300), rows(507, 1)]
    for batch in batches:
        log.append(0, batch)
    assert log.read(0, 0, 1000).batch.equals(pa.concat_batches(batches))


def test_a_slice_is_stored_without_what_it_was_cut_from(log: Log) -> None:
    log.append(0, rows(0, 100).slice(40, 3))
    assert read_all(log, 0) == [40, 41, 42]


@pytest.mark.parametrize("limit", [1, 2, 7, 40, 1000])
def test_a_read_may_begin_and_end_inside_of_what_was_appended(log: Log, limit: int) -> None:
    for first in range(0, 200, 10):
        log.append(0, rows(first, 10))
    assert read_all(log, 0, limit) == list(range(200))
    assert numbers(log.read(0, offset_of(log, 95), limit).batch) == list(range(95, min(95 + limit, 200)))


def test_reading_where_nothing_is_yet(log: Log) -> None:
    log.append(0, rows(0, 3))
    end = log.end(0)
    for partition, offset in ((0, end), (0, end + 5), (1, 0)):
        batch, offsets, following = log.read(partition, offset, 10)
        assert (batch.num_rows, batch.schema, len(offsets), following) == (0, SCHEMA, 0, offset)
    assert log.read(0, 1, 0).next_offset == 1


def test_an_empty_batch_changes_nothing(log: Log) -> None:
    log.append(0, rows(0, 3))
    end = log.end(0)
    assert log.append(0, rows(0, 0)) == end
    assert log.end(0) == end


def test_other_schemas_and_partitions_are_refused(log: Log) -> None:
    with pytest.raises(LogError, match="schema"):
        log.append(0, pa.record_batch({"number": [1]}))
    for partition in (-1, PARTITIONS):
        with pytest.raises(LogError, match=f"no partition {partition}"):
            log.append(partition, rows(0, 1))
        with pytest.raises(LogError, match=f"no partition {partition}"):
            log.read(partition, 0, 1)
        with pytest.raises(LogError, match=f"no partition {partition}"):
            log.end(partition)
    assert log.end(0) == 0


def test_a_log_that_is_opened_again_goes_on(open_log: OpenLog) -> None:
    with open_log() as log:
        log.append(1, rows(0, 30))
    with open_log() as log:
        assert log.append(1, rows(30, 5)) == offset_of(log, 30, 1)
        assert read_all(log, 1) == list(range(35))


def test_everyone_who_has_it_open_may_append_and_sees_all_rows(open_log: OpenLog) -> None:
    logs = [open_log(), open_log(), open_log()]
    for number in range(60):
        first = logs[number % 3].append(0, rows(number, 1))
        assert [offset_of(log, number) for log in logs] == [first] * 3
        assert len({log.end(0) for log in logs}) == 1
    assert [read_all(log, 0) for log in logs] == [list(range(60))] * 3


def test_threads_may_share_a_log(log: Log) -> None:
    def append(first: int) -> None:
        for number in range(first, first + 50):
            log.append(number % 2, rows(number, 1))

    threads = [threading.Thread(target=append, args=(first,)) for first in (0, 1000, 2000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for partition in (0, 1):
        found = read_all(log, partition)
        assert sorted(found) == [first + at for first in (0, 1000, 2000) for at in range(50) if at % 2 == partition]
        for first in (0, 1000, 2000):
            own = [number for number in found if first <= number < first + 50]
            assert own == sorted(own)


def test_waiting_ends_when_a_row_is_there(log: Log, open_log: OpenLog) -> None:
    other = open_log()
    timer = threading.Timer(0.1, other.append, (1, rows(0, 1)))
    timer.start()
    assert log.wait({0: 0, 1: 0}, 10.0)
    assert read_all(log, 1) == [0]
    timer.join()


def test_waiting_ends_when_the_time_is_up(log: Log) -> None:
    log.append(0, rows(0, 1))
    before = time.monotonic()
    assert not log.wait({0: log.end(0), 1: 0}, 0.05)
    assert time.monotonic() - before >= 0.05
    assert log.wait({0: 0, 1: 0}, 0.0)


def test_consumers_keep_their_offsets(open_log: OpenLog) -> None:
    with open_log() as log:
        log.append_many({0: rows(0, 10), 1: rows(0, 10)})
        assert log.committed("sink") == {}
        log.commit("sink", {0: 4})
        log.commit("sink", {1: 7})
        log.commit("analyze", {0: 10})
    with open_log() as log:
        assert log.committed("sink") == {0: 4, 1: 7}
        log.commit("sink", {0: 9})
        assert log.committed("sink") == {0: 9, 1: 7}
        assert log.committed("analyze") == {0: 10}


def test_offsets_that_cannot_be_are_refused(log: Log) -> None:
    log.append(0, rows(0, 3))
    for offsets in ({0: log.end(0) + 1}, {0: -1}, {PARTITIONS: 0}):
        with pytest.raises(LogError):
            log.commit("sink", offsets)
    for consumer in ("", "a/b", "../sink", "a b"):
        with pytest.raises(LogError, match="cannot name a consumer"):
            log.commit(consumer, {0: 1})
    assert log.committed("sink") == {}


def test_retention_by_size_frees_the_oldest_rows(log: Log) -> None:
    for first in range(0, 1000, 10):
        log.append(0, rows(first, 10, text_bytes=100))
    log.append(1, rows(0, 1))
    freed = log.trim(max_bytes=20_000)
    start = log.start(0)
    assert freed > 0
    kept = read_all(log, 0)
    assert 0 < len(kept) < 1000
    assert kept == list(range(1000 - len(kept), 1000))
    assert read_all(log, 1) == [0]
    with pytest.raises(OffsetTrimmedError) as trimmed:
        log.read(0, 0, 1)
    assert (trimmed.value.partition, trimmed.value.offset, trimmed.value.start) == (0, 0, start)
    assert log.append(0, rows(1000, 1)) == offset_of(log, 1000)


def test_retention_waits_for_no_consumer_that_is_forgotten(log: Log) -> None:
    for first in range(0, 1000, 10):
        log.append(0, rows(first, 10, text_bytes=100))
    log.commit("sink", {0: 0})
    assert log.trim(max_bytes=0) == 0
    log.forget("sink")
    log.forget("sink")
    assert log.committed("sink") == {}
    assert log.trim(max_bytes=0) > 0


def test_retention_by_age_frees_what_is_older(log: Log) -> None:
    log.append(0, rows(0, 100, text_bytes=100))
    assert log.trim(max_age_seconds=3600) == 0
    assert log.trim() == 0
    time.sleep(0.02)
    assert log.trim(max_age_seconds=0.01) > 0
    assert log.start(0) == log.end(0) >= 100
    assert log.append(0, rows(100, 5)) == offset_of(log, 100)
    assert read_all(log, 0) == list(range(100, 105))


def test_retention_never_outruns_a_consumer(log: Log, open_log: OpenLog) -> None:
    for first in range(0, 1000, 10):
        log.append(0, rows(first, 10, text_bytes=100))
    log.commit("fast", {0: log.end(0)})
    open_log().commit("slow", {1: 0})
    assert log.trim(max_bytes=0) == 0
    log.commit("slow", {0: offset_of(log, 505)})
    assert log.trim(max_bytes=0) > 0
    assert 400 < read_all(log, 0)[0] <= 505
    log.commit("slow", {0: log.end(0)})
    log.trim(max_bytes=0)
    assert log.start(0) == log.end(0) >= 1000


def test_closing_twice(open_log: OpenLog) -> None:
    log = open_log()
    log.append(0, rows(0, 1))
    batch = log.read(0, 0, 1).batch
    log.close()
    log.close()
    assert numbers(batch) == [0]


COUNTS = st.integers(0, 40)
PARTITION = st.integers(0, PARTITIONS - 1)


class LogMachine(RuleBasedStateMachine):
    """A log that two have open, against lists of its rows, (offset, number)."""

    backend: Callable[[Path], Callable[[], Log]]

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.open = self.backend(Path(self.folder.name))
        self.logs = [self.open(), self.open()]
        self.model: dict[int, list[tuple[int, int]]] = {partition: [] for partition in range(PARTITIONS)}
        self.consumers: dict[str, dict[int, int]] = {}
        self.starts = dict.fromkeys(range(PARTITIONS), 0)
        self.ends = dict.fromkeys(range(PARTITIONS), 0)
        self.next_number = 0

    def new_rows(self, count: int, text_bytes: int) -> pa.RecordBatch:
        self.next_number += count
        return rows(self.next_number - count, count, text_bytes=text_bytes)

    @rule(who=st.integers(0, 1), counts=st.dictionaries(PARTITION, COUNTS), text_bytes=st.sampled_from([0, 20, 3000]))
    def append(self, who: int, counts: dict[int, int], text_bytes: int) -> None:
        batches = {partition: self.new_rows(count, text_bytes) for partition, count in counts.items()}
        firsts = self.logs[who].append_many(batches)
        assert firsts.keys() == counts.keys()
        for partition, batch in batches.items():
            before, end = self.ends[partition], self.logs[who].end(partition)
            found = read_from(self.logs[who], partition, before)
            assert [number for _, number in found] == numbers(batch)
            assert firsts[partition] == (found[0][0] if found else before)
            assert end > found[-1][0] if found else end == before
            self.model[partition] += found
            self.ends[partition] = end

    @rule(who=st.integers(0, 1), partition=PARTITION, offset=st.integers(0, 200), limit=COUNTS, length=st.none() | COUNTS)
    def read(self, who: int, partition: int, offset: int, limit: int, length: int | None) -> None:
        offset = max(offset, self.starts[partition])
        until = self.ends[partition] if length is None else offset + length
        batch, offsets, following = self.logs[who].read(partition, offset, limit, until=None if length is None else until)
        there = [each for each in self.model[partition] if offset <= each[0] < until]
        assert list(zip(offsets.tolist(), numbers(batch), strict=True)) == there[:limit]
        if len(offsets) < limit:
            assert following == max(offset, min(until, self.ends[partition]))
        elif limit:
            assert there[limit - 1][0] < following <= (there[limit][0] if len(there) > limit else max(until, self.ends[partition]))
        else:
            assert following == offset

    @rule(who=st.integers(0, 1), consumer=st.sampled_from("ab"), partition=PARTITION, part=st.floats(0, 1))
    def commit(self, who: int, consumer: str, partition: int, part: float) -> None:
        offset = int(part * self.ends[partition])
        self.logs[who].commit(consumer, {partition: offset})
        self.consumers.setdefault(consumer, {})[partition] = offset

    @rule(who=st.integers(0, 1), max_bytes=st.sampled_from([0, 5000, 20_000]))
    def trim(self, who: int, max_bytes: int) -> None:
        self.logs[who].trim(max_bytes=max_bytes)
        for partition in range(PARTITIONS):
            start = self.logs[who].start(partition)
            assert self.starts[partition] <= start
            read = min((offsets.get(partition, 0) for offsets in self.consumers.values()), default=self.ends[partition])
            lost = [offset for offset, _ in self.model[partition] if self.starts[partition] <= offset < start]
            assert all(offset < read for offset in lost)
            self.starts[partition] = start

    @rule(who=st.integers(0, 1))
    def reopen(self, who: int) -> None:
        self.logs[who].close()
        self.logs[who] = self.open()

    @invariant()
    def both_see_the_same(self) -> None:
        for log in self.logs:
            assert {partition: log.end(partition) for partition in range(PARTITIONS)} == self.ends
            assert {partition: log.start(partition) for partition in range(PARTITIONS)} == self.starts
            assert {consumer: log.committed(consumer) for consumer in self.consumers} == self.consumers

    def teardown(self) -> None:
        for partition, stored in self.model.items():
            start = self.starts[partition]
            assert read_from(self.logs[0], partition, start, limit=17) == [each for each in stored if each[0] >= start]
        for log in self.logs:
            log.close()
        self.folder.cleanup()


class LocalMachine(LogMachine):
    backend = staticmethod(BACKENDS["local"])


class GapsMachine(LogMachine):
    backend = staticmethod(BACKENDS["memory, gaps"])


TestLocalAgreesWithTheModel = LocalMachine.TestCase
TestGapsAgreeWithTheModel = GapsMachine.TestCase
TestLocalAgreesWithTheModel.settings = settings(max_examples=examples(40), stateful_step_count=25, deadline=None)
TestGapsAgreeWithTheModel.settings = TestLocalAgreesWithTheModel.settings
