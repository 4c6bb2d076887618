"""What bounds requests' bodies, and reads them."""

from __future__ import annotations

import zlib

from sokuji.errors import InvalidRequestError

HELD_BYTES_MAX = 256 * 1024 * 1024
"""Bytes of bodies that may be in memory at once, read and being read. A client that cannot be served now is told to come again."""

BODY_SECONDS_MAX = 60.0
"""A body must be there this long after its headers. A phone that went out of reach says nothing, and would hold its bytes for ever."""

_GZIP_MAGIC = b"\x1f\x8b"
# JSON of a hundred events compresses 10 to 30 times; what deflate can reach at most, 1,032 times, nobody sends in good faith.
_COMPRESSION_RATIO_MAX = 200


class BrokenGzipError(InvalidRequestError):
    """400: a body that came whole and cannot be decompressed. `body` is what came: to be kept like any other that cannot be read."""

    def __init__(self, body: bytes, message: str) -> None:
        super().__init__(400, "invalid_gzip", message)
        self.body = body


class Bodies:
    """Counts the bytes of all bodies that are held, and bounds them and each."""

    def __init__(self, max_request_bytes: int) -> None:
        self._max_bytes = max_request_bytes
        self.held_bytes = 0

    def hold(self, size: int, total: int) -> None:
        """Count `size` bytes more, of a body that then has at least `total`.

        Raises:
            InvalidRequestError: 413 the body is too large, 429 too many bytes are held.
        """
        if total > self._max_bytes:
            raise InvalidRequestError(413, "request_too_large", f"the request has more than {self._max_bytes} bytes; send smaller batches")
        if self.held_bytes + size > HELD_BYTES_MAX:
            raise InvalidRequestError(429, "busy", f"{self.held_bytes} bytes of requests are being worked on already; send this one again")
        self.held_bytes += size

    def release(self, size: int) -> None:
        """Forget so many bytes."""
        self.held_bytes -= size

    def decompress(self, body: bytes) -> bytes:
        """The body itself, where it begins like gzip: whatever the headers say of it. It is not counted yet.

        Raises:
            BrokenGzipError: it is not what its first bytes say.
            InvalidRequestError: 413, it is too large.
        """
        if not body.startswith(_GZIP_MAGIC):
            return body
        limit = min(self._max_bytes, len(body) * _COMPRESSION_RATIO_MAX)
        stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            text = stream.decompress(body, limit + 1)
        except zlib.error as error:
            raise BrokenGzipError(body, f"the body begins like gzip and is not: {error}") from error
        if len(text) > limit:
            raise InvalidRequestError(
                413, "request_too_large", f"the request has more than {limit} bytes decompressed; send smaller batches"
            )
        if not stream.eof or stream.unused_data:
            raise BrokenGzipError(body, "the body is gzip that ends too early or goes on after its end")
        return text
