"""The log split into batches: every row once, in order, and after a crash the same batches again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from sokuji.analyze.batches import BATCH_SCHEMA, BATCHES_LOG, Batches
from sokuji.errors import LogError
from sokuji.events import EVENT_SCHEMA
from tests.lake.platform import START_US, log_rows
from tests.log.opening import Opening

PARTITIONS = 2


class Logs:
    def __init__(self, folder: Path, opening: Opening) -> None:
        self.events = opening(folder, EVENT_SCHEMA, "events", PARTITIONS)
        self.batches = opening(folder, BATCH_SCHEMA, BATCHES_LOG, 1)
        self.cutters: list[Batches] = []

    def track(self, partition: int, *messages: tuple[str, int]) -> None:
        """Append events: message id, and seconds after the start at which it was received."""
        self.events.append(partition, log_rows([{"message_id": name, "received_at": START_US + 1_000_000 * at} for name, at in messages]))

    def cutter(self, *, rows_max: int = 1000, start: dict[int, int] | None = None, number: int = 0) -> Batches:
        self.cutters.append(Batches(self.events, self.batches, start or {}, number, rows_max=rows_max))
        return self.cutters[-1]


@pytest.fixture
def logs(tmp_path: Path, opening: Opening) -> Iterator[Logs]:
    opened = Logs(tmp_path, opening)
    yield opened
    for cutter in opened.cutters:
        cutter.close()
    opened.events.close()
    opened.batches.close()


def ids(rows: pa.RecordBatch) -> list[str]:
    names: list[str] = rows.column("message_id").to_pylist()
    return names


def test_whatever_is_there_becomes_one_batch(logs: Logs) -> None:
    logs.track(0, ("a", 1), ("b", 2))
    logs.track(0, ("c", 3))
    cutter = logs.cutter()
    assert ids(cutter.next().rows) == ["a", "b", "c"]
    logs.track(1, ("d", 4))
    batch = cutter.next()
    assert (ids(batch.rows), batch.ends) == (["d"], {partition: logs.events.end(partition) for partition in range(PARTITIONS)})
    assert cutter.next().rows.num_rows == 0


def test_a_batch_is_bounded_and_the_rest_comes_next(logs: Logs) -> None:
    logs.track(0, *((str(number), number) for number in range(5)))
    cutter = logs.cutter(rows_max=2)
    assert [ids(cutter.next().rows) for _ in range(3)] == [["0", "1"], ["2", "3"], ["4"]]
    assert cutter.lag_rows() == 0


def test_partitions_are_merged_by_time_received_and_each_keeps_its_order(logs: Logs) -> None:
    logs.track(0, ("a", 1), ("b", 9), ("c", 5))  # the collector's clock was set back between b and c
    logs.track(1, ("x", 2), ("y", 7), ("z", 10))
    batch = logs.cutter().next()
    assert ids(batch.rows) == ["a", "x", "y", "b", "c", "z"]
    assert list(zip(batch.partitions, batch.offsets, strict=True)) == [(0, 0), (1, 0), (1, 1), (0, 1), (0, 2), (1, 2)]


def test_each_row_of_a_batch_has_its_own_offset(logs: Logs) -> None:
    firsts = []
    for number in range(3):
        firsts.append(logs.events.end(0))
        logs.track(0, (f"a{number}", number), (f"b{number}", number))
    batch = logs.cutter().next()
    assert dict(zip(ids(batch.rows), batch.offsets.tolist(), strict=True)) == {
        f"{name}{number}": offset + place for number, offset in enumerate(firsts) for place, name in enumerate("ab")
    }
    assert logs.events.lag(batch.ends) == 0


def test_large_events_make_small_batches_in_which_all_partitions_get_on(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sokuji.analyze.batches.BYTES_MAX", 1)
    monkeypatch.setattr("sokuji.log.local.reader.READ_BYTES_MAX", 1)  # a read gives one frame
    monkeypatch.setattr("sokuji.log.memory.READ_BYTES_MAX", 1)
    for number in range(3):
        logs.track(0, (f"a{number}", number))
        logs.track(1, (f"b{number}", number))
    cutter = logs.cutter()
    batches = [cutter.next() for _ in range(7)]
    assert [ids(batch.rows) for batch in batches] == [["a0"], ["b0"], ["a1"], ["b1"], ["a2"], ["b2"], []]
    cutter.settle()
    again = logs.cutter(start={}, number=0)
    assert [(ids(batch.rows), batch.ends) for batch in (again.next() for _ in range(7))] == [(ids(b.rows), b.ends) for b in batches]


def test_after_a_crash_the_same_batches_are_cut_again(logs: Logs) -> None:
    cutter, before = logs.cutter(), []
    for number in range(4):
        logs.track(number % 2, (f"a{number}", 2 * number), (f"b{number}", 2 * number + 1))
        before.append(cutter.next())
    cutter.settle()
    logs.track(0, ("late", 100))
    again = logs.cutter(start=before[0].ends, number=before[1].number)
    assert again.is_replaying
    replayed = [again.next() for _ in range(3)]
    assert [batch.number for batch in replayed] == [batch.number for batch in before[1:]]
    assert [(ids(b.rows), b.now_us, b.ends) for b in replayed] == [(ids(b.rows), b.now_us, b.ends) for b in before[1:]]
    assert not again.is_replaying
    assert ids(again.next().rows) == ["late"]


def test_a_second_worker_is_noticed(logs: Logs) -> None:
    first, second = logs.cutter(), logs.cutter()
    first.next()
    first.settle()
    second.next()
    with pytest.raises(LogError, match="another worker"):
        second.settle()
    first.next()
    with pytest.raises(LogError, match="another worker"):
        first.settle()
