"""Compare the served features with the lake: `sokuji features verify`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.analyze import excluded
from sokuji.analyze.compile import Compiled, Declared, compile_for
from sokuji.analyze.pipeline import Mask
from sokuji.analyze.state import served
from sokuji.analyze.state.carry_over import taken
from sokuji.analyze.state.served import OpenLog, ServedSample
from sokuji.arrays import in_one_piece
from sokuji.bots import is_bot
from sokuji.errors import NotFoundError
from sokuji.events import EVENT_SCHEMA, IDENTITY_SCHEMA
from sokuji.features.kernel.kernel import Kernel
from sokuji.features.kernel.strings import STRINGS_FILE, Vocabulary
from sokuji.features.known import Types
from sokuji.features.spec import Entity
from sokuji.identity.base import USER
from sokuji.lake.acknowledged import Acknowledged
from sokuji.lake.base import Lake, Snapshot
from sokuji.lake.events import EVENTS, FIXED_SCHEMA, IDENTITIES, PLACE_COLUMNS
from sokuji.log.base import Log
from sokuji.meta.objects import Ref
from sokuji.models.base import ModelStore
from sokuji.sink import backlog
from sokuji.sql.scalar.expressions import Expressions
from sokuji.verify import history
from sokuji.verify.compare import COUNTED, EXPECTED, ID, KEY, OFFSET, SHOWN, TIME, Merge, Verification, verify
from sokuji.verify.history import Past

_SERVED_PLACE = ("partition", "offset")


class Verifier:
    """Computes the served features again, from the events in the lake, in their order of arrival."""

    def __init__(
        self,
        declared: Declared,
        identities: Log,
        acknowledged: Acknowledged,
        tables: Lake,
        models: ModelStore,
        *,
        bad_events: Log,
        folder: Path,
        served_log: OpenLog,
    ) -> None:
        """`folder` is the worker's; `tables` has the events that the sink has committed."""
        self._declared, self._identities, self._acknowledged, self._bad_events = declared, identities, acknowledged, bad_events
        self._tables, self._models, self._folder, self._served_log = tables, models, folder, served_log

    def verify(self, dataset: str, sample: float | None = None) -> Verification:
        """Compare a share of the profiles, or all that are kept if None. The worker may be running.

        Profiles that were deleted meanwhile (`analyze.profile_days`, an erasure) are computed with all events that the lake has.

        Raises:
            FeatureError: no served features are kept, or fewer than `sample`.
        """
        self._acknowledged.refresh()
        folder = self._folder / dataset
        compiled = self._compile(dataset, taken(folder))
        with compiled:
            kept = served.read(folder / compiled.layout().fingerprint, self._served_log, sample)
            # Opened after the served rows, so that it has all strings they name.
            vocabulary = Vocabulary.beside(folder / STRINGS_FILE)
            kernels = [Kernel(kernel.view, compiled.expressions.types, vocabulary) for kernel in compiled.kernels]
            properties, left_out = compiled.expressions.properties, excluded.read(dataset, self._bad_events, self._tables)
            happened = history.read(dataset, self._tables, self._events(dataset), self._links(dataset), kept.sample, properties, left_out)
            found = _compare(happened, kept, kernels, compiled.expressions)
            return replace(found, outdated=self._outdated(dataset, compiled.properties))

    def _compile(self, dataset: str, types: Types) -> Compiled:
        return compile_for(dataset, self._declared, self._tables, self._models, Vocabulary(), taken=types)

    def _outdated(self, dataset: str, types: Types) -> tuple[str, ...]:
        """A sentence for each property that a rebuilt state would read with another type."""
        with self._compile(dataset, {}) as current:
            return tuple(
                f"{dataset}: the worker takes the property {name} for {type_}, the events table for {current.properties[name]}"
                for name, type_ in types.items()
                if current.properties.get(name, type_) != type_
            )

    def _events(self, dataset: str) -> Snapshot:
        try:
            return self._acknowledged.snapshot(Ref(dataset, EVENTS))
        except NotFoundError:  # no event has come yet
            return Snapshot((), FIXED_SCHEMA, -1)

    def _links(self, dataset: str) -> pa.Table:
        """The merge log. Rows that the sink has not committed are read before the table, so that none is missed in between."""
        log = self._identities
        ends = {partition: log.end(partition) for partition in range(log.partitions)}
        waiting = backlog.read_until(log, backlog.positions(log), ends).get(dataset)
        parts = [] if waiting is None else [waiting.rows]
        with suppress(NotFoundError):
            rows = self._tables.scan(self._tables.snapshot(Ref(dataset, IDENTITIES))).read_all()
            rows = rows.append_column("dataset", pa.array([dataset] * rows.num_rows, pa.string()))
            parts.append(rows.select(IDENTITY_SCHEMA.names))
        return pa.concat_tables([part.cast(IDENTITY_SCHEMA) for part in parts] or [IDENTITY_SCHEMA.empty_table()])


def _compare(happened: Past, kept: ServedSample, kernels: Sequence[Kernel], expressions: Expressions) -> Verification:
    rows = happened.events.select(EVENT_SCHEMA.names).combine_chunks()
    evaluated, failed = expressions.evaluate(
        pa.RecordBatch.from_arrays([in_one_piece(column) for column in rows.columns], schema=EVENT_SCHEMA),
        happened.properties(expressions.properties),
    )
    # As the sink decided, or checked here for rows from before the sink did.
    bots = pc.coalesce(in_one_piece(happened.events.column("is_bot")), is_bot(in_one_piece(rows.column("context"))))
    counted = ~bots.to_numpy(zero_copy_only=False)
    counted[list(failed)] = False
    order, expected, is_there = _places(happened, kept)
    stood = _stood(happened.events, PLACE_COLUMNS)
    merges = [Merge(int(order[row]), source, target) for row, source, target in happened.merges if is_there[row]]
    width = sum(kernel.columns_count for kernel in kernels)
    numbers = cast("pa.ListArray", in_one_piece(kept.rows.column("numbers"))).flatten().to_numpy().reshape(kept.rows.num_rows, width)
    found, at = [], 0
    for kernel in kernels:
        is_ours = np.array([kernel.view.entity is not Entity.USER or key.startswith(USER) for key in happened.keys], np.bool_)
        events = {
            ID: pa.array(stood),
            SHOWN: pa.array([" ".join(each) for each in happened.ids], pa.string()),
            KEY: pa.array(happened.keys, pa.string()),
            OFFSET: pa.array(order),
            TIME: rows.column("event_time").cast(pa.int64()),
            COUNTED: pa.array(counted & is_ours),
            EXPECTED: pa.array(expected),
            **{text: evaluated.column(text) for text in kernel.view.expressions},
        }
        mine = kernel.decode(np.ascontiguousarray(numbers[:, at : at + kernel.columns_count]))
        at += kernel.columns_count
        said = {ID: pa.array(_stood(kept.rows, _SERVED_PLACE)), KEY: kept.rows.column("key")}
        was_served = pa.table(said | dict(zip(mine.schema.names, mine.columns, strict=True)))
        found.append(verify(kernel, pa.table(events).filter(pa.array(is_there)), was_served, merges))
    return Verification.total(found)


def _places(happened: Past, kept: ServedSample) -> tuple[npt.NDArray[np.int64], Mask, Mask]:
    """For each event: its place in the order of arrival, whether it must have been served, and whether to check it.

    Served events keep their place and come after unserved ones, which are history or belong to a profile that was merged.
    """
    served = zip(*(kept.rows.column(name).to_pylist() for name in ("batch", "row")), strict=True)
    places = dict(zip(_stood(kept.rows, _SERVED_PLACE).tolist(), served, strict=True))
    served_at = [places.get(each) for each in _stood(happened.events, PLACE_COLUMNS).tolist()]
    partitions, offsets = (pc.fill_null(in_one_piece(happened.events.column(name)), -1).to_numpy() for name in PLACE_COLUMNS)
    arrived = history.arrived(happened.events).tolist()
    unserved = [(0, *place) for place in zip(arrived, partitions.tolist(), offsets.tolist(), strict=True)]
    keys = np.array([before if at is None else (1, *at, 0) for at, before in zip(served_at, unserved, strict=True)], np.int64).reshape(
        -1, 4
    )
    order = np.empty(len(keys), np.int64)
    order[np.lexsort(keys.T[::-1])] = np.arange(len(keys))
    # An event without a place (-1) is older than places, and so older than everything served.
    ends, starts = (np.array([*limits, 0])[partitions] for limits in (kept.ends, kept.starts))
    was_served = np.array([at is not None for at in served_at], np.bool_)
    expected = happened.is_sampled & (offsets >= np.maximum(starts, 0)) & (offsets < ends)
    return order, expected, was_served | ~happened.is_sampled | (offsets < ends)


def _stood(rows: pa.Table, names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Each row's place in the log as one number; -1 if unknown."""
    partitions, offsets = (pc.fill_null(in_one_piece(rows.column(name)).cast(pa.int64()), -1).to_numpy() for name in names)
    return np.where(offsets < 0, -1, partitions * (1 << 48) + offsets)
