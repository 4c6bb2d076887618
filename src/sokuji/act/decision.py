"""Decisions for visitors, read from the `decisions` log."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import msgspec

from sokuji.errors import SokujiError
from sokuji.identity.base import USER, VISITOR
from sokuji.log.base import Read
from sokuji.rules.decision import DECIDED, Decision

logger = logging.getLogger(__name__)

WEBHOOK, CALL = "webhook", "call"
"""The kinds of action that the platform carries out. Every other kind is for the visitor's page."""


# Memory of a decision's objects and index entries, without its texts (measured with tracemalloc).
_OVERHEAD_BYTES = 1536


class Audience(NamedTuple):
    """The receiver of a decision: one visitor, or one user on all devices."""

    kind: Literal["visitor", "user"]
    dataset: str
    id: str


def audiences(dataset: str, visitor_id: str | None, user_id: str | None) -> list[Audience]:
    """The visitor and the user, without those that are None."""
    ids: tuple[tuple[Literal["visitor", "user"], str | None], ...] = (("visitor", visitor_id), ("user", user_id))
    return [Audience(kind, dataset, id_) for kind, id_ in ids if id_]


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """A decision and its place in the log: one row of it."""

    decision: Decision
    offset: int

    def audiences(self, *, unsigned_users: bool) -> list[Audience]:
        """Everyone who may receive the decision: the profile it was made for.

        Its texts, and even its existence, reveal facts about that profile.

        With `unsigned_users`, also the visitor whose event led to the decision and who claims to be the user.
        """
        if self.decision.profile.startswith(VISITOR):
            return audiences(self.decision.dataset, self.decision.profile.removeprefix(VISITOR), None)
        return audiences(
            self.decision.dataset, self.decision.visitor_id if unsigned_users else None, self.decision.profile.removeprefix(USER)
        )

    @property
    def size(self) -> int:
        """The approximate bytes of memory that it takes. Its ids come from strangers, and may be as long as an event."""
        return _OVERHEAD_BYTES + len(msgspec.json.encode(self.decision))

    @property
    def kind(self) -> str | None:
        """The kind of action; None: there is nothing to do."""
        return None if self.decision.action is None else str(self.decision.action.get("kind"))

    @property
    def is_for_page(self) -> bool:
        """Whether a visitor's page must carry out the action."""
        return self.kind not in {None, WEBHOOK, CALL}

    def is_expired(self, now_us: int) -> bool:
        """Whether the decision is too old to be delivered."""
        return self.decision.expires_us <= now_us

    def message(self) -> dict[str, Any]:
        """The JSON message about the decision for a page."""
        decision = self.decision
        return {
            "id": decision.id,
            "rule": decision.rule,
            "arm": decision.arm,
            "action": decision.action,
            "trigger_id": decision.trigger_id,
            "expires_at": iso(decision.expires_us),
        }


class MalformedDecisionError(SokujiError):
    """A row of the decisions log is not readable: the code that wrote it has a bug."""

    def __init__(self, row: Mapping[str, Any], cause: Exception) -> None:
        super().__init__(
            f"decision {row['id']!r} at offset {row['offset']} has the properties {row['properties']!r}: {cause}; "
            "expected what sokuji.rules.decision.to_events writes"
        )
        self.row = row


_COLUMNS = {"id": "message_id", "dataset": "dataset", "visitor_id": "visitor_id", "user_id": "user_id", "properties": "properties"}


def decisions(read: Read) -> list[Recorded | MalformedDecisionError]:
    """The decisions in rows of the log, with an error in the place of each unreadable one."""
    # By columns: a row of all columns as a dict of Python objects costs 20 us.
    columns = {"offset": read.offsets.tolist()} | {name: read.batch.column(column).to_pylist() for name, column in _COLUMNS.items()}
    decoded: list[Recorded | MalformedDecisionError] = []
    for index, event in enumerate(read.batch.column("event_name").to_pylist()):
        if event != DECIDED:
            continue
        row = {name: values[index] for name, values in columns.items()}
        try:
            decision = msgspec.convert(msgspec.json.decode(row["properties"] or "{}") | row, Decision)
        except (msgspec.MsgspecError, UnicodeDecodeError, TypeError) as error:  # TypeError: not an object
            problem = MalformedDecisionError(row, error)
            logger.error(str(problem))  # noqa: TRY400 - it is the row that is wrong
            decoded.append(problem)
        else:
            decoded.append(Recorded(decision, row["offset"]))
    return decoded


def iso(time_us: int) -> str:
    """Microseconds as ISO 8601."""
    return datetime.fromtimestamp(time_us / 1_000_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
