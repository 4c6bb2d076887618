"""The served features at each event of a sample of the profiles, stored for the comparison with the lake."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.analyze.batches import CONSUMER
from sokuji.analyze.outbox import Outbox
from sokuji.analyze.pipeline import BatchOutcome, Mask
from sokuji.errors import FeatureError, OffsetTrimmedError
from sokuji.log.base import Log
from sokuji.online.digest import SALT_BYTES
from sokuji.online.hashing import Hasher

SERVED_LOG = "served_at"
SERVED_SCHEMA = pa.schema(
    [
        ("partition", pa.int32()),  # the position of the event in the log
        ("offset", pa.int64()),
        ("key", pa.string()),  # the key of the event's profile
        ("batch", pa.int64()),  # the order of arrival is the order of (batch, row)
        ("row", pa.int64()),
        ("numbers", pa.list_(pa.float64())),  # of all views one after the other, as their kernels return them; NaN where not counted
        ("ends", pa.list_(pa.int64())),
        ("sample", pa.float64()),
    ]
)
"""A row is an event of a profile in the sample, or a mark.

A mark has only the last two columns: the end of the state by partition of the events log, and the share of the profiles that is stored.
Between two marks the rows are complete.
"""

OpenLog = Callable[[Path], Log]
"""Opens the log of served features in a folder, or creates it. Raises the backend's errors of opening."""

_READ_ROWS = 100_000
_ROWS_MAX = 50_000  # in memory; a checkpoint usually comes earlier, unless the sample is large
_HASHER = Hasher(bytes(SALT_BYTES))


def sampled(keys: pa.StringArray, sample: float) -> Mask:
    """Which profiles are in a sample of this share. These are always the same profiles, and a smaller sample is a part of a larger one."""
    found: Mask = _HASHER.digests(keys)[:, 0].astype(np.float64) <= sample * 2.0**64
    return found


class Served:
    """Stores served features, each row once. Rows become durable with the next checkpoint; a replay serves later rows again."""

    def __init__(self, log: Log, since: int, *, sample: float, bytes_max: int) -> None:
        """Continue in `log`, which ended at `since` at the checkpoint from which the state begins."""
        self._log, self._sample, self._bytes_max = log, sample, bytes_max
        self._outbox = Outbox(log, max(since, log.start(0)), ("partition", "offset"))
        self._waiting: list[pa.RecordBatch] = []
        self._marked: Mapping[int, int] | None = None

    def add(self, outcome: BatchOutcome, batch: int) -> None:
        """Store the features that a batch served to profiles of the sample."""
        mask = sampled(outcome.keys, self._sample)
        chosen = np.flatnonzero(mask[outcome.profiles])
        if len(chosen):
            self._waiting.append(_rows(outcome, batch, chosen))
            if sum(rows.num_rows for rows in self._waiting) > _ROWS_MAX:
                self._append()

    def mark(self, ends: Mapping[int, int], durable: int) -> int:
        """Write the collected rows, and a mark that all rows before `ends` are written. Returns the log's end, for the checkpoint.

        `durable` is the log's end in the last complete checkpoint. Older rows are trimmed when there are too many.
        """
        self._append()
        if ends != self._marked:
            row = {"ends": [ends[partition] for partition in sorted(ends)], "sample": self._sample}
            self._log.append(0, pa.RecordBatch.from_pylist([row], schema=SERVED_SCHEMA))
            self._marked = dict(ends)
        self._log.commit(CONSUMER, {0: min(durable, self._log.end(0))})  # a damaged log was begun again
        self._log.trim(max_bytes=self._bytes_max)
        return self._log.end(0)

    def caught_up(self) -> None:
        """Note that the replay is over: no row will come again."""
        self._append()
        self._outbox.caught_up()

    def _append(self) -> None:
        if self._waiting:
            self._outbox.append(pa.concat_batches(self._waiting))
            self._waiting = []

    def close(self) -> None:
        """Close the log. Rows that were not marked are served again."""
        self._log.close()


def _rows(outcome: BatchOutcome, batch: int, chosen: npt.NDArray[np.intp]) -> pa.RecordBatch:
    at, count = pa.array(chosen), len(chosen)
    numbers = np.concatenate([np.empty((count, 0)), *(each[chosen] for each in outcome.numbers)], axis=1)
    starts = np.arange(count + 1, dtype=np.int32) * np.int32(numbers.shape[1])
    columns = [
        *map(pa.array, outcome.places.take(chosen)),
        outcome.keys.take(pa.array(outcome.profiles[chosen])),
        pa.array(np.full(count, batch)),
        at,
        pa.ListArray.from_arrays(pa.array(starts), pa.array(numbers.ravel())),
        *(pa.nulls(count, SERVED_SCHEMA.field(name).type) for name in ("ends", "sample")),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SERVED_SCHEMA)


class ServedSample(NamedTuple):
    """The rows of a sample in a log of served features."""

    rows: pa.Table  # of SERVED_SCHEMA, without marks
    sample: float
    starts: list[int]  # by partition of the events log; from starts to ends, every event of the sample's profiles has a row
    ends: list[int]


def read(folder: Path, open_log: OpenLog, sample: float | None) -> ServedSample:
    """Read the rows of a sample of the profiles from the log in `folder`; None: of all stored profiles. The worker may be running.

    Raises:
        FeatureError: nothing is stored there, or less than the sample needs.
    """
    if not (folder / SERVED_LOG).exists():
        raise FeatureError(
            "nothing that was served is kept yet for the features as they are declared now: is `sokuji up` running, and is "
            "analyze.served_sample not 0?"
        )
    with open_log(folder) as log:
        found = _read_all(log)
    is_mark = found.column("ends").is_valid()
    marks = found.filter(is_mark).select(["ends", "sample"]).to_pylist()
    kept = marks[-1]["sample"]
    if sample is not None and sample > kept:
        raise FeatureError(f"a sample of {sample} is asked for, and what was served is kept for {kept}: set analyze.served_sample")
    # Rows before the last mark with another sample may be incomplete.
    first = max((place + 1 for place, mark in enumerate(marks) if mark["sample"] != kept), default=0)
    rows = found.filter(pc.invert(is_mark))
    chosen = sampled(cast("pa.StringArray", rows.column("key").combine_chunks()), kept if sample is None else sample)
    return ServedSample(rows.filter(pa.array(chosen)), kept if sample is None else sample, marks[first]["ends"], marks[-1]["ends"])


def _read_all(log: Log) -> pa.Table:
    while True:
        parts, offset, end = [], log.start(0), log.end(0)
        try:
            while offset < end:
                batch, _, offset = log.read(0, offset, _READ_ROWS, until=end)
                parts.append(batch)
        except OffsetTrimmedError:  # the worker has trimmed the log meanwhile
            continue
        return pa.Table.from_batches(parts, SERVED_SCHEMA)
