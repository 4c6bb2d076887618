"""Read all events of a dataset from the lake, in their order of arrival.

The table is larger than memory, and its files are not in that order. They are read in slices of the first sort column, each of which fits
into memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.events import EVENT_SCHEMA
from sokuji.identity.base import is_sent
from sokuji.lake.base import Lake, Snapshot
from sokuji.lake.events import PLACE_COLUMNS, TIME_COLUMN

HISTORY_ROWS = 50_000
"""The number of rows of a batch."""

_SLICE_ROWS = 200_000  # approximate number of rows sorted at once: 200 MB for events of 1 KB
_SAMPLED = 64  # one of this many rows is sampled for the starts of slices
_IN_KEYS = ("visitor_id", "user_id")
_NAMES = {"event_time": TIME_COLUMN}  # column of the log -> column of the table, if the names differ


def history(dataset: str, lake: Lake, snapshot: Snapshot, until: Mapping[int, int]) -> Iterator[pa.RecordBatch]:
    """Yield the sent events of an events table as rows of the events log, in the order of receipt, then of arrival.

    For partitions of the log in `until`, only rows before these offsets are included.
    """
    files = replace(snapshot, tail=None)
    order = _order(lake, files)
    where = is_sent(pc.field("source"))  # decisions are not events of the visitor; the stream leaves them out too
    partition, offset = map(pc.field, PLACE_COLUMNS)
    for each, end in until.items():
        is_later = (partition == each) & (offset >= end)
        where &= is_later.is_null() | ~is_later
    stored = [_NAMES.get(name, name) for name in EVENT_SCHEMA.names if name not in (*_IN_KEYS, "dataset")]
    names = list(dict.fromkeys(["keys", *stored, *order, *(PLACE_COLUMNS if until else ())]))
    for part, span in _slices(lake, files, order[0]):
        rows = lake.scan(part, names, where & span).read_all()
        rows = rows.take(pc.sort_indices(rows, [(name, "ascending") for name in order]))
        for start in range(0, rows.num_rows, HISTORY_ROWS):
            yield _as_logged(dataset, rows.slice(start, HISTORY_ROWS))


def _order(lake: Lake, files: Snapshot) -> list[str]:
    """The sort columns.

    Events of one partition are sorted by position, because clocks can be put back. Rows without a position are older.
    """
    order = [name for name in ("received_at", *PLACE_COLUMNS, TIME_COLUMN) if name in files.schema.names]
    if not set(PLACE_COLUMNS) <= set(order):
        return order
    partitions = {number for batch in lake.scan(files, PLACE_COLUMNS[:1]) for number in pc.unique(batch.column(0)).to_pylist()}
    return order if len(partitions - {None}) > 1 else ["log_offset", *(name for name in order if name != "log_offset")]


class _Keys(NamedTuple):
    """A file's values of the column that separates slices."""

    file: str
    least: int
    most: int
    some: npt.NDArray[np.int64]


def _slices(lake: Lake, files: Snapshot, name: str) -> Iterator[tuple[Snapshot, pc.Expression]]:
    """The files and the condition of each slice, in order. The first slice has the rows without a value."""
    field, type_ = pc.field(name), files.schema.field(name).type
    yield files, field.is_null()
    found = [keys for file in files.files if (keys := _keys(lake, files, file, name)) is not None]
    if not found:
        return
    some = np.sort(np.concatenate([keys.some for keys in found]))
    starts = np.unique(some[:: max(1, _SLICE_ROWS // _SAMPLED)]).tolist()[1:]
    least, most = min(keys.least for keys in found), max(keys.most for keys in found)
    for start, end in zip([least, *starts], [*starts, most + 1], strict=True):
        part = tuple(keys.file for keys in found if keys.least < end and keys.most >= start)
        yield replace(files, files=part), (field >= pa.scalar(start, type_)) & (field < pa.scalar(end, type_))


def _keys(lake: Lake, files: Snapshot, file: str, name: str) -> _Keys | None:
    some, ends = [], []
    for batch in lake.scan(replace(files, files=(file,)), [name]):
        values = batch.column(0).drop_null().cast(pa.int64()).to_numpy()
        if len(values):
            some.append(values[::_SAMPLED])
            ends += [int(values.min()), int(values.max())]
    return _Keys(file, min(ends), max(ends), np.concatenate(some)) if some else None


def _as_logged(dataset: str, rows: pa.Table) -> pa.RecordBatch:
    keys = {name: pc.struct_field(rows.column("keys"), name) for name in _IN_KEYS}
    keys["dataset"] = pa.array([dataset] * rows.num_rows, pa.string())
    columns = (keys[name] if name in keys else rows.column(_NAMES.get(name, name)) for name in EVENT_SCHEMA.names)
    events = pa.table([column.cast(field.type) for column, field in zip(columns, EVENT_SCHEMA, strict=True)], schema=EVENT_SCHEMA)
    [batch] = events.combine_chunks().to_batches()
    return batch
