"""Who a visitor is: from the first event that names a user, what the visitor did and does belongs to that user's profile."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sokuji.analyze.marked import MarkedFile

VISITOR, USER = "v:", "u:"
"""A profile's key begins with one of these."""

VISITORS_PER_USER_MAX = 200
"""A user id that more visitors than this were known as is a constant in somebody's code, and would merge everyone."""


class LinkKind(enum.StrEnum):
    """What became of an event that names a visitor and a user."""

    MERGED = "merged"  # the visitor's profile went into the user's
    SWITCHED = "switched"  # the visitor was known as another user: later events go to the new one, profiles stay apart
    REFUSED = "refused"  # nothing changed: `reason` says why


class Link(NamedTuple):
    """A row of the merge log."""

    event: int  # the row in the batch
    kind: LinkKind
    visitor_id: str
    user_id: str
    previous_user_id: str | None
    reason: str | None


@dataclass(slots=True)
class Resolution:
    """Whose profile each event of a batch belongs to.

    A round is a part of the batch: within a round no profile is merged, so its events can be worked on together. `merges[r]` are done
    before the events of round r: pairs of profiles (from, into).
    """

    keys: list[str] = field(default_factory=list)  # of the profiles, `USER` or `VISITOR` and the id
    profiles: list[int] = field(default_factory=list)  # by event, an index into `keys`
    rounds: list[int] = field(default_factory=list)  # by event
    merges: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)

    def profile_of_event(self) -> npt.NDArray[np.int32]:
        """`profiles` as an array."""
        return np.array(self.profiles, np.int32)


class Identity:
    """The visitors of a dataset that are known, kept in memory and, as far as `mark` says, in a file."""

    def __init__(self, folder: Path, mark: int) -> None:
        """Load the first `mark` bytes of the file in `folder`."""
        self._file = MarkedFile(folder / "identities.jsonl", mark)
        self._users: dict[str, str] = {}
        self._visitors: dict[str, int] = {}  # how many visitors were known as each user
        for line in self._file.read().splitlines():
            self._remember(*json.loads(line))

    def mark(self) -> int:
        """Make what is known durable, and say up to where it is in the file."""
        return self._file.mark()

    def profile(self, visitor_id: str) -> str:
        """The key of a visitor's profile."""
        user = self._users.get(visitor_id)
        return VISITOR + visitor_id if user is None else USER + user

    def resolve(self, visitors: Sequence[str | None], users: Sequence[str | None]) -> Resolution:
        """Whose events these are, and remember who became known. Each event has a visitor, a user, or both."""
        result = Resolution()
        numbers: dict[str, int] = {}
        rounds: list[int] = []  # by profile

        def number(key: str) -> int:
            known = numbers.get(key)
            if known is None:
                known = numbers[key] = len(rounds)
                rounds.append(0)
            return known

        known = self._users
        for event, (visitor, user) in enumerate(zip(visitors, users, strict=True)):
            owner = known.get(visitor) if visitor is not None else None
            if user is not None and visitor is not None and owner != user:
                link = self._link(event, visitor, user, owner)
                result.links.append(link)
                if link.kind is LinkKind.REFUSED:
                    user = None  # noqa: PLW2901 - the event is the visitor's alone
                elif link.kind is LinkKind.MERGED:
                    source, target = number(VISITOR + visitor), number(USER + user)
                    rounds[source] = rounds[target] = max(rounds[source], rounds[target]) + 1
                    result.merges.setdefault(rounds[target], []).append((source, target))
            name = user or owner
            profile = number(VISITOR + (visitor or "") if name is None else USER + name)
            result.profiles.append(profile)
            result.rounds.append(rounds[profile])
        result.keys = list(numbers)
        return result

    def _link(self, event: int, visitor: str, user: str, owner: str | None) -> Link:
        if self._visitors.get(user, 0) >= VISITORS_PER_USER_MAX:
            reason = f"user id {user!r} stands for {VISITORS_PER_USER_MAX} visitors already: it is no person's"
            return Link(event, LinkKind.REFUSED, visitor, user, owner, reason)
        if visitor in self._visitors:
            reason = f"{visitor!r} is itself a known user: one known user is never merged into another"
            return Link(event, LinkKind.REFUSED, visitor, user, owner, reason)
        self._remember(visitor, user)
        self._file.append(json.dumps([visitor, user]).encode() + b"\n")
        return Link(event, LinkKind.MERGED if owner is None else LinkKind.SWITCHED, visitor, user, owner, None)

    def _remember(self, visitor: str, user: str) -> None:
        if visitor not in self._users:
            self._visitors[user] = self._visitors.get(user, 0) + 1
        self._users[visitor] = user

    def close(self) -> None:
        """Close the file."""
        self._file.close()
