"""Which events count, who their visitors are, and links between visitors and users."""

from __future__ import annotations

import enum
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.bots import is_bot
from sokuji.events import OWN_SOURCE, EventType
from sokuji.json_text import decode

VISITOR, USER = "v:", "u:"
"""The prefixes of profile keys, before the id."""

SENT_SQL = f"source <> '{OWN_SOURCE}'"
"""`is_sent` in SQL, of an events table."""

VISITOR_SQL = f"""COALESCE(
  IF(
    type = '{EventType.ALIAS}' AND JSON_TYPE(properties.previous_id) = 'string', NULLIF(JSON_VALUE(properties, '$.previous_id'), ''), NULL
  ),
  keys.visitor_id
)"""
"""`visitors` in GoogleSQL, of an events table."""

VISITORS_PER_USER_MAX = 200
"""The maximal number of visitors known as one user.

A user id with more is a constant in somebody's code, or its visitor ids are new in each call. Further visitors are not merged; events that
name the user still belong to the user.
"""


class LinkKind(enum.StrEnum):
    """The outcome of an event that names a visitor and a user."""

    MERGED = "merged"  # the visitor's profile was merged into the user's
    SWITCHED = "switched"  # the visitor was known as another user: later events go to the new user, the profiles stay apart
    REFUSED = "refused"  # the visitor stays as it was, and the event is the user's: `reason` says why


class Link(NamedTuple):
    """A row of the merge log."""

    event: int  # the row in the batch
    kind: LinkKind
    visitor_id: str
    user_id: str
    previous_user_id: str | None
    reason: str | None


def is_sent(source: Any) -> Any:
    """Whether an event was sent, given its source as an Arrow array or expression. The platform's own decisions are no visitor's events."""
    return pc.not_equal(source, OWN_SOURCE)


def is_counted(events: pa.RecordBatch | pa.Table) -> npt.NDArray[np.bool_]:
    """Which events features count and rules look at: those that were sent, and not by a bot.

    In addition, events that killed the worker (`analyze.excluded`) and events on which an expression fails are left out.
    """
    counted = pc.and_(is_sent(events.column("source")), pc.invert(is_bot(events.column("context"))))
    found: npt.NDArray[np.bool_] = counted.to_numpy(zero_copy_only=False)
    return found


def visitors(events: pa.RecordBatch) -> pa.StringArray:
    """The visitor of each event; NULL if there is none. An alias event says that the visitor with the previous id is its user."""
    own = cast("pa.StringArray", events.column("visitor_id"))
    aliases = pc.equal(events.column("type"), EventType.ALIAS)
    if not pc.any(aliases).as_py():
        return own
    previous = [previous_id(text) for text in events.column("properties").filter(aliases).to_pylist()]
    found: pa.StringArray = pc.coalesce(
        pc.replace_with_mask(pa.nulls(len(own), pa.string()), aliases, pa.array(previous, pa.string())), own
    )
    return found


def previous_id(properties: str | None) -> str | None:
    """The previous id in the properties of an alias event; None if there is no text, or an empty one."""
    previous = decode(properties or "{}").get("previous_id")
    return previous if isinstance(previous, str) and previous else None
