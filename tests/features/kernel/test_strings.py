"""Strings keep their ids: in order, across processes and crashes, within bounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sokuji.errors import DamagedFileError, FeatureError
from sokuji.features.kernel.strings import LENGTH_MAX, OTHER, Strings, Vocabulary
from tests.searching import examples


@given(st.lists(st.lists(st.none() | st.text(max_size=5), max_size=8), max_size=5))
@settings(max_examples=examples(50), deadline=None)
def test_what_is_encoded_is_decoded(batches: list[list[str | None]]) -> None:
    vocabulary = Vocabulary()
    ids = [vocabulary.encode(pa.array(batch, pa.string())) for batch in batches]
    assert [vocabulary.decode(each).to_pylist() for each in ids] == batches


def test_ids_are_given_in_the_order_strings_come_and_stay(tmp_path: Path) -> None:
    with Vocabulary(tmp_path / "strings") as vocabulary:
        assert vocabulary.encode(pa.array(["b", "a", "b"])).tolist() == [2, 3, 2]
    with Vocabulary(tmp_path / "strings") as vocabulary:
        assert vocabulary.encode(pa.chunked_array([["c"], ["a"]])).tolist() == [4, 3]


def test_another_process_sees_what_the_writer_adds(tmp_path: Path) -> None:
    with Vocabulary(tmp_path / "strings") as vocabulary:
        strings = Strings(tmp_path / "strings")
        ids = vocabulary.encode(pa.array(["x\n", "é"]))
        assert strings.decode(ids).to_pylist() == ["x\n", "é"]
        with pytest.raises(FeatureError, match=r"string 9 is unknown: .*strings has 3"):
            strings.decode(np.array([9.0]))


@pytest.mark.parametrize("torn", [b'"half', b'"half\\', b"\0\0\0\0", b"\0\0\n"])
def test_what_a_crash_left_unfinished_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "strings"
    with Vocabulary(path) as vocabulary:
        vocabulary.encode(pa.array(["a"]))
    with path.open("ab") as file:
        file.write(torn)
    with Vocabulary(path) as vocabulary:
        assert vocabulary.encode(pa.array(["b", "a"])).tolist() == [3, 2]
    assert Strings(path).decode(np.array([2.0, 3.0])).to_pylist() == ["a", "b"]


def test_beyond_the_limit_strings_are_one_which_is_said_and_long_ones_are_cut(caplog: pytest.LogCaptureFixture) -> None:
    vocabulary = Vocabulary(limit=3)
    ids = vocabulary.encode(pa.array(["a", None, "b", "a"]))
    assert not caplog.records
    ids = vocabulary.encode(pa.array(["a", "b", "c", "d", "a", None]))
    assert vocabulary.decode(ids).to_pylist() == ["a", "b", OTHER, OTHER, "a", None]
    vocabulary.encode(pa.array(["e"]))
    assert vocabulary.others == 3
    assert [record.message for record in caplog.records] == [
        "there are too many strings: those that come new from now on are all the same to features, '(other)'"
    ]
    long = Vocabulary()
    ids = long.encode(pa.array(["x" * LENGTH_MAX + "1", "x" * LENGTH_MAX + "2"]))
    assert ids[0] == ids[1]
    assert long.decode(ids[:1]).to_pylist() == ["x" * LENGTH_MAX]


@pytest.mark.parametrize("size", [1, 7, 100])
def test_strings_of_anyone_take_no_more_memory_than_they_may(size: int, tmp_path: Path) -> None:
    """A million of the longest would take gigabytes. Which ones there is room for is the same however they are cut into batches."""
    with Vocabulary(tmp_path / "strings", bytes_max=100) as vocabulary:
        known = vocabulary.encode(pa.array(["tea", "cup"]))
        texts = [text for number in range(10) for text in (f"{number}" + "\u00e9" * 20, f"short {number}")]
        ids = [id_ for at in range(0, len(texts), size) for id_ in vocabulary.encode(pa.array(texts[at : at + size])).tolist()]
        assert [place for place, id_ in enumerate(ids) if id_ != 1] == [0, 1, 3, 5, 7, 9, 11]
        assert vocabulary.encode(pa.array(["cup", "tea"])).tolist() == known.tolist()[::-1]
    with Vocabulary(tmp_path / "strings", bytes_max=100) as vocabulary:
        assert vocabulary.encode(pa.array(["short 9", "tea"])).tolist() == [1, known[0]]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "strings"
    with Vocabulary(path) as vocabulary:
        vocabulary.encode(pa.array(["a", "b"]))
        mark = vocabulary.flush()
        vocabulary.encode(pa.array(["c"]))
    with Vocabulary(path) as vocabulary:
        vocabulary.verify(mark)
    path.write_bytes(path.read_bytes().replace(b"a", b"A"))
    with Vocabulary(path) as vocabulary, pytest.raises(DamagedFileError, match=r"strings is damaged: its first 18 bytes have the checksum"):
        vocabulary.verify(mark)
    path.write_bytes(path.read_bytes().replace(b'"A"', b'"\\"'))
    with pytest.raises(DamagedFileError, match=r"strings is damaged: it has a line that is no JSON"):
        Strings(path)


def test_beside_a_file_strings_have_its_ids_and_leave_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "strings"
    with Vocabulary(path) as vocabulary:
        vocabulary.encode(pa.array(["a", "b"]))
    before = path.read_bytes()
    beside = Vocabulary.beside(path)
    assert beside.encode(pa.array(["c", "b"])).tolist() == [4, 3]
    assert path.read_bytes() == before
