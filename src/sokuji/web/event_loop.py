"""The process of a server: an event loop that runs until the process gets a signal to stop."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable
from typing import Protocol

import uvloop

# A full garbage collection stops the loop. The hot path makes no cycles, so the young generation may grow large.
_GC_THRESHOLDS = (100_000, 50, 100)


class Address(Protocol):
    """The address where a server listens, from the settings of a role."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


def run_until_signal(serve: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `serve` until it returns, with an event that SIGTERM and SIGINT set. Call it in the process's main thread."""

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
    gc.unfreeze()  # frozen objects are not freed at exit, and native libraries complain about that
