"""Group commit: requests wait together for the disk, and no request waits for a timer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import NamedTuple

from sokuji.errors import InvalidRequestError, LogError
from sokuji.service.proxies import unit
from sokuji.track.committer import Committer
from sokuji.track.metrics import TrackMetrics
from sokuji.track.request import Request

logger = logging.getLogger(__name__)

_FAILURE_SECONDS = 5.0

# The target time to build the rows of one flush, during which the event loop is blocked. The number of events this allows is learned.
_PREPARE_SECONDS = 0.02
_FLUSH_EVENTS_MIN, _FLUSH_EVENTS_MAX = 500, 10_000
# A larger request is committed in parts, so that one flush need not take all of it.
_PART_EVENTS = 500

Done = Callable[[InvalidRequestError | None], None]
"""Called once a request is durable, or with the reason why it is not."""


class _Waiting(NamedTuple):
    request: Request
    events: int
    done: Done


class GroupCommit:
    """Runs one flush at a time. Requests that arrive meanwhile form the next flush, which starts as soon as the last one ends.

    A lone request is on disk after one fsync. Under load, a flush carries all that arrived during the flush before. Rows are built on the
    event loop's own thread, because passing the interpreter lock between threads costs more than building them. Another thread waits for
    the disk.
    """

    def __init__(self, committer: Committer, queue_events: int, metrics: TrackMetrics) -> None:
        self._committer, self._queue_events, self._metrics = committer, queue_events, metrics
        self._waiting: list[_Waiting] = []
        self._flushing: list[_Waiting] = []
        self._flushes: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="track-flush")
        self._failed_at = -_FAILURE_SECONDS
        self._flush_events = 2 * _FLUSH_EVENTS_MIN
        self.queued_events = 0

    def full(self) -> bool:
        """Whether the limit on accepted, not yet durable events is reached."""
        return self.queued_events >= self._queue_events

    def check_room(self, events: int, client: str) -> None:
        """Check that `events` more may be accepted from `client`. An address gets at most half of the queue.

        A request larger than half of the queue is accepted if the queue is empty, or if its address has nothing queued and the queue has
        room.

        Raises:
            InvalidRequestError: 429, the queue has no room for them.
        """
        queued = self.queued_events + events
        if queued <= self._queue_events // 2:
            return
        address = unit(client)
        own = sum(waiting.events for waiting in chain(self._flushing, self._waiting) if unit(waiting.request.sender) == address)
        if (self.queued_events and queued > self._queue_events) or (own and own + events > self._queue_events // 2):
            raise InvalidRequestError(429, "busy", f"{self.queued_events} events wait for the disk already; send the same request again")

    def failing(self) -> bool:
        """Whether a flush failed a moment ago. The state expires, as a collector without requests could not prove that it works again."""
        return time.monotonic() - self._failed_at < _FAILURE_SECONDS

    def commit(self, request: Request, done: Done) -> None:
        """Make `request` durable, then call `done`. A 503 says that the log could not be written; some of the events may have been.

        Raises:
            InvalidRequestError: 429, too many events wait.
        """
        events = max(1, len(request.events) + len(request.refused))
        self.check_room(events, request.sender)
        if len(request.events) > _PART_EVENTS:
            self._commit_parts(request, done)
        else:
            self._wait(request, events, done)
        if self._flushes is None:
            self._start()

    def _commit_parts(self, request: Request, done: Done) -> None:
        parts = request.parts(_PART_EVENTS)
        left = len(parts)
        first_failure: InvalidRequestError | None = None

        def part_done(failure: InvalidRequestError | None) -> None:
            nonlocal left, first_failure
            left -= 1
            first_failure = first_failure or failure
            if not left:
                request.join(parts)
                done(first_failure)

        for part in parts:
            self._wait(part, len(part.events) + len(part.refused), part_done)

    def _wait(self, request: Request, events: int, done: Done) -> None:
        self._waiting.append(_Waiting(request, events, done))
        self.queued_events += events

    def close(self) -> None:
        """End the thread. All accepted requests must be done before."""
        self._thread.shutdown()

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        # A task starts in the loop's next round. So all requests that are readable in this round share the flush.
        self._flushes = loop.create_task(self._flush(loop))
        self._flushes.add_done_callback(self._ended)

    async def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            self._flushing, self._waiting = self._next()
            started = time.perf_counter()
            requests = [waiting.request for waiting in self._flushing]
            rows = self._committer.prepare(requests)
            self._learn(sum(waiting.events for waiting in self._flushing), time.perf_counter() - started)
            try:
                await loop.run_in_executor(self._thread, self._committer.write, rows)
            except LogError as error:
                self._answer(self._flushing, error)
            else:
                self._metrics.flushed(requests, time.perf_counter() - started)
                self._answer(self._flushing, None)
            # Requests that are readable by now share the next flush. Under load this saves a third of the flushes, and a fifth of the time
            # per
            # request.
            await asyncio.sleep(0)

    def _next(self) -> tuple[list[_Waiting], list[_Waiting]]:
        """The requests of the next flush, and those that keep waiting. If not all fit, addresses take turns of `_PART_EVENTS` events."""
        if self.queued_events <= self._flush_events:
            return self._waiting, []
        lines: dict[str, deque[_Waiting]] = {}
        for waiting in self._waiting:
            lines.setdefault(unit(waiting.request.sender), deque()).append(waiting)
        turns = deque(lines)
        taken: list[_Waiting] = []
        events = 0
        while turns and events < self._flush_events:
            address = turns.popleft()
            line, end = lines[address], events + _PART_EVENTS
            while line and events < end:
                taken.append(line.popleft())
                events += taken[-1].events
            if line:
                turns.append(address)
        return taken, [waiting for address in turns for waiting in lines[address]]

    def _learn(self, events: int, seconds: float) -> None:
        """Adapt the size of a flush to the time its rows took to build."""
        if events < _FLUSH_EVENTS_MIN:  # so few events measure the machine more than the events
            return
        if seconds > _PREPARE_SECONDS:
            self._flush_events = max(_FLUSH_EVENTS_MIN, int(events * _PREPARE_SECONDS / seconds))
        elif events * 2 > self._flush_events:
            self._flush_events = min(_FLUSH_EVENTS_MAX, self._flush_events + self._flush_events // 4)

    def _ended(self, flushes: asyncio.Task[None]) -> None:
        self._flushes = None
        if flushes.cancelled():  # the loop ends
            return
        error = flushes.exception()
        if error is not None:  # a bug, but no client may be left waiting
            answered, self._waiting = self._flushing + self._waiting, []
            self._answer(answered, error)
        if self._waiting and self._flushes is None:  # requests came after the last check, or while others were answered
            self._start()

    def _answer(self, answered: list[_Waiting], error: BaseException | None) -> None:
        if error is not None:
            self._failed_at = time.monotonic()
            self._metrics.failed()
            logger.error("%d requests refused: the log cannot be written", len(answered), exc_info=error)
        for waiting in answered:
            self.queued_events -= waiting.events
            problem = None
            if error is not None:  # the log has the details: the reason names files of this machine
                problem = InvalidRequestError(503, "unavailable", "the events could not be stored; send the same request again")
            waiting.done(problem)
