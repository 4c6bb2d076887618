"""An RSGI application as a process, granian around it, ended without losing what it was given."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol

from sokuji.errors import MissingExtraError
from sokuji.service.event_loop import Address, run_until_signal

try:
    from granian.constants import HTTPModes, Interfaces
    from granian.rsgi import HTTPProtocol, Scope  # type: ignore[attr-defined]
    from granian.server.embed import Server
except ImportError as error:
    raise MissingExtraError("granian", "realtime", "serving actions to pages") from error

_BACKLOG = 1024
_DRAIN_SECONDS = 10.0


class Application(Protocol):
    """What is served; `Act` is one."""

    async def __rsgi__(self, scope: Scope, proto: HTTPProtocol) -> None:
        """Answer one request."""

    async def drain(self, timeout_seconds: float) -> None:
        """Refuse what comes from now on, and return when all that came before is answered, or the time is up."""

    def close(self) -> None:
        """Release what is held, once nothing is served any more."""


def serve(app: Application, settings: Address, listening: Callable[[int], None] = lambda _: None, *, connections: int = _BACKLOG) -> None:
    """Serve `app` until SIGTERM or SIGINT, then drain: requests under way are answered, later ones get 503. For a process's main thread.

    `listening` is called with the port once connections are taken (`settings.port` 0 takes any free one).
    At most `connections` are open at a time; more wait until one ends.

    Raises:
        OSError: the address cannot be had.
    """
    run_until_signal(lambda stop: run(app, settings, stop, listening, connections=connections))


async def run(
    app: Application,
    settings: Address,
    stop: asyncio.Event,
    listening: Callable[[int], None] = lambda _: None,
    *,
    connections: int = _BACKLOG,
) -> None:
    """As `serve`, on the running event loop, until `stop` is set."""
    with _reserve(settings.host, settings.port) as reservation:
        port = reservation.getsockname()[1]
        server = Server(
            app,
            address=settings.host,
            port=port,
            interface=Interfaces.RSGI,
            http=HTTPModes.http1,
            websockets=False,
            backlog=_BACKLOG,
            backpressure=connections,
            log_enabled=False,
        )
        serving = asyncio.ensure_future(server.serve())
        await _until_connectable(settings.host, port, serving)
        listening(port)
        await stop.wait()
        await app.drain(_DRAIN_SECONDS)
        server.stop()  # type: ignore[no-untyped-call]
        await serving
        app.close()


def _reserve(host: str, port: int) -> socket.socket:
    """A socket that holds the port, and never listens on it: granian takes a number, not a socket, and shares it with this one.

    Because it shares, another collector on the same port would go unnoticed, and get half the events; so that is tried first.
    """
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        address = probe.getsockname()
    reservation = socket.socket(family, kind)
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reservation.bind(address)
    return reservation


async def _until_connectable(host: str, port: int, serving: asyncio.Future[None]) -> None:
    while not serving.done():
        try:
            _, writer = await asyncio.open_connection(host, port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            return
    await serving
