"""Write the Parquet files of a table that is partitioned by day, before the commit that names them."""

from __future__ import annotations

import datetime as dt
import json
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake.transaction import AddAction

from sokuji.disk.files import sync_file, sync_folder
from sokuji.lake.delta.sums import check, is_sealed, seal
from sokuji.lake.stored import finite

DAY = "_day"
"""The partition column of a table made with `day_of`. Readers and writers of the lake do not see it.

It is NULL for rows of days with few rows, which share files, and for rows without a day.
"""

_DAY_FIELD = pa.field(DAY, pa.date32())
_FEW = "__HIVE_DEFAULT_PARTITION__"  # Delta's text for NULL
_DAYS_MAX = 31  # the maximal number of days with their own files in one commit
_SHARE = 16  # a day gets its own file if it has at least one in this many rows of a batch,
_OWN_ROWS = 256  # and at least this many rows; the largest day always does. So late events of a dozen days make one file, not a dozen
_DAY_US = 86_400_000_000
_FIRST_US, _END_US = -62_135_596_800_000_000, 253_402_300_799_000_000  # the years 1 to 9999, which the statistics in a commit can represent
_GROUP_ROWS = 122_880
_GROUP_BYTES = 64 * 1024 * 1024
_SAMPLE_ROWS = 8192
_BATCH_ROWS = 32_768


def with_day(rows: pa.RecordBatchReader, day_of: str | None) -> pa.RecordBatchReader:
    """The rows with the day of the column `day_of`; unchanged if `day_of` is None."""
    if day_of is None:
        return rows
    schema = rows.schema.append(_DAY_FIELD)

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in rows:
            yield pa.record_batch([*batch.columns, _days(batch.column(day_of))], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def with_columns(
    file: pq.ParquetFile,
    names: Sequence[str],
    columns: Mapping[str, pa.DataType],
    values: Callable[[pa.Table], Mapping[str, pa.Array]],
    *,
    sealed: bool,
) -> pa.RecordBatchReader:
    """The rows of a file, in the columns `names`. `values` computes the columns `columns` from chunks of rows.

    If the file is not `sealed`, an infinite number becomes NULL: see `rows_of`.
    """
    others = [name for name in file.schema_arrow.names if name in names and name not in columns]
    schema = pa.schema([*(file.schema_arrow.field(name) for name in others), *columns.items()])

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in file.iter_batches(_BATCH_ROWS):
            made = values(pa.table(batch))
            kept = (batch.column(name) if sealed else finite(batch.column(name)) for name in others)
            yield pa.record_batch([*kept, *(made[name] for name in columns)], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def joined(paths: Sequence[str], columns: pa.Schema, *, of_log: bool = False) -> pa.RecordBatchReader:
    """The rows of several files in these columns; NULL for a file that is older than a column.

    In tables fed from a log, an infinite number of an old file also becomes NULL: see `rows_of`.

    Raises:
        DamagedFileError: a file is damaged.
    """
    check(paths, columns.names)

    def batches() -> Iterator[pa.RecordBatch]:
        for path in paths:
            with pq.ParquetFile(path) as file:
                names = [name for name in columns.names if name in file.schema_arrow.names]
                for batch in file.iter_batches(_BATCH_ROWS, columns=names):
                    values = (batch.column(field.name) if field.name in names else pa.nulls(batch.num_rows) for field in columns)
                    cast = [column.cast(field.type) for column, field in zip(values, columns, strict=True)]
                    if of_log and not is_sealed(path):
                        cast = [finite(column) for column in cast]
                    yield pa.RecordBatch.from_arrays(cast, schema=columns)

    return pa.RecordBatchReader.from_batches(columns, batches())


def by_time(rows: pa.RecordBatchReader, day_of: str | None) -> pa.RecordBatchReader:
    """The rows sorted by time, in the partition of days with few rows."""
    if day_of is None:
        return rows
    table = rows.read_all().sort_by(day_of)
    return table.append_column(_DAY_FIELD, pa.nulls(table.num_rows, pa.date32())).to_reader()


def without_day(schema: pa.Schema) -> pa.Schema:
    """The columns that readers see of a table with days."""
    return schema.remove(schema.get_field_index(DAY))


def _days(times: pa.Array) -> pa.Array:
    microseconds = times.cast(pa.int64())
    days = np.floor_divide(microseconds.fill_null(0).to_numpy(), _DAY_US).astype(np.int32)
    return pa.array(days, mask=times.is_null().to_numpy(zero_copy_only=False)).cast(pa.date32())


class _File:
    """A file that is being written. Rows are collected first, because each write makes a row group, and large row groups read faster."""

    def __init__(self, folder: Path, day: str | None, schema: pa.Schema, day_of: str | None) -> None:
        self._folder, self._day, self._day_of = folder, day, day_of
        self.path = (folder if day is None else folder / f"{DAY}={day}") / f"part-{uuid.uuid4()}.zstd.parquet"
        self.path.parent.mkdir(exist_ok=True)  # the folder itself exists, unless the table was dropped
        self._schema = schema
        self._writer: pq.ParquetWriter | None = None
        self._pending: list[pa.RecordBatch] = []
        self._rows = self._undated = 0
        self._times: list[int] = []  # the earliest and the latest, in microseconds

    def write(self, batch: pa.RecordBatch) -> None:
        self._pending.append(batch)
        self._rows += batch.num_rows
        if self._day_of is not None:
            times = batch.column(self._day_of).cast(pa.int64())
            self._undated += times.null_count
            known = [*self._times, *(time for time in pc.min_max(times).as_py().values() if time is not None)]
            self._times = [min(known), max(known)] if known else []
        if (
            sum(pending.num_rows for pending in self._pending) >= _GROUP_ROWS
            or sum(pending.nbytes for pending in self._pending) >= _GROUP_BYTES
        ):
            self._flush()

    def _flush(self) -> None:
        if self._pending or self._writer is None:
            rows = pa.Table.from_batches(self._pending, self._schema)
            if self._day == _FEW and self._day_of is not None:
                rows = rows.sort_by(self._day_of)  # so that the statistics of row groups and pages separate days
            self._writer = self._writer or pq.ParquetWriter(self.path, self._schema, compression="zstd", **_encodings(rows))
            self._writer.write_table(rows)
            self._pending.clear()

    def close(self) -> None:
        self._flush()
        if self._writer is not None:
            self._writer.close()
            self.path = seal(self.path)

    def action(self) -> AddAction:
        return AddAction(
            path=str(self.path.relative_to(self._folder)),
            size=self.path.stat().st_size,
            partition_values={} if self._day is None else {DAY: None if self._day == _FEW else self._day},
            modification_time=time.time_ns() // 1_000_000,
            data_change=True,
            stats=json.dumps({"numRecords": self._rows} | self._stats()),
        )

    def _stats(self) -> dict[str, Any]:
        """The statistics by which readers of Delta tables skip files."""
        if not self._times or self._times[0] < _FIRST_US or self._times[1] >= _END_US:
            return {}
        first, last = self._times
        ends = {"minValues": first // 1000, "maxValues": -(-last // 1000)}  # rounded up: the last millisecond must not be before any row
        said: dict[str, Any] = {name: {self._day_of: f"{np.datetime64(time, 'ms')}Z"} for name, time in ends.items()}
        return {**said, "nullCount": {self._day_of: self._undated}}


def write_files(folder: Path, rows: pa.RecordBatchReader, day_of: str | None = None) -> list[AddAction]:
    """Write `rows` to new files below `folder`: one file for each day with many rows, and one for the other days.

    Returns the actions for the commit. `day_of` is the column that the day comes from, if there are days.

    The files are durable on return. Raises FileNotFoundError if the folder does not exist (any more).
    """
    files: dict[str | None, _File] = {}
    with ExitStack() as stack:
        for batch in rows:
            for day, part in [(None, batch)] if day_of is None else _by_day(batch, files):
                if part.num_rows and day not in files:
                    files[day] = _File(folder, day, part.schema, day_of)
                    stack.callback(files[day].close)
                if part.num_rows:
                    files[day].write(part)
    for path in (file.path for file in files.values()):
        sync_file(path)
        sync_folder(path.parent)
    sync_folder(folder)
    return [file.action() for file in files.values()]


def _encodings(rows: pa.Table) -> dict[str, Any]:
    """The column encodings of a file that begins with these rows.

    For floats that are nearly all different, a dictionary is larger than a byte stream split, and twice as slow to read: for a million of
    them, 9.4 against 7.0 MB and 11 against 5.5 ms. For floats that repeat, a dictionary takes a third of the size.
    """
    split = [
        field.name
        for field in rows.schema
        if pa.types.is_float64(field.type) and _is_mostly_distinct(rows.column(field.name).slice(0, _SAMPLE_ROWS))
    ]
    if not split:
        return {}
    others = [path for field in rows.schema if field.name not in split for path in _leaves(field.name, field.type)]
    return {"use_dictionary": others, "column_encoding": dict.fromkeys(split, "BYTE_STREAM_SPLIT")}


def _is_mostly_distinct(values: pa.ChunkedArray) -> bool:
    there = len(values) - values.null_count
    return bool(there > len(values) // 2 and pc.count_distinct(values).as_py() > 0.9 * there)


def _leaves(path: str, type_: pa.DataType) -> Iterator[str]:
    """The columns of a Parquet file that store one column of a table."""
    if pa.types.is_struct(type_):
        for field in type_.fields:
            yield from _leaves(f"{path}.{field.name}", field.type)
    elif pa.types.is_list(type_):
        yield from _leaves(f"{path}.list.element", type_.value_type)
    else:
        yield path


def _by_day(batch: pa.RecordBatch, opened: Collection[str | None]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The rows of each day that has or gets its own file, then the other rows, all without the day column."""
    place = batch.schema.get_field_index(DAY)
    days, rows = batch.column(place), batch.remove_column(place)
    own: list[str] = []
    for each in sorted(pc.value_counts(days).to_pylist(), key=lambda each: each["counts"], reverse=True):
        name = None if each["values"] is None else each["values"].isoformat()
        is_large = not own or each["counts"] >= _OWN_ROWS
        may_open = is_large and each["counts"] * _SHARE >= len(days) and len({*opened, *own} - {_FEW}) < _DAYS_MAX
        if name is not None and (name in opened or may_open):
            own.append(name)
            yield name, rows.filter(pc.equal(days, each["values"]))
    few = pc.invert(pc.fill_null(pc.is_in(days, pa.array(map(dt.date.fromisoformat, own), pa.date32())), False))
    yield _FEW, rows.filter(few)
