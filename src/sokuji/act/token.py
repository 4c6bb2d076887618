"""Short-lived tokens: who holds one may receive the actions of one visitor or user.

A token is `v1.PAYLOAD.SIGNATURE`: base64url of JSON `[kind, dataset, id, expiry]`, and of HMAC-SHA-256 over it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Literal, NamedTuple

import msgspec

from sokuji.act.decision import Audience
from sokuji.errors import InvalidRequestError

_VERSION = "v1"
_TOKEN_LENGTH_MAX = 4096
_VISITOR_PREFIX = "s1-"


class Grant(NamedTuple):
    """What a token says: whose actions, and until when (microseconds UTC)."""

    audience: Audience
    expires_at: int


_PAYLOAD = msgspec.json.Decoder(tuple[Literal["visitor", "user"], str, str, int])


class Tokens:
    """Signs and checks tokens."""

    def __init__(self, key: bytes, seconds: float) -> None:
        """Tokens are good for `seconds`."""
        self._key, self._lifetime_us = key, int(seconds * 1_000_000)

    def issue(self, audience: Audience, now_us: int) -> tuple[str, int]:
        """A token for `audience`, and when it ends."""
        expires_at = now_us + self._lifetime_us
        payload = f"{_VERSION}.{_encode(msgspec.json.encode((*audience, expires_at)))}"
        return f"{payload}.{self._sign(payload)}", expires_at

    def check(self, token: str | None, now_us: int) -> Grant:
        """What `token` grants.

        Raises:
            InvalidRequestError: 401, there is no token, it is not ours, or its time is over.
        """
        if not token:
            raise InvalidRequestError(401, "missing_token", "no token in the Authorization header (Bearer) or the query (token=)")
        payload, _, signature = token.rpartition(".")
        if len(token) > _TOKEN_LENGTH_MAX or not hmac.compare_digest(self._sign(payload).encode(), signature.encode()):
            raise InvalidRequestError(401, "invalid_token", "the token is not one of ours; ask for one with POST /v1/actions/token")
        kind, dataset, id_, expires_at = _PAYLOAD.decode(_decode(payload.removeprefix(f"{_VERSION}.")))
        if expires_at <= now_us:
            raise InvalidRequestError(401, "expired_token", "the token's time is over; ask for a new one with POST /v1/actions/token")
        return Grant(Audience(kind, dataset, id_), expires_at)

    def _sign(self, payload: str) -> str:
        return _encode(hmac.new(self._key, payload.encode(), hashlib.sha256).digest())


def visitor_id_of(secret: str) -> str:
    """The visitor id that only the holder of `secret` can prove to be theirs; sokuji.js makes its ids so.

    The id is a commitment to the secret, so that whoever learns the id (it is in every event, in exports and webhooks) cannot act as
    the visitor.
    """
    return _VISITOR_PREFIX + _encode(hashlib.sha256(secret.encode()).digest())


def proves(secret: str, visitor_id: str) -> bool:
    """Whether `secret` is what `visitor_id` was made from."""
    return hmac.compare_digest(visitor_id_of(secret).encode(), visitor_id.encode())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
