"""The contract of what a query reads: tables that a log feeds and tables that none does, in each lake."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from sokuji.errors import NotFoundError
from sokuji.lake.acknowledged import Acknowledged, OnlyCommitted
from sokuji.lake.base import Lake
from sokuji.lake.delta.tables import DeltaLake
from sokuji.lake.memory import MemoryLake
from sokuji.meta.objects import Ref
from tests.lake.platform import lakeside
from tests.log.opening import InMemory

REF = Ref("shop", "events")
LAKES: dict[str, Callable[[Path], Lake]] = {"memory": lambda _: MemoryLake(), "delta": DeltaLake}


@dataclass
class Read:
    """What is under test, over a lake, and how a row arrives."""

    acknowledged: Acknowledged
    lake: Lake
    arrive: Callable[[str], None]

    def ids(self) -> list[str]:
        """The messages of the newest rows."""
        rows = self.lake.scan(self.acknowledged.snapshot(REF), ["message_id"])
        return sorted(rows.read_all().column(0).to_pylist())


@contextlib.contextmanager
def only_committed(lake: Lake, _: Path) -> Iterator[Read]:
    def arrive(message: str) -> None:
        rows = pa.table({"message_id": [message]})
        with contextlib.suppress(NotFoundError):
            lake.append(REF, rows.to_reader())
            return
        lake.create(REF, rows.schema)
        lake.append(REF, rows.to_reader())

    yield Read(OnlyCommitted(lake), lake, arrive)


@contextlib.contextmanager
def fed_from_a_log(lake: Lake, folder: Path) -> Iterator[Read]:
    with lakeside(folder, opening=InMemory(), lake=lake) as side:
        yield Read(side.fresh, lake, lambda message: side.track({"message_id": message}))


@pytest.fixture(params=[only_committed, fed_from_a_log], ids=lambda backend: backend.__name__)
def read(request: pytest.FixtureRequest, kind: str, tmp_path: Path) -> Iterator[Read]:
    with request.param(LAKES[kind](tmp_path / "lake"), tmp_path) as made:
        yield made


pytestmark = pytest.mark.parametrize("kind", LAKES)


def test_a_row_is_read_from_when_it_arrived(read: Read) -> None:
    for number in range(3):
        read.arrive(f"m{number}")
        assert read.ids() == [f"m{known}" for known in range(number + 1)]


def test_what_never_had_a_row_is_missing(read: Read) -> None:
    read.acknowledged.refresh()
    with pytest.raises(NotFoundError):
        read.acknowledged.snapshot(REF)


def test_what_is_settled_is_in_files(read: Read) -> None:
    read.arrive("m0")
    read.acknowledged.settle(REF)
    snapshot = read.acknowledged.snapshot(REF)
    assert snapshot.tail is None
    assert snapshot.files
    assert read.ids() == ["m0"]


def test_settling_is_for_any_table(read: Read) -> None:
    read.acknowledged.settle(Ref("shop", "orders"))
    read.lake.create(Ref("shop", "orders"), pa.schema([("id", pa.int64())]))
    read.acknowledged.settle(Ref("shop", "orders"))
    assert read.acknowledged.snapshot(Ref("shop", "orders")).files == ()


def test_a_table_that_was_dropped_comes_back_with_its_next_row_alone(read: Read) -> None:
    read.arrive("m0")
    read.acknowledged.refresh()
    read.acknowledged.settle(REF)
    read.lake.drop(REF)
    read.acknowledged.forget(REF)
    read.acknowledged.refresh()
    with pytest.raises(NotFoundError):
        read.acknowledged.snapshot(REF)
    read.arrive("m1")
    read.acknowledged.refresh()
    assert read.ids() == ["m1"]
