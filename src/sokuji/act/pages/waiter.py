"""Put decisions into the answer to the event that caused them: `POST /v1/track?decisions=wait`."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sokuji.act.decision import Recorded
from sokuji.act.follow import Cursor
from sokuji.log.base import Log

# A decision may be there before its event's request asks for it. So the decisions of this many messages are kept. At 65,000 events/s, with
# a decision on one in a hundred, they cover the last 15 s.
_KEPT = 10_000
# And at most about this many bytes of them, as texts of decisions may be as long as events.
_KEPT_BYTES_MAX = 64 * 1024 * 1024
# Concurrent waiting requests; further ones are answered without waiting.
_WAITING_MAX = 10_000
# How late a decision is seen at most; a check costs about 1 us.
_POLL_SECONDS = 0.001

_Message = tuple[str, str]  # dataset and message id
Wanted = Callable[[Recorded], bool]


@dataclass(slots=True, eq=False)
class _Waiting:
    done: asyncio.Future[None]
    partitions: int  # number of partitions where the events are not analyzed yet
    wanted: Wanted


class Waiter:
    """Decisions by the message that triggered them, for the event loop of one process. It reads the log only while a request waits."""

    def __init__(self, decisions_log: Log, analyzed: Callable[[], Mapping[int, int]]) -> None:
        """Create the waiter.

        Before the offset that `analyzed` gives (by partition of the events log), all decisions are in the decisions log.
        """
        self._cursor, self._analyzed = Cursor(decisions_log), analyzed
        self._kept: OrderedDict[_Message, list[tuple[Recorded, int]]] = OrderedDict()  # with their sizes
        self._kept_bytes = 0
        self._waiting: dict[_Message, list[_Waiting]] = {}
        self._requests = 0  # number of waiting requests
        self._behind: dict[int, list[tuple[int, int, _Waiting]]] = {}  # by partition, a heap by offset
        self._order = itertools.count()
        self._task: asyncio.Task[None] | None = None

    async def wait(
        self, dataset: str, message_ids: Sequence[str], ends: Mapping[int, int], timeout_seconds: float, wanted: Wanted = lambda _: True
    ) -> list[Recorded]:
        """The `wanted` decisions on these messages of `dataset`, in the log's order, without control arms.

        Returns as soon as there are some, the messages are analyzed, or the time is up. Most messages cause no decision, and so need not
        wait
        until the time limit. A later decision comes by the stream. If too many requests wait, it returns at once. The time of the return
        reveals nothing about decisions other than the wanted ones.

        Args:
            dataset: of the messages.
            message_ids: of the events, which are durable.
            ends: by partition of the events log, the offset after the last of the events.
            timeout_seconds: the longest wait.
            wanted: whether a decision is for the waiting client.
        """
        messages = [(dataset, message_id) for message_id in message_ids]
        self._watch_from_now()
        if self._requests < _WAITING_MAX and not self._found(messages, wanted):
            await self._until_known(messages, ends, timeout_seconds, wanted)
        return sorted(self._found(messages, wanted), key=lambda recorded: recorded.offset)

    def _found(self, messages: Sequence[_Message], wanted: Wanted) -> list[Recorded]:
        return [recorded for message in messages for recorded, _ in self._kept.get(message, ()) if wanted(recorded)]

    def _watch_from_now(self) -> None:
        if self._task is None:
            self._cursor.skip(_KEPT)
            self._task = asyncio.get_running_loop().create_task(self._watch())
            self._task.add_done_callback(self._ended)

    async def _until_known(self, messages: Sequence[_Message], ends: Mapping[int, int], timeout_seconds: float, wanted: Wanted) -> None:
        waiting = _Waiting(asyncio.get_running_loop().create_future(), len(ends), wanted)
        self._requests += 1
        for message in messages:
            self._waiting.setdefault(message, []).append(waiting)
        for partition, end in ends.items():
            heapq.heappush(self._behind.setdefault(partition, []), (end, next(self._order), waiting))
        try:
            await asyncio.wait({waiting.done}, timeout=timeout_seconds)
        finally:
            self._requests -= 1
            for message in messages:
                self._leave(message, waiting)
            is_late = waiting.done.cancel()
        if not is_late:
            waiting.done.result()  # raises the error of `_watch`

    def _leave(self, message: _Message, waiting: _Waiting) -> None:
        others = self._waiting[message]
        others.remove(waiting)
        if not others:
            del self._waiting[message]

    async def _watch(self) -> None:
        try:
            while True:
                analyzed = self._analyzed()  # before reading, so that decisions made by now are then read
                while not self._cursor.is_at_end():
                    self._keep(self._cursor.read())
                self._release(analyzed)
                await asyncio.sleep(_POLL_SECONDS)
                if not self._waiting:
                    return
        finally:
            self._task = None
            self._behind.clear()

    def _keep(self, decisions: Sequence[Recorded]) -> None:
        for recorded in decisions:
            if not recorded.is_for_page:
                continue
            message = (recorded.decision.dataset, recorded.decision.trigger_id)
            size = recorded.size
            self._kept.setdefault(message, []).append((recorded, size))
            self._kept_bytes += size
            for waiting in self._waiting.get(message, ()):
                if waiting.wanted(recorded):
                    _finish(waiting)
        while len(self._kept) > _KEPT or self._kept_bytes > _KEPT_BYTES_MAX:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= sum(size for _, size in oldest)

    def _release(self, analyzed: Mapping[int, int]) -> None:
        for partition, heap in self._behind.items():
            if len(heap) > 2 * _WAITING_MAX:  # the worker is stuck, and most of these requests have given up
                heap[:] = [entry for entry in heap if not entry[2].done.done()]
                heapq.heapify(heap)
            while heap and heap[0][0] <= analyzed.get(partition, 0):
                waiting = heapq.heappop(heap)[2]
                waiting.partitions -= 1
                if waiting.partitions == 0:
                    _finish(waiting)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        for waiting in [each for others in self._waiting.values() for each in others]:
            if not waiting.done.done():
                waiting.done.set_exception(error)


def _finish(waiting: _Waiting) -> None:
    if not waiting.done.done():
        waiting.done.set_result(None)
