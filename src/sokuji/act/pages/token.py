"""Short-lived tokens: the holder of one may receive the actions of one visitor, of one user, or of both.

A token is `v2.PAYLOAD.SIGNATURE`: base64url of JSON `[dataset, visitor, user, expiry]`, and of HMAC-SHA-256 over it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import NamedTuple

import msgspec

from sokuji.act.decision import Audience, audiences
from sokuji.errors import InvalidRequestError

_VERSION = "v2"
_TOKEN_LENGTH_MAX = 4096


class Grant(NamedTuple):
    """The content of a token: whose actions, and until when (microseconds UTC)."""

    dataset: str
    visitor_id: str | None
    user_id: str | None
    expires_at: int

    @property
    def audiences(self) -> list[Audience]:
        """The identities that its holder has proven to be, or to speak for; the visitor first."""
        return audiences(self.dataset, self.visitor_id, self.user_id)

    def users(self, *, unsigned_users: bool) -> list[str] | None:
        """The users whose facts its holder may learn (see `Question.users`).

        With `unsigned_users`, any user that the visitor claims to be.
        """
        return None if unsigned_users else [] if self.user_id is None else [self.user_id]


_PAYLOAD = msgspec.json.Decoder(tuple[str, str | None, str | None, int])


class Tokens:
    """Signs and checks tokens."""

    def __init__(self, key: bytes, seconds: float) -> None:
        """Create tokens that are valid for `seconds`."""
        self._key, self._lifetime_us = key, int(seconds * 1_000_000)

    def issue(self, dataset: str, visitor_id: str | None, user_id: str | None, now_us: int) -> tuple[str, int]:
        """A token for the visitor, the user or both, and its expiry."""
        expires_at = now_us + self._lifetime_us
        payload = f"{_VERSION}.{_encode(msgspec.json.encode((dataset, visitor_id, user_id, expires_at)))}"
        return f"{payload}.{self._sign(payload)}", expires_at

    def check(self, token: str | None, now_us: int) -> Grant:
        """The grant of `token`.

        Raises:
            InvalidRequestError: 401, there is no token, its signature is wrong, or it has expired.
        """
        if not token:
            raise InvalidRequestError(401, "missing_token", "no token in the Authorization header (Bearer) or the query (token=)")
        payload, _, signature = token.rpartition(".")
        if len(token) > _TOKEN_LENGTH_MAX or not hmac.compare_digest(self._sign(payload).encode(), signature.encode()):
            raise InvalidRequestError(401, "invalid_token", "the token is not one of ours; ask for one with POST /v1/actions/token")
        if not payload.startswith(f"{_VERSION}."):  # signed by an older version, within the last minutes
            raise InvalidRequestError(401, "expired_token", "the token is of an older version; ask for one with POST /v1/actions/token")
        grant = Grant(*_PAYLOAD.decode(_decode(payload.removeprefix(f"{_VERSION}."))))
        if grant.expires_at <= now_us:
            raise InvalidRequestError(401, "expired_token", "the token's time is over; ask for a new one with POST /v1/actions/token")
        return grant

    def _sign(self, payload: str) -> str:
        return _encode(hmac.new(self._key, payload.encode(), hashlib.sha256).digest())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
