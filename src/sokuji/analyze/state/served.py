"""What was served: the features at each event of a sample of the profiles, kept so that they can be compared with the lake."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

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
        ("partition", pa.int32()),  # where the event stands in the log
        ("offset", pa.int64()),
        ("key", pa.string()),  # of the event's profile
        ("batch", pa.int64()),  # the order of arrival is that of (batch, row)
        ("row", pa.int64()),
        ("numbers", pa.list_(pa.float64())),  # of all views one after the other, as their kernels give them; NaN where not counted
        ("ends", pa.list_(pa.int64())),
        ("sample", pa.float64()),
    ]
)
"""A row is an event of a profile in the sample, or a mark, which has only the last two columns: where the state ends by partition of the
events log, and which share of the profiles is kept. Between two marks the rows are complete."""

OpenLog = Callable[[Path], Log]
"""Opens the log of what was served in a folder, which is made if it is not there. Errors as of the backend's opening."""

_READ_ROWS = 100_000
_ROWS_MAX = 50_000  # in memory; a checkpoint comes earlier unless the sample is large
_HASHER = Hasher(bytes(SALT_BYTES))


def sampled(keys: pa.StringArray, sample: float) -> Mask:
    """Which profiles are in a sample of this share, always the same ones; a smaller sample is a part of a larger one."""
    found: Mask = _HASHER.digests(keys)[:, 0].astype(np.float64) <= sample * 2.0**64
    return found


class Served:
    """Keeps what was served, each row once. It is durable with the checkpoint that follows, as a replay serves it again."""

    def __init__(self, log: Log, since: int, *, sample: float, bytes_max: int) -> None:
        """Go on in `log`, which ended at `since` when the checkpoint was taken that the state begins from."""
        self._log, self._sample, self._bytes_max = log, sample, bytes_max
        self._outbox = Outbox(log, max(since, log.start(0)), ("partition", "offset"))
        self._waiting: list[pa.RecordBatch] = []
        self._marked: Mapping[int, int] | None = None

    def add(self, outcome: BatchOutcome, batch: int) -> None:
        """Keep what a batch served to the profiles of the sample."""
        mask = sampled(outcome.keys, self._sample)
        chosen = np.flatnonzero(mask[outcome.profiles])
        if len(chosen):
            self._waiting.append(_rows(outcome, batch, chosen))
            if sum(rows.num_rows for rows in self._waiting) > _ROWS_MAX:
                self._append()

    def mark(self, ends: Mapping[int, int], durable: int) -> int:
        """Write what is kept, and that it is all before `ends`; return where the log ends, to be kept with the checkpoint.

        `durable` is what the last complete checkpoint has of that: older rows go when there are too many.
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
        """The replay is over: nothing will come again."""
        self._append()
        self._outbox.caught_up()

    def _append(self) -> None:
        if self._waiting:
            self._outbox.append(pa.concat_batches(self._waiting))
            self._waiting = []

    def close(self) -> None:
        """Close the log; what was not marked is served again."""
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
    """What a served log holds of a sample."""

    rows: pa.Table  # of SERVED_SCHEMA, without marks
    sample: float
    starts: list[int]  # by partition of the events log: between these two, all events of the sample's profiles have a row
    ends: list[int]


def read(folder: Path, open_log: OpenLog, sample: float | None) -> ServedSample:
    """What the log in `folder` holds of a sample of the profiles; None: of all that are kept. The worker may be running.

    Raises:
        FeatureError: nothing is kept there, or less than is asked for.
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
    # Before the last mark with another sample, not all may be there.
    first = max((place + 1 for place, mark in enumerate(marks) if mark["sample"] != kept), default=0)
    rows = found.filter(pc.invert(is_mark))
    chosen = sampled(rows.column("key").combine_chunks(), kept if sample is None else sample)
    return ServedSample(rows.filter(pa.array(chosen)), kept if sample is None else sample, marks[first]["ends"], marks[-1]["ends"])


def _read_all(log: Log) -> pa.Table:
    while True:
        parts, offset, end = [], log.start(0), log.end(0)
        try:
            while offset < end:
                batch, _, offset = log.read(0, offset, _READ_ROWS, until=end)
                parts.append(batch)
        except OffsetTrimmedError:  # the worker has made room meanwhile
            continue
        return pa.Table.from_batches(parts, SERVED_SCHEMA)
