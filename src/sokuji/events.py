"""The schema of events: the contract between the collector, the log, the real-time side and the lake."""

from __future__ import annotations

import enum
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

TIMESTAMP = pa.timestamp("us", tz="UTC")


class EventType(enum.StrEnum):
    """The calls of the Segment specification (https://segment.com/docs/connections/spec/)."""

    TRACK = "track"
    PAGE = "page"
    SCREEN = "screen"
    IDENTIFY = "identify"
    GROUP = "group"
    ALIAS = "alias"


class TimeRule(enum.StrEnum):
    """How `event_time` was chosen from the four times that a client and the collector know."""

    CLIENT = "client"  # the client's own timestamp; its clock agrees with the collector's within the threshold
    SKEW = "skew"  # the client's timestamp, corrected by the device's clock offset
    CLAMPED = "clamped"  # the time (corrected, or of a history import) was in the future, so received_at was used
    RECEIVED = "received"  # the client gave no timestamp
    TRUSTED = "trusted"  # a history import: the timestamp is used unchanged, whatever the sender's clock shows


EVENT_SCHEMA = pa.schema(
    [
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("message_id", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),  # an EventType
        # track: the event's name; every other type: the type's own name ("page", "identify", ...).
        pa.field("event_name", pa.string(), nullable=False),
        pa.field("visitor_id", pa.string()),  # anonymousId
        pa.field("user_id", pa.string()),  # userId; at least one of the two ids is present
        pa.field("event_time", TIMESTAMP, nullable=False),  # the time to compute with
        pa.field("original_time", TIMESTAMP),  # the client's timestamp as sent
        pa.field("sent_at", TIMESTAMP),  # the client's sentAt as sent
        pa.field("received_at", TIMESTAMP, nullable=False),  # the collector's clock
        pa.field("time_rule", pa.string(), nullable=False),  # a TimeRule
        pa.field("historical", pa.bool_(), nullable=False),  # a history import: fills features, triggers nothing
        pa.field("context", pa.string()),  # JSON object
        # JSON object: track, page and screen: properties; identify and group: traits. Values without a column of their own are added
        # here: page and screen "name" and "category", group "group_id", alias "previous_id".
        pa.field("properties", pa.string()),
    ]
)
"""One row of the `events` log. JSON columns are valid UTF-8 JSON text; times are microseconds UTC."""

BAD_EVENT_SCHEMA = pa.schema(
    [
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("received_at", TIMESTAMP, nullable=False),
        pa.field("code", pa.string(), nullable=False),  # machine-readable: "missing_id", "too_deep", ...
        pa.field("reason", pa.string(), nullable=False),  # for a person: what was wrong and what was expected
        pa.field("message_id", pa.string()),
        pa.field("payload", pa.string(), nullable=False),  # the refused event as it came, invalid UTF-8 replaced, cut at 64 KiB
    ]
)
"""One row of the `bad_events` log, which the sink writes to the dataset's `bad_events` table."""

IDENTITY_SCHEMA = pa.schema(
    [
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("message_id", pa.string(), nullable=False),  # of the event that named both ids
        pa.field("kind", pa.string(), nullable=False),  # merged, switched (to another known user) or refused
        pa.field("visitor_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("previous_user_id", pa.string()),  # the user that the visitor was linked to before
        pa.field("reason", pa.string()),  # why the link was refused
        pa.field("known_at", TIMESTAMP, nullable=False),  # when the event was received: nobody knew the link before
    ]
)
"""One row of the `identities` log, which the sink writes to the dataset's `identities` table: which visitor was linked to which user, and
when.
"""

OWN_SOURCE = "sokuji"
"""The source of the platform's own events, such as decisions."""

EVENTS_LOG = "events"
BAD_EVENTS_LOG = "bad_events"
IDENTITIES_LOG = "identities"
DECISIONS_LOG = "decisions"
"""Decisions for visitors and their outcomes, as rows of EVENT_SCHEMA: track events with the source `OWN_SOURCE`."""

STOPPED_WORKER = "stopped_worker"
"""The code of a bad event that killed the worker. The event it names is excluded from all computation, in every replay."""

EXCLUDED_KEY = ("source", "message_id", "received_at")
"""The key of the event that such a bad event names. A message that is sent again much later is another event."""

LINK_KEY = ("source", "message_id", "known_at", "visitor_id", "kind")
"""The key of rows of IDENTITY_SCHEMA.

Visitors in different partitions may have messages with one id in one request. And the kind of an event's row may change after others were
deleted.
"""


def by_dataset(rows: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch, npt.NDArray[np.intp]]]:
    """The rows of each dataset in their order, and their indices among all rows. One pass, however many datasets there are."""
    column = rows.column("dataset")
    if rows.num_rows and pc.all(pc.equal(column, column[0])).as_py():  # usually there is one dataset, and nothing to sort
        yield column[0].as_py(), rows, np.arange(rows.num_rows)
        return
    encoded = column.dictionary_encode()
    names, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(len(names) + 1)).tolist()
    together = rows.take(pa.array(order))
    for name, start, end in zip(names, starts[:-1], starts[1:], strict=True):
        yield name, together.slice(start, end - start), order[start:end]
