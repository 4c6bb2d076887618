"""Rows for the logs that publish a batch's outcome."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from sokuji.analyze.pipeline import Poison
from sokuji.events import BAD_EVENT_SCHEMA, IDENTITY_SCHEMA
from sokuji.identity.base import Link

POISON = "expression_failed"
"""The code of a bad event that the collector accepted, but on which an expression of a feature or a rule failed."""

_PAYLOAD_MAX = 64 * 1024


def identity_rows(events: pa.RecordBatch, links: Sequence[Link]) -> pa.RecordBatch:
    """The rows of the merge log for links found in `events`."""
    at = pa.array([link.event for link in links], pa.int64())
    columns = {name: events.column(name).take(at) for name in ("dataset", "source", "message_id")}
    columns |= {name: pa.array([getattr(link, name) for link in links], pa.string()) for name in Link._fields[1:]}
    columns["known_at"] = events.column("received_at").take(at)
    return pa.RecordBatch.from_arrays([columns[name] for name in IDENTITY_SCHEMA.names], schema=IDENTITY_SCHEMA)


def bad_rows(events: pa.RecordBatch, poison: Sequence[Poison], code: str = POISON) -> pa.RecordBatch:
    """The rows of the log of bad events. The events themselves are still in the lake."""
    at = pa.array([each.event for each in poison], pa.int64())
    columns = {name: events.column(name).take(at) for name in ("dataset", "source", "received_at", "message_id")}
    columns["code"] = pa.array([code] * len(poison))
    columns["reason"] = pa.array([each.reason for each in poison])
    payloads = events.column("properties").take(at).to_pylist()
    columns["payload"] = pa.array([(payload or "")[:_PAYLOAD_MAX] for payload in payloads])
    return pa.RecordBatch.from_arrays([columns[name] for name in BAD_EVENT_SCHEMA.names], schema=BAD_EVENT_SCHEMA)
