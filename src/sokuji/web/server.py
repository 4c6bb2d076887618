"""Run an application as a server: a limited number of connections, and a shutdown that loses no accepted request."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable

from sokuji.service import descriptors
from sokuji.web.connection import Application, Connection, Connections
from sokuji.web.event_loop import Address, run_until_signal

logger = logging.getLogger(__name__)

_BACKLOG = 1024
_DRAIN_SECONDS = 10.0
_CLOSE_SECONDS = 1.0
_SWEEP_SECONDS = 1.0


def serve(app: Application, settings: Address, listening: Callable[[int], None] = lambda _: None, *, connections: int = _BACKLOG) -> None:
    """Serve `app` until SIGTERM or SIGINT, then drain: running requests are answered, later ones get 503. Call it in the main thread.

    `listening` is called with the port once connections are accepted (`settings.port` 0 takes any free one).
    At most `connections` are open at a time, fewer if the process may not open so many files. Further clients wait until one closes.

    Raises:
        OSError: the address is not available.
    """
    possible = descriptors.connections(connections)
    run_until_signal(lambda stop: run(app, settings, stop, listening, connections=possible))


async def run(
    app: Application,
    settings: Address,
    stop: asyncio.Event,
    listening: Callable[[int], None] = lambda _: None,
    *,
    connections: int = _BACKLOG,
) -> None:
    """Serve as `serve` does, on the running event loop, until `stop` is set."""
    family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
    with socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG) as listener:
        listener.setblocking(False)
        opened = Connections(connections, app.proxies)
        app.start()
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(_accept(app, listener, opened)), tasks.create_task(_cut_off_late(opened))]
            listening(listener.getsockname()[1])
            await stop.wait()
            app.drain()
            await _drained(opened)
            for task in running:
                task.cancel()
        await opened.close(_CLOSE_SECONDS)
        opened.refusals.report()
    app.close()


async def _accept(app: Application, listener: socket.socket, opened: Connections) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            client, (peer, *_) = await loop.sock_accept(listener)
        except OSError as error:
            logger.warning("a connection could not be accepted: %s", error)
            await asyncio.sleep(0.1)  # most likely out of descriptors or memory
            continue
        try:
            if not await opened.room(peer):
                client.close()
                opened.refusals.add("no connection free", peer)
                await asyncio.sleep(0)  # let others be served before the next client is refused
                continue
            await loop.connect_accepted_socket(lambda: Connection(app, opened), client)
        except OSError:  # the client is gone again
            client.close()
        except asyncio.CancelledError:
            client.close()
            raise


async def _cut_off_late(opened: Connections) -> None:
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        now = time.monotonic()
        for connection in opened:
            connection.cut_off_late(now)
        opened.refusals.report_when_due(now)


async def _drained(opened: Connections) -> None:
    """Wait for the running requests."""
    deadline = time.monotonic() + _DRAIN_SECONDS
    while busy := sum(connection.is_busy for connection in opened):
        if time.monotonic() > deadline:
            logger.warning("%d requests are cut off: their clients did not finish in %g s", busy, _DRAIN_SECONDS)
            return
        await asyncio.sleep(0.005)
