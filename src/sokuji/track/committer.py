"""Turn parsed requests into durable rows, for the collector and for the embedded platform."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from sokuji.events import BAD_EVENT_SCHEMA
from sokuji.log.base import Log
from sokuji.track.check import Limits
from sokuji.track.columns import to_arrow
from sokuji.track.partition import partition_of
from sokuji.track.request import Request
from sokuji.track.skew import ClockOffsets

_SERVER_KEYS = re.compile("sk_[0-9a-f]+")
"""Server keys, which must not appear in a table."""


class PartitionRows(NamedTuple):
    """The rows to write, by partition."""

    events: dict[int, pa.RecordBatch]
    bad_events: dict[int, pa.RecordBatch]


class Committer:
    """Writes requests to the two logs. Not thread-safe: one commit at a time."""

    def __init__(self, events_log: Log, bad_events_log: Log, limits: Limits, skew_threshold_seconds: float) -> None:
        self.events_log, self.bad_events_log, self.limits = events_log, bad_events_log, limits
        self._clocks = ClockOffsets(int(skew_threshold_seconds * 1_000_000))

    def commit(self, requests: Sequence[Request]) -> None:
        """Make the events of `requests` durable: good ones in the events log, refused ones (`request.refused`) in the bad-events log.

        Raises:
            LogError: a log could not be written; some of the events may have been.
        """
        self.write(self.prepare(requests))

    def prepare(self, requests: Sequence[Request]) -> PartitionRows:
        """Build the rows, the first half of `commit`: it computes and never waits."""
        events = to_arrow(requests, self.events_log.partitions, self.limits, self._clocks)
        return PartitionRows(events, _bad_events([request for request in requests if request.refused], self.bad_events_log.partitions))

    def write(self, rows: PartitionRows) -> None:
        """Write the rows, the second half of `commit`: it mostly waits for the disk."""
        if rows.bad_events:
            self.bad_events_log.append_many(rows.bad_events)
        if rows.events:
            self.events_log.append_many(rows.events)


def _bad_events(requests: Sequence[Request], partitions: int) -> dict[int, pa.RecordBatch]:
    """The refused events by partition. Their order has no meaning, so all events of one source share a partition."""
    rows: dict[int, list[dict[str, object]]] = {}
    for request in requests:
        rows.setdefault(partition_of(request.source.name, partitions), []).extend(
            {
                "dataset": request.source.dataset,
                "source": request.source.name,
                "received_at": request.received_at,
                "code": refused.refusal.code,
                "reason": refused.refusal.reason,
                "message_id": refused.message_id,
                "payload": _SERVER_KEYS.sub("sk_", refused.payload.decode("utf-8", "replace")),
            }
            for refused in request.refused
        )
    return {partition: pa.RecordBatch.from_pylist(partition_rows, schema=BAD_EVENT_SCHEMA) for partition, partition_rows in rows.items()}
