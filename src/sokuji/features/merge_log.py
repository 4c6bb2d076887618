"""Whose profile an event or a label belongs to, by the merge log: a dataset's `identities` table.

What is known of a visitor holds from the moment it was known. Until then the visitor has a profile alone, which then merges into the
user's; later events are the user's at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.features.kernel_linked import last_links
from sokuji.features.point_in_time import Links, Places
from sokuji.features.program import Ints
from sokuji.features.spec import Entity

MERGED, REFUSED = "merged", "refused"
"""What the log says of a visitor's first user, and of an event that is the visitor's alone although it names a user."""

_NEVER = np.iinfo(np.int64).max
_STEPS = 4
"""Points a microsecond: events of profiles that merge in it, merges, other events, labels."""


class Whose(NamedTuple):
    """Where events or labels belong: a profile, -1 for none that is asked for, its row, and the point at which they are seen or see."""

    profiles: Places
    rows: Places
    points: Ints


class MergeLog:
    """The part of the merge log that matters for some entities. A visitor or a user who is asked for has a profile."""

    def __init__(self, log: pa.Table, asked: pa.StringArray, entity: Entity) -> None:
        """`log` has `kind`, `visitor_id`, `user_id`, `known_at` (us) and `log_offset` (of the event that told it), the oldest first."""
        refused = log.filter(pc.equal(log.column("kind"), REFUSED))
        self._refused = set(zip(refused.column("visitor_id").to_pylist(), refused.column("user_id").to_pylist(), strict=True))
        self._refused_visitors = refused.column("visitor_id").combine_chunks()
        log = log.filter(pc.not_equal(log.column("kind"), REFUSED))
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
        """Links, visitor by visitor."""
        visitors = _codes(log.column("visitor_id"), self._visitors)
        order = np.argsort(visitors, kind="stable")
        self._starts = np.searchsorted(visitors[order], np.arange(len(self._visitors) + 1)).astype(np.int64)
        self._known = log.column("known_at").to_numpy()[order].astype(np.int64)
        self._offsets = pc.fill_null(log.column("log_offset"), -1).to_numpy()[order].astype(np.int64)
        self._owners = _codes(log.column("user_id"), self._users)[order]
        first = self._starts[:-1][np.diff(self._starts) > 0]
        is_merged = pc.equal(log.column("kind"), MERGED).to_numpy()[order][first]
        self._merged_at = np.full(len(self._visitors), _NEVER)
        self._merged_at[visitors[order][first[is_merged]]] = self._known[first[is_merged]]

    def _place(self, asked: int) -> None:
        """The profile and the row of each visitor alone."""
        if self._entity is Entity.USER:
            self._profiles = self._rows = np.full(len(self._visitors), -1, np.int32)
            self.profiles, self._merges = len(self._users), (np.zeros(0, np.int32), np.zeros(0, np.int64))
            return
        alone = self._merged_at == _NEVER
        self._profiles = np.full(len(self._visitors), -1, np.int32)
        self._profiles[~alone] = self._owners[self._starts[:-1][~alone]]
        wanted = np.flatnonzero(alone[:asked])
        self._profiles[wanted] = len(self._users) + np.arange(len(wanted))
        self.profiles = len(self._users) + len(wanted)
        merging = np.flatnonzero(~alone & (self._profiles >= 0))
        merging = merging[np.lexsort((self._merged_at[merging], self._profiles[merging]))]
        into = self._profiles[merging]
        self._rows = np.zeros(len(self._visitors), np.int32)
        self._rows[merging] = 1 + np.arange(len(merging)) - np.searchsorted(into, into)
        self._merges = (into, self._merged_at[merging] * _STEPS + 1)

    def whose_events(self, visitor_ids: pa.Array, user_ids: pa.Array, received: Ints, offsets: Ints, visible: Ints) -> Whose:
        """Of events that came in when and where in the log, and that count from `visible` on."""
        visitors, points = _codes(visitor_ids, self._visitors), visible * _STEPS + 2
        if not len(self._known) and self._entity is Entity.VISITOR:  # nobody became known
            return Whose(np.append(self._profiles, np.int32(-1))[visitors], np.zeros(len(visitors), np.int32), points)
        users = _codes(user_ids, self._users)
        links = self._links(visitors, received, offsets)
        is_linked = links >= 0
        profiles, rows = np.full(len(visitors), -1, np.int32), np.zeros(len(visitors), np.int32)
        profiles[is_linked] = self._owners[links[is_linked]]
        if self._entity is Entity.USER:
            named = ~is_linked & (users >= 0) & ~self._is_refused(visitor_ids, user_ids)
            profiles[named] = users[named]
        else:
            nobody = pc.is_null(visitor_ids).to_numpy(zero_copy_only=False)
            profiles[nobody] = users[nobody]
            before = np.flatnonzero(~is_linked & (visitors >= 0))
            profiles[before] = self._profiles[visitors[before]]
            # One that counts only after the merge, being dated later than it came, is the user's.
            before = before[visible[before] <= self._merged_at[visitors[before]]]
            rows[before] = self._rows[visitors[before]]
            points[before] -= 2
        return Whose(profiles, rows, points)

    def whose_labels(self, ids: pa.Array, times: Ints) -> Whose:
        """Of labels at `times`: all that is known by then counts."""
        points = times * _STEPS + 3
        if self._entity is Entity.USER:
            return Whose(_codes(ids, self._users), np.zeros(len(ids), np.int32), points)
        visitors = _codes(ids, self._visitors)
        links = self._links(visitors, times, np.full(len(times), _NEVER))
        is_linked = links >= 0
        profiles, rows = self._profiles[visitors], self._rows[visitors]
        profiles[is_linked], rows[is_linked] = self._owners[links[is_linked]], 0
        return Whose(profiles, rows, points)

    def links(self, events: Places, labels: Places) -> Links | None:
        """For the sweep, with the rows of events and labels; None if nothing merges."""
        profiles, merged = self._merges
        return Links(events, labels, profiles, merged) if len(profiles) else None

    def _links(self, visitors: Places, received: Ints, offsets: Ints) -> Ints:
        found = np.empty(len(visitors), np.int64)
        last_links(visitors, received, offsets, self._starts, self._known, self._offsets, found)
        return found

    def _is_refused(self, visitor_ids: pa.Array, user_ids: pa.Array) -> npt.NDArray[np.bool_]:
        mask: npt.NDArray[np.bool_] = pc.is_in(visitor_ids, self._refused_visitors).to_numpy(zero_copy_only=False).copy()
        for event in np.flatnonzero(mask).tolist():
            mask[event] = (visitor_ids[event].as_py(), user_ids[event].as_py()) in self._refused
        return mask


def _linked(log: pa.Table, name: str, ids: pa.Array, other: str) -> pa.StringArray:
    """What is in the column `other` beside some ids."""
    return pc.unique(log.filter(pc.is_in(log.column(name), ids)).column(other).combine_chunks())


def _codes(ids: pa.Array | pa.ChunkedArray, among: pa.Array) -> Places:
    """The place of each id, -1 for one that is not there."""
    found: Places = pc.fill_null(pc.index_in(ids, value_set=among), -1).to_numpy(zero_copy_only=False).astype(np.int32)
    return found
