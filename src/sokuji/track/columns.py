"""Convert events to Arrow: the columns of many requests at once, with a screen for events that need a closer check.

This is the collector's inner loop. Every step works on whole columns: a list comprehension over an attribute, a join, one call into
Arrow or numpy. Python code runs for a single event only if the screen finds something odd.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Raw
from numpy.typing import NDArray

from sokuji.events import EVENT_SCHEMA, TIMESTAMP, EventType, TimeRule
from sokuji.json_text import readable
from sokuji.proof import UNPROVEN, VISITOR_PREFIX, is_provable, proves
from sokuji.track.check import ILLEGAL_IDS, Limits, check, normal_timestamp, with_members
from sokuji.track.parse import refuse, text_at
from sokuji.track.partition import partitions_of
from sokuji.track.request import Refusal, Request, WireEvent
from sokuji.track.skew import ClockOffsets

_RULES = pa.array([rule.value for rule in TimeRule])
_SUSPECT_IDS = ILLEGAL_IDS | {""}
_CLIENT, _SKEW, _CLAMPED, _RECEIVED, _TRUSTED = range(len(TimeRule))
# The first and the last moment of GoogleSQL's TIMESTAMP. Arrow also reads the year 0, which neither SQL nor Python has.
_TIME_MIN_US, _TIME_MAX_US = -62_135_596_800_000_000, 253_402_300_799_999_999
_ODD_TIMES_SEARCHED = 16  # checking this many rows one by one is cheaper than searching further
_CLAIMED_HISTORY = Refusal(
    "historical_needs_server_key",
    "the event is marked as historical, for which a write key is not enough: send it with the dataset's server key"
    " (`sokuji keys --secret` shows it), or without the mark",
)
_ONLY_TRACK = {EventType.TRACK.value}
_PAGES = {EventType.PAGE.value, EventType.SCREEN.value}
_BLOCK_BYTES = 1 << 16
_TYPE_BYTES_MAX = max(map(len, EventType))


def to_arrow(requests: Sequence[Request], partitions: int, limits: Limits, clocks: ClockOffsets) -> dict[int, pa.RecordBatch]:
    """The good events of `requests` by partition, each in order of arrival. Bad events are added to their request's `refused`."""
    for request in requests:
        request.stored = len(request.events)
    events = list(chain.from_iterable([request.events for request in requests]))
    if not events:
        return {}
    owners = np.repeat(np.arange(len(requests)), [len(request.events) for request in requests])
    columns = _Columns(events)
    odd = columns.odd_rows(limits)
    claimed = _claimed_history(requests, owners, columns.historical)
    unproven = _unproven(requests, owners, columns)
    if odd or claimed or unproven:
        bad = {row: refusal for row in odd if (refusal := check(events[row], limits))} | dict.fromkeys(claimed, _CLAIMED_HISTORY)
        _refuse(bad, requests, owners)
        for row in set(unproven) - bad.keys():
            events[row].context = with_members(events[row].context, **{UNPROVEN: True})
        events = [event for row, event in enumerate(events) if row not in bad]
        owners = np.delete(owners, list(bad))
        if not events:
            return {}
        columns = _Columns(events)
    batch = columns.batch(_Requests(requests, clocks), owners)
    if partitions == 1:
        return {0: batch}
    return _split(batch, partitions_of([event.anonymous_id or event.user_id or "" for event in events], partitions))


def _claimed_history(requests: Sequence[Request], owners: NDArray[np.intp], historical: NDArray[np.bool_] | None) -> list[int]:
    """Rows marked as history (by their request, or by themselves: `historical`) that were sent without a server key."""
    marked = [request.historical for request in requests]
    if historical is None and not any(marked):
        return []
    claims = np.array([not request.source.is_server for request in requests])[owners]
    rows: list[int] = np.flatnonzero(claims & (np.array(marked)[owners] | (False if historical is None else historical))).tolist()
    return rows


def _unproven(requests: Sequence[Request], owners: NDArray[np.intp], columns: _Columns) -> list[int]:
    """Rows that link a provable visitor id to a user without the proof. Without a proof, anyone could link any visitor."""
    rows, claims = columns.claims()
    unproven = {claim for claim in set(claims) if is_provable(claim[0]) and not proves(claim[1] or "", claim[0])}
    if not unproven:
        return []
    return [row for row, claim in zip(rows, claims, strict=True) if claim in unproven and not requests[owners[row]].source.is_server]


def _split(batch: pa.RecordBatch, numbers: NDArray[np.uint32]) -> dict[int, pa.RecordBatch]:
    """The rows of each partition. `numbers` gives the partition of each row."""
    # Arrow moves the rows and lets other threads run meanwhile. That is cheaper than sorting the events first.
    batch = batch.take(pa.array(np.argsort(numbers, kind="stable")))
    counts = np.bincount(numbers)
    starts = (np.cumsum(counts) - counts).tolist()
    return {number: batch.slice(starts[number], count) for number, count in enumerate(counts.tolist()) if count}


def _refuse(bad: dict[int, Refusal], requests: Sequence[Request], owners: NDArray[np.intp]) -> None:
    """Add refusals to the requests that their rows came in, in order of arrival. `bad` gives the refusal of each bad row."""
    for row, refusal in sorted(bad.items()):
        owner = int(owners[row])
        request = requests[owner]
        position = request.position(row - int(np.searchsorted(owners, owner)))
        request.stored -= 1
        refuse(request, position, refusal, text_at(request, position))


class _Requests:
    """The columns that events take from their request: one value per request, expanded to rows at the end."""

    def __init__(self, requests: Sequence[Request], clocks: ClockOffsets) -> None:
        sources = {source: number for number, source in enumerate({request.source for request in requests})}
        self.source_names = pa.array([source.name for source in sources])
        self.datasets = pa.array([source.dataset for source in sources])
        self.sources = np.array([sources[request.source] for request in requests])
        self.received = np.array([request.received_at for request in requests], np.int64)
        self.historical = np.array([request.historical for request in requests], np.bool_)
        self.sent = _sent_times([request.sent_at for request in requests])
        differences = (self.received - _microseconds(self.sent)).tolist()
        known = np.asarray(self.sent.is_valid()).tolist()
        self.corrections = np.array(
            [
                clocks.correction(_device(request), difference, request.received_at) if sent and request.events else 0
                for request, difference, sent in zip(requests, differences, known, strict=True)
            ],
            np.int64,
        )


def _device(request: Request) -> int:
    """A hash of the device whose clock stamped a request: the visitor if all events are from one visitor, else the sending server.

    A hash has a bounded size. Ids may be as long as events, and many devices are remembered.
    """
    first, last = request.events[0], request.events[-1]
    visitor = first.anonymous_id or first.user_id
    return hash((request.source.name, visitor if visitor and visitor == (last.anonymous_id or last.user_id) else request.sender))


class _Columns:
    """The columns that are read from the events themselves."""

    def __init__(self, events: list[WireEvent]) -> None:
        self._events = events
        self._types = [event.type for event in events]
        self._only_track = set(self._types) == _ONLY_TRACK
        if not self._only_track:
            for event in events:
                if event.type in _PAGES:
                    event.event = event.type
        self._visitor_list = [event.anonymous_id for event in events]
        self._user_list = [event.user_id for event in events]
        self._message_list = [event.message_id for event in events]
        flags = [event.historical for event in events]
        self.historical = np.array(flags) if any(flags) else None
        self._type = _strings(self._types)
        self._message_id = _strings(self._message_list)
        self._event_name = _strings([event.event for event in events])
        self._visitor_id = _strings(self._visitor_list)
        self._user_id = _strings(self._user_list)
        self._json = _Json([event.context for event in events], [event.properties for event in events])
        self._time_list = [event.timestamp or event.original_timestamp for event in events]
        self._time = _times(self._time_list)

    def odd_rows(self, limits: Limits) -> list[int]:
        """Rows to check one by one, ascending. Every other row is good, and already normalized."""
        odd: set[int] = set()
        if not self._only_track:
            odd.update(row for row, event in enumerate(self._events) if not _is_plain(event))
        if self._time is None:
            odd.update(_odd_times(self._time_list))
        for texts_, ids in (
            (self._visitor_list, self._visitor_id),
            (self._user_list, self._user_id),
            (self._message_list, self._message_id),
        ):
            if not _SUSPECT_IDS.isdisjoint(texts_):
                odd.update(row for row, id_ in enumerate(texts_) if id_ in _SUSPECT_IDS)
            spaces = pc.utf8_is_space(ids)
            if spaces.true_count:
                odd.update(pc.indices_nonzero(spaces).to_pylist())
        sizes = self._json.lengths()
        for required in (self._message_id, self._event_name):
            lengths = _lengths(required)
            odd.update(np.flatnonzero(lengths == 0).tolist())
            sizes += lengths
        visitor, user = _lengths(self._visitor_id), _lengths(self._user_id)
        sizes += visitor + user + _TYPE_BYTES_MAX
        odd.update(np.flatnonzero((visitor + user == 0) | (sizes > limits.event_bytes)).tolist())
        odd.update(self._json.odd_rows(limits.depth))
        return sorted(odd)

    def claims(self) -> tuple[list[int], list[tuple[str, str | None]]]:
        """Rows that may link a provable visitor to a user, and the visitor id and proof of each."""
        events = self._events
        rows: list[int] = []
        if self._user_id.null_count < len(events):
            named = pc.and_(pc.starts_with(self._visitor_id, VISITOR_PREFIX), pc.is_valid(self._user_id))
            rows = pc.indices_nonzero(named).to_pylist()
        claims = [(events[row].anonymous_id or "", events[row].proof) for row in rows]
        if not self._only_track:
            for row, event in enumerate(events):
                if event.type == EventType.ALIAS:
                    rows.append(row)
                    claims.append((event.previous_id or "", event.proof))
        return rows, claims

    def batch(self, requests: _Requests, owners: NDArray[np.intp]) -> pa.RecordBatch:
        """The rows as the log stores them. Row i came in request `owners[i]`."""
        received = requests.received[owners]
        historical = requests.historical[owners]
        if self.historical is not None:
            historical |= self.historical
        times = cast("pa.Array", self._time)  # not None: the columns are made again once odd times are refused or normalized
        event_time, rules = _event_times(times, received, requests.corrections[owners], historical)
        sources = pa.array(requests.sources[owners])
        context, properties = self._json.arrays()
        columns = {
            "dataset": requests.datasets.take(sources),
            "source": requests.source_names.take(sources),
            "message_id": self._message_id,
            "type": self._type,
            "event_name": self._event_name,
            "visitor_id": self._visitor_id,
            "user_id": self._user_id,
            "event_time": _timestamps(event_time),
            "original_time": times,
            "sent_at": requests.sent.take(pa.array(owners)),
            "received_at": _timestamps(received),
            "time_rule": _RULES.take(pa.array(rules)),
            "historical": pa.array(historical),
            "context": context,
            "properties": properties,
        }
        return pa.RecordBatch.from_arrays([columns[name] for name in EVENT_SCHEMA.names], schema=EVENT_SCHEMA)


def _is_plain(event: WireEvent) -> bool:
    """Whether no field must be moved into the event's properties."""
    return event.type == EventType.TRACK or (event.type in _PAGES and event.name is None and event.category is None)


class _Json:
    """Columns of JSON objects in one buffer: all texts of the first column, then all of the second. Texts are joined, not copied singly."""

    def __init__(self, *columns: list[Raw]) -> None:
        raws = list(chain.from_iterable(columns))
        self._columns = len(columns)
        self._data = b"".join(raws)
        self._lengths = np.fromiter(map(len, raws), np.int32, len(raws))
        self._offsets = np.zeros(len(raws) + 1, np.int32)
        np.cumsum(self._lengths, out=self._offsets[1:])

    def lengths(self) -> NDArray[np.int32]:
        """Bytes of each row, summed over all columns."""
        total: NDArray[np.int32] = self._lengths.reshape(self._columns, -1).sum(axis=0, dtype=np.int32)
        return total

    def odd_rows(self, depth: int) -> list[int]:
        """Rows that have a text that is not an object, or one that opens more objects and arrays than `depth` and so may be too deep."""
        data = np.frombuffer(self._data, np.uint8)
        present = np.flatnonzero(self._lengths)
        odd = [present[data[self._offsets[:-1][present]] != ord("{")]]
        # "[" and "{" differ in one bit, so one pass finds both. Brackets inside strings only make the estimate larger.
        # The pass goes block by block: searching data in the processor's cache is four times as fast.
        blocks = range(0, len(data), _BLOCK_BYTES)
        found = [np.flatnonzero((data[start : start + _BLOCK_BYTES] | 0x20) == ord("{")) + start for start in blocks]
        opens = np.concatenate(found) if found else np.zeros(0, np.intp)
        if len(opens) > depth:
            counts = np.bincount(np.searchsorted(self._offsets, opens, side="right") - 1, minlength=len(self._lengths))
            odd.append(np.flatnonzero(counts > depth))
        rows: list[int] = (np.concatenate(odd) % (len(self._lengths) // self._columns)).tolist()
        return rows

    def arrays(self) -> list[pa.Array]:
        """The columns as Arrow text, null where a text is empty. In a text, numbers beyond FLOAT64 become null, like NaN."""
        absent = self._lengths == 0
        validity = pa.py_buffer(np.packbits(~absent, bitorder="little")) if absent.any() else None
        stored = pa.StringArray.from_buffers(len(self._lengths), pa.py_buffer(self._offsets), pa.py_buffer(self._data), validity)
        texts = readable(stored)
        rows = len(self._lengths) // self._columns
        return [texts.slice(start, rows) for start in range(0, len(texts), rows)]


def _event_times(
    original: pa.Array, received: NDArray[np.int64], corrections: NDArray[np.int64], historical: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """The event time of every row, and the rule that gave it (see `TimeRule`)."""
    stamped = np.asarray(original.is_valid())
    corrected = _microseconds(original) + np.where(historical, 0, corrections)
    future = stamped & (corrected > received)  # also for history: windows continue from the latest event they have seen
    times = np.where(stamped & ~future, np.maximum(corrected, _TIME_MIN_US), received)
    rules = np.where(corrections != 0, _SKEW, _CLIENT)
    rules[historical] = _TRUSTED
    rules[future] = _CLAMPED
    rules[~stamped] = _RECEIVED
    return times, rules.astype(np.int8)


def _sent_times(texts: list[str | None]) -> pa.Array:
    """The times when requests were sent. A `sentAt` that is not a time becomes null: it only helps to correct the clock."""
    times = _times(texts)
    return cast("pa.Array", _times([normal_timestamp(text) if text else None for text in texts])) if times is None else times


def _times(texts: list[str | None]) -> pa.Array | None:
    """The texts as Arrow times; None if any text has another format or range than the one that all readers parse in the same way."""
    try:
        times = _strings(texts).cast(TIMESTAMP)
    except pa.ArrowInvalid:
        return None
    bounds = pc.min_max(times.view(pa.int64()))
    first, last = bounds["min"].as_py(), bounds["max"].as_py()
    return times if first is None or (first >= _TIME_MIN_US and last <= _TIME_MAX_US) else None


def _odd_times(texts: list[str | None], first: int = 0) -> Iterator[int]:
    """Rows, counted from `first`, that include all those for which `_times` returns None.

    Only a few other rows are among them, so that one client's bad times do not slow down all others.
    """
    if _times(texts) is not None:
        return
    if len(texts) <= _ODD_TIMES_SEARCHED:
        yield from range(first, first + len(texts))
        return
    middle = len(texts) // 2
    yield from _odd_times(texts[:middle], first)
    yield from _odd_times(texts[middle:], first + middle)


def _strings(values: list[str | None]) -> pa.Array:
    return pa.array(values, pa.string())


def _lengths(strings: pa.Array) -> NDArray[np.int32]:
    """Bytes of each text, 0 for null."""
    offsets = np.frombuffer(strings.buffers()[1], np.int32, len(strings) + 1)
    return offsets[1:] - offsets[:-1]


def _microseconds(times: pa.Array) -> NDArray[np.int64]:
    """The times as microseconds, 0 for null."""
    numbers = times.view(pa.int64())
    return np.asarray(numbers.fill_null(0) if numbers.null_count else numbers)


def _timestamps(microseconds: NDArray[np.int64]) -> pa.Array:
    return pa.array(microseconds).view(TIMESTAMP)
