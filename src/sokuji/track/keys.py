"""Which source a request is from: the write key, from each place a client may put it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from urllib.parse import parse_qs

from sokuji.errors import InvalidRequestError
from sokuji.track.request import Source


class Keys:
    """The sources by write key."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = dict(sources)
        # As SDKs write them, so that a request costs one lookup.
        self._headers = {f"Basic {base64.b64encode(f'{key}:'.encode()).decode()}": source for key, source in sources.items()}

    def source(self, authorization: str | None, body_key: str | None, query: str) -> Source:
        """The source of a request: by its `Authorization: Basic` header, else the body's `writeKey`, else the query's.

        The first place that has a key decides, even if another has a better one: a request that says two things is a
        misconfigured client, whose owner must hear of it.

        Raises:
            InvalidRequestError: 401, no key is there, or nobody's.
        """
        if authorization is not None:
            source = self._headers.get(authorization)
            if source is not None:
                return source
        key = _basic_user(authorization) or body_key or self.query_key(query)
        if key is None:
            raise InvalidRequestError(
                401, "missing_write_key", "no write key in the Authorization header (Basic, as the user), the body or the query"
            )
        return self.of_key(key)

    def of_key(self, key: str) -> Source:
        """The source with this write key.

        Raises:
            InvalidRequestError: 401, there is none.
        """
        source = self._sources.get(key)
        if source is None:
            raise InvalidRequestError(401, "unknown_write_key", f"no source has the write key {key[:80]!r}; sokuji.toml lists them")
        return source

    @staticmethod
    def query_key(query: str) -> str | None:
        """The write key in a query string."""
        return parse_qs(query).get("writeKey", [None])[0] if query else None


def _basic_user(authorization: str | None) -> str | None:
    """The user of a Basic header; None for every other kind: an OAuth client's bearer token says nothing about the source."""
    scheme, _, credentials = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(credentials.strip(), validate=True).decode().partition(":")[0] or None
    except (binascii.Error, UnicodeDecodeError) as error:
        raise InvalidRequestError(401, "invalid_authorization", "the Authorization header is not Basic base64(write key:)") from error
