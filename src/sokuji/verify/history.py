"""What the lake says happened to a sample of the profiles: their events, whose each one was when it came, and who became whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.analyze.excluded import NOBODY, Excluded
from sokuji.analyze.state.served import sampled
from sokuji.duckdb_text import quote
from sokuji.events import EVENT_SCHEMA, OWN_SOURCE
from sokuji.identity.base import USER, VISITOR, LinkKind
from sokuji.lake.base import Snapshot
from sokuji.lake.delta.physical import rows_of
from sokuji.lake.events import FIXED_SCHEMA, PLACE_COLUMNS, TIME_COLUMN, property_columns
from sokuji.sink.shape import Shaper
from sokuji.sql.scalar.expressions import in_one_piece
from sokuji.types import Type, to_arrow

Row = Mapping[str, Any]
Id = tuple[str, str]
"""A message's source and its id there. One that is sent again much later is another event."""

_ROW = ("visitor_id", "user_id", "source", "message_id", "type", "previous_id", "received_at", *PLACE_COLUMNS)
_PROPERTY = "property {}"


class Past(NamedTuple):
    """Events of the sample's profiles and of those merged into them."""

    events: pa.Table  # the columns of EVENT_SCHEMA and PLACE_COLUMNS, `is_bot`, and those of properties
    ids: list[Id]  # by event
    keys: list[str]  # of the profile that each event was of when it came
    is_sampled: npt.NDArray[np.bool_]  # by event: of a profile in the sample
    merges: list[tuple[int, str, str]]  # (the event that merged, from, into) for those into a profile of the sample

    def properties(self, types: Mapping[str, Type]) -> dict[str, pa.Array]:
        """Properties as the lake has them: in columns, or where it has none of that type, read from the JSON as the sink reads it.

        Never as the worker does: what is to be checked must have no part in it.
        """
        columns = {name: _PROPERTY.format(name) for name in types}
        found = {name: in_one_piece(self.events.column(each)) for name, each in columns.items() if each in self.events.column_names}
        missing = {name: to_arrow(type_) for name, type_ in types.items() if name not in found}
        with closing(Shaper()) as shaper:
            return found | (shaper.reread(self.events, missing) if missing else {})


def read(  # noqa: PLR0917 - all that is known of a dataset
    dataset: str, snapshot: Snapshot, links: pa.Table, sample: float, properties: Mapping[str, Type], excluded: Excluded = NOBODY
) -> Past:
    """Read the events of a sample of this share.

    Args:
        dataset: whose events.
        snapshot: of its events table.
        links: its merge log, as IDENTITY_SCHEMA.
        sample: a share, as of `sampled`.
        properties: those whose columns are wanted, where the table has them in these types.
        excluded: events that nothing is computed of.
    """
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        columns = _columns(snapshot, properties)
        _register(connection, snapshot, list(columns.values()))
        people = connection.sql("SELECT DISTINCT keys.visitor_id AS visitor, keys.user_id AS person FROM sent").to_arrow_table()
        visitors = _sampled_ids(VISITOR, people.column("visitor"), sample)
        persons = _sampled_ids(USER, people.column("person"), sample)
        of_persons = pc.and_(pc.is_in(links.column("user_id"), persons), pc.not_equal(links.column("kind"), LinkKind.REFUSED))
        visitors = pc.unique(pa.chunked_array([visitors, *links.column("visitor_id").filter(of_persons).chunks], pa.string()))
        links = links.filter(pc.is_in(links.column("visitor_id"), visitors))
        connection.register("visitors", pa.table({"id": visitors}))
        connection.register("persons", pa.table({"id": persons}))
        connection.register("links", links.select(["source", "message_id"]))
        fixed = ", ".join(_ITEMS.get(name, name) for name in (*EVENT_SCHEMA.names, *PLACE_COLUMNS, "is_bot", "previous_id"))
        items = ", ".join([fixed, *(f"{quote(column)} AS {quote(_PROPERTY.format(name))}" for name, column in columns.items())])
        events = connection.sql(
            f"""
            SELECT {items} FROM sent
            WHERE keys.visitor_id IN (FROM visitors) OR keys.user_id IN (FROM persons) OR (source, message_id) IN (FROM links)
            """,
            params={"dataset": dataset},
        ).to_arrow_table()
    further = [(name, pa.int64()) for name in PLACE_COLUMNS] + [("is_bot", pa.bool_()), ("previous_id", pa.string())]
    further += [(_PROPERTY.format(name), to_arrow(properties[name])) for name in columns]
    events = events.cast(pa.schema([*EVENT_SCHEMA, *further]))
    return _whose(events.filter(pa.array(~excluded.mask(events))), links, sample)


_ITEMS = {
    "dataset": "$dataset AS dataset",
    "visitor_id": "keys.visitor_id AS visitor_id",
    "user_id": "keys.user_id AS user_id",
    "event_time": f"{TIME_COLUMN} AS event_time",
    # An alias says that the one with the previous id is this user.
    "previous_id": """CASE WHEN type = 'alias' AND json_type(properties, '$.previous_id') = 'VARCHAR'
        THEN nullif(properties ->> '$.previous_id', '') END AS previous_id""",
}


def _columns(snapshot: Snapshot, properties: Mapping[str, Type]) -> dict[str, str]:
    """The columns of properties that the table has in their types, by the properties' names."""
    there = {name.lower(): (name, type_) for name, type_ in property_columns(snapshot.schema).items()}
    found = {name: there[name.lower()] for name in properties if name.lower() in there}
    return {name: column for name, (column, type_) in found.items() if type_ == to_arrow(properties[name])}


def _register(connection: duckdb.DuckDBPyConnection, snapshot: Snapshot, properties: Sequence[str]) -> None:
    """Make what was sent, and not the platform's own events, the view `sent`."""
    schema = pa.schema([*FIXED_SCHEMA, *(snapshot.schema.field(name) for name in properties)])
    names = ", ".join(map(quote, schema.names))
    connection.register("nothing", schema.empty_table())  # gives files from before a column was there that column
    tail = snapshot.tail if snapshot.tail is not None else schema.empty_table()
    connection.register("tail", tail.select(schema.names))
    sources = ["FROM tail"]
    if snapshot.files:
        numbers = [name for name in properties if schema.field(name).type == pa.float64()]
        sources.append(f"FROM (FROM {rows_of(snapshot.files, schema.names, numbers=numbers)} UNION ALL BY NAME FROM nothing)")
    union = " UNION ALL ".join(f"SELECT {names} {source}" for source in sources)
    connection.execute(f"CREATE TEMP VIEW sent AS SELECT * FROM ({union}) WHERE source != '{OWN_SOURCE}'")


def _sampled_ids(prefix: str, ids: pa.ChunkedArray, sample: float) -> pa.Array:
    distinct = pc.unique(ids).drop_null()
    keys = pc.binary_join_element_wise(prefix, distinct, "")
    return distinct.filter(pa.array(sampled(keys, sample)))


def _whose(events: pa.Table, links: pa.Table, sample: float) -> Past:
    rows = events.select(_ROW).to_pylist()
    ids = [(row["source"], row["message_id"]) for row in rows]
    known = _Known(rows, arrived(events).tolist(), links)
    keys = [known.profile(row) for row in range(len(rows))]
    of_sample = sampled(pa.array(keys, pa.string()), sample)
    merges = [(row, VISITOR + visitor, keys[row]) for row, visitor in known.merged() if of_sample[row]]
    sources = {source for _, source, _ in merges}
    kept = np.flatnonzero(of_sample | np.array([key in sources for key in keys], np.bool_))
    new_place = {row: place for place, row in enumerate(kept.tolist())}
    return Past(
        events.take(pa.array(kept)),
        [ids[row] for row in kept],
        [keys[row] for row in kept],
        of_sample[kept],
        [(new_place[row], source, target) for row, source, target in merges],
    )


def arrived(events: pa.Table) -> npt.NDArray[np.int64]:
    """When each event came (us), by a clock that never goes back within a partition of the log, as those of machines do."""
    partitions, offsets = (pc.fill_null(in_one_piece(events.column(name)), -1).to_numpy() for name in PLACE_COLUMNS)
    found: npt.NDArray[np.int64] = events.column("received_at").cast(pa.int64()).to_numpy().copy()
    for partition in np.unique(partitions[offsets >= 0]):
        own = np.flatnonzero((partitions == partition) & (offsets >= 0))
        own = own[np.argsort(offsets[own])]
        found[own] = np.maximum.accumulate(found[own])
    return found


class _Known:
    """Who was known as whom when an event came, as the worker found it."""

    def __init__(self, rows: list[Row], arrived: list[int], links: pa.Table) -> None:
        """Of events that came at `arrived`."""
        self._rows = rows
        self._places = [(at, *(row[name] or 0 for name in PLACE_COLUMNS)) for at, row in zip(arrived, rows, strict=True)]
        row_of = {_named(row, row["received_at"], _visitor(row)): number for number, row in enumerate(rows)}
        self._became: dict[str, list[int]] = {}  # by visitor, the events that said so
        for link in links.select(["source", "message_id", "known_at", "visitor_id", "kind"]).to_pylist():
            row = row_of.get(_named(link, link["known_at"], link["visitor_id"]))  # None: it was deleted, and what it said with it
            if row is not None and link["kind"] != LinkKind.REFUSED:
                self._became.setdefault(link["visitor_id"], []).append(row)
        for became in self._became.values():
            became.sort(key=self._places.__getitem__)

    def merged(self) -> Iterator[tuple[int, str]]:
        """The events that merged a visitor's profile, and the visitor: the first that said who it is."""
        return ((became[0], visitor) for visitor, became in self._became.items())

    def profile(self, row: int) -> str:
        """The key of the profile that an event was of."""
        visitor, user = _visitor(self._rows[row]), self._rows[row]["user_id"]
        if user is not None:
            return f"{USER}{user}"
        told = [each for each in self._became.get(visitor, ()) if self._places[each] <= self._places[row]]
        return f"{USER}{self._rows[told[-1]]['user_id']}" if told else f"{VISITOR}{visitor}"


def _visitor(row: Row) -> str:
    return row["previous_id"] or row["visitor_id"] or ""


def _named(message: Row, received_at: Any, visitor: str) -> tuple[Any, ...]:
    """What tells the event of a link."""
    return message["source"], message["message_id"], received_at, visitor
