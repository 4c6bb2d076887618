"""New decisions, as soon as they are in the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from sokuji.act.decision import Decision, decisions
from sokuji.errors import OffsetTrimmedError
from sokuji.log.base import Log

logger = logging.getLogger(__name__)

PARTITION = 0
"""The decisions log has one."""

# Rows decoded without letting the loop do anything else.
_READ_ROWS = 1_000
# A thread that waits for the log looks this often whether it is still needed.
_WAIT_SECONDS = 0.05


class Cursor:
    """A place in the log that moves on with every read."""

    def __init__(self, log: Log, *, back: int = 0) -> None:
        """About `back` rows before the log's end."""
        self._log = log
        self.offset = log.before_end(PARTITION, back)

    def skip(self, rows: int) -> None:
        """Leave out what is more than `rows` before the end."""
        self.offset = max(self.offset, self._log.before_end(PARTITION, rows))

    def is_at_end(self) -> bool:
        """Whether all was read."""
        return self._log.end(PARTITION) <= self.offset

    def read(self) -> list[Decision]:
        """The decisions among the next rows. Those that cannot be understood are logged (`decisions`) and left out."""
        try:
            read = self._log.read(PARTITION, self.offset, _READ_ROWS)
        except OffsetTrimmedError as error:
            logger.warning("decisions %d to %d were removed before they were read", self.offset, error.start)
            self.offset = error.start
            return []
        self.offset = read.next_offset
        return [decision for decision in decisions(read) if isinstance(decision, Decision)]


class DecisionFollower:
    """Follows the log from about `back` rows before its end, and hands over what it reads, on the event loop."""

    def __init__(self, log: Log, receive: Callable[[Sequence[Decision]], None], *, back: int) -> None:
        self._log, self._receive = log, receive
        self._cursor = Cursor(log, back=back)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decisions-tail")
        self._task: asyncio.Task[None] | None = None
        self.caught_up = asyncio.Event()
        """Set when what was there at the start has been handed over."""

    @property
    def is_current(self) -> bool:
        """Whether what was there when it started has been handed over, and it still runs."""
        return self.caught_up.is_set() and self._task is not None and not self._task.done()

    def start(self) -> None:
        """Begin, on the running loop; nothing if it has begun."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(_ended)

    def close(self) -> None:
        """End; returns when its thread has."""
        if self._task is not None:
            self._task.cancel()
        self._thread.shutdown()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._cursor.is_at_end():
                self._receive(self._cursor.read())
                await asyncio.sleep(0)
            self.caught_up.set()
            await loop.run_in_executor(self._thread, self._log.wait, {PARTITION: self._cursor.offset}, _WAIT_SECONDS)


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("the decisions log cannot be read; nothing is delivered until this process is started again", exc_info=error)
