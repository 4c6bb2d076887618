"""Parse and write HTTP/1.1 messages (RFC 9112), strictly: a message that two programs could read differently is refused."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

import msgspec

from sokuji.errors import InvalidRequestError

HEAD_BYTES_MAX = 64 * 1024
"""Limit of the request line and headers. Browsers send about one kilobyte."""

HEADERS_MAX = 100

HEAD_END = b"\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_HEAD = re.compile(rb"(%b) ([!-~\x80-\xff]+) HTTP/1\.([01])\r\n((?:%b:[^\r\n\0]*\r\n)*)\r\n" % (_TOKEN, _TOKEN))
_HOST = re.compile(r"(?!.{300})(?:[\w.~!$&'()*+;=%-]*(?::\d*)?|\[[\w.:%]+\](?::\d*)?)", re.ASCII)
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n\0]*)?")
_FIELD_KEPT_LENGTH = 256
_CHUNK_LINE_BYTES_MAX = 8 * 1024
_CHUNK_PARTS_MAX = 1_000  # parsed at once, in about 2 ms
# RFC 9110, 8.6: a 204 has no length, and the length in a 304 would be that of the client's cached body.
_WITHOUT_LENGTH = {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}


class Head(msgspec.Struct, eq=False):
    """The request line and headers of a request."""

    method: str
    path: str  # as it was sent, percent-encoded
    query: str
    headers: dict[str, str]  # names in lower case; values of a repeated name are joined by commas
    length: int | None  # of the body in bytes; None: the body is chunked
    keep_alive: bool  # whether the client may send another request on this connection


def parse_head(text: bytes) -> Head:
    """The head of a request, whose bytes are `text`.

    Raises:
        InvalidRequestError: 400, the bytes are not a valid head; 431, it has more than `HEADERS_MAX` headers.
    """
    match = _HEAD.fullmatch(text)
    if match is None:
        raise InvalidRequestError(400, "invalid_http", "this is not an HTTP/1.1 request")
    if text.count(b"\r\n") > HEADERS_MAX + 2:
        raise InvalidRequestError(431, "headers_too_large", f"the request has more than {HEADERS_MAX} headers")
    method, target, minor, fields = match.groups()
    headers: dict[str, str] = {}
    for line in fields.decode("latin-1").split("\r\n")[:-1]:
        name, value = _field(line) if len(line) < _FIELD_KEPT_LENGTH else _read_field(line)
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    _check_host(headers.get("host"), minor)
    path, _, query = target.decode("utf-8", "replace").partition("?")
    if not path.startswith("/") and path != "*":  # the form that is sent to a proxy
        path = "/" + path.partition("://")[2].partition("/")[2]
    keep_alive = minor == b"1" and "close" not in headers.get("connection", "").lower()
    length = _body_length(headers, minor)
    if length is None and "content-length" in headers:
        keep_alive = False  # RFC 9112, 6.3: a proxy before this server may have read it differently
    return Head(method.decode(), path, query, headers, length, keep_alive)


def _read_field(line: str) -> tuple[str, str]:
    """The name in lower case, and the value."""
    name, _, value = line.partition(":")
    return name.lower(), value.strip(" \t")


_field = lru_cache(4096)(_read_field)
"""Cached: the same clients send the same headers again and again."""


@lru_cache(maxsize=1024)
def _check_host(host: str | None, minor: bytes) -> None:
    """Check the Host header (RFC 9112, 3.2): exactly one, optional in HTTP/1.0. With several, proxies and servers pick different ones."""
    if host is None:
        if minor == b"1":
            raise InvalidRequestError(400, "invalid_http", "the request has no Host header")
    elif not _HOST.fullmatch(host):
        raise InvalidRequestError(400, "invalid_http", f"host is {host[:80]!r}; expected one name or address, with a port or without")


def _body_length(headers: dict[str, str], minor: bytes) -> int | None:
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if coding.lower() != "chunked" or minor == b"0":
            raise InvalidRequestError(400, "invalid_http", f"transfer-encoding is {coding[:80]!r}; only 'chunked' is known, in HTTP/1.1")
        return None
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit() and len(length) < 16):
        raise InvalidRequestError(400, "invalid_http", f"content-length is {length[:80]!r}; expected one number")
    return int(length)


class Chunks:
    """Decodes a chunked body."""

    __slots__ = ("_left", "_trailers", "done", "has_more")

    def __init__(self) -> None:
        self._left = 0  # bytes still to come of the chunk, including the line end after it
        self._trailers: int | None = None  # number of trailer lines
        self.done = False
        self.has_more = False  # whether `take` stopped at its limit: clients may send many tiny chunks

    def take(self, text: bytes) -> tuple[list[bytes], bytes]:
        """The pieces of the body in `text`, and the rest of `text`: bytes that need more input or, when `done`, that follow the body.

        Raises:
            InvalidRequestError: 400, the bytes are not valid chunks.
        """
        pieces: list[bytes] = []
        position = parts = 0
        while not self.done and position < len(text) and parts < _CHUNK_PARTS_MAX:
            parts += 1
            if self._left > 2:
                piece = text[position : position + self._left - 2]
                pieces.append(piece)
                position += len(piece)
                self._left -= len(piece)
                continue
            end = text.find(b"\r\n", position, position + _CHUNK_LINE_BYTES_MAX)
            if end < 0 and len(text) - position < _CHUNK_LINE_BYTES_MAX:
                break
            self._line(text[position:end] if end >= 0 else None)
            position = end + 2
        self.has_more = not self.done and parts == _CHUNK_PARTS_MAX
        return pieces, text[position:]

    def _line(self, line: bytes | None) -> None:
        if self._trailers is not None and line is not None:
            self.done = not line
            self._trailers += not self.done
            if self._trailers > HEADERS_MAX:
                raise InvalidRequestError(431, "headers_too_large", f"more than {HEADERS_MAX} headers follow the body")
            return
        if self._left == 2 and line == b"":
            self._left = 0
            return
        size = _CHUNK_SIZE.fullmatch(line) if line is not None and not self._left else None
        if size is None:
            raise InvalidRequestError(400, "invalid_http", "the body is not in chunks as HTTP/1.1 has them")
        self._left = int(size.group(1), 16) + 2
        if self._left == 2:
            self._left, self._trailers = 0, 0


def answer_text(status: int, headers: Iterable[tuple[str, str]], body: bytes, *, keep_alive: bool) -> bytes:
    """An answer with a complete body."""
    head = _head(status, tuple(headers), keep_alive)
    if status in _WITHOUT_LENGTH:
        return b"%b%b\r\n" % (head, _date(int(time.time())))
    return b"%b%bcontent-length: %d\r\n\r\n%b" % (head, _date(int(time.time())), len(body), body)


def stream_head(headers: Iterable[tuple[str, str]]) -> bytes:
    """The head of an answer whose body ends when the connection closes, which every version of HTTP supports."""
    return b"%b%b\r\n" % (_head(200, tuple(headers), False), _date(int(time.time())))


@lru_cache(maxsize=256)
def _head(status: int, headers: tuple[tuple[str, str], ...], keep_alive: bool) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, *(() if keep_alive else ("connection: close",)), ""]).encode("latin-1")


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return f"date: {formatdate(second, usegmt=True)}\r\n".encode()
