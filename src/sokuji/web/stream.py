"""An answer that is sent in parts, for as long as both sides want it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self


class Stream:
    """The body of an answer until either side ends it. The connection ends with it."""

    __slots__ = ("_changed", "_end", "_send", "is_full", "is_open")

    def __init__(self, send: Callable[[bytes], None], end: Callable[[], None], changed: Callable[[], None]) -> None:
        """`send` and `end` are the connection's; `changed` is called when the client reads again, or is gone."""
        self._send, self._end, self._changed = send, end, changed
        self.is_open = True  # this side has not ended it, and the client is there
        self.is_full = False  # the client does not read: what is sent waits in memory

    @classmethod
    def ended(cls) -> Self:
        """The stream to a client that is gone already."""
        stream = cls(lambda _: None, lambda: None, lambda: None)
        stream.is_open = False
        return stream

    def send(self, part: bytes) -> None:
        """Send a part. Nothing happens if the stream is not open."""
        if self.is_open:
            self._send(part)

    def end(self) -> None:
        """End the stream, once the client has read what was sent. Nothing happens if it is not open."""
        if self.is_open:
            self.is_open = False
            self._end()

    # Called by the connection.

    def pause(self) -> None:
        """The client does not read."""
        self.is_full = True

    def resume(self) -> None:
        """It does again."""
        self.is_full = False
        self._changed()

    def lose(self) -> None:
        """The client is gone."""
        if self.is_open:
            self.is_open = False
            self._changed()
