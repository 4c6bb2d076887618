"""Resolve whose event an event is.

An event that names a user belongs to this user, whatever happens to its visitor. An event without a user belongs to its visitor: to the
profile of the user that the visitor is known as, or to the visitor's own profile. A visitor becomes known by an event that names a visitor
and a user; the visitor's profile is then merged into the user's. The merge is refused if it would merge different people
(`VISITORS_PER_USER_MAX`, or a visitor id that is the id of a known user); the visitor then stays alone. If the visitor id and the user id
of an event are the same, there is nothing to merge once the user is known.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.disk.marked import AnyMark, Mark, open_marked
from sokuji.identity.base import USER, VISITOR, VISITORS_PER_USER_MAX, Link, LinkKind
from sokuji.proof import is_provable

FILE = "identities.jsonl"
"""The file of an `Identity`, in the folder of its state."""


REFUSED_PER_USER_MAX = 20
"""The number of refusals per user id in the merge log: enough to see the problem. Each start of a worker counts from zero."""

_REFUSED_USERS_MAX = 10_000


class ProfileKeys(Sequence[str]):
    """The keys of a batch's profiles: single keys as str, and all keys as an array for the store."""

    def __init__(self, array: pa.StringArray) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...
    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        if isinstance(place, slice):
            return ProfileKeys(self.array[place])
        return str(self.array[place].as_py())


@dataclass(slots=True)
class Resolution:
    """The profile of each event of a batch.

    A round is a part of the batch in which no profile is merged, so its events can be processed together. `merges[r]` happen before the
    events of round r: pairs of profiles (from, into), in which no profile occurs twice.
    """

    keys: ProfileKeys  # of the profiles: `USER` or `VISITOR` and the id
    is_user: npt.NDArray[np.bool_]  # by profile
    profiles: npt.NDArray[np.int32]  # by event, an index into `keys`
    rounds: npt.NDArray[np.int32]  # by event
    merges: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)


class Identity:
    """The known visitors of a dataset, in memory and, up to `mark`, in a file."""

    def __init__(self, folder: Path | None, mark: AnyMark) -> None:
        """Load the file in `folder` up to `mark`. Without a folder, nothing is stored.

        Raises:
            DamagedFileError: the file differs from its content at `mark`.
        """
        self._file = open_marked(folder, FILE, mark)
        self._users: dict[str, str] = {}
        self._visitors: dict[str, int] = {}  # the number of visitors known as each user
        # by a hash of the user id, which may be as long as an event; since this object was created
        self._refusals: Counter[int] = Counter()
        for visitor, user in known(self._file.read()):
            self._remember(visitor, user)

    def mark(self) -> Mark:
        """Make the known visitors durable. Returns the position in the file up to which it is."""
        return self._file.mark()

    @property
    def users(self) -> Mapping[str, str]:
        """The user that each known visitor is known as."""
        return self._users

    def profile(self, visitor_id: str) -> str:
        """The key of a visitor's profile."""
        user = self._users.get(visitor_id)
        return VISITOR + visitor_id if user is None else USER + user

    def resolve(self, visitors: pa.StringArray, users: pa.StringArray, is_unproven: Callable[[int], bool] = lambda _: False) -> Resolution:
        """Resolve whose events these are, and remember visitors who became known. Each event has a visitor, a user, or both.

        An event that `is_unproven` (`sokuji.proof.UNPROVEN`; called only for the few events that matter) does not make a visitor known.
        """
        names, visitor = _distinct(visitors)
        persons, user = _distinct(users)
        numbers = {person: number for number, person in enumerate(persons)}
        # The user of each visitor before the batch. Users that no event names get further numbers.
        owner = np.array(
            [-1 if known is None else numbers.setdefault(known, len(numbers)) for known in map(self._users.get, names)] + [-1], np.int32
        )
        persons = list(numbers)
        person = np.where(user >= 0, user, owner[visitor])
        # A profile's number is its visitor's; users' numbers come after those. Rows with neither id belong to a visitor without a name.
        owned = np.where(person >= 0, len(names) + 1 + person, np.where(visitor >= 0, visitor, len(names))).astype(np.int32)
        links: list[Link] = []
        merges: dict[int, tuple[int, int]] = {}  # by event
        linking = (user >= 0) & (visitor >= 0) & (owner[visitor] != user)
        if linking.any():
            themselves = np.array([numbers.get(name, -1) if name in self._visitors else -1 for name in names] + [-1], np.int32)
            linking &= themselves[visitor] != user
        if linking.any():
            for event in np.flatnonzero(np.isin(visitor, np.unique(visitor[linking]))).tolist():
                who, named, known = int(visitor[event]), int(user[event]), int(owner[visitor[event]])
                owner_id = None if known < 0 else persons[known]
                if named >= 0 and named != known and (link := self._link(event, names[who], persons[named], owner_id, is_unproven)):
                    links.append(link)
                    if link.kind is not LinkKind.REFUSED:
                        owner[who] = named
                    if link.kind is LinkKind.MERGED:
                        merges[event] = (who, len(names) + 1 + named)
                known = named if named >= 0 else known
                owned[event] = who if known < 0 else len(names) + 1 + known
        rounds, by_round = _rounds(owned, merges)
        return _resolution(names, persons, owned, rounds, by_round, links)

    def _link(self, event: int, visitor: str, user: str, owner: str | None, is_unproven: Callable[[int], bool]) -> Link | None:
        """The link that results if an event names another user than `owner`, the visitor's current one; None if nothing changes."""
        if visitor == user and user in self._visitors:
            return None
        refused = self._refusal(event, visitor, user, is_unproven)
        if refused is not None:
            return self._refused(Link(event, LinkKind.REFUSED, visitor, user, owner, refused))
        self._remember(visitor, user)
        self._file.append(json.dumps([visitor, user]).encode() + b"\n")
        return Link(event, LinkKind.MERGED if owner is None else LinkKind.SWITCHED, visitor, user, owner, None)

    def _refusal(self, event: int, visitor: str, user: str, is_unproven: Callable[[int], bool]) -> str | None:
        """The reason why the visitor does not become known as the user; None if it does."""
        if is_provable(visitor) and is_unproven(event):
            return f"{visitor!r} is not proven by the event: anyone may name it"
        if self._visitors.get(user, 0) >= VISITORS_PER_USER_MAX:
            return f"user id {user!r} stands for {VISITORS_PER_USER_MAX} visitors already: it is no person's"
        if visitor in self._visitors and not is_provable(visitor):  # such an id is a visitor's, even if somebody uses it as a user id
            return f"{visitor!r} is itself a known user: one known user is never merged into another"
        return None

    def _refused(self, link: Link) -> Link | None:
        """The link, if the merge log has few refusals of this user; None if it would add nothing. Nothing else depends on refusals."""
        user = hash(link.user_id)
        if len(self._refusals) >= _REFUSED_USERS_MAX and user not in self._refusals:
            self._refusals.clear()
        self._refusals[user] += 1
        if self._refusals[user] == REFUSED_PER_USER_MAX:
            return link._replace(reason=f"{link.reason}; further refusals of this user id are left out")
        return link if self._refusals[user] < REFUSED_PER_USER_MAX else None

    def _remember(self, visitor: str, user: str) -> None:
        if visitor not in self._users:
            self._visitors[user] = self._visitors.get(user, 0) + 1
        self._users[visitor] = user

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def known(saved: bytes) -> Iterator[tuple[str, str]]:
    """Pairs of visitor and user from a file of an `Identity`. The last pair of a visitor counts."""
    for line in saved.splitlines(keepends=True):
        if line.endswith(b"\n"):  # otherwise the worker is still writing the line
            visitor, user = json.loads(line)
            yield visitor, user


def _distinct(texts: pa.StringArray) -> tuple[list[str], npt.NDArray[np.int32]]:
    """The distinct texts, and the index of each text in them; -1 for NULL."""
    encoded = texts.dictionary_encode()
    return encoded.dictionary.to_pylist(), pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)


def _rounds(
    owned: npt.NDArray[np.int32], merges: Mapping[int, tuple[int, int]]
) -> tuple[npt.NDArray[np.int32], dict[int, list[tuple[int, int]]]]:
    """The round of each event, and the merges before each round."""
    rounds = np.zeros(len(owned), np.int32)
    by_round: dict[int, list[tuple[int, int]]] = {}
    if not merges:
        return rounds, by_round
    last: dict[int, int] = {}  # by profile, the round of its last event or merge
    merging = np.unique(np.array(list(merges.values()), np.int32))
    for event in np.flatnonzero(np.isin(owned, merging)).tolist():
        if event in merges:
            source, target = merges[event]
            number = max(last.get(source, -1), last.get(target, -1)) + 1
            last[source] = last[target] = number
            by_round.setdefault(number, []).append((source, target))
        rounds[event] = last.setdefault(int(owned[event]), 0)
    return rounds, by_round


def _resolution(  # noqa: PLR0917 - the whole result of a batch
    names: list[str],
    persons: list[str],
    owned: npt.NDArray[np.int32],
    rounds: npt.NDArray[np.int32],
    merges: dict[int, list[tuple[int, int]]],
    links: list[Link],
) -> Resolution:
    """Build the resolution, with profiles numbered from 0: visitors, then users."""
    is_there = np.zeros(len(names) + 1 + len(persons), np.bool_)
    is_there[owned] = True
    for pairs in merges.values():
        is_there[pairs] = True
    number = np.cumsum(is_there, dtype=np.int32) - 1
    visitors = pa.array([*names, ""], pa.string()).filter(pa.array(is_there[: len(names) + 1]))
    users = pa.array(persons, pa.string()).filter(pa.array(is_there[len(names) + 1 :]))
    keys = pa.concat_arrays([pc.binary_join_element_wise(VISITOR, visitors, ""), pc.binary_join_element_wise(USER, users, "")])
    return Resolution(
        ProfileKeys(keys),
        np.arange(len(keys)) >= len(visitors),
        number[owned],
        rounds,
        {at: [(int(number[source]), int(number[target])) for source, target in pairs] for at, pairs in merges.items()},
        links,
    )
