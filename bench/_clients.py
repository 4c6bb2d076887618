"""Kept connections to a collector, with one request at a time on each."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator


class Clients:
    """Knows connections by number."""

    def __init__(self, port: int, connections: int) -> None:
        """Connect so many times to a port of this machine."""
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        for _ in range(connections):
            connection = socket.create_connection(("127.0.0.1", port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
            self._sockets[connection.fileno()] = connection
            self._poll.register(connection, select.EPOLLIN)

    @property
    def numbers(self) -> list[int]:
        """Of all connections."""
        return list(self._sockets)

    def send(self, number: int, request: bytes | memoryview) -> None:
        """Send a request; the one before on this connection was answered."""
        self._sockets[number].sendall(request)

    def acknowledged(self, wait_seconds: float | None) -> Iterator[int]:
        """The connections whose request was acknowledged: all that are by now, or the first after at most this long (None: at any time)."""
        for number, _ in self._poll.poll(wait_seconds):
            answer = self._sockets[number].recv(65536)
            if not answer.startswith(b"HTTP/1.1 200 ") or not answer.endswith(b'"results":{}}'):
                raise SystemExit(f"not acknowledged: {answer!r}")
            yield number
