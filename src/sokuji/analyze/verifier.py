"""Compares what was served with the lake: `sokuji features verify`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.analyze import past, served
from sokuji.analyze.identity import USER
from sokuji.analyze.past import Past
from sokuji.analyze.pipeline import Mask
from sokuji.analyze.project import Declared, compile_for
from sokuji.analyze.rows import RowLayout
from sokuji.analyze.served import Kept
from sokuji.bots import is_bot
from sokuji.errors import NotFoundError
from sokuji.events import EVENT_SCHEMA, IDENTITY_SCHEMA
from sokuji.features.expressions import Expressions, in_one_piece
from sokuji.features.kernel import Kernel
from sokuji.features.spec import Entity
from sokuji.features.verify import COUNTED, EXPECTED, ID, KEY, OFFSET, TIME, Merge, Verification, verify
from sokuji.features.vocabulary import STRINGS_FILE, Vocabulary
from sokuji.lake import backlog
from sokuji.lake.base import Lake, Snapshot
from sokuji.lake.events import EVENTS, FIXED_SCHEMA, IDENTITIES, PLACE_COLUMNS
from sokuji.log.base import Log
from sokuji.meta.base import Catalog, Ref
from sokuji.models.base import ModelStore


class Verifier:
    """Computes what was served anew from the events in the lake, in the order in which they arrived."""

    def __init__(self, declared: Declared, identities: Log, lake: Lake, catalog: Catalog, models: ModelStore, *, folder: Path) -> None:
        """`folder` is the worker's; `lake` sees all events that were acknowledged."""
        self._declared, self._identities, self._lake = declared, identities, lake
        self._catalog, self._models, self._folder = catalog, models, folder

    def verify(self, dataset: str, sample: float | None = None) -> Verification:
        """Compare for a share of the profiles, or for all that are kept if None. The worker may be running.

        Profiles that were forgotten meanwhile (`analyze.profile_days`, an erasure) are computed with all that the lake has.

        Raises:
            FeatureError: nothing that was served is kept, or less than `sample`.
        """
        self._lake.refresh()
        compiled = compile_for(dataset, self._declared, self._catalog, self._models, Vocabulary())
        folder = self._folder / dataset
        with closing(compiled):
            kept = served.read(folder / RowLayout.of(compiled.kernels, compiled.rules).fingerprint, sample)
            # After what was served: it has all strings that are named there.
            vocabulary = Vocabulary.beside(folder / STRINGS_FILE)
            kernels = [Kernel(kernel.view, compiled.expressions.types, vocabulary) for kernel in compiled.kernels]
            happened = past.read(dataset, self._events(dataset), self._links(dataset), kept.sample)
            return _compare(happened, kept, kernels, compiled.expressions)

    def _events(self, dataset: str) -> Snapshot:
        try:
            return self._lake.snapshot(Ref(dataset, EVENTS))
        except NotFoundError:  # none came yet
            return Snapshot((), FIXED_SCHEMA, -1)

    def _links(self, dataset: str) -> pa.Table:
        """The merge log. What the sink has not come to is read before the table, so that nothing is missed in between."""
        log = self._identities
        ends = {partition: log.end(partition) for partition in range(log.partitions)}
        waiting = backlog.read_until(log, backlog.positions(log), ends).get(dataset)
        parts = [] if waiting is None else [waiting.rows]
        try:
            files = self._lake.snapshot(Ref(dataset, IDENTITIES)).files
        except NotFoundError:
            files = ()
        if files:
            names = ", ".join(name for name in IDENTITY_SCHEMA.names if name != "dataset")
            query = f"SELECT $dataset AS dataset, {names} FROM read_parquet($files, union_by_name = true)"
            with duckdb.connect() as connection:
                connection.execute("SET TimeZone = 'UTC'")
                parts.append(connection.sql(query, params={"dataset": dataset, "files": list(files)}).to_arrow_table())
        return pa.concat_tables([part.cast(IDENTITY_SCHEMA) for part in parts] or [IDENTITY_SCHEMA.empty_table()])


def _compare(happened: Past, kept: Kept, kernels: Sequence[Kernel], expressions: Expressions) -> Verification:
    rows = happened.events.select(EVENT_SCHEMA.names).combine_chunks()
    evaluated, failed = expressions.evaluate(
        pa.RecordBatch.from_arrays([in_one_piece(column) for column in rows.columns], schema=EVENT_SCHEMA)
    )
    counted = ~is_bot(in_one_piece(rows.column("context"))).to_numpy(zero_copy_only=False)
    counted[list(failed)] = False
    order, expected, is_there = _places(happened, kept)
    merges = [Merge(int(order[row]), source, target) for row, source, target in happened.merges if is_there[row]]
    width = sum(kernel.columns_count for kernel in kernels)
    numbers = in_one_piece(kept.rows.column("numbers")).flatten().to_numpy().reshape(kept.rows.num_rows, width)
    found, at = [], 0
    for kernel in kernels:
        is_ours = np.array([kernel.view.entity is not Entity.USER or key.startswith(USER) for key in happened.keys], np.bool_)
        events = {
            ID: pa.array([_shown(each) for each in happened.ids], pa.string()),
            KEY: pa.array(happened.keys, pa.string()),
            OFFSET: pa.array(order),
            TIME: rows.column("event_time").cast(pa.int64()),
            COUNTED: pa.array(counted & is_ours),
            EXPECTED: pa.array(expected),
            **{text: evaluated.column(text) for text in kernel.view.expressions},
        }
        mine = kernel.decode(np.ascontiguousarray(numbers[:, at : at + kernel.columns_count]))
        at += kernel.columns_count
        said = {ID: pa.array([_shown(each) for each in _ids(kept.rows)], pa.string()), KEY: kept.rows.column("key")}
        was_served = pa.table(said | dict(zip(mine.schema.names, mine.columns, strict=True)))
        found.append(verify(kernel, pa.table(events).filter(pa.array(is_there)), was_served, merges))
    return Verification.total(found)


def _places(happened: Past, kept: Kept) -> tuple[npt.NDArray[np.int64], Mask, Mask]:
    """By event: its place in the order of arrival, whether it must have been served, and whether it is to be looked at.

    What was served has its place from then, and comes after what was not: that is history, or of a profile that was merged.
    """
    places = dict(zip(_ids(kept.rows), zip(*(kept.rows.column(name).to_pylist() for name in ("batch", "row")), strict=True), strict=True))
    served_at = [places.get(each) for each in happened.ids]
    partitions, offsets = (pc.fill_null(in_one_piece(happened.events.column(name)), -1).to_numpy() for name in PLACE_COLUMNS)
    received = happened.events.column("received_at").cast(pa.int64()).to_numpy()
    unserved = [(0, *place) for place in zip(received.tolist(), partitions.tolist(), offsets.tolist(), strict=True)]
    keys = np.array([past if at is None else (1, *at, 0) for at, past in zip(served_at, unserved, strict=True)], np.int64).reshape(-1, 4)
    order = np.empty(len(keys), np.int64)
    order[np.lexsort(keys.T[::-1])] = np.arange(len(keys))
    # An event without a place (-1) is from before places were kept, and so from before anything was served.
    ends, starts = (np.array([*limits, 0])[partitions] for limits in (kept.ends, kept.starts))
    was_served = np.array([at is not None for at in served_at], np.bool_)
    expected = happened.is_sampled & (offsets >= np.maximum(starts, 0)) & (offsets < ends)
    return order, expected, was_served | ~happened.is_sampled | (offsets < ends)


def _ids(rows: pa.Table) -> list[past.Id]:
    return list(zip(rows.column("source").to_pylist(), rows.column("message_id").to_pylist(), strict=True))


def _shown(each: past.Id) -> str:
    return " ".join(each)
