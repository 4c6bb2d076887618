"""The local log beyond the contract: several processes, torn tails, damage, a full disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sokuji.errors import CorruptLogError, DamagedFileError, FormatError, LogError
from sokuji.log.local.log import LocalLog
from sokuji.log.local.segment import base_offsets, encode, frame_bytes, segment_path
from tests.disk.full import files_no_larger_than
from tests.log.rows import SCHEMA, numbers, rows


def open_log(folder: Path, *, segment_bytes: int = 1 << 20) -> LocalLog:
    return LocalLog(folder, SCHEMA, name="events", partitions=1, segment_bytes=segment_bytes)


def read_all(folder: Path) -> list[int]:
    with open_log(folder) as log:
        return numbers(log.read(0, 0, 100_000).batch)


def first_segment(folder: Path) -> Path:
    return segment_path(folder / "events" / "0", 0)


def publish(folder: Path, end: int) -> None:
    """As format 1 had it."""
    (folder / "events" / "ends").write_bytes(end.to_bytes(8, sys.byteorder))


def test_offsets_count_rows_from_zero(tmp_path: Path) -> None:
    with open_log(tmp_path, segment_bytes=600) as log:
        assert [log.append(0, rows(0, 5)), log.append(0, rows(5, 1)), log.append(0, rows(6, 3))] == [0, 5, 6]
        assert (log.start(0), log.end(0)) == (0, 9)
        assert [(found.offsets.tolist(), found.next_offset) for found in (log.read(0, 2, 4), log.read(0, 2, 9, until=5))] == [
            ([2, 3, 4, 5], 6),
            ([2, 3, 4], 5),
        ]
        assert (log.lag({0: 2}), log.before_end(0, 3), log.before_end(0, 100)) == (7, 6, 0)


@pytest.mark.e2e
def test_processes_append_side_by_side(tmp_path: Path) -> None:
    count = 200
    command = [sys.executable, "-m", "tests.log.appender", str(tmp_path)]
    processes = [subprocess.Popen([*command, str(first), str(count)], stdout=subprocess.PIPE, text=True) for first in (0, 1000, 2000)]
    offsets = [list(map(int, process.communicate()[0].split())) for process in processes]
    found = read_all(tmp_path)
    assert sorted(offset for own in offsets for offset in own) == list(range(3 * count))
    for first, own in zip((0, 1000, 2000), offsets, strict=True):
        assert [found[offset] for offset in own] == list(range(first, first + count))
    assert len(base_offsets(tmp_path / "events" / "0")) > 3


def test_a_tail_torn_at_any_byte_is_cut_off(tmp_path: Path) -> None:
    path = first_segment(tmp_path)
    with open_log(tmp_path) as log:
        log.append(0, rows(0, 3))
        durable = path.stat().st_size
        log.append(0, rows(3, 1))
    content = path.read_bytes()
    for size in range(durable, len(content)):
        path.write_bytes(content[:size])
        publish(tmp_path, 3)
        with open_log(tmp_path) as log:
            assert (log.end(0), path.stat().st_size) == (3, durable)
            assert log.append(0, rows(10, 1)) == 3
            assert numbers(log.read(0, 0, 100).batch) == [0, 1, 2, 10]


def test_a_tail_of_zeros_is_cut_off(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(0, rows(0, 3))
    with first_segment(tmp_path).open("ab") as file:
        file.write(bytes(10_000))
    assert read_all(tmp_path) == [0, 1, 2]


@pytest.mark.parametrize("published", [0, 3, 5])
def test_whole_frames_of_a_process_that_died_before_it_could_publish_are_kept(tmp_path: Path, published: int) -> None:
    with open_log(tmp_path) as log:
        log.append(0, rows(0, 3))
        log.append(0, rows(3, 2))
    publish(tmp_path, published)
    assert read_all(tmp_path) == [0, 1, 2, 3, 4]


def test_a_torn_tail_is_cut_off_by_a_process_that_has_the_log_open_already(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(0, rows(0, 3))
        with first_segment(tmp_path).open("ab") as file:
            file.write(frame_bytes(encode(rows(3, 2))[0], 3)[:-1])
        assert log.end(0) == 3
        assert log.append(0, rows(10, 1)) == 3
        assert numbers(log.read(0, 0, 100).batch) == [0, 1, 2, 10]


def test_rows_are_seen_once_they_are_durable_and_not_before(tmp_path: Path) -> None:
    with open_log(tmp_path) as log, open_log(tmp_path) as reader:
        log.append(0, rows(0, 3))
        writer = log._writers[0]
        with writer.transaction():
            writer.write(encode(rows(3, 2)))
            assert reader.end(0) == 3
            assert numbers(reader.read(0, 0, 100).batch) == [0, 1, 2]
            writer.sync()
            writer.publish()
        assert numbers(reader.read(0, 0, 100).batch) == [0, 1, 2, 3, 4]


def test_damage_to_any_byte_of_a_durable_row_is_found(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(0, rows(0, 3))
        log.append(0, rows(3, 3))
    path = first_segment(tmp_path)
    content = path.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0x40
        path.write_bytes(damaged)
        with pytest.raises((CorruptLogError, FormatError), match=r"0\.segment"):  # in the version's byte, another format
            read_all(tmp_path)


def test_damage_is_not_taken_for_a_torn_tail_when_whole_frames_follow(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(0, rows(0, 3))
        damaged_at = first_segment(tmp_path).stat().st_size + 50
        log.append(0, rows(3, 3))
        log.append(0, rows(6, 3))
    publish(tmp_path, 3)  # as after a power cut, when the published end lags behind
    content = bytearray(first_segment(tmp_path).read_bytes())
    content[damaged_at] ^= 1
    first_segment(tmp_path).write_bytes(content)
    with pytest.raises(CorruptLogError, match="row 3 was durable"):
        read_all(tmp_path)


def test_durable_rows_that_are_missing_are_found(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(0, rows(0, 3))
        size = first_segment(tmp_path).stat().st_size
        log.append(0, rows(3, 3))
        with first_segment(tmp_path).open("r+b") as file:
            file.truncate(size)
        with pytest.raises(CorruptLogError, match="ends before row 3"):
            log.read(0, 0, 100)
    with pytest.raises(CorruptLogError, match="row 3 was durable"):
        read_all(tmp_path)


def test_a_segment_that_is_missing_in_the_middle_is_found(tmp_path: Path) -> None:
    with open_log(tmp_path, segment_bytes=600) as log:
        for first in range(0, 30, 3):
            log.append(0, rows(first, 3))
        bases = base_offsets(tmp_path / "events" / "0")
        segment_path(tmp_path / "events" / "0", bases[2]).unlink()
        with pytest.raises(CorruptLogError, match=f"ends before row {bases[2]}"):
            log.read(0, 0, 100)
        assert numbers(log.read(0, bases[3], 2).batch) == [bases[3], bases[3] + 1]


@pytest.mark.parametrize("text_bytes", [10, 2000])
def test_an_append_that_does_not_fit_leaves_nothing_behind(tmp_path: Path, text_bytes: int) -> None:
    with open_log(tmp_path) as log:
        log.append(0, rows(0, 3))
        size = first_segment(tmp_path).stat().st_size
        with files_no_larger_than(size + 100), pytest.raises(LogError, match="cannot append"):
            log.append(0, rows(3, 40, text_bytes=text_bytes))
        assert (log.end(0), first_segment(tmp_path).stat().st_size) == (3, size)
        assert log.append(0, rows(10, 2)) == 3
    assert read_all(tmp_path) == [0, 1, 2, 10, 11]


def test_no_partition_keeps_rows_of_an_append_that_failed_in_another(tmp_path: Path) -> None:
    with LocalLog(tmp_path, SCHEMA, name="events", partitions=2, segment_bytes=2048) as log:
        with files_no_larger_than(10_000), pytest.raises(LogError, match="cannot append"):
            log.append_many({0: rows(0, 3), 1: rows(0, 1000, text_bytes=300)})
        assert log.append_many({0: rows(10, 1), 1: rows(20, 1)}) == {0: 0, 1: 0}
        assert [numbers(log.read(partition, 0, 100).batch) for partition in (0, 1)] == [[10], [20]]


def test_a_very_large_batch_becomes_several_frames_and_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sokuji.log.local.segment._FRAME_BYTES_MAX", 100_000)
    monkeypatch.setattr("sokuji.log.local.reader.READ_BYTES_MAX", 500_000)
    with open_log(tmp_path) as log:
        log.append(0, rows(0, 3000, text_bytes=1000))
        first = log.read(0, 0, 3000)
        assert 0 < first.next_offset < 3000
        assert first.batch.nbytes < 700_000
        rest = [log.read(0, first.next_offset, 10)]
        while rest[-1].next_offset < 3000:
            rest.append(log.read(0, rest[-1].next_offset, 3000))
        assert [number for part in (first, *rest) for number in numbers(part.batch)] == list(range(3000))


def test_a_file_that_is_no_segment_is_named(tmp_path: Path) -> None:
    open_log(tmp_path).close()
    for content in (b"", b"sokuji", bytes(1000)):
        first_segment(tmp_path).write_bytes(content)
        with pytest.raises(CorruptLogError, match=r"0\.segment"):
            open_log(tmp_path)


def test_a_log_keeps_its_schema_and_its_partitions(tmp_path: Path) -> None:
    open_log(tmp_path).close()
    with pytest.raises(LogError, match="has 1 partitions, not 2"):
        LocalLog(tmp_path, SCHEMA, name="events", partitions=2)
    with pytest.raises(LogError, match="another schema"):
        LocalLog(tmp_path, SCHEMA.remove(1), name="events", partitions=1)


def test_a_newer_format_is_refused_and_named(tmp_path: Path) -> None:
    open_log(tmp_path).close()
    description = tmp_path / "events" / "log.json"
    whole = description.read_bytes()
    description.write_text('{"format": 99, "partitions": 1}')
    with pytest.raises(FormatError, match=r"log\.json has format 99, .* up to 2"):
        open_log(tmp_path)
    description.write_bytes(whole)
    content = bytearray(first_segment(tmp_path).read_bytes())
    content[7] = 2
    first_segment(tmp_path).write_bytes(content)
    with pytest.raises(FormatError, match=r"0\.segment has format 2"):
        open_log(tmp_path)


def test_a_log_of_format_1_is_read_and_goes_on(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(0, rows(0, 3))
        log.commit("reader", {0: 2})
    (tmp_path / "events" / "log.json").write_text('{"format": 1, "partitions": 1}')
    (tmp_path / "events" / "consumers" / "reader.json").write_text('{"0": 2}')
    publish(tmp_path, 3)
    with open_log(tmp_path) as log:
        assert (log.end(0), log.committed("reader")) == (3, {0: 2})
        log.append(0, rows(3, 1))
    assert read_all(tmp_path) == [0, 1, 2, 3]


WORD = (3).to_bytes(8, sys.byteorder)


def test_an_offset_past_the_end_is_named(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(0, rows(0, 3))
        (tmp_path / "events" / "consumers" / "sink.json").write_text('{"0": 4}')
        with pytest.raises(DamagedFileError, match=r"sink\.json is damaged: offset 4 of partition 0 lies past the end of the log; restore"):
            log.committed("sink")


@pytest.mark.parametrize("damage", [b"", WORD[:7], b"\xff" * 16, b"\x09" + WORD[1:] + bytes(byte ^ 0xFF for byte in WORD), None])
def test_ends_that_are_damaged_are_found_again(tmp_path: Path, damage: bytes | None) -> None:
    with open_log(tmp_path) as log:
        log.append(0, rows(0, 3))
    ends = tmp_path / "events" / "ends"
    if damage is None:
        ends.unlink()
    else:
        ends.write_bytes(damage)
    assert read_all(tmp_path) == [0, 1, 2]


def test_a_log_without_its_description_says_so(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(0, rows(0, 3))
    (tmp_path / "events" / "log.json").unlink()
    with pytest.raises(DamagedFileError, match=r"log\.json is damaged: it is missing, though there are rows; restore it"):
        open_log(tmp_path)


def test_a_log_whose_making_was_interrupted_is_rebuilt(tmp_path: Path) -> None:
    (tmp_path / "events" / "0").mkdir(parents=True)
    (tmp_path / "events" / "ends").write_bytes(b"")
    with open_log(tmp_path) as log:
        assert log.append(0, rows(0, 2)) == 0


def test_seeking_in_a_long_segment(tmp_path: Path) -> None:
    with open_log(tmp_path, segment_bytes=1 << 24) as log:
        for first in range(0, 20_000, 100):
            log.append(0, rows(first, 100, text_bytes=200))
        for offset in (19_999, 3, 12_345, 12_344, 0, 15_000, 7_777):
            assert numbers(log.read(0, offset, 150).batch) == list(range(offset, min(offset + 150, 20_000)))
