"""What every `Log` must do. A backend joins by adding a function that opens it to `BACKENDS`."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
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
from tests.log.rows import SCHEMA, numbers, rows
from tests.searching import examples

PARTITIONS = 3


class OpenLog(Protocol):
    """Opens one and the same log each time, as another process would."""

    def __call__(self) -> Log: ...


def local(folder: Path) -> Log:
    """Segments of 4 KiB, so that small tests cross many of them."""
    return LocalLog(folder, SCHEMA, name="events", partitions=PARTITIONS, segment_bytes=4096)


BACKENDS: dict[str, Callable[[Path], Log]] = {"local": local}


@pytest.fixture(params=BACKENDS)
def open_log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenLog]:
    opened: list[Log] = []

    def open_one() -> Log:
        opened.append(BACKENDS[request.param](tmp_path))
        return opened[-1]

    yield open_one
    for log in opened:
        log.close()


@pytest.fixture
def log(open_log: OpenLog) -> Log:
    return open_log()


def read_all(log: Log, partition: int, limit: int = 1000) -> list[int]:
    offset, found = log.start(partition), []
    while offset < log.end(partition):
        batch, following = log.read(partition, offset, limit)
        assert following == offset + batch.num_rows > offset
        found += numbers(batch)
        offset = following
    return found


def test_offsets_count_rows_from_zero_in_each_partition(log: Log) -> None:
    assert [log.append(0, rows(0, 5)), log.append(0, rows(5, 1)), log.append(0, rows(6, 3))] == [0, 5, 6]
    assert log.append(1, rows(0, 2)) == 0
    assert [log.end(partition) for partition in range(PARTITIONS)] == [9, 2, 0]
    assert [log.start(partition) for partition in range(PARTITIONS)] == [0, 0, 0]


def test_several_partitions_in_one_commit(log: Log) -> None:
    log.append(2, rows(0, 4))
    assert log.append_many({2: rows(4, 2), 0: rows(0, 3), 1: rows(0, 0)}) == {0: 0, 1: 0, 2: 4}
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
    assert numbers(log.read(0, 95, limit).batch) == list(range(95, min(95 + limit, 200)))


def test_reading_where_nothing_is_yet(log: Log) -> None:
    log.append(0, rows(0, 3))
    for partition, offset in ((0, 3), (0, 8), (1, 0)):
        batch, following = log.read(partition, offset, 10)
        assert (batch.num_rows, batch.schema, following) == (0, SCHEMA, offset)
    assert log.read(0, 1, 0).next_offset == 1


def test_an_empty_batch_changes_nothing(log: Log) -> None:
    log.append(0, rows(0, 3))
    assert log.append(0, rows(0, 0)) == 3
    assert log.end(0) == 3


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
        assert log.append(1, rows(30, 5)) == 30
        assert read_all(log, 1) == list(range(35))


def test_everyone_who_has_it_open_may_append_and_sees_all_rows(open_log: OpenLog) -> None:
    logs = [open_log(), open_log(), open_log()]
    for number in range(60):
        assert logs[number % 3].append(0, rows(number, 1)) == number
        assert [log.end(0) for log in logs] == [number + 1] * 3
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
    assert log.end(1) == 1
    timer.join()


def test_waiting_ends_when_the_time_is_up(log: Log) -> None:
    log.append(0, rows(0, 1))
    before = time.monotonic()
    assert not log.wait({0: 1, 1: 0}, 0.05)
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
    for offsets in ({0: 4}, {0: -1}, {PARTITIONS: 0}):
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
    assert 0 < start < 1000
    assert read_all(log, 0) == list(range(start, 1000))
    assert read_all(log, 1) == [0]
    with pytest.raises(OffsetTrimmedError) as trimmed:
        log.read(0, 0, 1)
    assert (trimmed.value.partition, trimmed.value.offset, trimmed.value.start) == (0, 0, start)
    assert log.append(0, rows(1000, 1)) == 1000


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
    assert (log.start(0), log.end(0)) == (100, 100)
    assert log.append(0, rows(100, 5)) == 100
    assert read_all(log, 0) == list(range(100, 105))


def test_retention_never_outruns_a_consumer(log: Log, open_log: OpenLog) -> None:
    for first in range(0, 1000, 10):
        log.append(0, rows(first, 10, text_bytes=100))
    log.commit("fast", {0: 1000})
    open_log().commit("slow", {1: 0})
    assert log.trim(max_bytes=0) == 0
    log.commit("slow", {0: 505})
    assert log.trim(max_bytes=0) > 0
    assert 400 < log.start(0) <= 505
    log.commit("slow", {0: 1000})
    log.trim(max_bytes=0)
    assert log.start(0) == log.end(0) == 1000


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
    """A log that two have open, against lists of numbers."""

    backend: Callable[[Path], Log]

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.logs = [self.open(), self.open()]
        self.model: dict[int, list[int]] = {partition: [] for partition in range(PARTITIONS)}
        self.consumers: dict[str, dict[int, int]] = {}
        self.starts = dict.fromkeys(range(PARTITIONS), 0)
        self.next_number = 0

    def open(self) -> Log:
        return self.backend(Path(self.folder.name))

    def new_rows(self, count: int, text_bytes: int) -> pa.RecordBatch:
        self.next_number += count
        return rows(self.next_number - count, count, text_bytes=text_bytes)

    @rule(who=st.integers(0, 1), counts=st.dictionaries(PARTITION, COUNTS), text_bytes=st.sampled_from([0, 20, 3000]))
    def append(self, who: int, counts: dict[int, int], text_bytes: int) -> None:
        batches = {partition: self.new_rows(count, text_bytes) for partition, count in counts.items()}
        assert self.logs[who].append_many(batches) == {partition: len(self.model[partition]) for partition in counts}
        for partition, batch in batches.items():
            self.model[partition] += numbers(batch)

    @rule(who=st.integers(0, 1), partition=PARTITION, offset=st.integers(0, 200), limit=COUNTS)
    def read(self, who: int, partition: int, offset: int, limit: int) -> None:
        offset = max(offset, self.starts[partition])
        batch, following = self.logs[who].read(partition, offset, limit)
        assert numbers(batch) == self.model[partition][offset : offset + limit]
        assert following == offset + batch.num_rows

    @rule(who=st.integers(0, 1), consumer=st.sampled_from("ab"), partition=PARTITION, part=st.floats(0, 1))
    def commit(self, who: int, consumer: str, partition: int, part: float) -> None:
        offset = int(part * len(self.model[partition]))
        self.logs[who].commit(consumer, {partition: offset})
        self.consumers.setdefault(consumer, {})[partition] = offset

    @rule(who=st.integers(0, 1), max_bytes=st.sampled_from([0, 5000, 20_000]))
    def trim(self, who: int, max_bytes: int) -> None:
        self.logs[who].trim(max_bytes=max_bytes)
        for partition in range(PARTITIONS):
            start = self.logs[who].start(partition)
            assert self.starts[partition] <= start
            read_by_all = [offsets.get(partition, 0) for offsets in self.consumers.values()]
            assert start <= max(min(read_by_all, default=len(self.model[partition])), self.starts[partition])
            self.starts[partition] = start

    @rule(who=st.integers(0, 1))
    def reopen(self, who: int) -> None:
        self.logs[who].close()
        self.logs[who] = self.open()

    @invariant()
    def both_see_the_same(self) -> None:
        for log in self.logs:
            assert {partition: log.end(partition) for partition in range(PARTITIONS)} == {
                partition: len(stored) for partition, stored in self.model.items()
            }
            assert {partition: log.start(partition) for partition in range(PARTITIONS)} == self.starts
            assert {consumer: log.committed(consumer) for consumer in self.consumers} == self.consumers

    def teardown(self) -> None:
        for partition, stored in self.model.items():
            assert read_all(self.logs[0], partition, limit=17) == stored[self.starts[partition] :]
        for log in self.logs:
            log.close()
        self.folder.cleanup()


class LocalMachine(LogMachine):
    backend = staticmethod(local)


TestLocalAgreesWithTheModel = LocalMachine.TestCase
TestLocalAgreesWithTheModel.settings = settings(max_examples=examples(40), stateful_step_count=25, deadline=None)
