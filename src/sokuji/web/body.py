"""What bounds requests' bodies, and reads them."""

from __future__ import annotations

import re
import zlib
from collections import defaultdict

from sokuji.errors import InvalidRequestError
from sokuji.service.proxies import unit

HELD_BYTES_MAX = 256 * 1024 * 1024
"""Bytes of bodies that may be in memory at once, read and being read. A client that cannot be served now is told to come again."""

GZIP_MAGIC = b"\x1f\x8b"
"""What a compressed body begins with, whatever its headers say."""

BODY_SECONDS_MAX = 60.0
"""A body must be there this long after its headers. A phone that went out of reach says nothing, and would hold its bytes for ever."""

# A smaller body is not counted by address: the number of an address's connections bounds these.
_COUNTED_BYTES_MIN = 64 * 1024
_MEMBERS_MAX = 1_000  # of gzip in a body; each costs as much as a small request
_ZEROS = re.compile(rb"\0+")
_PIECE_BYTES = 64 * 1024  # what follows a member is copied


class BrokenGzipError(InvalidRequestError):
    """400: a body that came whole and cannot be decompressed. `body` is what came: to be kept like any other that cannot be read."""

    def __init__(self, body: bytes, message: str) -> None:
        super().__init__(400, "invalid_gzip", message)
        self.body = body


class Bodies:
    """Counts the bytes of all bodies that are held, as they arrive, and bounds them, those of one address, and each."""

    def __init__(self, max_request_bytes: int) -> None:
        self._max_bytes = max_request_bytes
        self._by_address: defaultdict[str, int] = defaultdict(int)
        self.held_bytes = 0

    def check(self, size: int) -> None:
        """Whether a body may have `size` bytes.

        Raises:
            InvalidRequestError: 413, it may not.
        """
        if size > self._max_bytes:
            raise InvalidRequestError(413, "request_too_large", f"the request has more than {self._max_bytes} bytes; send smaller batches")

    def is_full(self, size: int) -> bool:
        """Whether there is no room for `size` bytes more, whoever they are from."""
        return self.held_bytes + size > HELD_BYTES_MAX

    def hold(self, size: int, total: int, client: str) -> None:
        """Count `size` bytes more, of a body from the address `client` that then has at least `total`.

        Raises:
            InvalidRequestError: 413 the body is too large, 429 too many bytes are held, of everyone or of this client.
        """
        self.check(total)
        is_full = self.is_full(size)
        if total > _COUNTED_BYTES_MIN and not is_full:
            address, counted = unit(client), size if total - size > _COUNTED_BYTES_MIN else total
            is_full = self._by_address[address] + counted > HELD_BYTES_MAX // 2
            self._by_address[address] += 0 if is_full else counted
        if is_full:
            raise InvalidRequestError(429, "busy", "too many bytes of requests are being worked on already; send this one again")
        self.held_bytes += size

    def release(self, total: int, client: str) -> None:
        """Forget a body of so many bytes, all that were counted of it."""
        self.held_bytes -= total
        if total > _COUNTED_BYTES_MIN:
            address = unit(client)
            self._by_address[address] -= total
            if not self._by_address[address]:
                del self._by_address[address]

    def decompress(self, body: bytes, limit: int | None = None) -> bytes:
        """The body itself, where it begins like gzip: whatever the headers say of it. It is not counted yet.

        Raises:
            BrokenGzipError: it is not what its first bytes say.
            InvalidRequestError: 413, it has more than `limit` bytes (the most a request may have, if None).
        """
        if not body.startswith(GZIP_MAGIC):
            return body
        limit = self._max_bytes if limit is None else limit
        texts: list[bytes] = []
        size = at = members = 0
        stream = _decompressor()
        while at < len(body):
            piece = body[at : at + _PIECE_BYTES]
            try:
                text = stream.decompress(piece, limit + 1 - size)
            except zlib.error as error:
                raise BrokenGzipError(body, f"the body begins like gzip and is not: {error}") from error
            texts.append(text)
            size += len(text)
            if size > limit:
                raise InvalidRequestError(
                    413, "request_too_large", f"the request has more than {limit} bytes decompressed; send smaller batches"
                )
            at += len(piece) - len(stream.unused_data)
            if stream.eof:
                at = _after_padding(body, at)
            if stream.eof and at < len(body):  # RFC 1952, 2.2: one member or several
                members += 1
                if members == _MEMBERS_MAX:
                    raise BrokenGzipError(body, f"the body is gzip of more than {_MEMBERS_MAX} members; compress it as one")
                stream = _decompressor()
        if not stream.eof:
            raise BrokenGzipError(body, "the body is gzip that ends too early")
        return b"".join(texts)


def _after_padding(body: bytes, at: int) -> int:
    """Where the zeros end that begin `at`: some tools fill up blocks with them, and gzip's own leave them out."""
    found = _ZEROS.match(body, at)
    return found.end() if found else at


def _decompressor() -> zlib._Decompress:
    return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
