"""Features at a label's time when visitors become known: equal to the stream's features, with the identities that the stream knew."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sokuji.features.kernel.kernel import Segment
from sokuji.features.spec import Entity
from sokuji.features.training.history import NO_MERGES
from sokuji.features.training.merge_log import MergeLog
from sokuji.features.training.point_in_time import Labels, TimedEvents, numbers_at
from sokuji.identity.base import USER, Link
from sokuji.identity.resolve import Identity
from tests.features.everything import BIG, BUY, START, columns, everything, feed, kernel, rows_of, said
from tests.features.kernel.test_kernel import assert_same
from tests.features.oracle import US, Event, Oracle
from tests.searching import examples

KERNEL = kernel(everything(("90s", "1h", "8d", "all", "session")))
_SETTINGS = settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
VISITORS, USERS = ("a", "b", "c", "x"), ("x", "y")  # one id is a visitor's and a user's
WHO = [*((visitor, None) for visitor in VISITORS * 3), *((visitor, user) for visitor in VISITORS for user in USERS), (None, "x")]


class Happened(NamedTuple):
    """An event, with who did it and when it was received; its place in the log is its place in the list."""

    visitor: str | None
    user: str | None
    received: int
    event: Event


@st.composite
def happenings(draw: st.DrawFn) -> list[Happened]:
    """Events of a few visitors who become known, in the order of arrival; several may be received at once."""
    clock, found = START, []
    for _ in range(draw(st.integers(1, 14))):
        clock += draw(st.sampled_from([0, 0, 1, 60, 1000, 1900, 90_000])) * US
        visitor, user = draw(st.sampled_from(WHO))
        time = clock - draw(st.sampled_from([1, 1, 1, 30 * US, 3000 * US]))
        found.append(Happened(visitor, user, clock, Event(time, draw(said()))))
    return found


class Stream:
    """The stream, an event at a time: the worker's identities and the kernel's rows, and beside them the events of each profile."""

    def __init__(self, folder: Path, happened: Sequence[Happened], entity: Entity) -> None:
        self.identity, self.links = Identity(folder, 0), list[tuple[int, Link]]()
        self.rows: dict[str, Segment] = {}
        self.events: dict[str, list[Event]] = {}
        for place, each in enumerate(happened):
            resolution = self.identity.resolve(pa.array([each.visitor], pa.string()), pa.array([each.user], pa.string()))
            self.links += [(place, link) for link in resolution.links]
            for source, target in (pair for pairs in resolution.merges.values() for pair in pairs):
                self._merge(resolution.keys[source], resolution.keys[target])
            key = resolution.keys[int(resolution.profiles[0])]
            if entity is Entity.VISITOR or key.startswith(USER):
                feed(KERNEL, self.row(key), [each.event])
                self.events.setdefault(key, []).append(each.event)
        self.identity.close()

    def row(self, key: str) -> Segment:
        """Of a profile."""
        return self.rows.setdefault(key, rows_of(KERNEL, 1))

    def _merge(self, source: str, target: str) -> None:
        KERNEL.merge(self.row(target), self.row(source))
        self.rows[source] = rows_of(KERNEL, 1)
        self.events[target] = [*self.events.get(target, []), *self.events.pop(source, [])]

    def log(self, happened: Sequence[Happened]) -> pa.Table:
        """The merge log as training reads it."""
        rows = [(link.kind, link.visitor_id, link.user_id, happened[place].received, place) for place, link in self.links]
        return pa.Table.from_pylist([dict(zip(NO_MERGES.column_names, row, strict=True)) for row in rows], schema=NO_MERGES.schema)


def features(happened: Sequence[Happened], log: pa.Table, asked: Sequence[tuple[str, int]], entity: Entity) -> list[dict[str, Any]]:
    """Of each label, by the sweep."""
    ids, times = pa.array([name for name, _ in asked]), np.array([time for _, time in asked], np.int64)
    merges = MergeLog(log, pc.unique(ids), entity)
    received = np.array([each.received for each in happened], np.int64)
    moments = np.array([each.event.time for each in happened], np.int64)
    places = np.arange(len(happened))
    visitors, users = (pa.array([each[column] for each in happened], pa.string()) for column in (0, 1))
    whose = merges.whose_events(visitors, users, received, places, np.maximum(moments + 1, received))
    own = np.flatnonzero(whose.profiles >= 0)
    said_ = columns(KERNEL, [each.event for each in happened]).take(own)
    taken = TimedEvents(whose.profiles[own], moments[own], whose.points[own], said_, places[own])
    asking = merges.whose_labels(ids, times)
    links = merges.links(whose.rows[own], asking.rows)
    labels = Labels(asking.profiles, asking.points, times)
    found = KERNEL.decode(numbers_at(KERNEL, taken, labels, profiles=merges.profiles, links=links, threads=1))
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows


def check(folder: Path, happened: Sequence[Happened], asked: Sequence[tuple[str, int]], entity: Entity) -> None:
    """Each label against the stream that has come as far as its time."""
    found = features(happened, Stream(folder / "all", happened, entity).log(happened), asked, entity)
    for number, ((name, time), row) in enumerate(zip(asked, found, strict=True)):
        stream = Stream(folder / str(number), [each for each in happened if each.received <= time], entity)
        key = stream.identity.profile(name) if entity is Entity.VISITOR else USER + name
        assert_same(row, KERNEL.finalize(stream.row(key), time).to_pylist()[0])
        # Which sessions merged profiles have depends on the order, which the oracle knows nothing of.
        wanted = Oracle(KERNEL.view, stream.events.get(key, [])).read(time)
        counted = {name: value for name, value in wanted.items() if "visit" not in name and "session" not in name}
        assert_same({name: row[name] for name in counted}, counted)


def labelled(names: Sequence[str]) -> st.SearchStrategy[list[tuple[str, int]]]:
    """Labels around the times of `happenings`."""
    times = st.sampled_from([-1, 0, 1, 60, 61, 1000, 1900, 2960, 90_000, 91_000, 200_000]).map(lambda seconds: START + seconds * US)
    return st.lists(st.tuples(st.sampled_from(names), times), min_size=1, max_size=6)


def _said() -> dict[str, Any]:
    return {BUY: True, BIG: False, "amount": 0.0, "page": None, "shelf": None}


def _at_once(*who: tuple[str | None, str | None]) -> list[Happened]:
    return [Happened(visitor, user, START, Event(START - 1, _said())) for visitor, user in who]


@_SETTINGS
@given(happenings(), labelled([*VISITORS, "nobody"]))
@example(_at_once(("a", None), ("b", "y"), ("a", "y")), [("a", START)])
@example(_at_once(("a", None), ("b", None), ("b", "y"), ("a", "y"), ("a", None)), [("a", START), ("b", START)])
@example(_at_once(("a", "x"), ("x", "x"), ("x", None)), [("x", START)])
def test_a_label_of_a_visitor_has_what_the_stream_had_then(happened: list[Happened], asked: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(Path(folder), happened, asked, Entity.VISITOR)


@_SETTINGS
@given(happenings(), labelled([*USERS, "nobody"]))
@example(_at_once(("a", "x"), ("x", "x"), ("x", "y"), ("y", "y")), [("x", START), ("y", START)])
@example(_at_once((None, "x")), [("x", START)])
def test_a_label_of_a_user_has_what_the_stream_had_then(happened: list[Happened], asked: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(Path(folder), happened, asked, Entity.USER)


def test_a_link_counts_from_the_moment_it_was_received() -> None:
    happened = [
        Happened("a", None, START + 1, event(1.0)),
        Happened("b", "x", START + 2, event(2.0)),
        Happened("a", None, START + 10, event(8.0)),  # in one request with the login
        Happened("a", "x", START + 10, event(4.0)),
    ]
    with tempfile.TemporaryDirectory() as folder:
        log = Stream(Path(folder), happened, Entity.VISITOR).log(happened)
    rows = features(happened, log, [("a", START + 9), ("a", START + 10), ("b", START + 9), ("b", START + 11)], Entity.VISITOR)
    assert [row["sum"] for row in rows] == [1.0, 15.0, 2.0, 15.0]
    assert [row["sum"] for row in features(happened, log, [("x", START + 9), ("x", START + 10)], Entity.USER)] == [2.0, 6.0]


def event(amount: float) -> Event:
    return Event(START, {BUY: True, BIG: amount > 1, "amount": amount, "page": None, "shelf": None})
