"""A dataset's pipeline with the place in the log that its state belongs to, and its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from sokuji.analyze.batches import Batch, Offsets
from sokuji.analyze.pipeline import BatchOutcome, Pipeline
from sokuji.analyze.state.served import SERVED_LOG, Served
from sokuji.dedup.rule import Places
from sokuji.dedup.table import TableMark
from sokuji.disk.marked import AnyMark
from sokuji.disk.stored import check_format
from sokuji.events import BAD_EVENTS_LOG, DECISIONS_LOG, IDENTITIES_LOG
from sokuji.features.kernel.strings import Vocabulary
from sokuji.rules.engine import TIMER_SLACK_US

MARKS = "marks"
"""The blob of a checkpoint that holds `Marks`."""

_NUMBER, _EVENTS = "batch", "events-"


class Position(NamedTuple):
    """A place between two batches."""

    number: int  # of the next batch
    ends: Offsets  # of the batch before, by partition of the events log
    published: Mapping[str, int]  # where the logs of what is published ended


MARKS_FORMAT = 2
"""Of `Marks`. 1 knew messages by their number only."""


class Marks(msgspec.Struct):
    """What else a checkpoint must bring back, beside the rows."""

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
        FormatError: a newer release wrote them, whatever they look like.
    """
    check_format(msgspec.msgpack.decode(blob, type=_Format).format, MARKS_FORMAT, state)
    return msgspec.msgpack.decode(blob, type=Marks)


class Stage:
    """One dataset."""

    def __init__(self, pipeline: Pipeline, vocabulary: Vocabulary, position: Position, served: Served | None) -> None:
        self.pipeline, self.position, self.vocabulary = pipeline, position, vocabulary
        self._served = served
        self._saved = 0  # the batch that the last checkpoint was begun before

    def has_taken_in(self, places: Places) -> npt.NDArray[np.bool_]:
        """Which rows the state had before the first batch it was given, by where they stand in the events log."""
        ends = np.zeros(max([*self.position.ends, int(places.partitions.max(initial=0))]) + 1, np.int64)
        for partition, end in self.position.ends.items():
            ends[partition] = end
        taken: npt.NDArray[np.bool_] = places.offsets < ends[places.partitions]
        return taken

    def has_timer_due(self, now_us: int) -> bool:
        """Whether a timer is to be fired although nothing happens."""
        due_us = self.pipeline.timers.next_us()
        return due_us is not None and due_us <= now_us - TIMER_SLACK_US

    def commit(self, outcome: BatchOutcome, batch: Batch) -> None:
        """Make the state after the batch count."""
        self.pipeline.commit(outcome, batch.now_us)
        if self._served is not None:
            self._served.add(outcome, batch.number)

    def caught_up(self) -> None:
        """The replay is over."""
        if self._served is not None:
            self._served.caught_up()

    @property
    def is_saving(self) -> bool:
        """Whether the last checkpoint is still being written; another one would wait for it."""
        return self.durable_position().number < self._saved

    def checkpoint(self, here: Position, *, wait: bool) -> None:
        """Save the state, which is that of the place `here`, in the background unless `wait`."""
        pipeline = self.pipeline
        pipeline.scores.refresh()
        ends = {partition: max(end, self.position.ends.get(partition, 0)) for partition, end in here.ends.items()}
        offsets = {_NUMBER: here.number, **here.published, **{f"{_EVENTS}{partition}": end for partition, end in ends.items()}}
        durable = pipeline.store.offsets().get(SERVED_LOG, 0)
        with ThreadPoolExecutor() as syncs:  # side by side: no batch is worked on meanwhile
            flushed = syncs.submit(self.vocabulary.flush)
            seen, known = syncs.submit(pipeline.deduplicator.mark), syncs.submit(pipeline.identity.mark)
            if self._served is not None:
                offsets[SERVED_LOG] = self._served.mark(ends, durable)
            timers = pipeline.timers.save()
            marks = Marks(MARKS_FORMAT, seen.result(), known.result(), flushed.result(), pipeline.scores.versions, timers)
        pipeline.store.checkpoint(offsets, {MARKS: msgspec.msgpack.encode(marks)}, wait=wait)
        self._saved = here.number

    def durable_position(self) -> Position:
        """The place that a start after a crash would begin from."""
        return position(self.pipeline.store.offsets())

    def close(self) -> None:
        """Release everything."""
        self.pipeline.close()
        self.vocabulary.close()
        if self._served is not None:
            self._served.close()


def oldest(positions: Sequence[Position]) -> Position:
    """The place from which nothing is missing in any of several states."""
    number = min(each.number for each in positions)
    first = [each for each in positions if each.number == number]
    ends = {partition: min(each.ends.get(partition, 0) for each in first) for partition in set().union(*(each.ends for each in first))}
    published = {name: min(each.published[name] for each in positions) for name in first[0].published}
    return Position(number, ends, published)


def position(offsets: Mapping[str, int]) -> Position:
    """The place that a checkpoint's offsets name; the beginning of everything if there is none."""
    ends = {int(name.removeprefix(_EVENTS)): end for name, end in offsets.items() if name.startswith(_EVENTS)}
    published = {name: offsets.get(name, 0) for name in (DECISIONS_LOG, IDENTITIES_LOG, BAD_EVENTS_LOG)}
    return Position(offsets.get(_NUMBER, 0), ends, published)
