"""Who may go on now: whoever needs little is served at once, and addresses that need more take turns."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Generic, Protocol, TypeVar

_WINDOW_SECONDS = 1.0
_FREE_SECONDS = 0.01  # of each window an address has on the event loop without waiting for its turn: some hundred events
_TURN_SECONDS = 0.002  # a step under way is not cut short
_SPARE_SECONDS = 0.01
_SWITCH_SECONDS = 0.0005  # a thread waits so long for the interpreter of one that reads a heavy body; else it is ten times that
_ROUND_SECONDS = 0.01  # all turns of one round of the loop, which then takes what has come from others

Item = TypeVar("Item")
Result = TypeVar("Result")


class Lines(Generic[Item]):
    """What waits, by address: each has its own line, and they take turns."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[Item]] = {}

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, address: str, item: Item) -> None:
        """Let `item` wait behind the others of its address."""
        self._lines.setdefault(address, deque()).append(item)

    def pop(self) -> Item:
        """The first of the address whose turn it is, which then is the last of all."""
        address = next(iter(self._lines))
        line = self._lines.pop(address)
        item = line.popleft()
        if line:
            self._lines[address] = line
        return item


class Walker(Protocol):
    """What takes steps; a connection is one."""

    @property
    def address(self) -> str:
        """Whose time the next step takes."""

    def step(self) -> bool:
        """Take it; False if there is none to take."""

    def go_on(self, until: float) -> None:
        """It is its turn, until this time (`time.perf_counter`)."""


class Turns:
    """Shares the event loop between addresses."""

    def __init__(self) -> None:
        self._used: dict[str, float] = {}  # seconds, in this window
        self._window_end = 0.0
        self._lines: Lines[Walker] = Lines()
        self._is_due = False  # the next round
        self._spare: float | None = None  # when this round of the loop has taken long

    def serve(self, walker: Walker, until: float | None = None) -> bool:
        """Let it take its steps, as long as its address has time left, or in its turn `until`; False: it is to wait for its turn."""
        now = time.perf_counter()
        if now >= self._window_end:
            self._used.clear()
            self._window_end = now + _WINDOW_SECONDS
        has_more = until is None or walker.step()  # in its turn it takes one, however late it is
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
        """While nobody waits, whoever has come in this round of the loop goes on until this time: taken one by one, requests would share
        fewer flushes.
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
    """Runs what takes long in a thread beside the event loop, one after the other."""

    def __init__(self, thread: Executor) -> None:
        self._thread = thread
        self._lines: Lines[asyncio.Future[None]] = Lines()
        self._is_busy = False

    async def run(self, address: str, work: Callable[[], Result]) -> Result:
        """What `work` returns or raises, once it was the turn of `address`."""
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
    """Do `work` in a thread that lets go of the interpreter soon: a request of one event needs it some ten times, in two threads."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        return work()
    finally:
        sys.setswitchinterval(before)
