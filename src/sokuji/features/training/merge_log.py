"""Find whose profile an event or a label belongs to, from the merge log: a dataset's `identities` table.

An event that names a user belongs to the user. A visitor's link to a user holds from the moment it was known. Until then the visitor has
a profile of its own, which then merges into the user's. Later events of the visitor belong to the user at once.

A place is a position in the log. It orders events that came in the same microsecond.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.features.kernel.linked import last_links
from sokuji.features.kernel.program import Ints
from sokuji.features.spec import Entity
from sokuji.features.training.point_in_time import Links, Places
from sokuji.identity.base import LinkKind

_Ids = pa.Array | pa.ChunkedArray
_NEVER = np.iinfo(np.int64).max
_STEPS = 2
"""Points per microsecond: first events and merges in the order of their places, then labels."""


class Whose(NamedTuple):
    """Where events or labels belong: a profile (-1: not wanted), its row, and the point at which an event is seen or a label sees."""

    profiles: Places
    rows: Places
    points: Ints


class MergeLog:
    """The part of the merge log that matters for some entities. Each visitor or user that was asked for has a profile."""

    def __init__(self, log: pa.Table, asked: pa.StringArray, entity: Entity) -> None:
        """Index `log`: `kind`, `visitor_id`, `user_id`, `known_at` (us) and `place` (of the event that made the link), the oldest first."""
        self._is_kept = log.num_rows > 0
        """Whether a worker links visitors to users. If not, a visitor's events stay the visitor's, whichever user they name."""
        log = log.filter(pc.not_equal(log.column("kind"), LinkKind.REFUSED))
        self._entity = entity
        if entity is Entity.USER:
            self._users = asked
            log = log.filter(pc.is_in(log.column("visitor_id"), _linked(log, "user_id", asked, "visitor_id")))
            self._visitors = pc.unique(log.column("visitor_id").combine_chunks())
        else:
            self._users = _linked(log, "visitor_id", asked, "user_id")
            log = log.filter(pc.is_in(log.column("visitor_id"), _linked(log, "user_id", self._users, "visitor_id")))
            self._visitors = pc.unique(pa.concat_arrays([asked, log.column("visitor_id").combine_chunks()]))
        self._index(log)
        self._place(len(asked))

    def _index(self, log: pa.Table) -> None:
        """Index the links by visitor."""
        visitors = _codes(log.column("visitor_id"), self._visitors)
        order = np.argsort(visitors, kind="stable")
        self._starts = np.searchsorted(visitors[order], np.arange(len(self._visitors) + 1)).astype(np.int64)
        self._known = log.column("known_at").to_numpy()[order].astype(np.int64)
        self._places = pc.fill_null(log.column("place"), -1).to_numpy()[order].astype(np.int64)
        self._owners = _codes(log.column("user_id"), self._users)[order]
        first = self._starts[:-1][np.diff(self._starts) > 0]
        self._merged_at, self._merged_place = np.full(len(self._visitors), _NEVER), np.full(len(self._visitors), _NEVER)
        merged = visitors[order][first]
        self._merged_at[merged], self._merged_place[merged] = self._known[first], self._places[first]

    def _place(self, asked: int) -> None:
        """Assign the profile and row that each visitor has before a merge."""
        if self._entity is Entity.USER:
            self._profiles = self._rows = np.full(len(self._visitors), -1, np.int32)
            self.profiles, self._merges = len(self._users), (np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int64))
            return
        alone = self._merged_at == _NEVER
        self._profiles = np.full(len(self._visitors), -1, np.int32)
        self._profiles[~alone] = self._owners[self._starts[:-1][~alone]]
        wanted = np.flatnonzero(alone[:asked])
        self._profiles[wanted] = len(self._users) + np.arange(len(wanted))
        self.profiles = len(self._users) + len(wanted)
        merging = np.flatnonzero(~alone & (self._profiles >= 0))
        merging = merging[np.lexsort((self._merged_place[merging], self._merged_at[merging], self._profiles[merging]))]
        into = self._profiles[merging]
        self._rows = np.zeros(len(self._visitors), np.int32)
        self._rows[merging] = 1 + np.arange(len(merging)) - np.searchsorted(into, into)
        self._merges = (into, self._merged_at[merging] * _STEPS, self._merged_place[merging])

    def whose_events(self, visitor_ids: _Ids, user_ids: _Ids, received: Ints, places: Ints, visible: Ints) -> Whose:
        """Find the profiles of events.

        `received`, `places` and `visible` are each event's arrival, its place, and when it begins to count.
        """
        visitors, points = _codes(visitor_ids, self._visitors), visible * _STEPS
        named = pc.is_valid(user_ids).to_numpy(zero_copy_only=False)
        if not self._is_kept and self._entity is Entity.VISITOR:
            named = named & (visitors < 0)
        if not len(self._known) and self._entity is Entity.VISITOR:  # no visitor was linked to a user
            profiles = np.append(self._profiles, np.int32(-1))[visitors]
            profiles[named] = -1
            return Whose(profiles, np.zeros(len(visitors), np.int32), points)
        links = self._links(visitors, received, places)
        is_linked = links >= 0
        profiles, rows = np.full(len(visitors), -1, np.int32), np.zeros(len(visitors), np.int32)
        profiles[is_linked] = self._owners[links[is_linked]]
        profiles[named] = _codes(user_ids, self._users)[named]
        if self._entity is Entity.VISITOR:
            before = np.flatnonzero(~is_linked & ~named & (visitors >= 0))
            profiles[before] = self._profiles[visitors[before]]
            # An event dated later than it came counts only after the merge, so it belongs to the user's row.
            merged_at = self._merged_at[visitors[before]]
            earlier = (visible[before] < merged_at) | (
                (visible[before] == merged_at) & (places[before] < self._merged_place[visitors[before]])
            )
            rows[before[earlier]] = self._rows[visitors[before[earlier]]]
        return Whose(profiles, rows, points)

    def whose_labels(self, ids: pa.Array, times: Ints) -> Whose:
        """Find the profiles of labels at `times`. All links known by then count."""
        points = times * _STEPS + 1
        if self._entity is Entity.USER:
            return Whose(_codes(ids, self._users), np.zeros(len(ids), np.int32), points)
        visitors = _codes(ids, self._visitors)
        links = self._links(visitors, times, np.full(len(times), _NEVER))
        is_linked = links >= 0
        profiles, rows = self._profiles[visitors], self._rows[visitors]
        profiles[is_linked], rows[is_linked] = self._owners[links[is_linked]], 0
        return Whose(profiles, rows, points)

    def links(self, events: Places, labels: Places) -> Links | None:
        """The links for the sweep, given the rows of events and labels; None if nothing merges."""
        profiles, merged, places = self._merges
        return Links(events, labels, profiles, merged, places) if len(profiles) else None

    def _links(self, visitors: Places, received: Ints, places: Ints) -> Ints:
        links = np.empty(len(visitors), np.int64)
        last_links(visitors, received, places, self._starts, self._known, self._places, links)
        return links


def _linked(log: pa.Table, name: str, ids: pa.Array, other: str) -> pa.StringArray:
    """The values in the column `other` of the rows with one of these ids."""
    linked: pa.StringArray = pc.unique(log.filter(pc.is_in(log.column(name), ids)).column(other).combine_chunks())
    return linked


def _codes(ids: _Ids, among: pa.Array) -> Places:
    """The index of each id; -1 if it is not there."""
    codes: Places = pc.fill_null(pc.index_in(ids, value_set=among), -1).to_numpy(zero_copy_only=False).astype(np.int32)
    return codes
