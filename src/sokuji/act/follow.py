"""Follow the decisions log: read new decisions as soon as they are there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from sokuji.act.decision import Recorded, decisions
from sokuji.errors import OffsetTrimmedError
from sokuji.log.base import Log

logger = logging.getLogger(__name__)

PARTITION = 0
"""The decisions log has one partition."""

# Rows decoded at once, while the event loop is blocked.
_READ_ROWS = 1_000
# How often a thread that waits for the log checks whether it is still needed.
_WAIT_SECONDS = 0.05


class Cursor:
    """A position in the log that advances with every read."""

    def __init__(self, log: Log, *, back: int = 0) -> None:
        """Start about `back` rows before the log's end."""
        self._log = log
        self.offset = log.before_end(PARTITION, back)

    def skip(self, rows: int) -> None:
        """Skip rows until at most `rows` remain before the end."""
        self.offset = max(self.offset, self._log.before_end(PARTITION, rows))

    def is_at_end(self) -> bool:
        """Whether everything was read."""
        return self._log.end(PARTITION) <= self.offset

    def read(self) -> list[Recorded]:
        """The decisions in the next rows. Unreadable ones are logged (see `decisions`) and skipped."""
        try:
            read = self._log.read(PARTITION, self.offset, _READ_ROWS)
        except OffsetTrimmedError as error:
            logger.warning("decisions %d to %d were removed before they were read", self.offset, error.start)
            self.offset = error.start
            return []
        self.offset = read.next_offset
        return [each for each in decisions(read) if isinstance(each, Recorded)]


class DecisionFollower:
    """Follows the log from about `back` rows before its end, and passes decisions to `receive` on the event loop."""

    def __init__(self, log: Log, receive: Callable[[Sequence[Recorded]], None], *, back: int) -> None:
        self._log, self._receive = log, receive
        self._cursor = Cursor(log, back=back)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decisions-tail")
        self._task: asyncio.Task[None] | None = None
        self.caught_up = asyncio.Event()
        """Set when all decisions that were there at the start have been passed on."""

    @property
    def is_current(self) -> bool:
        """Whether all decisions that were there at the start have been passed on, and the follower still runs."""
        return self.caught_up.is_set() and self._task is not None and not self._task.done()

    def start(self) -> None:
        """Start on the running loop; does nothing if already started."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(_ended)

    def close(self) -> None:
        """Stop, and wait for the end of its thread."""
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
