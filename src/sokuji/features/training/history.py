"""Read a dataset's events from the lake, evaluated on all cores, in the form that the kernel takes."""

from __future__ import annotations

import os
import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.arrays import in_one_piece
from sokuji.bots import is_bot
from sokuji.events import EXCLUDED_KEY, STOPPED_WORKER
from sokuji.features.kernel.columns import EventColumns
from sokuji.features.kernel.kernel import Kernel
from sokuji.features.kernel.program import Ints
from sokuji.features.kernel.strings import Vocabulary
from sokuji.features.spec import ViewSpec
from sokuji.features.training.merge_log import MergeLog
from sokuji.features.training.point_in_time import Places, TimedEvents
from sokuji.identity.base import SENT_SQL, VISITOR_SQL
from sokuji.lake.events import BAD_EVENTS, FIXED_SCHEMA, IDENTITIES, TIME_COLUMN
from sokuji.sql.result import Result
from sokuji.sql.scalar.expressions import Evaluated, Expressions, batch_of
from sokuji.types import BOOL, FLOAT64, STRING, Type

Sql = Callable[[str], Result]
"""Runs a query, as `Platform.sql` does."""

_CHUNK_ROWS = 1 << 19  # large enough for work done once per piece, such as hashing the profiles
_AHEAD = 2  # pieces per thread that wait or are processed
_PLACE = "place"
"""An event's place in the log: its partition, then its offset. The worker sorts events of the same microsecond in this way."""
_PLACE_SQL = "{0}log_partition * (1 << 48) + {0}log_offset"
_OWN = ("visitor_id", "user_id", "event_time", "received_at", _PLACE)
_ITEMS = {"visitor_id": "keys.visitor_id", "user_id": "keys.user_id", "event_time": TIME_COLUMN, _PLACE: _PLACE_SQL.format("")}
_MADE_OF = {TIME_COLUMN: ("event_time",), "keys": ("visitor_id", "user_id"), "is_bot": ("context",)}
"""The columns that `Expressions` computes a column from, if the batch does not have it."""
_PROPERTY = "property {}"

_USUAL = "NOT is_bot AND type <> 'alias'"
_OTHERS = "IFNULL(NOT is_bot, TRUE) AND (is_bot IS NULL OR type = 'alias')"
_RECEIVED = "received_at"
_HAPPENED = f"IF(IFNULL({{0}}historical, FALSE), TIMESTAMP_ADD({{0}}{TIME_COLUMN}, INTERVAL 1 MICROSECOND), {{0}}received_at)"
"""The time from which an event is known, if history counts as received when it happened."""
_MERGE_LOG = f"""
SELECT i.kind, i.visitor_id, i.user_id, UNIX_MICROS({{known_at}}) AS known_at, {_PLACE_SQL.format("e.")} AS {_PLACE}
FROM `{{dataset}}`.identities AS i
JOIN `{{dataset}}`.events AS e ON e.message_id = i.message_id AND e.source = i.source AND e.received_at = i.known_at
ORDER BY known_at, {_PLACE}
"""
"""Events deleted from the events table are not known any more, as in a rebuilt state."""
_EXCLUDED = f"SELECT {', '.join(EXCLUDED_KEY)} FROM `{{dataset}}`.bad_events WHERE code = '{STOPPED_WORKER}'"
NO_MERGES = pa.schema(
    [("kind", pa.string()), ("visitor_id", pa.string()), ("user_id", pa.string()), ("known_at", pa.int64()), (_PLACE, pa.int64())]
).empty_table()


class Taken(NamedTuple):
    """The events, the row of each event's profile, how many events an expression failed on, and the reason of the first failure."""

    events: TimedEvents
    rows: Places
    failed: int
    reason: str


_RELEASED = pa.record_batch({})
"""In the place of a batch that is no longer needed."""


class _Part(NamedTuple):
    """The events of a piece that belong to wanted profiles."""

    profiles: Places
    rows: Places
    times: Ints
    points: Ints
    arrived: Ints
    said: pa.RecordBatch  # one column per expression; texts that get ids are dictionaries
    reasons: list[str]  # one reason for each event that an expression failed on


class History:
    """The events of one dataset, as evaluated by the expressions of some views."""

    def __init__(
        self,
        sql: Sql,
        dataset: str,
        views: Sequence[ViewSpec],
        known: Mapping[str, Type],
        said: Mapping[str, Type],
        *,
        as_it_happened: bool = False,
    ) -> None:
        """Compile the expressions. `known` and `said` are types of properties: recorded in the events table, and declared in `features.py`.

        With `as_it_happened`, `historical` events count as received when they happened.

        Raises:
            SqlError: there is no such dataset, or an expression is not valid; the message shows the expression and the position.
        """
        self._sql, self._dataset, self._views, self._said, self._as_it_happened = sql, dataset, views, said, as_it_happened
        columns = {field.name: field.type for field in sql(f"SELECT * FROM `{dataset}`.events LIMIT 0").schema}
        self._columns = {
            name: type_ for name, type_ in columns.items() if name not in FIXED_SCHEMA.names and type_ in {STRING, FLOAT64, BOOL}
        }
        self._known = {name: type_ for name, type_ in known.items() if name not in {each.lower() for each in self._columns}} | self._columns
        self._free: queue.SimpleQueue[Expressions] = queue.SimpleQueue()
        first = self._compile()
        self._free.put(first)
        self.types: dict[str, Type] = first.types
        """Types of the expressions, by text."""
        self._properties = first.properties
        self._there = [name for name, type_ in first.properties.items() if self._columns.get(name) == type_]
        names = sorted(first.names - first.properties.keys())
        if len(self._there) < len(first.properties):
            names.append("properties")  # the others are read from this column, as on the stream
        self._read_by_expressions = tuple(dict.fromkeys(part for name in names for part in _MADE_OF.get(name, (name,))))
        self._fixed = tuple(dict.fromkeys([*_OWN, *self._read_by_expressions]))

    def merge_log(self) -> pa.Table:
        """The table that `MergeLog` takes."""
        if not self._has(IDENTITIES):
            return NO_MERGES  # nobody was identified yet, or no worker has run
        known_at = _HAPPENED.format("e.") if self._as_it_happened else "i.known_at"
        return self._sql(_MERGE_LOG.format(dataset=self._dataset, known_at=known_at)).arrow()

    def _excluded(self) -> str:
        """A condition that excludes the events that the worker excluded because they had killed it."""
        if not self._has(BAD_EVENTS) or not self._sql(_EXCLUDED.format(dataset=self._dataset)).rows():
            return ""
        same = " AND ".join(f"b.{name} = e.{name}" for name in EXCLUDED_KEY)
        return f" AND NOT EXISTS (SELECT 1 FROM ({_EXCLUDED.format(dataset=self._dataset)}) AS b WHERE {same})"

    def _has(self, table: str) -> bool:
        return bool(self._sql(f"SELECT 1 FROM `{self._dataset}`.INFORMATION_SCHEMA.TABLES WHERE table_name = '{table}'").rows())

    def imported_later(self, first: int, last: int) -> int:
        """How many historical events are older than a label at `last` (us) but were received after a label at `first` (us)."""
        condition = f"historical AND {TIME_COLUMN} < TIMESTAMP_MICROS({last}) AND received_at > TIMESTAMP_MICROS({first})"
        [(count,)] = self._sql(f"SELECT COUNT(*) FROM `{self._dataset}`.events WHERE {condition}").rows()
        return int(count)

    def events(self, kernel: Kernel, vocabulary: Vocabulary, merges: MergeLog, until: int, *, threads: int | None = None) -> Taken:
        """The events before `until` (us), received by then, of the wanted profiles. `vocabulary` is the kernel's."""
        named = [column.sql for column in kernel.layout.columns if not column.hashed and self.types[column.sql] == STRING]
        texts = list(dict.fromkeys(named))
        parts: list[tuple[_Part, Future[EventColumns]]] = []
        workers = threads or os.cpu_count() or 1
        with ThreadPoolExecutor(workers) as pool:
            for part in _ahead(pool, lambda rows: self._read(rows, merges, kernel.view, texts), self._pieces(until), workers * _AHEAD):
                for text in texts:  # in the order of the pieces, so that strings get the same ids each time
                    vocabulary.encode(cast("pa.DictionaryArray", part.said.column(text)).dictionary)
                parts.append((part._replace(said=_RELEASED), pool.submit(kernel.columns, part.said)))
            reasons = [reason for part, _ in parts for reason in part.reasons]
            return Taken(*_joined(kernel, parts), len(reasons), next(iter(reasons), ""))

    def close(self) -> None:
        """Release the expressions."""
        while not self._free.empty():
            self._free.get().close()

    def _compile(self) -> Expressions:
        texts = dict.fromkeys(text for view in self._views for text in view.expressions)
        numbers = frozenset().union(*(view.numbers for view in self._views))
        return Expressions(tuple(texts), properties=self._known, said=self._said, numbers=numbers)

    def _pieces(self, until: int) -> Iterator[pa.Table]:
        """The events with the columns `_fixed` and `_there`."""
        received = _HAPPENED.format("") if self._as_it_happened else _RECEIVED
        seen = f"{SENT_SQL} AND {TIME_COLUMN} < TIMESTAMP_MICROS({until}) AND {received} <= TIMESTAMP_MICROS({until})"
        seen += self._excluded()
        own = {**_ITEMS, "received_at": received}
        others = tuple(dict.fromkeys([*self._fixed, "context"]))
        for where, fixed, visitor in ((_USUAL, self._fixed, "keys.visitor_id"), (_OTHERS, others, VISITOR_SQL)):
            items = [visitor if name == "visitor_id" else own.get(name, name) for name in fixed]
            items += [f"`{name}`" for name in self._there]
            names = [*fixed, *map(_PROPERTY.format, self._there)]
            result = self._sql(f"SELECT {', '.join(items)} FROM `{self._dataset}`.events AS e WHERE {seen} AND {where}")
            for batches in _gathered(result.batches()):
                piece = pa.Table.from_batches(batches).rename_columns(names)
                yield piece if where == _USUAL else piece.filter(pc.invert(is_bot(piece.column("context"))))

    def _read(self, rows: pa.Table, merges: MergeLog, view: ViewSpec, texts: Sequence[str]) -> _Part:
        times, received = us(rows.column("event_time")), us(rows.column("received_at"))
        known = rows.column(_PLACE)
        places = pc.fill_null(known, np.iinfo(np.int64).max).to_numpy()
        # Events from before places were stored are sorted by time; they are older than those with a place.
        arrived = np.where(known.is_null().to_numpy(), times, places) if known.null_count else places
        visible = np.maximum(times + 1, received)
        whose = merges.whose_events(rows.column("visitor_id"), rows.column("user_id"), received, places, visible)
        wanted = np.flatnonzero(whose.profiles >= 0)
        evaluated = self._evaluate(rows if len(wanted) == len(times) else rows.take(pa.array(wanted)))
        values = evaluated.values
        if evaluated.failed:
            good = np.setdiff1d(np.arange(len(wanted)), list(evaluated.failed))
            wanted, values = wanted[good], values.take(pa.array(good))
        columns = {text: values.column(text) for text in view.expressions}
        encoded = {text: column.dictionary_encode() if text in texts else column for text, column in columns.items()}
        return _Part(
            whose.profiles[wanted],
            whose.rows[wanted],
            times[wanted],
            whose.points[wanted],
            arrived[wanted],
            batch_of(encoded, len(wanted)),
            list(evaluated.failed.values()),
        )

    def _evaluate(self, rows: pa.Table) -> Evaluated:
        expressions = self._compile() if self._free.empty() else self._free.get()
        try:
            properties = {name: _whole(rows.column(_PROPERTY.format(name))) for name in self._there}
            fixed = {name: _whole(rows.column(name)) for name in self._read_by_expressions}
            # A batch without columns would have no rows.
            batch = pa.RecordBatch.from_pydict(fixed or {"": pa.nulls(rows.num_rows)})
            return expressions.evaluate(batch, properties)
        finally:
            self._free.put(expressions)


def us(times: pa.ChunkedArray | pa.Array) -> Ints:
    """Timestamps as microseconds."""
    microseconds: Ints = times.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
    return microseconds


def _gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    rest, rows = [], 0
    for batch in batches:
        rest.append(batch)
        rows += batch.num_rows
        if rows >= _CHUNK_ROWS:
            yield rest
            rest, rows = [], 0
    if rest:
        yield rest


def _ahead(pool: ThreadPoolExecutor, work: Callable[[pa.Table], _Part], pieces: Iterable[pa.Table], waiting_max: int) -> Iterator[_Part]:
    """The results of `work` for all pieces, in their order."""
    waiting: deque[Future[_Part]] = deque()
    for piece in pieces:
        waiting.append(pool.submit(work, piece))
        if len(waiting) == waiting_max:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _joined(kernel: Kernel, parts: list[tuple[_Part, Future[EventColumns]]]) -> tuple[TimedEvents, Places]:
    """Join all parts. Each part is released once it is copied: all of them twice might not fit into memory."""
    filters, values = len(kernel.layout.filters), len(kernel.layout.columns)
    size = sum(len(part.profiles) for part, _ in parts)
    columns = EventColumns(np.empty((filters, size), np.uint8), np.empty((values, size)))
    events = TimedEvents(
        np.empty(size, np.int32), np.empty(size, np.int64), np.empty(size, np.int64), columns, arrived := np.empty(size, np.int64)
    )
    rows, start = np.empty(size, np.int32), 0
    parts.reverse()
    while parts:
        part, evaluated = parts.pop()
        span = slice(start, start + len(part.profiles))
        events.profiles[span], events.times[span], events.visible[span] = part.profiles, part.times, part.points
        arrived[span], rows[span] = part.arrived, part.rows
        columns.filters[:, span], columns.values[:, span] = evaluated.result()
        start = span.stop
    return events, rows


def _whole(column: pa.ChunkedArray) -> pa.Array:
    array = in_one_piece(column)
    return array.storage if isinstance(array, pa.ExtensionArray) else array
