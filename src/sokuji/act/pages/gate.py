"""Check before a decision is shown that it still holds, given all events acknowledged until now."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol
from weakref import WeakValueDictionary

from sokuji.act.decision import Recorded
from sokuji.act.fate import INELIGIBLE, Fate, recorded, to_events
from sokuji.clock import Clock
from sokuji.errors import InvalidRequestError, SokujiError
from sokuji.log.base import Log
from sokuji.rules.decision import Decision
from sokuji.rules.eligibility import Question

logger = logging.getLogger(__name__)


class VisitorStates(Protocol):
    """The known state of visitors. Called on one thread."""

    def reasons(self, questions: Sequence[Question], now_us: int) -> Sequence[str | None]:
        """Why each decision must not be shown at `now_us` to the asking client, None if it may.

        Raises SokujiError if that cannot be decided.
        """

    def close(self) -> None:
        """Release all resources."""


# How far the worker may be behind; if it is further behind, the page must ask again later.
_BEHIND_SECONDS = 2.0
_POLL_SECONDS = 0.002
# Rows of the decisions log, read at the start to find what the previous process recorded.
_BACK_ROWS = 100_000
_RECORDED_MAX = 200_000
# Concurrent questions per address. One question may be about the decisions of all rules; all waiting questions are answered together.
_AT_ONCE = 32


class Eligibility:
    """Answers for the event loop of one process, many questions at once. A decision not to be shown is recorded, once per reason."""

    def __init__(
        self, state: VisitorStates, events_log: Log, progress: Callable[[], Mapping[int, int]], decisions_log: Log, clock: Clock
    ) -> None:
        """Create the check. `progress` gives, by partition of the events log, the offset before which `state` has all events."""
        self._state, self._events_log, self._progress = state, events_log, [progress]
        self._log, self._clock = decisions_log, clock
        since = decisions_log.before_end(0, _BACK_ROWS)
        self._recorded = dict.fromkeys(id_ for _, _, id_ in recorded(decisions_log, since))  # oldest first
        self._asked: list[Question] = []
        self._round: asyncio.Task[list[str | None]] | None = None  # the task that will answer the collected questions
        self._turn = asyncio.Lock()
        self._asking = WeakValueDictionary[str, asyncio.Semaphore]()  # by address
        self._is_failing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="eligibility")

    def wait_for(self, progress: Callable[[], Mapping[int, int]]) -> None:
        """Also wait for another reader of the events log to reach the log's end, as it is when a question is asked."""
        self._progress.append(progress)

    async def reasons(self, decisions: Sequence[Decision], address: str, users: Collection[str] | None) -> list[str | None]:
        """Why each decision must not be shown now to a client at `address`; None: it may be shown.

        `users` has the meaning of `Question.users`.

        Raises:
            InvalidRequestError: 503, it cannot be decided: the worker does not run, or is far behind.
        """
        if not decisions:
            return []
        async with self._of(address):
            first = len(self._asked)
            self._asked += [Question(decision, users) for decision in decisions]
            if self._round is None:
                self._round = asyncio.get_running_loop().create_task(self._answer())
            answers = await asyncio.shield(self._round)
        return answers[first : first + len(decisions)]

    async def eligible(self, decisions: Sequence[Recorded], address: str, users: Collection[str] | None) -> list[Recorded]:
        """The decisions that may be shown. Arguments and errors are those of `reasons`."""
        reasons = await self.reasons([each.decision for each in decisions], address, users)
        return [each for each, reason in zip(decisions, reasons, strict=True) if reason is None]

    async def record(self, decision: Decision, reason: str, address: str) -> None:
        """Record that a decision was not shown, as a client at `address` reports; durable on return."""
        async with self._of(address):
            await asyncio.get_running_loop().run_in_executor(self._thread, self._record, [(decision, reason)])

    def _of(self, address: str) -> asyncio.Semaphore:
        return self._asking.setdefault(address, asyncio.Semaphore(_AT_ONCE))

    def close(self) -> None:
        """End its thread, and close the state."""
        self._thread.shutdown()
        self._state.close()

    async def _answer(self) -> list[str | None]:
        """Answer all questions asked until its turn comes."""
        async with self._turn:
            asked, self._asked, self._round = self._asked, [], None
            try:
                await self._until_current()
                answers = await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, asked)
            except SokujiError as error:
                if not self._is_failing:  # once, however many pages ask meanwhile
                    logger.warning("it cannot be told whether decisions still hold: %s", error)
                self._is_failing = True
                raise InvalidRequestError(503, "unavailable", "whether this may be shown is unknown now; retry later") from error
            self._is_failing = False
            return answers

    async def _until_current(self) -> None:
        """Wait until the state has all events that are in the log now."""
        ends = {partition: self._events_log.end(partition) for partition in range(self._events_log.partitions)}
        deadline = asyncio.get_running_loop().time() + _BEHIND_SECONDS
        while any(progress().get(partition, 0) < end for progress in self._progress for partition, end in ends.items()):
            if asyncio.get_running_loop().time() > deadline:
                raise SokujiError(f"the worker, or this process, is more than {_BEHIND_SECONDS:g} s behind, or the worker does not run")
            await asyncio.sleep(_POLL_SECONDS)

    def _ask(self, questions: Sequence[Question]) -> list[str | None]:
        answers = list(self._state.reasons(questions, self._clock()))
        self._record([(question.decision, reason) for question, reason in zip(questions, answers, strict=True) if reason is not None])
        return answers

    def _record(self, withheld: Sequence[tuple[Decision, str]]) -> None:
        fates: dict[str, Fate] = {}
        for decision, reason in withheld:
            ids = (decision.id, decision.dataset, decision.visitor_id, decision.user_id, decision.rule, decision.arm)
            fate = Fate(INELIGIBLE, *ids, reason, {})
            if fate.id not in self._recorded:
                fates[fate.id] = fate
        if fates:
            self._log.append(0, to_events(list(fates.values()), self._clock()))
            self._recorded |= dict.fromkeys(fates)
        while len(self._recorded) > _RECORDED_MAX:
            del self._recorded[next(iter(self._recorded))]
