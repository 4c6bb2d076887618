"""Tasks that answer requests on the event loop while it serves others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from sokuji.web.connection import Exchange

logger = logging.getLogger(__name__)


class Tasks:
    """The running coroutines that answer requests."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], exchange: Exchange) -> None:
        """Run `work`, which answers the exchange. A bug in it closes the connection: no client is left waiting."""

        def ended(task: asyncio.Task[None]) -> None:
            self._running.discard(task)
            if not task.cancelled() and (error := task.exception()):
                exchange.abort()
                logger.error("a request could not be answered", exc_info=error)

        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(ended)

    def cancel(self) -> None:
        """Cancel all of them."""
        for task in self._running:
            task.cancel()
