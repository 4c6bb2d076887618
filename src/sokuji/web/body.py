"""Limit, count and decompress request bodies."""

from __future__ import annotations

import re
import zlib
from collections import defaultdict

from sokuji.errors import InvalidRequestError
from sokuji.service.proxies import unit

HELD_BYTES_MAX = 256 * 1024 * 1024
"""Bytes of bodies in memory at once, complete or still arriving. A client without room is told to retry later."""

GZIP_MAGIC = b"\x1f\x8b"
"""The first bytes of a gzip body. The headers are not trusted for this."""

BODY_SECONDS_MAX = 60.0
"""A body must arrive within this time after its headers. Otherwise a phone that lost its network would keep its bytes here for ever."""

# Smaller bodies are not counted per address: the limit on connections per address bounds them.
_COUNTED_BYTES_MIN = 64 * 1024
_MEMBERS_MAX = 1_000  # gzip members in a body; each costs as much as a small request
_ZEROS = re.compile(rb"\0+")
_PIECE_BYTES = 64 * 1024  # the data after a member is copied, so it must be short


class BrokenGzipError(InvalidRequestError):
    """400: a complete body that cannot be decompressed. `body` has its bytes, to be stored as a bad event."""

    def __init__(self, body: bytes, message: str) -> None:
        super().__init__(400, "invalid_gzip", message)
        self.body = body


class Bodies:
    """Counts the bytes of all bodies in memory as they arrive. Limits their total, the total of each address, and each body."""

    def __init__(self, max_request_bytes: int) -> None:
        self._max_bytes = max_request_bytes
        self._by_address: defaultdict[str, int] = defaultdict(int)
        self.held_bytes = 0

    def check(self, size: int) -> None:
        """Check that a body may have `size` bytes.

        Raises:
            InvalidRequestError: 413, the body is too large.
        """
        if size > self._max_bytes:
            raise InvalidRequestError(413, "request_too_large", f"the request has more than {self._max_bytes} bytes; send smaller batches")

    def is_full(self, size: int) -> bool:
        """Whether there is no room for `size` more bytes, from any client."""
        return self.held_bytes + size > HELD_BYTES_MAX

    def hold(self, size: int, total: int, client: str) -> None:
        """Count `size` more bytes of a body from the address `client`. The body then has at least `total` bytes.

        Raises:
            InvalidRequestError: 413, the body is too large; 429, the bodies of all clients or of this client take too much memory.
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
        """Stop counting a body; `total` is the number of bytes counted for it."""
        self.held_bytes -= total
        if total > _COUNTED_BYTES_MIN:
            address = unit(client)
            self._by_address[address] -= total
            if not self._by_address[address]:
                del self._by_address[address]

    def decompress(self, body: bytes, limit: int | None = None) -> bytes:
        """The decompressed body, or `body` itself if it does not begin like gzip. The headers are ignored. The result is not counted yet.

        Raises:
            BrokenGzipError: the body begins like gzip but is not valid gzip.
            InvalidRequestError: 413, the result has more than `limit` bytes (if None: the most that a request may have).
        """
        if not body.startswith(GZIP_MAGIC):
            return body
        limit = self._max_bytes if limit is None else limit
        texts: list[bytes] = []
        size = position = members = 0
        stream = _decompressor()
        while position < len(body):
            piece = body[position : position + _PIECE_BYTES]
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
            position += len(piece) - len(stream.unused_data)
            if stream.eof:
                position = _after_padding(body, position)
            if stream.eof and position < len(body):  # RFC 1952, 2.2: one member or several
                members += 1
                if members == _MEMBERS_MAX:
                    raise BrokenGzipError(body, f"the body is gzip of more than {_MEMBERS_MAX} members; compress it as one")
                stream = _decompressor()
        if not stream.eof:
            raise BrokenGzipError(body, "the body is gzip that ends too early")
        return b"".join(texts)


def _after_padding(body: bytes, at: int) -> int:
    """The end of the zero bytes that begin at `at`. Some tools pad blocks with zeros, and gzip's own tool ignores them too."""
    zeros = _ZEROS.match(body, at)
    return zeros.end() if zeros else at


def _decompressor() -> zlib._Decompress:
    return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
