"""States in folders: rows in an online store, and files beside it. The checkpoint of the rows says how much of each file counts."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

from sokuji.analyze.batches import CONSUMER
from sokuji.analyze.state.base import DatasetState, Position, Remembered, States
from sokuji.analyze.state.carry_over import ROWS
from sokuji.analyze.state.layout import RowLayout, Rows
from sokuji.analyze.state.reader import StateReader
from sokuji.analyze.state.served import SERVED_LOG, OpenLog, Served
from sokuji.analyze.state.timers import Timers
from sokuji.config import AnalyzeSettings
from sokuji.dedup.rule import RepeatRule
from sokuji.dedup.table import Deduplicator, TableMark
from sokuji.disk.marked import REMEDY, AnyMark
from sokuji.disk.stored import check_format
from sokuji.errors import CorruptLogError, DamagedFileError
from sokuji.events import BAD_EVENTS_LOG, DECISIONS_LOG, IDENTITIES_LOG
from sokuji.features.kernel.kernel import Kernel
from sokuji.features.kernel.strings import Vocabulary
from sokuji.identity.resolve import FILE, Identity, known
from sokuji.log.base import Log
from sokuji.online.base import OnlineStore, OpenReader, OpenStore

if TYPE_CHECKING:
    from sokuji.analyze.pipeline import BatchOutcome

MARKS = "marks"
"""The blob of a checkpoint that holds `Marks`."""

MARKS_FORMAT = 2
"""Of `Marks`. 1 knew messages by their number only."""

_NUMBER, _EVENTS, _IDS = "batch", "events-", "ids"
_SERVED_BEFORE = "served"  # told events by the ids of their messages, which may come again much later
_LOG = logging.getLogger(__name__)


class Marks(msgspec.Struct):
    """What a checkpoint restores beside the rows."""

    format: int = 1
    messages: TableMark | None = None
    identity: AnyMark = 0
    strings: AnyMark = 0
    versions: dict[str, int] = {}  # of models
    timers: bytes = b""


class _Format(msgspec.Struct):
    format: int = 1


def read_marks(blob: bytes, state: Path) -> Marks:
    """The marks of the last checkpoint of a state.

    Raises:
        FormatError: a newer release wrote them.
    """
    check_format(msgspec.msgpack.decode(blob, type=_Format).format, MARKS_FORMAT, state)
    return msgspec.msgpack.decode(blob, type=Marks)


class FolderStates(States):
    """States in folders of this machine."""

    def __init__(self, open_store: OpenStore, open_log: OpenLog, settings: AnalyzeSettings, rule: RepeatRule) -> None:
        """`open_store` opens the rows of a state, `open_log` the log of its served features."""
        self._open_store, self._open_log, self._settings, self._rule = open_store, open_log, settings, rule

    def open(self, folder: Path, kernels: Sequence[Kernel], layout: RowLayout, strings: Vocabulary, *, serves: bool = True) -> FolderState:
        """See `States.open`."""
        with ExitStack() as undo:
            store = undo.enter_context(self._open_store(folder / ROWS, width=layout.width, rows_max=self._settings.profiles_max))
            blobs, here = store.blobs(), position(store.offsets())
            marks = read_marks(blobs[MARKS], folder) if MARKS in blobs else Marks()
            strings.verify(marks.strings)
            since = store.offsets().get(SERVED_LOG, 0)
            served = self._served(folder, since) if serves else None
            if served is not None:
                undo.enter_context(closing(served))
                if here.number:  # else it was prepared beside another state, and will take in more events before it serves any
                    served.mark(here.ends, since)  # the sample may be another one from here on
            identity = undo.enter_context(closing(Identity(folder, marks.identity)))
            deduplicator = Deduplicator(folder / _IDS, marks.messages, self._rule)
            undo.pop_all()
        return FolderState(
            store, served, marks,
            kernels=kernels, layout=layout, vocabulary=strings, identity=identity, deduplicator=deduplicator, is_new=MARKS not in blobs,
        )  # fmt: skip

    def _served(self, folder: Path, since: int) -> Served | None:
        settings = self._settings
        shutil.rmtree(folder / _SERVED_BEFORE, ignore_errors=True)
        if not settings.served_sample:
            shutil.rmtree(folder / SERVED_LOG, ignore_errors=True)
            return None
        try:
            log = self._served_log(folder)
        except (DamagedFileError, CorruptLogError) as error:
            _LOG.warning("what was served is not kept any more: %s", error)
            shutil.rmtree(folder / SERVED_LOG)
            log, since = self._served_log(folder), 0
        return Served(log, since, sample=settings.served_sample, bytes_max=settings.served_bytes)

    def _served_log(self, folder: Path) -> Log:
        log = self._open_log(folder)
        with ExitStack() as undo:
            undo.enter_context(closing(log))
            log.committed(CONSUMER)  # cannot be read if it is damaged
            undo.pop_all()
        return log

    @contextmanager
    def remembered(self, folder: Path, width: int) -> Iterator[Remembered]:
        """See `States.remembered`."""
        with self._open_store(folder / ROWS, width=width, rows_max=_REMEMBERED_ROWS_MAX) as store:
            timers = Timers(read_marks(store.blobs()[MARKS], folder).timers)
            yield Remembered(lambda keys: store.get_many(keys).rows, timers, position(store.offsets()))


_REMEMBERED_ROWS_MAX = 10_000  # in memory; each row is read once


class FolderState(DatasetState):
    """A state in a folder, from `FolderStates.open`. A checkpoint syncs the files, and then saves the rows with the marks of the files."""

    def __init__(
        self,
        store: OnlineStore,
        served: Served | None,
        marks: Marks,
        *,
        kernels: Sequence[Kernel],
        layout: RowLayout,
        vocabulary: Vocabulary,
        identity: Identity,
        deduplicator: Deduplicator,
        is_new: bool,
    ) -> None:
        self._store, self._served = store, served
        self.kernels, self.layout, self.vocabulary, self.is_new = kernels, layout, vocabulary, is_new
        self.identity, self.deduplicator, self.knows_messages = identity, deduplicator, deduplicator.is_complete
        self.timers, self.versions = Timers(marks.timers), marks.versions

    def get_many(self, keys: pa.StringArray, room: Rows | None = None) -> Rows:
        """See `DatasetState.get_many`."""
        return self._store.get_many(keys, room).rows

    def put_many(self, keys: pa.StringArray, rows: Rows, now_us: int) -> None:
        """See `DatasetState.put_many`."""
        self._store.put_many(keys, rows, now_us)

    def expire(self, older_than_us: int) -> None:
        """See `DatasetState.expire`."""
        self._store.expire(older_than_us)

    def serve(self, outcome: BatchOutcome, batch: int) -> None:
        """See `DatasetState.serve`."""
        if self._served is not None:
            self._served.add(outcome, batch)

    def caught_up(self) -> None:
        """See `DatasetState.caught_up`."""
        if self._served is not None:
            self._served.caught_up()

    def checkpoint(self, here: Position, versions: Mapping[str, int], *, wait: bool) -> None:
        """See `DatasetState.checkpoint`."""
        offsets = {_NUMBER: here.number, **here.published, **{f"{_EVENTS}{partition}": end for partition, end in here.ends.items()}}
        durable = self._store.offsets().get(SERVED_LOG, 0)
        with ThreadPoolExecutor() as syncs:  # side by side: no batch is worked on meanwhile
            flushed = syncs.submit(self.vocabulary.flush)
            seen, known = syncs.submit(self.deduplicator.mark), syncs.submit(self.identity.mark)
            if self._served is not None:
                offsets[SERVED_LOG] = self._served.mark(here.ends, durable)
            timers = self.timers.save()
            marks = Marks(MARKS_FORMAT, seen.result(), known.result(), flushed.result(), dict(versions), timers)
        self._store.checkpoint(offsets, {MARKS: msgspec.msgpack.encode(marks)}, wait=wait)

    def position(self) -> Position:
        """See `DatasetState.position`."""
        return position(self._store.offsets())

    def close(self) -> None:
        """See `DatasetState.close`."""
        for each in (self._store, self.deduplicator, self.identity, self.vocabulary):
            each.close()
        if self._served is not None:
            self._served.close()


class FolderReader(StateReader):
    """Reads a state in a folder."""

    def __init__(self, folder: Path, open_reader: OpenReader) -> None:
        """`open_reader` opens the rows of a state. Raises as `OpenStateReader`."""
        self._rows, self._users = open_reader(folder / ROWS), folder / FILE

    def get(self, key: str) -> bytes | None:
        """See `StateReader.get`."""
        return self._rows.get(key)

    def position(self) -> Position:
        """See `StateReader.position`."""
        return position(self._rows.offsets())

    def users(self) -> dict[str, str]:
        """See `StateReader.users`."""
        try:
            return dict(known(self._users.read_bytes())) if self._users.exists() else {}
        except ValueError as error:
            raise DamagedFileError(self._users, str(error), REMEDY) from error

    def close(self) -> None:
        """See `StateReader.close`."""
        self._rows.close()


def position(offsets: Mapping[str, int]) -> Position:
    """The position that the offsets of a checkpoint name; all zeros if there are none."""
    ends = {int(name.removeprefix(_EVENTS)): end for name, end in offsets.items() if name.startswith(_EVENTS)}
    published = {name: offsets.get(name, 0) for name in (DECISIONS_LOG, IDENTITIES_LOG, BAD_EVENTS_LOG)}
    return Position(offsets.get(_NUMBER, 0), ends, published)
