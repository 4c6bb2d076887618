"""What the lake says happened to a sample of the profiles: their events, whose each one was when it came, and who became whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import duckdb
import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.analyze.identity import USER, VISITOR, LinkKind
from sokuji.analyze.served import sampled
from sokuji.events import EVENT_SCHEMA, IDENTITY_SCHEMA, OWN_SOURCE, EventType
from sokuji.lake.base import Snapshot
from sokuji.lake.events import FIXED_SCHEMA, PLACE_COLUMNS, TIME_COLUMN

Row = Mapping[str, Any]
Id = tuple[str, str]
"""A message's source and its id there."""

_ARRIVAL = ("received_at", *PLACE_COLUMNS)
_ROW = ("visitor_id", "user_id", "source", "message_id", "type", "properties", "received_at", *PLACE_COLUMNS)


class Past(NamedTuple):
    """Events of the sample's profiles and of those merged into them."""

    events: pa.Table  # the columns of EVENT_SCHEMA and PLACE_COLUMNS
    ids: list[Id]  # by event
    keys: list[str]  # of the profile that each event was of when it came
    is_sampled: npt.NDArray[np.bool_]  # by event: of a profile in the sample
    merges: list[tuple[int, str, str]]  # (the event that merged, from, into) for those into a profile of the sample


def read(dataset: str, snapshot: Snapshot, links: pa.Table, sample: float) -> Past:
    """Read the events of a sample of this share.

    Args:
        dataset: whose events.
        snapshot: of its events table.
        links: its merge log, as IDENTITY_SCHEMA.
        sample: a share, as of `sampled`.
    """
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        _register(connection, snapshot)
        people = connection.sql("SELECT DISTINCT keys.visitor_id AS visitor, keys.user_id AS person FROM sent").to_arrow_table()
        visitors = _sampled_ids(VISITOR, people.column("visitor"), sample)
        persons = _sampled_ids(USER, people.column("person"), sample)
        of_persons = pc.and_(pc.is_in(links.column("user_id"), persons), pc.not_equal(links.column("kind"), LinkKind.REFUSED))
        visitors = pc.unique(pa.chunked_array([visitors, *links.column("visitor_id").filter(of_persons).chunks], pa.string()))
        links = links.filter(pc.is_in(links.column("visitor_id"), visitors))
        connection.register("visitors", pa.table({"id": visitors}))
        connection.register("persons", pa.table({"id": persons}))
        connection.register("links", links.select(["source", "message_id"]))
        items = ", ".join(_ITEMS.get(name, name) for name in (*EVENT_SCHEMA.names, *PLACE_COLUMNS))
        events = connection.sql(
            f"""
            SELECT {items} FROM sent
            WHERE keys.visitor_id IN (FROM visitors) OR keys.user_id IN (FROM persons) OR (source, message_id) IN (FROM links)
            """,
            params={"dataset": dataset},
        ).to_arrow_table()
    places = pa.schema([(name, pa.int64()) for name in PLACE_COLUMNS])
    return _whose(events.cast(pa.schema([*EVENT_SCHEMA, *places])), links, sample)


_ITEMS = {
    "dataset": "$dataset AS dataset",
    "visitor_id": "keys.visitor_id AS visitor_id",
    "user_id": "keys.user_id AS user_id",
    "event_time": f"{TIME_COLUMN} AS event_time",
}


def _register(connection: duckdb.DuckDBPyConnection, snapshot: Snapshot) -> None:
    """Make what was sent, and not the platform's own events, the view `sent`."""
    names = ", ".join(FIXED_SCHEMA.names)
    connection.register("nothing", FIXED_SCHEMA.empty_table())  # gives files from before a column was there that column
    tail = snapshot.tail if snapshot.tail is not None else FIXED_SCHEMA.empty_table()
    connection.register("tail", tail.select(FIXED_SCHEMA.names))
    sources = ["FROM tail"]
    if snapshot.files:
        files = ", ".join("'" + file.replace("'", "''") + "'" for file in snapshot.files)
        sources.append(f"FROM (FROM read_parquet([{files}], union_by_name = true) UNION ALL BY NAME FROM nothing)")
    union = " UNION ALL ".join(f"SELECT {names} {source}" for source in sources)
    connection.execute(f"CREATE TEMP VIEW sent AS SELECT * FROM ({union}) WHERE source != '{OWN_SOURCE}'")


def _sampled_ids(prefix: str, ids: pa.ChunkedArray, sample: float) -> pa.Array:
    distinct = pc.unique(ids).drop_null()
    keys = pc.binary_join_element_wise(prefix, distinct, "")
    return distinct.filter(pa.array(sampled(keys, sample)))


def _whose(events: pa.Table, links: pa.Table, sample: float) -> Past:
    rows = events.select(_ROW).to_pylist()
    ids = [(row["source"], row["message_id"]) for row in rows]
    row_of = {each: number for number, each in enumerate(ids)}
    known = _Known(rows, row_of, links)
    keys = [known.profile(each, row) for each, row in zip(ids, rows, strict=True)]
    of_sample = sampled(pa.array(keys, pa.string()), sample)
    merges = [
        (row_of[each], VISITOR + link["visitor_id"], keys[row_of[each]])
        for each, link in known.links.items()
        if link["kind"] == LinkKind.MERGED and each in row_of and of_sample[row_of[each]]
    ]
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


class _Known:
    """Who was known as whom when an event came, as the worker found it."""

    def __init__(self, rows: list[Row], row_of: Mapping[Id, int], links: pa.Table) -> None:
        names = [name for name in IDENTITY_SCHEMA.names if name != "dataset"]
        self.links: dict[Id, Row] = {(link["source"], link["message_id"]): link for link in links.select(names).to_pylist()}
        self._became: dict[str, list[tuple[Row, str]]] = {}  # by visitor: the event that said so, and the user
        for each, link in self.links.items():
            if link["kind"] != LinkKind.REFUSED and each in row_of:
                self._became.setdefault(link["visitor_id"], []).append((rows[row_of[each]], link["user_id"]))
        for became in self._became.values():
            became.sort(key=lambda each: _place(each[0], _ARRIVAL))

    def profile(self, each: Id, row: Row) -> str:
        """The key of the profile that an event was of."""
        visitor, user = _visitor(row), row["user_id"]
        link = self.links.get(each)
        if user is not None and (link is None or link["kind"] != LinkKind.REFUSED):
            return f"{USER}{user}"
        owners = [user for event, user in self._became.get(visitor, ()) if _is_before(event, row)]
        return f"{USER}{owners[-1]}" if owners else f"{VISITOR}{visitor}"


def _visitor(row: Row) -> str:
    """Whom an event is of: an alias says that the one with the previous id is this user."""
    visitor = row["visitor_id"] or ""
    if row["type"] != EventType.ALIAS:
        return visitor
    previous = msgspec.json.decode(row["properties"] or "{}").get("previous_id")
    return previous if isinstance(previous, str) and previous else visitor


def _is_before(event: Row, other: Row) -> bool:
    """Whether an event, or itself, came before another one. Those of one visitor are in one partition, but an alias may be in another."""
    is_same = event["log_partition"] == other["log_partition"] is not None
    names = PLACE_COLUMNS if is_same else _ARRIVAL
    return _place(event, names) <= _place(other, names)


def _place(event: Row, names: Sequence[str]) -> list[Any]:
    return [event[name] or 0 for name in names]
