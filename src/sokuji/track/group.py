"""Group commit: requests wait together for the disk, and no request waits for a timer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from sokuji.errors import InvalidRequestError, LogError
from sokuji.track.committer import Committer
from sokuji.track.metrics import TrackMetrics
from sokuji.track.request import Request

logger = logging.getLogger(__name__)

_FAILURE_SECONDS = 5.0


Done = Callable[[InvalidRequestError | None], None]
"""Called once a request is durable, or with the reason why it is not."""


class _Waiting(NamedTuple):
    request: Request
    events: int
    done: Done


class GroupCommit:
    """One flush at a time; what arrives meanwhile makes up the next, which starts as soon as the last ended.

    So a lone request is on disk after one fsync, and under load a flush carries as much as arrived during one. Rows are built on the
    loop's own thread, as handing the interpreter lock to and fro costs more than building them; another waits for the disk.
    """

    def __init__(self, committer: Committer, queue_events: int, metrics: TrackMetrics) -> None:
        self._committer, self._queue_events, self._metrics = committer, queue_events, metrics
        self._waiting: list[_Waiting] = []
        self._flushing: list[_Waiting] = []
        self._flushes: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="track-flush")
        self._failed_at = -_FAILURE_SECONDS
        self.queued_events = 0

    def full(self) -> bool:
        """Whether the bound on accepted, not yet durable events is reached."""
        return self.queued_events >= self._queue_events

    def check_room(self, events: int) -> None:
        """Whether `events` more may be accepted. A request that is larger than the whole queue may, when nothing else waits.

        Raises:
            InvalidRequestError: 429, they may not.
        """
        if self.queued_events and self.queued_events + events > self._queue_events:
            raise InvalidRequestError(429, "busy", f"{self.queued_events} events wait for the disk already; send the same request again")

    def failing(self) -> bool:
        """Whether a flush failed a moment ago. It wears off: a collector that gets no requests could not prove itself well."""
        return time.monotonic() - self._failed_at < _FAILURE_SECONDS

    def commit(self, request: Request, done: Done) -> None:
        """Make `request` durable, and call `done` then. A 503 says that the log could not be written: some of the events may have been.

        Raises:
            InvalidRequestError: 429, too many events wait.
        """
        events = max(1, len(request.events) + len(request.refused))
        self.check_room(events)
        self._waiting.append(_Waiting(request, events, done))
        self.queued_events += events
        if self._flushes is None:
            self._start()

    def close(self) -> None:
        """End the thread. What was accepted must be done."""
        self._thread.shutdown()

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        # A task starts in the loop's next round: the requests that are readable in this one share the flush.
        self._flushes = loop.create_task(self._flush(loop))
        self._flushes.add_done_callback(self._ended)

    async def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            self._flushing, self._waiting = self._waiting, []
            started = time.perf_counter()
            requests = [waiting.request for waiting in self._flushing]
            rows = self._committer.prepare(requests)
            try:
                await loop.run_in_executor(self._thread, self._committer.write, rows)
            except LogError as error:
                self._answer(self._flushing, error)
            else:
                self._metrics.flushed(requests, time.perf_counter() - started)
                self._answer(self._flushing, None)
            # What is readable by now shares the next flush: under load a third fewer flushes, and a fifth less time a request.
            await asyncio.sleep(0)

    def _ended(self, flushes: asyncio.Task[None]) -> None:
        self._flushes = None
        if flushes.cancelled():  # the loop ends
            return
        error = flushes.exception()
        if error is not None:  # a defect, but none that may leave a client waiting
            answered, self._waiting = self._flushing + self._waiting, []
            self._answer(answered, error)
        if self._waiting and self._flushes is None:  # they came after the last look, or while others were answered
            self._start()

    def _answer(self, answered: list[_Waiting], error: BaseException | None) -> None:
        if error is not None:
            self._failed_at = time.monotonic()
            self._metrics.failed()
            logger.error("%d requests refused: the log cannot be written", len(answered), exc_info=error)
        for waiting in answered:
            self.queued_events -= waiting.events
            problem = None
            if error is not None:
                problem = InvalidRequestError(503, "unavailable", f"the events could not be stored, send them again: {error}")
            waiting.done(problem)
