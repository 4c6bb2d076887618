"""Opening a dataset's stage: from its last checkpoint, or from all history in the lake."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.analyze.batches import CONSUMER, Logs, Offsets
from sokuji.analyze.carrying import Carrier, carrying, describe
from sokuji.analyze.deduplicator import Deduplicator
from sokuji.analyze.identity import Identity
from sokuji.analyze.outbox import Outbox
from sokuji.analyze.pipeline import Pipeline
from sokuji.analyze.prepared import Keys, Prepared
from sokuji.analyze.project import Compiled, Declared, compile_for
from sokuji.analyze.publish import identity_rows
from sokuji.analyze.rows import RowLayout
from sokuji.analyze.served import SERVED_LOG, SERVED_SCHEMA, Served
from sokuji.analyze.stage import MARKS, Marks, Position, Stage, position
from sokuji.analyze.timers import Timers
from sokuji.analyze.warm import warm
from sokuji.clock import now_us
from sokuji.config import AnalyzeSettings
from sokuji.errors import NotFoundError
from sokuji.events import EVENT_SCHEMA, OWN_SOURCE
from sokuji.features.vocabulary import STRINGS_FILE, Vocabulary
from sokuji.lake.backlog import applications
from sokuji.lake.base import Lake, Snapshot
from sokuji.lake.events import EVENTS, IDENTITIES, PLACE_COLUMNS, TIME_COLUMN
from sokuji.lake.writers import committed_offsets
from sokuji.log.local import LocalLog
from sokuji.meta.base import Catalog, Ref
from sokuji.models.base import ModelStore
from sokuji.online.shared import SharedStore

_LOG = logging.getLogger(__name__)
_HISTORY_ROWS = 50_000
_SERVED_SEGMENTS = 16  # retention frees whole segments


class Opener:
    """Opens stages of one project. A stage's state is in a folder that is named after the layout of its rows.

    When the declarations change so that rows mean something else, the state is made anew: features from all events in the lake, by the
    pipeline itself, and identities from them too. What rules remember is brought along (`carrying.py`). That takes its time; it can be
    done before, beside the worker that runs (`prepare`), and then opening takes in only what came since.
    """

    def __init__(
        self,
        declared: Declared,
        logs: Logs,
        lake: Lake,
        catalog: Catalog,
        models: ModelStore,
        *,
        folder: Path,
        settings: AnalyzeSettings,
    ) -> None:
        """Open stages below `folder`; `lake` is the one that the sink commits to."""
        self._declared, self._logs, self._lake = declared, logs, lake
        self._catalog, self._models, self._folder, self._settings = catalog, models, folder, settings

    def open(self, dataset: str) -> Stage:
        """The stage of a dataset, up to date with its last checkpoint, or with the history that there is.

        Raises:
            FeatureError, RuleError, SqlError, ModelError: as `compile_for`.
        """
        folder = self._folder / dataset
        prepared = self._take_over(dataset)
        vocabulary = Vocabulary(folder / STRINGS_FILE)
        compiled = compile_for(dataset, self._declared, self._catalog, self._models, vocabulary)
        for sentence in compiled.unseen:
            _LOG.warning("%s", sentence, extra={"dataset": dataset})
        layout = RowLayout.of(compiled.kernels, compiled.rules)
        warm(compiled, layout)
        state = folder / layout.fingerprint
        store = SharedStore(state / "rows", width=layout.width, rows_max=self._settings.profiles_max)
        blobs = store.blobs()
        marks = msgspec.msgpack.decode(blobs[MARKS], type=Marks) if MARKS in blobs else Marks()
        compiled.scores.use(marks.versions)
        pipeline = self._pipeline(compiled, layout, state, store, marks)
        offsets = store.offsets()
        served = self._served(state, offsets.get(SERVED_LOG, 0))
        stage = Stage(pipeline, vocabulary, position(offsets), served)
        if MARKS in blobs and prepared is None and served is not None:
            served.mark(stage.position.ends, offsets.get(SERVED_LOG, 0))  # the sample may be another one from here on
        if MARKS not in blobs or prepared is not None:
            with carrying(folder, state, compiled.rules) as carrier:
                stage.position = self._begin(dataset, pipeline, carrier, prepared)
            # Before the first batch: a crash after it must replay it, not take it for history.
            stage.checkpoint(stage.position, wait=True)
        if prepared is not None:
            prepared.done()
        describe(state, layout, compiled.rules)
        for other in folder.iterdir():
            if other.is_dir() and other != state:
                shutil.rmtree(other)
        return stage

    def prepare(self, dataset: str) -> bool:
        """Make the state anew from the lake, beside a worker that goes on by other declarations; False if there is no need.

        Raises:
            FeatureError, RuleError, SqlError, ModelError: as `compile_for`.
        """
        folder, current = self._folder / f"{dataset}.next", self._folder / dataset
        shutil.rmtree(folder, ignore_errors=True)
        if not current.exists():
            return False
        vocabulary = Vocabulary(folder / STRINGS_FILE)
        compiled = compile_for(dataset, self._declared, self._catalog, self._models, vocabulary)
        layout = RowLayout.of(compiled.kernels, compiled.rules)
        if is_needed := not (current / layout.fingerprint).exists():
            state = folder / layout.fingerprint
            store = SharedStore(state / "rows", width=layout.width, rows_max=self._settings.profiles_max)
            pipeline = self._pipeline(compiled, layout, state, store, Marks())
            stage, keys = Stage(pipeline, vocabulary, position({}), None), Keys()
            ends, _ = self._from_lake(dataset, pipeline, [], keys)
            stage.checkpoint(Position(0, ends, self._logs.published()), wait=True)
            stage.close()
            Prepared(folder, layout.fingerprint, ends).write(keys.distinct())
        else:
            vocabulary.close()
            shutil.rmtree(folder)
        return is_needed

    def _served(self, state: Path, since: int) -> Served | None:
        settings = self._settings
        if not settings.served_sample:
            shutil.rmtree(state / SERVED_LOG, ignore_errors=True)
            return None
        log = LocalLog(state, SERVED_SCHEMA, name=SERVED_LOG, partitions=1, segment_bytes=settings.served_bytes // _SERVED_SEGMENTS + 1)
        return Served(log, since, sample=settings.served_sample, bytes_max=settings.served_bytes)

    def _take_over(self, dataset: str) -> Prepared | None:
        """Put what was prepared in its place, if it is for these declarations and the log has all that came since."""
        folder, events = self._folder / dataset, self._logs.events
        found = Prepared.find(folder) or Prepared.find(self._folder / f"{dataset}.next")
        if found is None:
            return None
        compiled = compile_for(dataset, self._declared, self._catalog, self._models, Vocabulary())
        layout = RowLayout.of(compiled.kernels, compiled.rules).fingerprint
        if found.layout != layout or any(events.start(partition) > end for partition, end in found.ends.items()):
            found.drop()
            shutil.rmtree(self._folder / f"{dataset}.next", ignore_errors=True)
            return None
        return found if found.folder == folder else found.take_over(folder)

    def _begin(self, dataset: str, pipeline: Pipeline, carrier: Carrier | None, prepared: Prepared | None) -> Position:
        """Take all of the dataset's history in that is not prepared, and return the place up to where that is."""
        started, events = time.perf_counter(), self._logs.events
        links: list[pa.RecordBatch] = []
        if prepared is None:
            ends, rows = self._from_lake(dataset, pipeline, links, carrier)
        else:
            ends, rows = dict(prepared.ends), 0
            if carrier is not None:
                _bring(prepared, pipeline, carrier)
        # What was worked on already, for other datasets or with other declarations, is no news, whether the lake has it or not.
        worked_on = self._worked_on()
        for partition, end in worked_on.items():
            while ends[partition] < end:
                read = events.read(partition, ends[partition], end - ends[partition])
                rows += _take_in(pipeline, read.batch.filter(pc.equal(read.batch.column("dataset"), dataset)), links, carrier)
                ends[partition] = read.next_offset
        number = self._logs.batches.end(0)
        # Timers of a worker that was killed may have fired since, and events that no worker saw may have stopped them.
        if carrier is not None and carrier.position.number == number and all(ends[each] <= end for each, end in worked_on.items()):
            carrier.bring_timers(pipeline, now_us())
        self._publish(dataset, links)
        seconds = round(time.perf_counter() - started, 1)
        _LOG.info("took the history in", extra={"dataset": dataset, "rows": rows, "seconds": seconds})
        return Position(number, ends, self._logs.published())

    def _from_lake(
        self, dataset: str, pipeline: Pipeline, links: list[pa.RecordBatch], carrier: Carrier | Keys | None
    ) -> tuple[Offsets, int]:
        """Take in what the lake has, and return up to where in the events log that is, and how many events it was."""
        events = self._logs.events
        ends = {partition: events.start(partition) for partition in range(events.partitions)}
        names = applications(events)
        try:
            snapshot = self._lake.snapshot(Ref(dataset, EVENTS), applications=list(names.values()))
        except NotFoundError:
            return ends, 0
        rows = sum(_take_in(pipeline, batch, links, carrier) for batch in _history(dataset, snapshot))
        return ends | committed_offsets(snapshot, names), rows

    def _pipeline(self, compiled: Compiled, layout: RowLayout, state: Path, store: SharedStore, marks: Marks) -> Pipeline:
        return Pipeline(
            compiled,
            layout,
            store=store,
            identity=Identity(state, marks.identity),
            deduplicator=Deduplicator(state / "ids", marks.deduplicator, ids_max=self._settings.deduplication_ids),
            timers=Timers(marks.timers),
        )

    def _publish(self, dataset: str, links: list[pa.RecordBatch]) -> None:
        """Publish who was found to be whom in history, unless it was when that was the present, or at an earlier start."""
        if not links:
            return
        found, log = pa.Table.from_batches(links), self._logs.identities
        try:
            files = list(self._lake.snapshot(Ref(dataset, IDENTITIES)).files)
        except NotFoundError:
            files = []
        if files:
            known = "SELECT source, message_id FROM read_parquet($files, union_by_name = true)"
            with duckdb.connect() as connection:
                found = connection.sql(
                    f"SELECT found.* FROM found ANTI JOIN ({known}) USING (source, message_id)", params={"files": files}
                ).to_arrow_table()
        outbox = Outbox(log, log.start(0), ("dataset", "source", "message_id"))
        for batch in found.cast(log.schema).to_batches():
            outbox.append(batch)

    def _worked_on(self) -> dict[int, int]:
        """Up to where events were worked on, by partition: as the last batch says, or if that is forgotten the last checkpoint."""
        number = self._logs.batches.end(0)
        if number <= self._logs.batches.start(0):
            return self._logs.events.committed(CONSUMER)
        [last] = self._logs.batches.read(0, number - 1, 1).batch.to_pylist()
        return dict(enumerate(last["ends"]))


def _bring(prepared: Prepared, pipeline: Pipeline, carrier: Carrier) -> None:
    """Give the profiles what rules remember of them. Those of whom they remember nothing are not touched."""
    where = pipeline.layout.rules
    for keys in prepared.profiles():
        remembered = np.zeros((len(keys), where.stop - where.start), np.uint8)
        carrier.bring(keys, remembered)
        known = remembered.any(axis=1)
        if known.any():
            own = keys.filter(pa.array(known))
            rows = pipeline.store.get_many(own).rows
            unseen = ~rows[:, where].any(axis=1)
            rows[unseen, where] = remembered[known][unseen]
            pipeline.store.put_many(own, rows, now_us())


def _take_in(pipeline: Pipeline, rows: pa.RecordBatch, links: list[pa.RecordBatch], carrier: Carrier | Keys | None) -> int:
    """Work on rows as on a history import, which fills features and triggers nothing. Who was whom is added to `links`."""
    for start in range(0, rows.num_rows, _HISTORY_ROWS):
        part = rows.slice(start, _HISTORY_ROWS)
        now_us = part.column("received_at")[-1].value
        past = part.set_column(part.schema.get_field_index("historical"), part.schema.field("historical"), pa.array([True] * part.num_rows))
        outcome = pipeline.work(past, now_us, want_features=False)
        if outcome.links:
            links.append(identity_rows(outcome.events, outcome.links))
        if carrier is not None and outcome.rows is not None:
            carrier.bring(outcome.keys, outcome.rows[:, pipeline.layout.rules])
        pipeline.commit(outcome, now_us)
    return int(rows.num_rows)


def _history(dataset: str, snapshot: Snapshot) -> Iterator[pa.RecordBatch]:
    """What was sent, from an events table, in the order it was received and, within that, arrived, as rows of the events log."""
    if not snapshot.files:
        return
    keys = {"visitor_id": "keys.visitor_id", "user_id": "keys.user_id", "event_time": TIME_COLUMN, "dataset": "$dataset"}
    items = ", ".join(f"{keys.get(name, name)} AS {name}" for name in EVENT_SCHEMA.names)
    order = ", ".join(name for name in ("received_at", *PLACE_COLUMNS, TIME_COLUMN) if name in snapshot.schema.names)
    query = f"""
        SELECT {items} FROM read_parquet($files, union_by_name = true)
        WHERE source != '{OWN_SOURCE}'  -- on the stream, too, decisions are no events of the visitor
        ORDER BY {order}
    """
    params = {"files": list(snapshot.files), "dataset": dataset}
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for batch in connection.sql(query, params=params).to_arrow_reader(_HISTORY_ROWS):
            yield pa.RecordBatch.from_arrays(
                [column.cast(field.type) for column, field in zip(batch.columns, EVENT_SCHEMA, strict=True)], schema=EVENT_SCHEMA
            )
