"""What was decided for a visitor, read from the `decisions` log."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import msgspec
import pyarrow as pa
from msgspec import Raw, Struct

from sokuji.errors import SokujiError

logger = logging.getLogger(__name__)

DECIDED, SHOWN, CLICKED, CLOSED = "action_decided", "action_shown", "action_clicked", "action_closed"
"""The events of an action's life. The last three come from the page, as track events with the property `decision_id`."""

WEBHOOK, FUNCTION = "webhook", "function"
"""The types of action that are carried out by the platform; every other type is for the visitor's page."""


class Audience(NamedTuple):
    """Who is meant: one visitor, or one user on all devices."""

    kind: Literal["visitor", "user"]
    dataset: str
    id: str


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """One row of the log. `action` is a JSON object with `type` and `content`; times are microseconds UTC."""

    offset: int
    id: str
    dataset: str
    visitor_id: str | None
    user_id: str | None
    decided_at: int
    rule: str
    arm: str
    control: bool  # the arm that gets no action
    type: str
    action: Raw
    trigger_message_id: str | None
    expires_at: int | None

    @property
    def audiences(self) -> list[Audience]:
        """Everyone who may receive it."""
        found = []
        if self.visitor_id:
            found.append(Audience("visitor", self.dataset, self.visitor_id))
        if self.user_id:
            found.append(Audience("user", self.dataset, self.user_id))
        return found

    @property
    def for_page(self) -> bool:
        """Whether a visitor's page is to carry it out."""
        return not self.control and self.type not in {WEBHOOK, FUNCTION}

    def expired(self, now_us: int) -> bool:
        """Whether it is too late for it."""
        return self.expires_at is not None and self.expires_at <= now_us

    def message(self) -> dict[str, Any]:
        """What a page is told of it."""
        return {
            "id": self.id,
            "rule": self.rule,
            "arm": self.arm,
            "action": self.action,
            "trigger_message_id": self.trigger_message_id,
            "expires_at": None if self.expires_at is None else iso(self.expires_at),
        }


class Row(NamedTuple):
    """The columns that a decision is made of, as they are in the log."""

    offset: int
    event_time: int
    message_id: str
    dataset: str
    visitor_id: str | None
    user_id: str | None
    properties: str | None


class MalformedDecisionError(SokujiError):
    """A row of the decisions log cannot be understood: whoever wrote it has a defect."""

    def __init__(self, row: Row, cause: Exception) -> None:
        super().__init__(
            f"decision {row.message_id!r} at offset {row.offset} has the properties {row.properties!r}: {cause}; "
            'expected {"rule", "action": {"type", "content"}, ...}'
        )
        self.row = row


class _Action(Struct):
    type: str


class _Properties(Struct):
    rule: str
    action: Raw
    arm: str = ""
    control: bool = False
    trigger_message_id: str | None = None
    expires_at: datetime | int | None = None  # ISO 8601, or microseconds


_PROPERTIES = msgspec.json.Decoder(_Properties)
_ACTION = msgspec.json.Decoder(_Action)


def decisions(batch: pa.RecordBatch, offset: int) -> list[Decision | MalformedDecisionError]:
    """The decisions among rows `offset` and following, an error in the place of each that cannot be understood."""
    # By columns: a row as a dict of Python objects costs 20 us.
    columns = {
        name: batch.column(name).to_pylist() for name in ("event_name", "message_id", "dataset", "visitor_id", "user_id", "properties")
    }
    times = batch.column("event_time").cast(pa.int64()).to_pylist()
    found: list[Decision | MalformedDecisionError] = []
    for index, name in enumerate(columns["event_name"]):
        if name != DECIDED:
            continue
        row = Row(offset + index, times[index], *(columns[name][index] for name in Row._fields[2:]))
        try:
            found.append(_decision(row))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            problem = MalformedDecisionError(row, error)
            logger.error(str(problem))  # noqa: TRY400 - it is the row that is wrong
            found.append(problem)
    return found


def _decision(row: Row) -> Decision:
    properties = _PROPERTIES.decode(row.properties or "{}")
    expires = properties.expires_at
    return Decision(
        offset=row.offset,
        id=row.message_id,
        dataset=row.dataset,
        visitor_id=row.visitor_id,
        user_id=row.user_id,
        decided_at=row.event_time,
        rule=properties.rule,
        arm=properties.arm,
        control=properties.control,
        type=_ACTION.decode(properties.action).type,
        action=Raw(msgspec.json.format(bytes(properties.action), indent=-1)),  # on one line, as streams need it
        trigger_message_id=properties.trigger_message_id,
        expires_at=_microseconds(expires) if isinstance(expires, datetime) else expires,
    )


def _microseconds(time: datetime) -> int:
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return round(time.timestamp() * 1_000_000)


def iso(time_us: int) -> str:
    """Microseconds as ISO 8601."""
    return datetime.fromtimestamp(time_us / 1_000_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
