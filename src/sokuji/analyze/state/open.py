"""Open a dataset's stage: from its last checkpoint, or from the whole history in the lake."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.analyze import excluded as excluding
from sokuji.analyze.batches import CONSUMER, NEXT_CONSUMER, Logs, Offsets
from sokuji.analyze.compile import Compiled, Declared, compile_for
from sokuji.analyze.outbox import Outbox
from sokuji.analyze.pipeline import Pipeline
from sokuji.analyze.publish import identity_rows
from sokuji.analyze.state.base import DatasetState, Position, States
from sokuji.analyze.state.carry_over import ASIDE, LAYOUT_FILE, ROWS, Carrier, carrying, check_described, describe, is_state
from sokuji.analyze.state.dataset import Stage
from sokuji.analyze.state.history import HISTORY_ROWS, history
from sokuji.analyze.state.prepared import FILE as PREPARED_FILE
from sokuji.analyze.state.prepared import LINKS_FILE, KeyCollector, Prepared
from sokuji.analyze.state.warm_up import warm
from sokuji.clock import now_us
from sokuji.dedup.hashing import hash_messages
from sokuji.dedup.rule import Places, RepeatRule
from sokuji.errors import DamagedFileError, LakeError, LogError, NotFoundError
from sokuji.events import LINK_KEY
from sokuji.features.kernel.strings import STRINGS_FILE, Vocabulary
from sokuji.features.known import agree
from sokuji.lake.base import Lake
from sokuji.lake.events import EVENTS, IDENTITIES, PLACE_COLUMNS
from sokuji.meta.objects import Ref
from sokuji.models.base import ModelStore
from sokuji.rules.engine import Rules
from sokuji.sink.backlog import applications
from sokuji.sink.recall import recalled
from sokuji.sink.writers import committed_offsets

_LOG = logging.getLogger(__name__)
_ATTEMPTS = 20  # an attempt fails only if the sink has just added a column for a property that was unknown before
_READ_ROWS = 1_000_000


class Opener:
    """Opens stages of one project. The folder of a stage's state is named after the layout of its rows.

    If a change of the declarations changes the meaning of rows, the state is rebuilt: the pipeline computes features and identities from
    all events in the lake. The rules' memory is carried over (`carry_over.py`). A rebuild takes time. It can be done in advance, beside the
    running worker (`prepare`); opening then only processes later events.
    """

    def __init__(
        self,
        declared: Declared,
        logs: Logs,
        lake: Lake,
        models: ModelStore,
        *,
        folder: Path,
        rule: RepeatRule,
        states: States,
    ) -> None:
        """Open stages below `folder`. `lake` is the lake to which the sink commits, by the same `rule` of repeats.

        `states` opens the state in a folder.
        """
        self._declared, self._logs, self._lake, self._models = declared, logs, lake, models
        self._folder, self._rule, self._states = folder, rule, states
        self._warm: set[str] = set()  # layouts that are warmed up

    def open(self, dataset: str) -> Stage:
        """Open the stage of a dataset, up to date with its last checkpoint, or with the history in the lake.

        Raises:
            FeatureError, RuleError, SqlError, ModelError: see `compile_for`.
        """
        try:
            return self._open(dataset)
        except DamagedFileError as error:
            # The rules' memory exists only in the rows. This code must not decide to lose it.
            if not error.path.is_relative_to(self._folder / dataset) or error.path.parent.name == ROWS:
                raise
            _LOG.warning("rebuilt the state from the lake and the log: %s", error, extra={"dataset": dataset})
            self._set_aside(dataset, error.path)
            return self._open(dataset)

    def _open(self, dataset: str) -> Stage:
        folder = self._folder / dataset
        prepared = self._take_over(dataset)
        with ExitStack() as undo:
            vocabulary = undo.enter_context(Vocabulary(folder / STRINGS_FILE))
            compiled = undo.enter_context(closing(self._compile(dataset, vocabulary)))
            for sentence in compiled.unseen:
                _LOG.warning("%s", sentence, extra={"dataset": dataset})
            layout = compiled.layout()
            if layout.fingerprint not in self._warm:  # most datasets have the same declarations, and share the compiled code
                warm(compiled, layout, self._states)
                self._warm.add(layout.fingerprint)
            path = folder / layout.fingerprint
            check_described(path)
            state = undo.enter_context(self._states.open(path, compiled.kernels, layout, vocabulary))
            if not state.is_new and prepared is None and self._is_left_behind(path, state.position()):
                undo.close()
                _LOG.warning("rebuilt the state: the log no longer has the events since the checkpoint", extra={"dataset": dataset})
                self._set_aside(dataset, path)
                return self._open(dataset)
            compiled.scores.use(state.versions)
            pipeline = self._pipeline(compiled, state)
            undo.pop_all()
            stage = undo.enter_context(closing(Stage(pipeline, state)))
            self._bring_up_to_date(dataset, stage, path, compiled.rules, prepared)
            if prepared is not None:
                prepared.done()
            describe(path, layout, compiled.rules, compiled.properties)
            for other in folder.iterdir():
                if is_state(other) and other != path:  # anything else belongs to somebody else
                    shutil.rmtree(other)
            undo.pop_all()
        return stage

    def _bring_up_to_date(self, dataset: str, stage: Stage, path: Path, rules: Rules, prepared: Prepared | None) -> None:
        """Process the events that a stage lacks when it was just opened."""
        state = stage.state
        if state.is_new or prepared is not None:
            with carrying(self._folder / dataset, path, rules, self._states) as carrier:
                stage.position = self._begin(dataset, stage, carrier, prepared)
            # Save it before the first batch: after a crash, this batch must be replayed, and not count as history.
            stage.checkpoint(stage.position, wait=True)
        elif not state.knows_messages:
            self._recall(dataset, state, stage.position.ends)

    def _is_left_behind(self, state: Path, here: Position) -> bool:
        """Whether the logs no longer have the events after a position.

        Raises:
            LogError: the logs end before the position, so they are other logs or older copies.
        """
        places = {(self._logs.events, partition): end for partition, end in here.ends.items()} | {(self._logs.batches, 0): here.number}
        for (log, partition), offset in places.items():
            if offset > log.end(partition):
                raise LogError(
                    f"the worker's state in {state} is at offset {offset:,} of partition {partition} of the log {log.name!r}, which ends at"
                    f" {log.end(partition):,}: it is another log, or an older copy; restore the log, or delete {state.parent}: the state is"
                    " made again from the lake"
                )
        return any(offset < log.start(partition) for (log, partition), offset in places.items())

    def _set_aside(self, dataset: str, damaged: Path) -> None:
        """Keep a state that has a damaged file, or is too old for the logs, for a `Carrier`.

        The rules' memory is in the rows, which have their own checksums.
        """
        folder = self._folder / dataset
        if damaged == folder / STRINGS_FILE:
            damaged.unlink()
        prepared = folder / PREPARED_FILE
        for state in folder.iterdir():
            if is_state(state) and (state / LAYOUT_FILE).exists() and not state.name.endswith(ASIDE):
                shutil.rmtree(folder / (state.name + ASIDE), ignore_errors=True)
                state.rename(folder / (state.name + ASIDE))
            elif prepared.exists() and is_state(state) and not (state / LAYOUT_FILE).exists():
                shutil.rmtree(state)  # a prepared state, whose rows are not up to date
        for name in (PREPARED_FILE, LINKS_FILE):
            (folder / name).unlink(missing_ok=True)

    def prepare(self, dataset: str, *, rebuild: bool = False) -> bool:
        """Build the state again from the lake, beside a worker with other declarations. Returns False if there is no need.

        With `rebuild`, the state is built even if the declarations are the same, because the lake has changed.

        Raises:
            FeatureError, RuleError, SqlError, ModelError: see `compile_for`.
        """
        folder, current = self._folder / f"{dataset}.next", self._folder / dataset
        shutil.rmtree(folder, ignore_errors=True)
        if not current.exists():
            return False
        vocabulary = Vocabulary(folder / STRINGS_FILE)
        compiled = self._compile(dataset, vocabulary)
        layout = compiled.layout()
        if is_needed := rebuild or not (current / layout.fingerprint).exists():
            state = self._states.open(folder / layout.fingerprint, compiled.kernels, layout, vocabulary, serves=False)
            stage, keys = Stage(self._pipeline(compiled, state), state), KeyCollector()
            links: list[pa.RecordBatch] = []
            ends, _ = self._from_lake(dataset, stage, links, keys)
            stage.checkpoint(Position(0, ends, self._logs.published()), wait=True)
            stage.close()
            Prepared(folder, layout.fingerprint, ends).write(keys.distinct(), links)
        else:
            vocabulary.close()
            shutil.rmtree(folder)
        return is_needed

    def _compile(self, dataset: str, vocabulary: Vocabulary) -> Compiled:
        """Compile the declarations, and check that the events table has the properties with the same types."""
        for _ in range(_ATTEMPTS):
            compiled = compile_for(dataset, self._declared, self._lake, self._models, vocabulary)
            if agree(self._lake, dataset, compiled.properties):
                return compiled
            compiled.close()
        raise LakeError(f"the events table of {dataset} gets new columns faster than the declarations can be compiled; start again")

    def _take_over(self, dataset: str) -> Prepared | None:
        """Take over the prepared state, if it is for these declarations and the log has all later events."""
        folder, events = self._folder / dataset, self._logs.events
        found = Prepared.find(folder) or self._prepared_beside(dataset)
        if found is None:
            return None
        compiled = self._compile(dataset, Vocabulary())
        layout = compiled.layout().fingerprint
        self._hold(found.ends)
        if found.layout != layout or any(events.start(partition) > end for partition, end in found.ends.items()):
            found.drop()
            shutil.rmtree(self._folder / f"{dataset}.next", ignore_errors=True)
            return None
        return found if found.folder == folder else found.take_over(folder)

    def _prepared_beside(self, dataset: str) -> Prepared | None:
        folder = self._folder / f"{dataset}.next"
        try:
            return Prepared.find(folder)
        except DamagedFileError as error:
            _LOG.warning("the prepared state is rebuilt: %s", error, extra={"dataset": dataset})
            shutil.rmtree(folder)
            return None

    def _begin(self, dataset: str, stage: Stage, carrier: Carrier | None, prepared: Prepared | None) -> Position:
        """Process all history of the dataset that is not prepared. Returns the position after it."""
        started = time.perf_counter()
        links: list[pa.RecordBatch] = []
        if prepared is None:
            ends, rows = self._from_lake(dataset, stage, links, carrier)
        else:
            ends, rows = dict(prepared.ends), 0
            links += prepared.links()
            if carrier is not None:
                _bring(prepared, stage.state, carrier)
        # Events that were already processed, for other datasets or with other declarations, are history, whether or not the lake has them.
        worked_on = self._worked_on()
        for partition, end in worked_on.items():
            while ends[partition] < end:
                own, places, following = self._read(dataset, partition, ends[partition], end)
                rows += _take_in(stage, own, links, carrier, places)
                ends[partition] = following
        number = self._logs.batches.end(0)
        # The timers of a killed worker may have fired since, and events that no worker saw may have stopped them.
        if carrier is not None and carrier.position.number == number and all(ends[each] <= end for each, end in worked_on.items()):
            carrier.bring_timers(stage.state, now_us())
        self._publish(dataset, links)
        seconds = round(time.perf_counter() - started, 1)
        _LOG.info("took the history in", extra={"dataset": dataset, "rows": rows, "seconds": seconds})
        return Position(number, ends, self._logs.published())

    def _hold(self, ends: Mapping[int, int]) -> None:
        """Make the log keep events from `ends` on, until the worker commits its own position."""
        held = self._logs.events.committed(NEXT_CONSUMER)
        self._logs.events.commit(NEXT_CONSUMER, {partition: min(end, held.get(partition, end)) for partition, end in ends.items()})

    def _from_lake(
        self, dataset: str, stage: Stage, links: list[pa.RecordBatch], carrier: Carrier | KeyCollector | None
    ) -> tuple[Offsets, int]:
        """Process the events in the lake that a worker has already processed. Returns their end in the events log, and their number.

        Events that no worker has processed still need decisions, even if the lake has them. They are read from the log.
        """
        events = self._logs.events
        ends = {partition: events.start(partition) for partition in range(events.partitions)}
        self._hold(ends)  # before the lake is read, so that the log still has the events that the lake lacks afterwards
        names = applications(events)
        try:
            snapshot = self._lake.snapshot(Ref(dataset, EVENTS), applications=list(names.values()))
        except NotFoundError:
            return ends, 0
        committed = committed_offsets(snapshot, names)
        if set(PLACE_COLUMNS) <= set(snapshot.schema.names):
            worked_on = self._worked_on()
            ends |= {each: max(ends[each], min(end, worked_on.get(each, end))) for each, end in committed.items()}
        else:
            ends |= committed
        later = {partition: ends[partition] for partition, end in committed.items() if ends[partition] < end}
        rows = sum(_take_in(stage, batch, links, carrier) for batch in history(dataset, self._lake, snapshot, later))
        for messages, places in recalled(dataset, events, self._lake, snapshot, self._rule, ends):
            stage.state.deduplicator.first(hash_messages(messages), places)
        return ends, rows

    def _recall(self, dataset: str, state: DatasetState, ends: Offsets) -> None:
        """Read again which messages were processed before `ends`."""
        try:
            snapshot = self._lake.snapshot(Ref(dataset, EVENTS))
        except NotFoundError:
            snapshot = None
        for messages, places in recalled(dataset, self._logs.events, self._lake, snapshot, self._rule, ends):
            state.deduplicator.first(hash_messages(messages), places)
        _LOG.info("learned again which messages were worked on", extra={"dataset": dataset})

    def _read(self, dataset: str, partition: int, start: int, end: int) -> tuple[pa.RecordBatch, Places, int]:
        """The rows of the dataset from `start` to before `end`, their positions, and the offset to read next."""
        batch, offsets, following = self._logs.events.read(partition, start, _READ_ROWS, until=end)
        own = pc.equal(batch.column("dataset"), dataset)
        offsets = offsets[own.to_numpy(zero_copy_only=False)]
        return batch.filter(own), Places(np.full(len(offsets), partition, np.int32), offsets), following

    def _pipeline(self, compiled: Compiled, state: DatasetState) -> Pipeline:
        return Pipeline(compiled, state, excluding.read(compiled.dataset, self._logs.bad_events, self._lake))

    def _publish(self, dataset: str, links: list[pa.RecordBatch]) -> None:
        """Publish the links found in history, except those that were published when they happened, or at an earlier start."""
        if not links:
            return
        found, log = pa.Table.from_batches(links), self._logs.identities
        with suppress(NotFoundError):
            known = self._lake.scan(self._lake.snapshot(Ref(dataset, IDENTITIES)), LINK_KEY).read_all()
            numbered = found.append_column("number", pa.array(range(found.num_rows)))  # a join returns its rows in any order
            key = pa.schema([found.schema.field(name) for name in LINK_KEY])
            new = numbered.join(known.cast(key), list(LINK_KEY), join_type="left anti", use_threads=False)
            found = new.sort_by("number").select(found.schema.names)
        outbox = Outbox(log, log.start(0), ("dataset", *LINK_KEY))
        for batch in found.cast(log.schema).to_batches():
            outbox.append(batch)

    def _worked_on(self) -> dict[int, int]:
        """The ends of the processed events, by partition: from the last batch, or if the log has none, from the last checkpoint.

        Raises:
            LogError: an end is past the end of the events log.
        """
        events, batches = self._logs.events, self._logs.batches
        place, last = batches.start(0), None
        while place < batches.end(0):  # the batches since the last checkpoints
            batch, _, place = batches.read(0, place, _READ_ROWS)
            last = batch.column("ends")[-1].as_py() if batch.num_rows else last
        if last is None:
            return events.committed(CONSUMER)
        for partition, end in enumerate(last):
            if end > events.end(partition):
                raise LogError(
                    f"partition {partition} of the log {events.name!r} ends at {events.end(partition):,}, and the worker has read it up to"
                    f" {end:,}, says the log {batches.name!r}: one is another log, or an older copy; restore the logs"
                )
        return dict(enumerate(last))


def _bring(prepared: Prepared, state: DatasetState, carrier: Carrier) -> None:
    """Give the profiles the rules' memory. Profiles without a memory stay unchanged."""
    where = state.layout.rules
    for keys in prepared.profiles():
        remembered = np.zeros((len(keys), where.stop - where.start), np.uint8)
        carrier.bring(keys, remembered)
        known = remembered.any(axis=1)
        if known.any():
            own = keys.filter(pa.array(known))
            rows = state.get_many(own)
            unseen = ~rows[:, where].any(axis=1)
            rows[unseen, where] = remembered[known][unseen]
            state.put_many(own, rows, now_us())


def _take_in(
    stage: Stage,
    rows: pa.RecordBatch,
    links: list[pa.RecordBatch],
    carrier: Carrier | KeyCollector | None,
    places: Places | None = None,
) -> int:
    """Process rows like a history import, which fills features and triggers nothing. Links are appended to `links`.

    `places` are their positions in the log. Rows from the lake need none, because they are not repeats.
    """
    for start in range(0, rows.num_rows, HISTORY_ROWS):
        part = rows.slice(start, HISTORY_ROWS)
        now_us = cast("pa.TimestampScalar", part.column("received_at")[-1]).value
        past = part.set_column(part.schema.get_field_index("historical"), part.schema.field("historical"), pa.array([True] * part.num_rows))
        where = None if places is None else places.take(np.arange(start, start + part.num_rows))
        outcome = stage.pipeline.work(past, where, now_us, want_features=False)
        if outcome.links:
            links.append(identity_rows(outcome.events, outcome.links))
        if carrier is not None and outcome.rows is not None:
            carrier.bring(outcome.keys, outcome.rows[:, stage.state.layout.rules])
        stage.pipeline.commit(outcome, now_us)
    return int(rows.num_rows)
