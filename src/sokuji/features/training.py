"""Training sets: what the features of an entity were at the moment of each label, from the events in the lake.

A label at time T sees the events with `event_time < T` that were received by T: not its own event, no later one, and none that came in
only afterwards. Bots are left out, as they are on the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.bots import is_bot
from sokuji.errors import FeatureError
from sokuji.features.kernel import Kernel
from sokuji.features.kernel_columns import EventColumns
from sokuji.features.point_in_time import Events, Labels, numbers_at
from sokuji.features.spec import ViewSpec
from sokuji.features.vocabulary import Vocabulary
from sokuji.sql.result import Result

ENTITY, TIME = "entity_id", "time"
"""The columns that labels have."""

_CHUNK_ROWS = 1 << 19
_EVENT = ("entity", "time", "received", "context")


def training(view: ViewSpec, labels: pa.Table, sql: Callable[[str], Result], *, vocabulary: Vocabulary, dataset: str = "main") -> pa.Table:
    """The labels with a column for each of the view's features.

    Args:
        view: what to compute.
        labels: `entity_id` (STRING, ids of the view's entity), `time` (TIMESTAMP), and whatever else is to be kept.
        sql: runs a query, as `Platform.sql` does.
        vocabulary: gets the strings; the stream's (`Vocabulary.beside`) for ties between categories to be the stream's.
        dataset: whose events.

    Raises:
        FeatureError: the labels lack a column, or have one that a feature is called.
        SqlError: an expression of the view is not valid over the dataset's events, or fails on one of them.
    """
    _check(view, labels)
    result = sql(_query(view, dataset))
    types = dict(zip(view.expressions, (field.type for field in result.schema[len(_EVENT) :]), strict=True))
    kernel = Kernel(view, types, vocabulary)
    ids = labels.column(ENTITY).combine_chunks().cast(pa.string())
    entities = pc.unique(ids)
    times = _us(labels.column(TIME))
    events = _collect(kernel, result.reader(), entities, int(times.max(initial=0)))
    asked = Labels(_codes(ids, entities), times, times)
    features = kernel.decode(numbers_at(kernel, events, asked, profiles=len(entities)))
    for name, column in zip(features.schema.names, features.columns, strict=True):
        labels = labels.append_column(name, column)
    return labels


def _query(view: ViewSpec, dataset: str) -> str:
    key = f"keys.{view.entity}_id"
    # In brackets, each on lines of its own: an expression may end in a comment.
    items = "".join(f",\n(\n{text}\n)" for text in view.expressions)
    return f"SELECT {key}, _date, received_at, context{items}\nFROM `{dataset}`.events WHERE {key} IS NOT NULL"


def _check(view: ViewSpec, labels: pa.Table) -> None:
    names = labels.schema.names
    missing = [name for name in (ENTITY, TIME) if name not in names]
    if missing:
        raise FeatureError(f"labels need the columns {ENTITY} (STRING) and {TIME} (TIMESTAMP); they have {', '.join(names)}")
    if labels.column(ENTITY).null_count or labels.column(TIME).null_count:
        raise FeatureError(f"every label needs an {ENTITY} and a {TIME}; filter out those that are NULL")
    taken = [feature.name for feature in view.features if feature.name in names]
    if taken:
        raise FeatureError(f"labels have columns that features of view {view.name} are called: {', '.join(taken)}; rename them")


def _collect(kernel: Kernel, batches: Iterable[pa.RecordBatch], entities: pa.Array, until: int) -> Events:
    """The events of the entities before `until`. Column by column, as all of it twice might not fit into memory."""
    parts: list[Events] = []
    for rows in _chunks(batches):
        profiles = pc.index_in(rows.column(0), value_set=entities).combine_chunks()
        times, received = _us(rows.column(1)), _us(rows.column(2))
        wanted = np.flatnonzero(profiles.is_valid().to_numpy(zero_copy_only=False) & (times < until) & (received <= until))
        wanted = wanted[~is_bot(rows.column(3).take(pa.array(wanted))).to_numpy()]
        if len(wanted):
            # Most often all of them, and copying text takes as long as reading it.
            chosen = rows if len(wanted) == len(times) else rows.take(pa.array(wanted))
            said = pa.table(chosen.columns[len(_EVENT) :], names=list(kernel.view.expressions))
            # Seen by a label at T: event_time < T and received_at <= T.
            visible = np.maximum(times[wanted] + 1, received[wanted])
            codes = profiles.take(pa.array(wanted)).to_numpy(zero_copy_only=False).astype(np.int32)
            parts.append(Events(codes, times[wanted], visible, kernel.columns(said)))
    filters, values = len(kernel.layout.filters), len(kernel.layout.columns)
    size = sum(len(part.profiles) for part in parts)
    made = Events(
        np.empty(size, np.int32),
        np.empty(size, np.int64),
        np.empty(size, np.int64),
        EventColumns(np.empty((filters, size), np.uint8), np.empty((values, size))),
    )
    at = 0
    parts.reverse()
    while parts:
        part = parts.pop()
        place = slice(at, at + len(part.profiles))
        made.profiles[place], made.times[place], made.visible[place] = part.profiles, part.times, part.visible
        made.columns.filters[:, place], made.columns.values[:, place] = part.columns
        at = place.stop
    return made


def _chunks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The rows in larger pieces: for each, the entities are hashed anew."""
    rest, rows = [], 0
    for batch in batches:
        rest.append(batch)
        rows += batch.num_rows
        if rows >= _CHUNK_ROWS:
            yield pa.Table.from_batches(rest)
            rest, rows = [], 0
    if rest:
        yield pa.Table.from_batches(rest)


def _codes(ids: pa.Array, entities: pa.Array) -> npt.NDArray[np.int32]:
    codes: npt.NDArray[np.int32] = pc.index_in(ids, value_set=entities).to_numpy(zero_copy_only=False).astype(np.int32)
    return codes


def _us(times: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = times.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
    return found
