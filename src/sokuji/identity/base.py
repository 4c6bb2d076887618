"""Links between visitors and users."""

from __future__ import annotations

import enum
from typing import NamedTuple

VISITORS_PER_USER_MAX = 200
"""A user id that more visitors than this were known as is a constant in somebody's code, or its visitor ids are made for each call. No
further ones merge; events that name the user are still the user's."""


class LinkKind(enum.StrEnum):
    """What became of an event that names a visitor and a user."""

    MERGED = "merged"  # the visitor's profile went into the user's
    SWITCHED = "switched"  # the visitor was known as another user: later events go to the new one, profiles stay apart
    REFUSED = "refused"  # the visitor stays as it was, the event is the user's: `reason` says why


class Link(NamedTuple):
    """A row of the merge log."""

    event: int  # the row in the batch
    kind: LinkKind
    visitor_id: str
    user_id: str
    previous_user_id: str | None
    reason: str | None
