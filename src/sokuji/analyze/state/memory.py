"""States in the memory of one process, for tests of the code that uses the contract. Only the strings are on disk."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from sokuji.analyze.state.base import DatasetState, Position, Remembered, States
from sokuji.analyze.state.layout import RowLayout, Rows
from sokuji.analyze.state.reader import StateReader
from sokuji.analyze.state.served import OpenLog, Served
from sokuji.analyze.state.timers import Timers
from sokuji.config import AnalyzeSettings
from sokuji.dedup.rule import RepeatRule
from sokuji.dedup.table import Deduplicator
from sokuji.disk.files import make_folder
from sokuji.errors import OnlineStoreError
from sokuji.events import BAD_EVENTS_LOG, DECISIONS_LOG, IDENTITIES_LOG
from sokuji.features.kernel.kernel import Kernel
from sokuji.features.kernel.strings import Vocabulary
from sokuji.identity.resolve import Identity

if TYPE_CHECKING:
    from sokuji.analyze.pipeline import BatchOutcome

_ID_FILE = "memory"
_START = Position(0, {}, dict.fromkeys((DECISIONS_LOG, IDENTITIES_LOG, BAD_EVENTS_LOG), 0))


class _Put(NamedTuple):
    row: bytes
    at_us: int


class _Parts(NamedTuple):
    """All parts of a state. A copy of them is a checkpoint."""

    rows: dict[str, _Put]
    identity: Identity
    deduplicator: Deduplicator
    timers: Timers


class _Checkpoint(NamedTuple):
    parts: _Parts
    position: Position
    versions: dict[str, int]
    served: int  # the end of that log


class KeptStates:
    """The last checkpoint of each state. They live as long as this object."""

    def __init__(self) -> None:
        self.of: dict[str, _Checkpoint] = {}
        self.open: dict[str, MemoryState] = {}


class MemoryStates(States):
    """Opens states. A folder contains only the id of its state, so the state moves with the folder and is deleted with it."""

    def __init__(self, kept: KeptStates, open_log: OpenLog, settings: AnalyzeSettings, rule: RepeatRule) -> None:
        """`open_log` opens the log of served features."""
        self._kept, self._open_log, self._settings, self._rule = kept, open_log, settings, rule

    def open(self, folder: Path, kernels: Sequence[Kernel], layout: RowLayout, strings: Vocabulary, *, serves: bool = True) -> DatasetState:
        """See `States.open`."""
        make_folder(folder)
        if not (folder / _ID_FILE).exists():
            (folder / _ID_FILE).write_text(secrets.token_hex(), encoding="ascii")
        made, settings = MemoryState(self._kept.of, _id_in(folder), self._rule), self._settings
        made.kernels, made.layout, made.vocabulary = kernels, layout, strings
        if serves and settings.served_sample:
            made.served = Served(self._open_log(folder), made.served_until, sample=settings.served_sample, bytes_max=settings.served_bytes)
            if made.position().number:
                made.served.mark(made.position().ends, made.served_until)
        self._kept.open[_id_in(folder)] = made
        return made

    @contextmanager
    def remembered(self, folder: Path, width: int) -> Iterator[Remembered]:
        """See `States.remembered`."""
        found = self._kept.of[_id_in(folder)]
        yield Remembered(lambda keys: _rows(found.parts.rows, keys, width), copy.deepcopy(found.parts.timers), found.position)


def read_in_memory(kept: KeptStates, folder: Path) -> StateReader:
    """See `OpenStateReader`."""
    found = kept.open.get(_id_in(folder)) if (folder / _ID_FILE).exists() else None
    if found is None or found.is_closed:
        raise OnlineStoreError(f"no writer has the state in {folder} open: open it for its writer first")
    return MemoryStateReader(kept, _id_in(folder))


def _id_in(folder: Path) -> str:
    return (folder / _ID_FILE).read_text(encoding="ascii")


class MemoryState(DatasetState):
    """The parts of a state, and a copy of them as the last checkpoint."""

    def __init__(self, kept: dict[str, _Checkpoint], name: str, rule: RepeatRule) -> None:
        """Open the state that is kept under this name; see `MemoryStates.open`."""
        self._kept, self._name, last = kept, name, kept.get(name)
        self.is_new, self.knows_messages = last is None, True
        nothing = _Parts({}, Identity(None, 0), Deduplicator(None, None, rule), Timers())
        self._parts = nothing if last is None else copy.deepcopy(last.parts)
        _, self.identity, self.deduplicator, self.timers = self._parts
        self.versions = {} if last is None else last.versions
        self.served_until = 0 if last is None else last.served
        self.served: Served | None = None
        self.is_closed = False
        self._clock_us = max((put.at_us for put in self._parts.rows.values()), default=0)

    def get_many(self, keys: pa.StringArray, room: Rows | None = None) -> Rows:
        """See `DatasetState.get_many`."""
        rows = _rows(self._parts.rows, keys, self.layout.width)
        if room is None:
            return rows
        room[: len(keys)] = rows
        return room[: len(keys)]

    def row(self, key: str) -> bytes | None:
        """The row of a profile; None if there is none."""
        found = self._parts.rows.get(key)
        return None if found is None else found.row

    def put_many(self, keys: pa.StringArray, rows: Rows, now_us: int) -> None:
        """See `DatasetState.put_many`."""
        self._clock_us = max(self._clock_us, now_us)
        self._parts.rows.update((key, _Put(row.tobytes(), self._clock_us)) for key, row in zip(keys.to_pylist(), rows, strict=True))

    def expire(self, older_than_us: int) -> None:
        """See `DatasetState.expire`."""
        rows = self._parts.rows
        for key in [key for key, put in rows.items() if put.at_us < older_than_us]:
            del rows[key]

    def serve(self, outcome: BatchOutcome, batch: int) -> None:
        """See `DatasetState.serve`."""
        if self.served is not None:
            self.served.add(outcome, batch)

    def caught_up(self) -> None:
        """See `DatasetState.caught_up`."""
        if self.served is not None:
            self.served.caught_up()

    def checkpoint(self, here: Position, versions: Mapping[str, int], *, wait: bool) -> None:  # noqa: ARG002 complete on return
        """See `DatasetState.checkpoint`."""
        if self.served is not None:
            self.served_until = self.served.mark(here.ends, self.served_until)
        self._kept[self._name] = _Checkpoint(copy.deepcopy(self._parts), copy.deepcopy(here), dict(versions), self.served_until)

    def position(self) -> Position:
        """See `DatasetState.position`."""
        last = self._kept.get(self._name)
        return _START if last is None else last.position

    def close(self) -> None:
        """See `DatasetState.close`."""
        self.is_closed = True
        self.vocabulary.close()
        if self.served is not None:
            self.served.close()


class MemoryStateReader(StateReader):
    """Reads a state in the memory of this process."""

    def __init__(self, kept: KeptStates, name: str) -> None:
        """Read the state that is kept under this name; see `MemoryStates.read`."""
        self._kept, self._name = kept, name

    def get(self, key: str) -> bytes | None:
        """See `StateReader.get`."""
        return self._kept.open[self._name].row(key)

    def position(self) -> Position:
        """See `StateReader.position`."""
        return self._kept.open[self._name].position()

    def users(self) -> Mapping[str, str]:
        """See `StateReader.users`."""
        last = self._kept.of.get(self._name)
        return {} if last is None else last.parts.identity.users

    def close(self) -> None:
        """See `StateReader.close`."""


def _rows(puts: Mapping[str, _Put], keys: pa.StringArray, width: int) -> Rows:
    found = [puts.get(key) for key in keys.to_pylist()]
    joined = b"".join(bytes(width) if put is None else put.row for put in found)
    return np.frombuffer(joined, np.uint8).reshape(len(found), width).copy()
