"""Reading a request's body within bounds."""

from __future__ import annotations

import asyncio
import time
import zlib
from typing import cast

from granian.rsgi import HTTPProtocol, ProtocolClosed, Scope  # type: ignore[attr-defined]

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


class BodyReader:
    """Reads bodies, and counts the bytes of all that are held."""

    def __init__(self, max_request_bytes: int) -> None:
        self._max_bytes = max_request_bytes
        self.held_bytes = 0
        self._reading: dict[asyncio.Task[object], float] = {}  # since when, oldest first

    async def read(self, scope: Scope, proto: HTTPProtocol) -> bytes:
        """The body, decompressed where it is gzip, whatever the headers say of it. It is held until its length is given to `release`.

        Raises:
            BrokenGzipError: it is not what its first bytes say.
            InvalidRequestError: 413 too large, 400 not all of it came, 408 it came too slowly, 429 too many bytes are held.
        """
        length = int(scope.headers.get("content-length", 0))
        task = cast("asyncio.Task[object]", asyncio.current_task())
        self._cut_off_late()
        self._reading[task] = time.monotonic()
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
            body = self._decompress(text, reserved) if text.startswith(_GZIP_MAGIC) else text
        except ProtocolClosed as error:
            raise InvalidRequestError(400, "incomplete_body", f"the connection ended before all {length} bytes were there") from error
        except asyncio.CancelledError as error:
            if not self._late(task):
                raise
            raise InvalidRequestError(408, "timeout", f"the body took more than {BODY_SECONDS_MAX:g} s; send it again") from error
        finally:
            del self._reading[task]
            self.held_bytes += len(body) - reserved
        return body

    def release(self, size: int) -> None:
        """Forget a body of `size` bytes that `read` gave."""
        self.held_bytes -= size

    def _late(self, task: asyncio.Task[object]) -> bool:
        return time.monotonic() - self._reading[task] >= BODY_SECONDS_MAX

    def _cut_off_late(self) -> None:
        # Whenever a request comes, rather than by a timer for each: only then can a stalled one be in the way, and a timer costs 3 us.
        for task in self._reading:
            if not self._late(task):
                break
            task.cancel()

    def _hold(self, size: int, total: int) -> None:
        if total > self._max_bytes:
            raise InvalidRequestError(413, "request_too_large", f"the request has more than {self._max_bytes} bytes; send smaller batches")
        self._check_held(size)
        self.held_bytes += size

    def _check_held(self, size: int) -> None:
        if self.held_bytes + size > HELD_BYTES_MAX:
            raise InvalidRequestError(429, "busy", f"{self.held_bytes} bytes of requests are being worked on already; send this one again")

    def _decompress(self, compressed: bytes, reserved: int) -> bytes:
        limit = min(self._max_bytes, len(compressed) * _COMPRESSION_RATIO_MAX)
        stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            body = stream.decompress(compressed, limit + 1)
        except zlib.error as error:
            raise BrokenGzipError(compressed, f"the body begins like gzip and is not: {error}") from error
        if len(body) > limit:
            raise InvalidRequestError(
                413, "request_too_large", f"the request has more than {limit} bytes decompressed; send smaller batches"
            )
        if not stream.eof or stream.unused_data:
            raise BrokenGzipError(compressed, "the body is gzip that ends too early or goes on after its end")
        self._check_held(len(body) - reserved)
        return body
