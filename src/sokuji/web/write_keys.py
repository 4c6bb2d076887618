"""Find which source a request is from: the write key, in every place where a client may put it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from sokuji import config
from sokuji.errors import InvalidRequestError
from sokuji.web.query import parameter

SERVER_SOURCE = "server"
"""The source of events sent with a server key alone."""

_SERVER_KEY = "sk_"
_WRITE_KEY = re.compile(rb'"writeKey"\s*:\s*("(?:[^"\\]|\\.){1,1000}")', re.DOTALL)


class EventSource(NamedTuple):
    """A site or app that sends events with its own write key, and the dataset of these events."""

    name: str
    dataset: str
    is_server: bool = False
    """Whether the sender showed a server key, or is this process. It may claim more than a page, for example that events are history."""


NOBODY = EventSource("", "")


def sources(declared: Mapping[str, config.Source]) -> dict[str, EventSource]:
    """The sources of `sokuji.toml` by write key, from those by name."""
    return {source.write_key: EventSource(name, source.dataset) for name, source in declared.items()}


class WriteKeys:
    """The sources by write key, and the datasets by server key."""

    def __init__(self, sources: Mapping[str, EventSource], server_keys: Mapping[str, str] = MappingProxyType({})) -> None:
        self._sources = dict(sources)
        # By hash, so that the time of a lookup reveals nothing about a secret.
        self._servers = {_hashed(key): dataset for key, dataset in server_keys.items()}
        # The headers as SDKs write them, so that a request costs one lookup.
        self._headers = {f"Basic {base64.b64encode(f'{key}:'.encode()).decode()}": source for key, source in sources.items()}

    def source(self, authorization: str | None, body_key: str | None, query: str) -> EventSource:
        """The source of a request: from its `Authorization: Basic` header, else the body's `writeKey`, else the query's.

        The first place with a key decides, even if another place has a valid key and the first has not. A request with two different keys
        comes
        from a misconfigured client, whose owner must learn of it. With a server key in the header, the body's write key may name the source
        of
        the events within the key's dataset.

        Raises:
            InvalidRequestError: 401, there is no key, or nobody has this key.
        """
        if authorization is not None:
            source = self._headers.get(authorization)
            if source is not None:
                return source
        key = _basic_user(authorization) or body_key
        if key is not None and key.startswith(_SERVER_KEY):
            return self._of_server(key, body_key)
        key = key or parameter(query, "writeKey")
        if key is None:
            raise InvalidRequestError(
                401, "missing_write_key", "no write key in the Authorization header (Basic, as the user), the body or the query"
            )
        return self.of_key(key)

    def check_header(self, authorization: str | None) -> None:
        """Check the `Authorization` header before the body is read. A request without a key there may still have it in the body.

        Raises:
            InvalidRequestError: 401, nobody has the header's key.
        """
        if authorization is not None and authorization not in self._headers and (key := _basic_user(authorization)):
            self.source(authorization, None, "") if key.startswith(_SERVER_KEY) else self.of_key(key)

    def check_body(self, authorization: str | None, body: bytes, query: str) -> None:
        """Refuse a request without any known key, before its body is parsed. `source` then decides which key counts.

        Raises:
            InvalidRequestError: 401, there is no known key.
        """
        if _basic_user(authorization) is None and not any(map(self._is_known, seen_write_keys(body))):
            self.source(None, next(seen_write_keys(body), None), query)

    def _is_known(self, key: str) -> bool:
        return key in self._sources or (key.startswith(_SERVER_KEY) and _hashed(key) in self._servers)

    def _of_server(self, key: str, body_key: str | None) -> EventSource:
        dataset = self._servers.get(_hashed(key))
        if dataset is None:
            raise InvalidRequestError(401, "unknown_server_key", "no dataset has this server key; `sokuji keys --secret` lists them")
        if body_key is None or body_key == key:
            return EventSource(SERVER_SOURCE, dataset, is_server=True)
        source = self.of_key(body_key)
        if source.dataset != dataset:
            raise InvalidRequestError(401, "other_dataset", f"the server key is of dataset {dataset}, the write key of {source.dataset}")
        return source._replace(is_server=True)

    def of_key(self, key: str) -> EventSource:
        """The source with this write key.

        Raises:
            InvalidRequestError: 401, there is no such source.
        """
        source = self._sources.get(key)
        if source is None and key.startswith(_SERVER_KEY):
            reason = "a server key belongs in the Authorization header or the body: addresses end up in logs and histories"
            raise InvalidRequestError(401, "server_key_in_address", reason)
        if source is None:
            raise InvalidRequestError(401, "unknown_write_key", f"no source has the write key {key[:80]!r}; sokuji.toml lists them")
        return source


def find_write_key(body: bytes) -> str | None:
    """The write key of a body that cannot be parsed, if it is visible in the bytes."""
    return next(seen_write_keys(body), None)


def seen_write_keys(body: bytes) -> Iterator[str]:
    """All texts in a body that look like a write key, found without parsing the body."""
    position = -1
    while (position := body.find(b'"writeKey"', position + 1)) >= 0:
        match = _WRITE_KEY.match(body, position)
        if match:
            try:
                yield msgspec.json.decode(match.group(1), type=str)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue


def _hashed(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _basic_user(authorization: str | None) -> str | None:
    """The user of a Basic header; None for other schemes: an OAuth client's bearer token does not tell the source."""
    scheme, _, credentials = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(credentials.strip(), validate=True).decode().partition(":")[0] or None
    except ValueError as error:  # not base64, not ASCII, not UTF-8
        raise InvalidRequestError(401, "invalid_authorization", "the Authorization header is not Basic base64(write key:)") from error
