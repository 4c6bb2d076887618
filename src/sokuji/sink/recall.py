"""Read the messages of a dataset again, for an index of repeats that has lost them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.dedup.rule import Places, RepeatRule
from sokuji.errors import OffsetTrimmedError
from sokuji.lake.base import Lake, Snapshot
from sokuji.lake.events import PLACE_COLUMNS
from sokuji.log.base import Log

_MESSAGE = ["source", "message_id"]
_ROWS = 1_000_000
_NO_OFFSETS: Mapping[int, int] = {}


class Recalled(NamedTuple):
    """Messages of one partition, in the order of their offsets."""

    rows: pa.RecordBatch  # `source` and `message_id`
    places: Places


def recalled(  # noqa: PLR0917 - everything known about a dataset's messages
    dataset: str,
    log: Log,
    lake: Lake,
    snapshot: Snapshot | None,
    rule: RepeatRule,
    ends: Mapping[int, int],
    since: Mapping[int, int] = _NO_OFFSETS,
) -> Iterator[Recalled]:
    """Yield the messages that an index needs to recognize repeats at `ends`. The index has all messages before `since`.

    The messages come from the log, which also has messages deleted from the table. Where the log begins later, they come from the events
    table's `snapshot`, which is a snapshot of `lake`.
    """
    for partition, end in ends.items():
        # Begin one stretch earlier, because a repeat of a message in that stretch was not taken.
        offset = max(0, rule.remembered_from(end) - rule.stretch_rows, since.get(partition, 0))
        while offset < end:
            start = min(log.start(partition), end)
            if offset < start:
                yield from _of_table(lake, snapshot, partition, offset, start)
                offset = start
                continue
            try:
                batch, offsets, following = log.read(partition, offset, _ROWS, until=end)
            except OffsetTrimmedError:  # the sink has trimmed the log meanwhile
                continue
            own = pc.equal(batch.column("dataset"), dataset)
            places = offsets[own.to_numpy(zero_copy_only=False)]
            yield Recalled(batch.select(_MESSAGE).filter(own), Places(np.full(len(places), partition, np.int32), places))
            offset = following


def _of_table(lake: Lake, snapshot: Snapshot | None, partition: int, start: int, end: int) -> Iterator[Recalled]:
    if snapshot is None or not set(PLACE_COLUMNS) <= set(snapshot.schema.names):
        return
    number, place = map(pc.field, PLACE_COLUMNS)
    files = replace(snapshot, tail=None)
    for first in range(start, end, _ROWS):
        where = (number == partition) & (place >= first) & (place < min(first + _ROWS, end))
        rows = lake.scan(files, (*_MESSAGE, *PLACE_COLUMNS), where).read_all().sort_by("log_offset")
        for batch in rows.combine_chunks().to_batches():
            places = batch.column("log_offset").to_numpy()
            yield Recalled(batch.select(_MESSAGE), Places(np.full(len(places), partition, np.int32), places))
