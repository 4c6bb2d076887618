"""The current profile of a key, by the merge log: for processes other than the worker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping

from sokuji.identity.base import USER, VISITOR, LinkKind
from sokuji.log.base import Log

_READ_ROWS = 10_000
_COLUMNS = ["dataset", "kind", "visitor_id", "user_id"]

# A decision holds for minutes, so nobody asks for the profiles of older merges. Each takes 300 bytes and its ids, which may be as long as
# events.
_MERGES_MAX = 100_000
_MERGES_TEXT_MAX = 32 * 1024 * 1024


class Successors(ABC):
    """The profiles that others were merged into, up to the last read of the merge log."""

    def __init__(self, log: Log, offset: int) -> None:
        """Read the merge log from `offset` on."""
        self._log, self._offset = log, offset

    def refresh(self) -> None:
        """Read what was added to the merge log."""
        while self._offset < self._log.end(0):
            batch, _, self._offset = self._log.read(0, max(self._offset, self._log.start(0)), _READ_ROWS)
            for row in batch.select(_COLUMNS).to_pylist():
                if row["kind"] != LinkKind.REFUSED:
                    self._learn(row["dataset"], row["visitor_id"], row["user_id"], LinkKind(row["kind"]))

    @abstractmethod
    def _learn(self, dataset: str, visitor_id: str, user_id: str, kind: LinkKind) -> None:
        """Remember a link that was not refused."""

    @abstractmethod
    def profile(self, dataset: str, profile: str) -> str:
        """The current key of this profile."""


class Owners(Successors):
    """The user that each visitor of one dataset is known as now: all events of the visitor belong to this user."""

    def __init__(self, dataset: str, log: Log, saved: Mapping[str, str], since: int = 0) -> None:
        """Begin with `saved`: the users that the worker knew when its merge log ended at `since`, or later.

        A link of the merge log before `since` that is missing in `saved` comes from an event that was deleted before the state was rebuilt.
        """
        super().__init__(log, max(since, log.start(0)))
        self._dataset = dataset
        self._users = dict(saved)

    def _learn(self, dataset: str, visitor_id: str, user_id: str, kind: LinkKind) -> None:  # noqa: ARG002 - the newest link holds
        if dataset == self._dataset:
            self._users[visitor_id] = user_id

    def profile(self, dataset: str, profile: str) -> str:  # noqa: ARG002 - of one dataset
        """The current key of this profile."""
        user = self._users.get(profile.removeprefix(VISITOR)) if profile.startswith(VISITOR) else None
        return profile if user is None else USER + user


class Merges(Successors):
    """The users' profiles into which visitors' profiles were recently merged, in all datasets.

    A visitor's decision names the profile that it was made for. That profile stays with the first user, even if the visitor becomes known
    as another user later.
    """

    def __init__(self, log: Log) -> None:
        """Begin near the end of the merge log."""
        super().__init__(log, log.before_end(0, _MERGES_MAX))
        self._users: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._text = 0  # characters of the ids

    def _learn(self, dataset: str, visitor_id: str, user_id: str, kind: LinkKind) -> None:
        if kind is not LinkKind.MERGED:
            return
        visitor, user = VISITOR + visitor_id, USER + user_id
        before = self._users.pop((dataset, visitor), None)
        self._text += len(visitor) + len(user) - (0 if before is None else len(visitor) + len(before))
        self._users[dataset, visitor] = user
        while len(self._users) > _MERGES_MAX or self._text > _MERGES_TEXT_MAX:
            (_, oldest), successor = self._users.popitem(last=False)
            self._text -= len(oldest) + len(successor)

    def profile(self, dataset: str, profile: str) -> str:
        """The current key of this profile."""
        return self._users.get((dataset, profile), profile)
