"""Fair scheduling between addresses: a client that needs little time is served at once, and addresses that need more take turns."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Generic, Protocol, TypeVar

_WINDOW_SECONDS = 1.0
_FREE_SECONDS = 0.01  # event-loop time per window that an address gets without waiting for a turn: some hundred events
_TURN_SECONDS = 0.002  # a running step is not interrupted
_SPARE_SECONDS = 0.01
_SWITCH_SECONDS = 0.0005  # how long a thread waits for the interpreter while another reads a heavy body; the default is ten times as long
_ROUND_SECONDS = 0.01  # all turns of one round of the event loop, which then serves new input of others

Item = TypeVar("Item")
Result = TypeVar("Result")


class Lines(Generic[Item]):
    """Waiting items by address. Each address has its own line, and the addresses take turns."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[Item]] = {}

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, address: str, item: Item) -> None:
        """Append `item` to the line of its address."""
        self._lines.setdefault(address, deque()).append(item)

    def pop(self) -> Item:
        """Remove the first item of the address whose turn it is. That address then goes to the end."""
        address = next(iter(self._lines))
        line = self._lines.pop(address)
        item = line.popleft()
        if line:
            self._lines[address] = line
        return item


class Walker(Protocol):
    """A task that runs in steps, such as a connection."""

    @property
    def address(self) -> str:
        """The address charged for the time of the next step."""

    def step(self) -> bool:
        """Take one step; False if there is none to take."""

    def go_on(self, until: float) -> None:
        """Run its turn, until this time (`time.perf_counter`)."""


class Turns:
    """Shares the time of the event loop between addresses."""

    def __init__(self) -> None:
        self._used: dict[str, float] = {}  # seconds used in this window, by address
        self._window_end = 0.0
        self._lines: Lines[Walker] = Lines()
        self._is_due = False  # whether the next round is scheduled
        self._spare: float | None = None  # until when this round of the event loop may use spare time

    def serve(self, walker: Walker, until: float | None = None) -> bool:
        """Run the steps of `walker` while its address has time left, or until its turn ends (`until`). False: it must wait for a turn."""
        now = time.perf_counter()
        if now >= self._window_end:
            self._used.clear()
            self._window_end = now + _WINDOW_SECONDS
        has_more = until is None or walker.step()  # a turn always takes one step, even if it is late
        while has_more:
            address = walker.address
            started, used = now, self._used.get(address, 0.0)
            end = until if until is not None else now + _FREE_SECONDS - used if used < _FREE_SECONDS else self._spare_end(now)
            while has_more and now < end and walker.address is address:
                has_more = walker.step()
                now = time.perf_counter()
            self._used[address] = used + now - started
            if has_more and now >= end:
                self._lines.add(address, walker)
                self._call_round()
                return False
        return True

    def _spare_end(self, now: float) -> float:
        """The time until which all work that came in this round of the event loop may go on while nobody waits.

        Taken one by one, requests would share fewer flushes.
        """
        if self._lines:
            return now
        if self._spare is None:
            self._spare = now + _SPARE_SECONDS
            asyncio.get_running_loop().call_soon(self._end_spare)
        return self._spare

    def _end_spare(self) -> None:
        self._spare = None

    def _call_round(self) -> None:
        if self._lines and not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._round)

    def _round(self) -> None:
        self._is_due = False
        end = time.perf_counter() + _ROUND_SECONDS
        try:
            while self._lines and (now := time.perf_counter()) < end:
                self._lines.pop().go_on(now + _TURN_SECONDS)
        finally:
            self._call_round()


class Beside:
    """Runs long work in a thread beside the event loop, one item at a time."""

    def __init__(self, thread: Executor) -> None:
        self._thread = thread
        self._lines: Lines[asyncio.Future[None]] = Lines()
        self._is_busy = False

    async def run(self, address: str, work: Callable[[], Result]) -> Result:
        """Run `work` when it is the turn of `address`; returns its result or raises its error."""
        loop = asyncio.get_running_loop()
        if self._is_busy:
            turn = loop.create_future()
            self._lines.add(address, turn)
            await turn
        self._is_busy = True
        try:
            return await loop.run_in_executor(self._thread, _giving_way, work)
        finally:
            self._is_busy = False
            while self._lines and not self._is_busy:
                turn = self._lines.pop()
                if not turn.done():  # its client may be gone
                    self._is_busy = True
                    turn.set_result(None)


def _giving_way(work: Callable[[], Result]) -> Result:
    """Run `work` in a thread that yields the interpreter often.

    A request of one event needs the interpreter about ten times, in two threads.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        return work()
    finally:
        sys.setswitchinterval(before)
