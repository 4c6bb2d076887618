"""Choose the files of a table that are joined into one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
from deltalake import DeltaTable

from sokuji.lake.delta.files import DAY

# Two steps, (file size, number of smaller files that makes a join worth it): a byte is rewritten a few times, not at each round.
STEPS = ((16 * 1024 * 1024, 20), (256 * 1024 * 1024, 8))

# Days with few rows are merged, except recent days, which still get rows.
_RECENT_DAYS = 2
_DAY_BYTES = 1024 * 1024
_MERGED_MIN = 32
# limits of one merge, which is in memory; files of a few rows are nearly all overhead
_MERGED_ROWS, _MERGED_BYTES = 200_000, 256 * 1024 * 1024


class _File(NamedTuple):
    path: str
    size: int
    rows: int
    day: dt.date | str | None  # "" in a table without days; None: a file of days with few rows


def by_partition(table: DeltaTable, below_bytes: int, count_min: int) -> Iterator[list[str]]:
    """The files below a size, in each partition with many such files. Each list of paths becomes one file of about that size."""
    found: dict[dt.date | str | None, list[_File]] = {}
    for file in _files(table, below_bytes):
        found.setdefault(file.day, []).append(file)
    for day, files in found.items():
        if len(files) >= count_min and day is not None:
            yield from _packed(files, below_bytes)


def across_days(table: DeltaTable) -> Iterator[list[str]]:
    """The small files of days with few rows, once there are many. Each list of paths becomes one file."""
    small = [file for file in _files(table, STEPS[0][0]) if file.day != ""]
    sizes: dict[dt.date | str | None, int] = {}
    for file in small:
        sizes[file.day] = sizes.get(file.day, 0) + file.size
    recent = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=_RECENT_DAYS)
    few = {day for day, size in sizes.items() if not isinstance(day, dt.date) or (size < _DAY_BYTES and day < recent)}
    files = sorted((file for file in small if file.day in few), key=lambda file: str(file.day or ""))
    if len(files) >= _MERGED_MIN:
        yield from _packed(files, _MERGED_BYTES, _MERGED_ROWS)


def _files(table: DeltaTable, below_bytes: int) -> list[_File]:
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    return [
        _File(action["path"], action["size_bytes"], action["num_records"], action.get(f"partition.{DAY}", ""))
        for action in actions
        if action["size_bytes"] < below_bytes
    ]


def _packed(files: Sequence[_File], bytes_max: int, rows_max: int | None = None) -> Iterator[list[str]]:
    """Group files, by size and rows, into lists of paths. Each list becomes one file."""
    paths: list[str] = []
    size = rows = 0
    for file in files:
        size, rows = size + file.size, rows + file.rows
        if len(paths) > 1 and (size > bytes_max or (rows_max is not None and rows > rows_max)):
            yield paths
            paths, size, rows = [], file.size, file.rows
        paths.append(file.path)
    if len(paths) > 1:
        yield paths
