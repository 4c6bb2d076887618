"""Proofs that a sender is the person that an event names. An id alone proves nothing: it is in every event, in exports and in webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
from functools import lru_cache

VISITOR_PREFIX = "s1-"
"""Visitor ids with this prefix are commitments: their owner can prove the ownership."""

_ID_LENGTH = len(VISITOR_PREFIX) + 43  # SHA-256 as base64url
_SECRET_LENGTH_MAX = 256  # the tag's secrets have 32

UNPROVEN = "unproven"
"""A flag that the collector adds, as true, to the context of an event that links such a visitor to a user without proof."""


def visitor_id_of(secret: str) -> str:
    """The visitor id whose ownership only the holder of `secret` can prove; sokuji.js makes its ids in this way.

    The id is a commitment to the secret, so nobody can act as the visitor by knowing the id.
    """
    return VISITOR_PREFIX + base64.urlsafe_b64encode(hashlib.sha256(secret.encode()).digest()).rstrip(b"=").decode()


def is_provable(visitor_id: str) -> bool:
    """Whether the id has the form of a commitment."""
    return len(visitor_id) == _ID_LENGTH and visitor_id.startswith(VISITOR_PREFIX)


def proves(secret: str, visitor_id: str) -> bool:
    """Whether `visitor_id` was made from `secret`."""
    return len(secret) <= _SECRET_LENGTH_MAX and is_provable(visitor_id) and _proves(secret, visitor_id)


@lru_cache(4096)  # a page sends its proof with each of its events
def _proves(secret: str, visitor_id: str) -> bool:
    return hmac.compare_digest(visitor_id_of(secret).encode(), visitor_id.encode())


def sign_user(server_key: str, user_id: str) -> str:
    """The signature that the site's server gives to pages of a signed-in user: HMAC-SHA256 of the id in hexadecimal digits."""
    return hmac.new(server_key.encode(), user_id.encode(), hashlib.sha256).hexdigest()


def is_signature(server_key: str, user_id: str, signature: str) -> bool:
    """Whether `signature` is the result of `sign_user`."""
    return hmac.compare_digest(sign_user(server_key, user_id).encode(), signature.lower().encode())
