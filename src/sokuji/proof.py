"""What shows that somebody is who an event says: an id alone shows nothing, it is in every event, in exports and in webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
from functools import lru_cache

VISITOR_PREFIX = "s1-"
"""Visitor ids that begin so are commitments: their owner can prove to be it."""

_ID_LENGTH = len(VISITOR_PREFIX) + 43  # SHA-256 as base64url
_SECRET_LENGTH_MAX = 256  # the tag's have 32

UNPROVEN = "unproven"
"""What the collector adds, as true, to the context of an event that makes a visitor with such an id known as a user without proof."""


def visitor_id_of(secret: str) -> str:
    """The visitor id that only the holder of `secret` can prove to be theirs; sokuji.js makes its ids so.

    The id is a commitment to the secret, so that whoever learns the id cannot act as the visitor.
    """
    return VISITOR_PREFIX + base64.urlsafe_b64encode(hashlib.sha256(secret.encode()).digest()).rstrip(b"=").decode()


def is_provable(visitor_id: str) -> bool:
    """Whether the id is a commitment, by its form."""
    return len(visitor_id) == _ID_LENGTH and visitor_id.startswith(VISITOR_PREFIX)


def proves(secret: str, visitor_id: str) -> bool:
    """Whether `secret` is what `visitor_id` was made from."""
    return len(secret) <= _SECRET_LENGTH_MAX and is_provable(visitor_id) and _proves(secret, visitor_id)


@lru_cache(4096)  # a page sends its proof with each of its events
def _proves(secret: str, visitor_id: str) -> bool:
    return hmac.compare_digest(visitor_id_of(secret).encode(), visitor_id.encode())


def sign_user(server_key: str, user_id: str) -> str:
    """What the site's server gives to the pages of a user who has signed in: HMAC-SHA256 of the id in hexadecimal digits."""
    return hmac.new(server_key.encode(), user_id.encode(), hashlib.sha256).hexdigest()


def is_signature(server_key: str, user_id: str, signature: str) -> bool:
    """Whether `signature` is what `sign_user` gives."""
    return hmac.compare_digest(sign_user(server_key, user_id).encode(), signature.lower().encode())
