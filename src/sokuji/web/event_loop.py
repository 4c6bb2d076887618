"""A server's process: an event loop that runs until the process is asked to end."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable
from typing import Protocol

import uvloop

# A collection of the whole heap stops the loop; the hot path makes no cycles, so the young generation may grow large.
_GC_THRESHOLDS = (100_000, 50, 100)


class Address(Protocol):
    """Where a server listens; the settings of a role say so."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


def run_until_signal(serve: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `serve` with an event that SIGTERM and SIGINT set, until it returns. For a process's main thread."""

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await serve(stop)

    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    uvloop.run(main())
    gc.unfreeze()  # what stays frozen is not freed at exit, and native libraries complain
