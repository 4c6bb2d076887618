"""Whose event is it: all who answer that agree, over generated streams."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sokuji.analyze.publish import identity_rows
from sokuji.events import IDENTITIES_LOG, IDENTITY_SCHEMA
from sokuji.features.spec import Entity
from sokuji.features.training.history import NO_MERGES
from sokuji.features.training.merge_log import MergeLog
from sokuji.identity.base import Link, LinkKind
from sokuji.identity.current import Merges, Owners
from sokuji.identity.resolve import FILE, Identity
from sokuji.identity.resolve import known as read_links
from sokuji.lake.events import PLACE_COLUMNS
from sokuji.log.base import Log
from sokuji.verify.history import _whose
from tests.analyze.side import read_all
from tests.lake.platform import START_US, log_rows
from tests.log.opening import InMemory
from tests.searching import examples

VISITORS, USERS = ["a", "b", "c", "d", "u"], ["u", "w", "x"]  # one id is a visitor's and a user's
VISITORS_MAX = 2  # of one user
Who = tuple[str | None, str | None]
_WHO: st.SearchStrategy[Who] = st.one_of(
    st.tuples(st.sampled_from(VISITORS), st.none()),
    st.tuples(st.none(), st.sampled_from(USERS)),
    st.tuples(st.sampled_from(VISITORS), st.sampled_from(USERS)),
)
STREAMS = st.lists(st.tuples(st.booleans(), _WHO), max_size=24)
"""Whether an event comes a microsecond after the one before it, and who sent it."""


class Answers(NamedTuple):
    """What is right, found by taking one event at a time."""

    keys: list[str]  # of the profile of each event when it came
    owners: dict[str, str]  # by visitor, who it is known as in the end
    merged: dict[str, str]  # by visitor, whose profile has that of the visitor
    links: list[tuple[int, LinkKind]]


def answers(stream: Sequence[Who]) -> Answers:
    """The rule as `docs/decisions` tells it, without batches."""
    found = Answers([], {}, {}, [])
    of_user: dict[str, set[str]] = {}
    for event, (visitor, user) in enumerate(stream):
        known = found.owners.get(visitor or "")
        if visitor is not None and user is not None and user != known and not (visitor == user and user in of_user):
            if visitor in of_user or len(of_user.get(user, ())) >= VISITORS_MAX:
                found.links.append((event, LinkKind.REFUSED))
            else:
                if known is None:
                    of_user.setdefault(user, set()).add(visitor)
                    found.merged[visitor] = user
                found.links.append((event, LinkKind.MERGED if known is None else LinkKind.SWITCHED))
                found.owners[visitor] = known = user
        person = user or known
        found.keys.append(f"v:{visitor}" if person is None else f"u:{person}")
    return found


def resolved(folder: Path, events: pa.RecordBatch, size: int, log: Log) -> tuple[list[str], list[Link], dict[str, str]]:
    """As the worker does it, in batches of a size: the keys of events, the links, and who each visitor is known as."""
    identity = Identity(folder, 0)
    keys, links = [], []
    for start in range(0, events.num_rows, size):
        batch = events.slice(start, size)
        result = identity.resolve(batch.column("visitor_id").cast(pa.string()), batch.column("user_id").cast(pa.string()))
        keys += [result.keys[profile] for profile in result.profiles]
        links += [link._replace(event=start + link.event) for link in result.links]
        if result.links:
            log.append(0, identity_rows(batch, result.links))
    known = {visitor: identity.profile(visitor) for visitor in VISITORS}
    identity.mark()
    identity.close()
    return keys, links, known


def trained(events: pa.RecordBatch, links: Sequence[Link], entity: Entity) -> list[str | None]:
    """The key of the profile whose training rows have each event; None: nobody who is asked for."""
    received = events.column("received_at").cast(pa.int64()).to_numpy()
    rows = [(link.kind, link.visitor_id, link.user_id, int(received[link.event]), link.event) for link in links]
    told = pa.Table.from_pylist([dict(zip(NO_MERGES.column_names, row, strict=True)) for row in rows], schema=NO_MERGES.schema)
    merges = MergeLog(told, pa.array(USERS if entity is Entity.USER else VISITORS, pa.string()), entity)
    places = np.arange(events.num_rows)
    whose = merges.whose_events(events.column("visitor_id"), events.column("user_id"), received, places, received)
    alone = [visitor for visitor in VISITORS if visitor not in {link.visitor_id for link in links if link.kind is not LinkKind.REFUSED}]
    names = [f"u:{user}" for user in merges._users.to_pylist()] + [f"v:{visitor}" for visitor in alone]
    return [None if profile < 0 else names[profile] for profile in whose.profiles.tolist()]


def verified(events: pa.RecordBatch, log: Log) -> tuple[list[str], list[tuple[int, str, str]]]:
    """The keys of events, and the merges: (event, from, into)."""
    table = pa.Table.from_batches([events]).append_column("previous_id", pa.nulls(events.num_rows, pa.string()))
    for name, values in zip(PLACE_COLUMNS, (np.zeros(events.num_rows, np.int64), np.arange(events.num_rows)), strict=True):
        table = table.append_column(name, pa.array(values))
    past = _whose(table, pa.Table.from_pylist(read_all(log), schema=IDENTITY_SCHEMA), 1.0)
    return past.keys, past.merges


@pytest.fixture(autouse=True, scope="module")
def _few_visitors_of_one_user() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sokuji.identity.resolve.VISITORS_PER_USER_MAX", VISITORS_MAX)
        yield


@settings(max_examples=examples(150), deadline=None)
@given(STREAMS, st.integers(1, 9))
@example([(True, ("a", None)), (True, ("a", "u")), (False, ("a", None)), (True, ("a", "w")), (False, ("a", None))], 9)
@example([(True, ("a", "u")), (True, ("b", "u")), (True, ("c", "u")), (True, ("c", None)), (True, ("u", "w"))], 2)
def test_all_agree(stream: list[tuple[bool, Who]], size: int) -> None:
    right, clock, sent = answers([who for _, who in stream]), START_US, []
    for number, (is_later, (visitor, user)) in enumerate(stream):
        clock += is_later
        sent.append({"message_id": f"m{number}", "visitor_id": visitor, "user_id": user, "received_at": clock, "event_time": clock - 1})
    events = log_rows(sent)
    with TemporaryDirectory() as made:
        folder = Path(made)
        with InMemory()(folder, IDENTITY_SCHEMA, IDENTITIES_LOG, 1) as log:
            keys, links, known = resolved(folder, events, size, log)
            now = {visitor: f"u:{right.owners[visitor]}" if visitor in right.owners else f"v:{visitor}" for visitor in VISITORS}
            assert (keys, known) == (right.keys, now)
            assert [(link.event, link.kind) for link in links] == right.links
            in_file = dict(read_links((folder / FILE).read_bytes()))
            told, saved, merges = Owners("shop", log, {}), Owners("shop", log, in_file, log.end(0)), Merges(log)
            for each in (told, saved, merges):
                each.refresh()
            assert {visitor: told.profile("shop", f"v:{visitor}") for visitor in VISITORS} == now
            assert {visitor: saved.profile("shop", f"v:{visitor}") for visitor in VISITORS} == now
            gone = {visitor: f"u:{user}" for visitor, user in right.merged.items()}
            assert {visitor: merges.profile("shop", f"v:{visitor}") for visitor in VISITORS} == {v: gone.get(v, f"v:{v}") for v in VISITORS}
            if not links:
                return
            asked = [key if key.startswith("u:") else None for key in right.keys]
            assert trained(events, links, Entity.USER) == asked
            linked = {user for link in links if link.kind is not LinkKind.REFUSED for user in [f"u:{link.user_id}"]}
            in_the_end = [gone.get(key[2:], key) if key.startswith("v:") else key if key in linked else None for key in right.keys]
            assert trained(events, links, Entity.VISITOR) == in_the_end
            verified_keys, verified_merges = verified(events, log)
            assert verified_keys == right.keys
            firsts = {link.visitor_id: link.event for link in links if link.kind is LinkKind.MERGED}
            assert verified_merges == [(event, f"v:{visitor}", gone[visitor]) for visitor, event in firsts.items()]
