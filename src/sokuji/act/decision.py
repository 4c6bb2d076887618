"""What was decided for a visitor, read from the `decisions` log."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import msgspec

from sokuji.errors import SokujiError
from sokuji.identity.resolve import USER, VISITOR
from sokuji.log.base import Read
from sokuji.rules import decision as rules
from sokuji.rules.decision import DECIDED

logger = logging.getLogger(__name__)

WEBHOOK, CALL = "webhook", "call"
"""The kinds of action that are carried out by the platform; every other kind is for the visitor's page."""


# A decision's objects and its places in tables, beside its texts (by tracemalloc).
_OVERHEAD_BYTES = 1536


class Audience(NamedTuple):
    """Who is meant: one visitor, or one user on all devices."""

    kind: Literal["visitor", "user"]
    dataset: str
    id: str


def audiences(dataset: str, visitor_id: str | None, user_id: str | None) -> list[Audience]:
    """The visitor and the user, as far as they are there."""
    ids: tuple[tuple[Literal["visitor", "user"], str | None], ...] = (("visitor", visitor_id), ("user", user_id))
    return [Audience(kind, dataset, id_) for kind, id_ in ids if id_]


class Decision(rules.Decision, frozen=True, kw_only=True, eq=False):
    """One row of the log."""

    offset: int

    def audiences(self, *, unsigned_users: bool) -> list[Audience]:
        """Everyone who may receive it: whose profile it was made on, as its texts and its very existence tell of that profile.

        With `unsigned_users` also the visitor whose event led to it, who says to be the user.
        """
        if self.profile.startswith(VISITOR):
            return audiences(self.dataset, self.profile.removeprefix(VISITOR), None)
        return audiences(self.dataset, self.visitor_id if unsigned_users else None, self.profile.removeprefix(USER))

    @property
    def size(self) -> int:
        """About the bytes of memory that it takes. Its ids are texts of strangers, and may be as long as an event."""
        return _OVERHEAD_BYTES + len(msgspec.json.encode(self))

    @property
    def kind(self) -> str | None:
        """What is to be done; None: nothing."""
        return None if self.action is None else str(self.action.get("kind"))

    @property
    def is_for_page(self) -> bool:
        """Whether a visitor's page is to carry it out."""
        return self.kind not in {None, WEBHOOK, CALL}

    def is_expired(self, now_us: int) -> bool:
        """Whether it is too late for it."""
        return self.expires_us <= now_us

    def message(self) -> dict[str, Any]:
        """What a page is told of it."""
        return {
            "id": self.id,
            "rule": self.rule,
            "arm": self.arm,
            "action": self.action,
            "trigger_id": self.trigger_id,
            "expires_at": iso(self.expires_us),
        }


class MalformedDecisionError(SokujiError):
    """A row of the decisions log cannot be understood: whoever wrote it has a defect."""

    def __init__(self, row: Mapping[str, Any], cause: Exception) -> None:
        super().__init__(
            f"decision {row['id']!r} at offset {row['offset']} has the properties {row['properties']!r}: {cause}; "
            "expected what sokuji.rules.decision.to_events writes"
        )
        self.row = row


_COLUMNS = {"id": "message_id", "dataset": "dataset", "visitor_id": "visitor_id", "user_id": "user_id", "properties": "properties"}


def decisions(read: Read) -> list[Decision | MalformedDecisionError]:
    """The decisions among rows of the log, an error in the place of each that cannot be understood."""
    # By columns: a row of all columns as a dict of Python objects costs 20 us.
    columns = {"offset": read.offsets.tolist()} | {name: read.batch.column(column).to_pylist() for name, column in _COLUMNS.items()}
    found: list[Decision | MalformedDecisionError] = []
    for index, event in enumerate(read.batch.column("event_name").to_pylist()):
        if event != DECIDED:
            continue
        row = {name: values[index] for name, values in columns.items()}
        try:
            found.append(msgspec.convert(msgspec.json.decode(row["properties"] or "{}") | row, Decision))
        except (msgspec.MsgspecError, UnicodeDecodeError, TypeError) as error:  # TypeError: not an object
            problem = MalformedDecisionError(row, error)
            logger.error(str(problem))  # noqa: TRY400 - it is the row that is wrong
            found.append(problem)
    return found


def iso(time_us: int) -> str:
    """Microseconds as ISO 8601."""
    return datetime.fromtimestamp(time_us / 1_000_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
