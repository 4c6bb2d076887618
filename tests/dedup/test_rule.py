"""The deduplication rule: each index against the rule as a set and a loop, for any sequence and any batches."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sokuji.dedup.hashing import hash_pairs
from sokuji.dedup.rule import Places, RepeatRule
from sokuji.dedup.runs import Ids, Seen
from sokuji.dedup.table import Deduplicator, TableMark
from tests.searching import examples

PARTITIONS = 2
Message = tuple[int, int, int]  # its number, the partition, and the offset there


class Index(Protocol):
    """What remembers messages."""

    def first(self, messages: Sequence[Message]) -> list[bool]: ...

    def save(self) -> None: ...

    def reopen(self) -> None:
        """As it was saved last."""

    def close(self) -> None: ...


def places(messages: Sequence[Message]) -> Places:
    return Places(np.array([partition for _, partition, _ in messages], np.int32), np.array([offset for *_, offset in messages], np.int64))


class Sink:
    def __init__(self, folder: Path, rule: RepeatRule) -> None:
        self._folder, self._rule = folder, rule
        self._seen = Seen(folder, rule, check=True)

    def first(self, messages: Sequence[Message]) -> list[bool]:
        digests = [hashlib.md5(str(number).encode()).digest() for number, *_ in messages]
        # Of some the first half is the same.
        words = [[number % 3, int.from_bytes(digest[:8], "big")] for (number, *_), digest in zip(messages, digests, strict=True)]
        ids = Ids(*np.array(words, np.uint64).reshape(-1, 2).T)
        new = self._seen.is_new(ids, places(messages))
        self._seen.add(ids.take(new), places(messages).take(new))
        return [bool(each) for each in new]

    def save(self) -> None:
        self._seen.save({})

    def reopen(self) -> None:
        self._seen = Seen(self._folder, self._rule, check=True)

    def close(self) -> None:
        pass


class Worker:
    def __init__(self, folder: Path, rule: RepeatRule) -> None:
        self._folder, self._rule = folder, rule
        self._mark: TableMark | None = None
        self._table = Deduplicator(folder, None, rule)

    def first(self, messages: Sequence[Message]) -> list[bool]:
        hashes = hash_pairs(*(pa.array([text.format(number) for number, *_ in messages], pa.string()) for text in ("web", "m{}")))
        return [bool(each) for each in self._table.first(hashes, places(messages))]

    def save(self) -> None:
        self._mark = self._table.mark()

    def reopen(self) -> None:
        self._table.close()
        self._table = Deduplicator(self._folder, self._mark, self._rule)
        assert self._table.is_complete == (self._mark is not None)

    def close(self) -> None:
        self._table.close()


class Oracle:
    """The rule itself."""

    def __init__(self, stretch_rows: int) -> None:
        self._stretch_rows = stretch_rows
        self.taken: set[tuple[int, int, int]] = set()

    def first(self, messages: Sequence[Message]) -> list[bool]:
        return [self._first(number, partition, offset // self._stretch_rows) for number, partition, offset in messages]

    def _first(self, number: int, partition: int, stretch: int) -> bool:
        if {(number, partition, stretch), (number, partition, stretch - 1)} & self.taken:
            return False
        self.taken.add((number, partition, stretch))
        return True


sent = st.tuples(st.integers(0, 25), st.integers(0, 1), st.integers(1, 5))
batches = st.lists(st.tuples(st.lists(sent, max_size=25), st.sampled_from(["", "save", "reopen"])), min_size=1, max_size=12)


@pytest.mark.parametrize("make", [Sink, Worker])
@settings(max_examples=examples(40), deadline=None)
@given(batches=batches, rows=st.sampled_from([1, 20, 60, 10_000]))
def test_an_index_takes_what_the_rule_takes(make: type[Sink | Worker], batches: list[tuple[list[Message], str]], rows: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        rule = RepeatRule(rows, PARTITIONS)
        index: Index = make(Path(name), rule)
        oracle, saved = Oracle(rule.stretch_rows), set[tuple[int, int, int]]()
        ends, saved_ends = [0, 0], [0, 0]
        for batch, then in batches:
            messages = []
            for number, partition, step in batch:
                ends[partition] += step  # between them are rows of other datasets
                messages.append((number, partition, ends[partition]))
            assert index.first(messages) == oracle.first(messages)
            if then == "save":
                index.save()
                saved, saved_ends = set(oracle.taken), [*ends]
            elif then == "reopen":
                index.reopen()
                oracle.taken, ends = set(saved), [*saved_ends]
        index.close()


@pytest.mark.parametrize("make", [Sink, Worker])
def test_half_of_the_rows_at_least_are_remembered_and_all_at_most(tmp_path: Path, make: type[Sink | Worker]) -> None:
    index = make(tmp_path, rule := RepeatRule(400, PARTITIONS))
    assert rule.stretch_rows == 100
    index.first([(number, 0, number) for number in range(350)])
    assert index.first([(349, 0, 350), (200, 0, 351)]) == [False, False]
    assert rule.remembered_from(351) == 200
    assert index.first([(199, 0, 352)]) == [True]
    index.close()
