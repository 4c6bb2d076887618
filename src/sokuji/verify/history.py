"""The lake's history of a sample of the profiles: their events, whose each event was when it came, and which profiles merged."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.analyze.excluded import NOBODY, Excluded
from sokuji.analyze.state.served import sampled
from sokuji.arrays import in_one_piece
from sokuji.events import EVENT_SCHEMA, OWN_SOURCE, EventType
from sokuji.identity.base import USER, VISITOR, LinkKind
from sokuji.lake.base import Lake, Snapshot
from sokuji.lake.events import FIXED_SCHEMA, PLACE_COLUMNS, TIME_COLUMN, property_columns
from sokuji.lake.stored import finite
from sokuji.sink.shape import Shaper
from sokuji.types import Type, to_arrow

Row = Mapping[str, Any]
Id = tuple[str, str]
"""A message's source and its id there. A message that is sent again much later is another event."""

_ROW = ("visitor_id", "user_id", "source", "message_id", "type", "previous_id", "received_at", *PLACE_COLUMNS)
_PROPERTY = "property {}"


class Past(NamedTuple):
    """Events of the sample's profiles, and of the profiles merged into them."""

    events: pa.Table  # the columns of EVENT_SCHEMA and PLACE_COLUMNS, `is_bot`, and those of properties
    ids: list[Id]  # by event
    keys: list[str]  # the profile that each event belonged to when it came
    is_sampled: npt.NDArray[np.bool_]  # by event: whether its profile is in the sample
    merges: list[tuple[int, str, str]]  # (the event that merged, from, into), for merges into a profile of the sample

    def properties(self, types: Mapping[str, Type]) -> dict[str, pa.Array]:
        """The properties as the lake has them: from columns or, if there is no column of the type, from the JSON, read as the sink does.

        They are not read with the worker's code: a check must not share code with the checked part.
        """
        columns = {name: _PROPERTY.format(name) for name in types}
        found = {name: in_one_piece(self.events.column(each)) for name, each in columns.items() if each in self.events.column_names}
        missing = {name: to_arrow(type_) for name, type_ in types.items() if name not in found}
        with Shaper() as shaper:
            return found | (shaper.reread(self.events, missing) if missing else {})


def read(  # noqa: PLR0917 - all that is known of a dataset
    dataset: str,
    lake: Lake,
    snapshot: Snapshot,
    links: pa.Table,
    sample: float,
    properties: Mapping[str, Type],
    excluded: Excluded = NOBODY,
) -> Past:
    """Read the events of a sample of this share.

    Args:
        dataset: whose events.
        lake: reads the snapshot.
        snapshot: of its events table.
        links: its merge log, as IDENTITY_SCHEMA.
        sample: a share, as of `sampled`.
        properties: those whose columns are wanted, where the table has them in these types.
        excluded: events that nothing is computed of.
    """
    all_visitors, all_persons = _people(lake, snapshot)
    visitors, persons = _sampled_ids(VISITOR, all_visitors, sample), _sampled_ids(USER, all_persons, sample)
    of_persons = pc.and_(pc.is_in(links.column("user_id"), persons), pc.not_equal(links.column("kind"), LinkKind.REFUSED))
    visitors = pc.unique(pa.chunked_array([visitors, *links.column("visitor_id").filter(of_persons).chunks], pa.string()))
    links = links.filter(pc.is_in(links.column("visitor_id"), visitors))
    telling = set(zip(*(links.column(name).to_pylist() for name in ("source", "message_id")), strict=True))
    columns = _columns(snapshot, properties)
    further = [(name, pa.int64()) for name in PLACE_COLUMNS] + [("is_bot", pa.bool_()), ("previous_id", pa.string())]
    further += [(_PROPERTY.format(name), to_arrow(properties[name])) for name in columns]
    schema, parts = pa.schema([*EVENT_SCHEMA, *further]), []
    names = [name for name in FIXED_SCHEMA.names if name in snapshot.schema.names]
    for batch in lake.scan(snapshot, [*names, *columns.values()], _SENT):
        of_sample = pc.or_(*(pc.is_in(_id(batch, name), ids) for name, ids in (("visitor_id", visitors), ("user_id", persons))))
        rows = batch.filter(pc.or_(of_sample, _are_in(batch, telling)))
        parts.append(_as_events(dataset, rows, columns, schema))
    events = pa.Table.from_batches(parts, schema)
    return _whose(events.filter(pa.array(~excluded.mask(events))), links, sample)


_SENT = pc.field("source") != OWN_SOURCE


def _people(lake: Lake, snapshot: Snapshot) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """The ids of all visitors and users, a chunk for each part of the table."""
    visitors, persons = [], []
    for batch in lake.scan(snapshot, ["keys", "source"], _SENT):
        visitors.append(pc.unique(_id(batch, "visitor_id")))
        persons.append(pc.unique(_id(batch, "user_id")))
    return pa.chunked_array(visitors, pa.string()), pa.chunked_array(persons, pa.string())


def _id(rows: pa.RecordBatch, name: str) -> pa.StringArray:
    ids: pa.StringArray = pc.struct_field(rows.column("keys"), name)
    return ids


def _are_in(rows: pa.RecordBatch, messages: Collection[Id]) -> pa.BooleanArray:
    """Whether each row has the source and the id of one of the messages."""
    found = pc.is_in(rows.column("message_id"), pa.array([id_ for _, id_ in messages], pa.string())).to_numpy(zero_copy_only=False).copy()
    for row in np.flatnonzero(found).tolist():
        found[row] = (rows.column("source")[row].as_py(), rows.column("message_id")[row].as_py()) in messages
    return pa.array(found, pa.bool_())


def _as_events(dataset: str, rows: pa.RecordBatch, columns: Mapping[str, str], schema: pa.Schema) -> pa.RecordBatch:
    """Rows of the table in the columns of `Past.events`."""
    said = {name: rows.column(name) for name in rows.schema.names if name in schema.names}
    said |= {name: _id(rows, name) for name in ("visitor_id", "user_id")}
    said |= {"dataset": pa.array([dataset] * rows.num_rows, pa.string()), "event_time": rows.column(TIME_COLUMN)}
    aliases = pc.equal(rows.column("type"), EventType.ALIAS)
    previous = [_previous_id(text) for text in rows.column("properties").filter(aliases).to_pylist()]
    said["previous_id"] = pc.replace_with_mask(pa.nulls(rows.num_rows, pa.string()), aliases, pa.array(previous, pa.string()))
    said |= {_PROPERTY.format(name): finite(rows.column(column)) for name, column in columns.items()}
    nothing = pa.nulls(rows.num_rows)
    return pa.RecordBatch.from_arrays([said.get(field.name, nothing).cast(field.type) for field in schema], schema=schema)


def _previous_id(properties: str | None) -> str | None:
    """The id of the visitor that an alias event says is its user."""
    # Of a name that comes twice the first counts; Python refuses very long integers.
    members = json.loads(properties or "{}", object_pairs_hook=lambda pairs: dict(reversed(pairs)), parse_int=lambda _: None)
    found = members.get("previous_id")
    return found if isinstance(found, str) and found else None


def _columns(snapshot: Snapshot, properties: Mapping[str, Type]) -> dict[str, str]:
    """The property columns of the table that have the right type, by property name."""
    there = {name.lower(): (name, type_) for name, type_ in property_columns(snapshot.schema).items()}
    found = {name: there[name.lower()] for name in properties if name.lower() in there}
    return {name: column for name, (column, type_) in found.items() if type_ == to_arrow(properties[name])}


def _sampled_ids(prefix: str, ids: pa.ChunkedArray, sample: float) -> pa.Array:
    distinct: pa.Array = pc.unique(ids).drop_null()
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
    """When each event came (us), by a clock that never goes back within a partition of the log, unlike machines' clocks."""
    partitions, offsets = (pc.fill_null(in_one_piece(events.column(name)), -1).to_numpy() for name in PLACE_COLUMNS)
    found: npt.NDArray[np.int64] = events.column("received_at").cast(pa.int64()).to_numpy().copy()
    for partition in np.unique(partitions[offsets >= 0]):
        own = np.flatnonzero((partitions == partition) & (offsets >= 0))
        own = own[np.argsort(offsets[own])]
        found[own] = np.maximum.accumulate(found[own])
    return found


class _Known:
    """The links between visitors and users as the worker knew them when an event came."""

    def __init__(self, rows: Sequence[Row], arrived: list[int], links: pa.Table) -> None:
        """Index the links of events that came at `arrived`."""
        self._rows = rows
        self._places = [(at, *(row[name] or 0 for name in PLACE_COLUMNS)) for at, row in zip(arrived, rows, strict=True)]
        row_of = {_named(row, row["received_at"], _visitor(row)): number for number, row in enumerate(rows)}
        self._became: dict[str, list[int]] = {}  # by visitor, the events that made a link
        for link in links.select(["source", "message_id", "known_at", "visitor_id", "kind"]).to_pylist():
            row = row_of.get(_named(link, link["known_at"], link["visitor_id"]))  # None: the event was deleted, and so was its link
            if row is not None and link["kind"] != LinkKind.REFUSED:
                self._became.setdefault(link["visitor_id"], []).append(row)
        for became in self._became.values():
            became.sort(key=self._places.__getitem__)

    def merged(self) -> Iterator[tuple[int, str]]:
        """The events that merged a visitor's profile, and the visitor. The first link of a visitor merges."""
        return ((became[0], visitor) for visitor, became in self._became.items())

    def profile(self, row: int) -> str:
        """The key of the profile that an event belonged to."""
        visitor, user = _visitor(self._rows[row]), self._rows[row]["user_id"]
        if user is not None:
            return f"{USER}{user}"
        told = [each for each in self._became.get(visitor, ()) if self._places[each] <= self._places[row]]
        return f"{USER}{self._rows[told[-1]]['user_id']}" if told else f"{VISITOR}{visitor}"


def _visitor(row: Row) -> str:
    return row["previous_id"] or row["visitor_id"] or ""


def _named(message: Row, received_at: Any, visitor: str) -> tuple[Any, ...]:
    """The key of the event that made a link."""
    return message["source"], message["message_id"], received_at, visitor
