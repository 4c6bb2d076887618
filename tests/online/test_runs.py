"""Runs and their combined result, on so few different digests that many are equal in half or in full."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sokuji.errors import OnlineStoreError
from sokuji.online.shared.checkpoint import merge_runs, save_run
from sokuji.online.shared.erasure import without
from sokuji.online.shared.manifest import Disk
from sokuji.online.shared.run import Run, block_rows, in_blocks, run_path
from tests.online.rows import number, rows
from tests.searching import examples

WIDTH = 16 * 1024  # four rows a block
DIGEST = st.tuples(st.integers(0, 3), st.integers(0, 3))
CONTENT = st.dictionaries(DIGEST, st.tuples(st.integers(0, 1000), st.integers(0, 5)), max_size=14)

Content = dict[tuple[int, int], tuple[int, int]]
"""(number of the row, last-seen time) by digest."""


def save(disk: Disk, content: Content) -> Run:
    digests = np.array(list(content), np.uint64).reshape(-1, 2)
    seen_us = np.array([seen for _, seen in content.values()], np.int64)
    return save_run(disk, digests, seen_us, partial(in_blocks, rows((value for value, _ in content.values()), WIDTH)))


def content_of(run: Run) -> Content:
    found = zip(run.high.tolist(), run.low.tolist(), run.rows(np.arange(run.count)), run.seen_us.tolist(), strict=True)
    return {(high, low): (number(row.tobytes()), seen) for high, low, row, seen in found}


@given(CONTENT, st.lists(DIGEST, max_size=20))
@settings(deadline=None, max_examples=examples(50))
def test_a_run_has_what_was_written(content: Content, wanted: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = save(Disk.open(Path(folder), WIDTH), content)
        assert content_of(run) == content
        found = run.find_all(np.array(wanted, np.uint64).reshape(-1, 2))
        assert found.tolist() == [run.find(*each) for each in wanted]
        assert [at >= 0 for at in found.tolist()] == [each in content for each in wanted]
        some = np.unique(found[found >= 0])
        assert [number(row.tobytes()) for row in run.rows(some)] == [
            content[int(run.high[at]), int(run.low[at])][0] for at in some.tolist()
        ]


@given(st.lists(CONTENT, min_size=1, max_size=4), st.integers(0, 6))
@settings(deadline=None, max_examples=examples(100))
def test_a_merged_run_has_the_newest_row_of_each_key_that_is_not_expired(contents: list[Content], expired_before: int) -> None:
    expected: Content = {}
    for content in reversed(contents):
        expected |= content
    with tempfile.TemporaryDirectory() as folder:
        disk = Disk.open(Path(folder), WIDTH)
        merged = merge_runs(disk, [save(disk, content) for content in contents], expired_before)
        assert content_of(merged) == {key: value for key, value in expected.items() if value[1] >= expired_before}
        assert merged.high.tolist() == sorted(merged.high.tolist())


@given(CONTENT, st.lists(DIGEST, max_size=5))
@settings(deadline=None, max_examples=examples(50))
def test_erased_digests_are_in_no_byte_of_the_new_file(content: Content, erased: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        disk = Disk.open(Path(folder), WIDTH)
        before = save(disk, content)
        after = without(disk, [before], np.array(erased, np.uint64).reshape(-1, 2))
        assert content_of(after[0]) == {key: value for key, value in content.items() if key not in erased}
        assert (after[0] is before) == (not set(erased) & set(content))


def test_damage_anywhere_in_a_run_is_found(tmp_path: Path) -> None:
    disk = Disk.open(tmp_path, WIDTH)
    content = {(high, low): (high * 10 + low, 7) for high in range(3) for low in range(3)}
    path = save(disk, content).path
    whole = path.read_bytes()
    assert len(content) > 2 * block_rows(WIDTH)
    blocks = range(64 + 24 * len(content), len(whole) - 12 * 3)  # of these bytes a sample, of the others each
    harmless = []
    for at in [*range(blocks.start), *blocks[::331], *range(blocks.stop, len(whole))]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with suppress(OnlineStoreError):
            assert content_of(Run(tmp_path, 1, verify=True)) == content
            harmless.append(at)
    assert all(36 <= at < 64 for at in harmless), "only the padding of the header may change"


def test_a_run_that_is_cut_short_is_damaged(tmp_path: Path) -> None:
    path = save(Disk.open(tmp_path, WIDTH), {(1, 2): (3, 4)}).path
    whole = path.read_bytes()
    for size in [*range(100), *range(100, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(OnlineStoreError, match=r"run is damaged"):
            Run(tmp_path, int(path.stem), verify=True)
    assert run_path(tmp_path, 1) == path
