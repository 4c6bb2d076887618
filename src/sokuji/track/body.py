"""Reading a request's body within bounds."""

from __future__ import annotations

import zlib

from granian.rsgi import HTTPProtocol, Scope  # type: ignore[attr-defined]

from sokuji.errors import InvalidRequestError

HELD_BYTES_MAX = 256 * 1024 * 1024
"""Bytes of bodies that may be in memory at once, read and being read. A client that cannot be served now is told to come again."""

_GZIP_MAGIC = b"\x1f\x8b"
# JSON of a hundred events compresses 10 to 30 times; what deflate can reach at most, 1,032 times, nobody sends in good faith.
_COMPRESSION_RATIO_MAX = 200


class BodyReader:
    """Reads bodies, and counts the bytes of all that are held."""

    def __init__(self, max_request_bytes: int, held_bytes_max: int = HELD_BYTES_MAX) -> None:
        self._max_bytes, self._held_bytes_max = max_request_bytes, held_bytes_max
        self.held_bytes = 0

    async def read(self, scope: Scope, proto: HTTPProtocol) -> bytes:
        """The body, decompressed where it is gzip, whatever the headers say of it. It is held until its length is given to `release`.

        Raises:
            InvalidRequestError: 413 too large, 400 broken gzip, 503 too many bytes are held.
        """
        length = int(scope.headers.get("content-length", 0))
        body = b""
        reserved = 0
        try:
            if length:
                self._hold(length, length)
                reserved = length
                text = await proto()
            else:  # chunked, or empty
                chunks = []
                async for chunk in proto:
                    self._hold(len(chunk), reserved + len(chunk))
                    reserved += len(chunk)
                    chunks.append(chunk)
                text = b"".join(chunks)
            body = self._decompress(text) if text.startswith(_GZIP_MAGIC) else text
        finally:
            self.held_bytes += len(body) - reserved
        return body

    def release(self, size: int) -> None:
        """Forget a body of `size` bytes that `read` gave."""
        self.held_bytes -= size

    def _hold(self, size: int, total: int) -> None:
        if total > self._max_bytes:
            raise InvalidRequestError(413, "request_too_large", f"the request has more than {self._max_bytes} bytes; send smaller batches")
        if self.held_bytes + size > self._held_bytes_max:
            raise InvalidRequestError(503, "unavailable", f"{self.held_bytes} bytes of requests are being worked on already; try again")
        self.held_bytes += size

    def _decompress(self, compressed: bytes) -> bytes:
        limit = min(self._max_bytes, len(compressed) * _COMPRESSION_RATIO_MAX)
        stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            body = stream.decompress(compressed, limit)
        except zlib.error as error:
            raise InvalidRequestError(400, "invalid_gzip", f"the body begins like gzip and is not: {error}") from error
        if stream.unconsumed_tail:
            raise InvalidRequestError(
                413, "request_too_large", f"the request has more than {limit} bytes decompressed; send smaller batches"
            )
        if not stream.eof or stream.unused_data:
            raise InvalidRequestError(400, "invalid_gzip", "the body is gzip that ends too early or goes on after its end")
        return body
