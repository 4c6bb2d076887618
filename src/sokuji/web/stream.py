"""An answer that is sent in parts, until one side ends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self


class Stream:
    """The body of a streamed answer, until either side ends it. The connection closes with it."""

    __slots__ = ("_changed", "_end", "_send", "is_full", "is_open")

    def __init__(self, send: Callable[[bytes], None], end: Callable[[], None], changed: Callable[[], None]) -> None:
        """Create a stream. `send` and `end` act on the connection. `changed` is called when the client reads again or is gone."""
        self._send, self._end, self._changed = send, end, changed
        self.is_open = True  # this side has not ended the stream, and the client is there
        self.is_full = False  # the client does not read: sent parts wait in memory

    @classmethod
    def ended(cls) -> Self:
        """A stream to a client that is already gone."""
        stream = cls(lambda _: None, lambda: None, lambda: None)
        stream.is_open = False
        return stream

    def send(self, part: bytes) -> None:
        """Send a part. Does nothing if the stream is not open."""
        if self.is_open:
            self._send(part)

    def end(self) -> None:
        """End the stream, once the client has read all sent parts. Does nothing if the stream is not open."""
        if self.is_open:
            self.is_open = False
            self._end()

    # Called by the connection.

    def pause(self) -> None:
        """Note that the client does not read."""
        self.is_full = True

    def resume(self) -> None:
        """Note that the client reads again."""
        self.is_full = False
        self._changed()

    def lose(self) -> None:
        """Note that the client is gone."""
        if self.is_open:
            self.is_open = False
            self._changed()
