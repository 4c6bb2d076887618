"""Calls into DuckDB that their callers may leave.

DuckDB checks for an interrupt between vectors of 2,048 rows, and one function on large texts or arrays works on a vector for seconds. So
each call runs on its own thread. A moment after the end of the query the caller leaves, and the call ends with its vector. The training of
a model is such a call too: it checks for the end of its statement between iterations.
"""

from __future__ import annotations

import atexit
import ctypes
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from sokuji.errors import QueryCancelledError, SqlError
from sokuji.sql.stop import Stop

T = TypeVar("T")

GRACE_SECONDS = 0.5
"""How long a call may take to notice that its query is to end, before its caller leaves."""

LEFT_MAX = 2
"""The number of queries whose left calls may run at once: each holds a vector in memory, which no limit counts."""

_IDLE_SECONDS = 1.0  # a thread without a call ends after this time; a few queries a second share one thread


class NativeCalls:
    """The calls of one database. Any number of threads may make some at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Thread] = []
        self._under_way = 0
        self._left: list[_Call[Any]] = []
        self._release: Callable[[], None] | None = None
        _ALL.add(self)

    def run(self, function: Callable[[], T], stop: Stop) -> T:
        """Call `function` on another thread; return or raise what it does.

        Raises:
            QueryCancelledError: the query ended, and `function` still runs.
        """
        stop.check()
        return self._run(function, stop)

    def finish(self, function: Callable[[], None]) -> None:
        """Call `function` on another thread, and wait a moment at most."""
        with suppress(QueryCancelledError):
            self._run(function, None)

    def _run(self, function: Callable[[], T], stop: Stop | None) -> T:
        if sys.is_finalizing():  # no thread starts any more
            return function()
        call, thread = _Call(function, stop), self._thread()
        with self._lock:
            self._under_way += 1
            thread.calls.put(call)
        try:
            call.wait()
        finally:
            # Whatever ended the wait, Ctrl-C included.
            with self._lock:
                if not call.is_over:
                    self._left.append(call)
        return call.outcome()

    def _thread(self) -> _Thread:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        thread = _Thread(self)
        thread.start()
        return thread

    def check(self) -> None:
        """Raises SqlError if no further query may start."""
        if self.left >= LEFT_MAX:
            raise SqlError(
                f"Resources exceeded: {self.left} queries that were cancelled, or ran into their time limit, are still inside a function "
                "on large values or an iteration of a model; try again when one of them has ended"
            )

    @property
    def left(self) -> int:
        """The number of queries whose callers have left a call that still runs."""
        with self._lock:
            return len({call.stop or call for call in self._left})

    @property
    def under_way(self) -> int:
        """The number of calls that run."""
        return self._under_way

    def close(self, release: Callable[[], None]) -> None:
        """Call `release` when no call runs: now, or on the thread of the last call."""
        with self._lock:
            self._release = release if self._under_way else None
        if self._release is None:
            release()

    def over(self, call: _Call[T], thread: _Thread) -> bool:
        """Note that a call has ended; return whether its thread is to wait for another call."""
        with self._lock:
            call.is_over = True
            self._under_way -= 1
            if call in self._left:
                self._left.remove(call)
            release = None if self._under_way else self._release
            if release is None:
                self._idle.append(thread)
        if release is not None:
            release()
        return release is None

    def forget(self, thread: _Thread) -> bool:
        """Whether a thread that waited in vain may end: no call has been given to it."""
        with self._lock:
            is_idle = thread in self._idle
            if is_idle:
                self._idle.remove(thread)
        return is_idle


class _Call(Generic[T]):
    """One call, and the place where its caller waits."""

    def __init__(self, function: Callable[[], T], stop: Stop | None) -> None:
        self.stop = stop
        self._function: Callable[[], T] | None = function
        self._result: tuple[T] | None = None
        self._error: BaseException | None = None
        self._news: SimpleQueue[None] = SimpleQueue()  # the call is over, or the query is to end
        self.is_over = False

    def run(self) -> None:
        """Call the function."""
        assert self._function is not None  # noqa: S101 it runs once
        try:
            self._result = (self._function(),)
        except BaseException as error:  # noqa: BLE001 raised to the caller
            self._error = error
        self._function = None

    def wait(self) -> None:
        """Wait until the call is over. A moment after the end of the query QueryCancelledError is raised."""
        if self.stop is not None:
            with self.stop.interrupting(self.tell):
                self._news.get()
        until = time.monotonic() + GRACE_SECONDS
        while not self.is_over:
            try:
                self._news.get(timeout=max(0.0, until - time.monotonic()))
            except Empty:
                raise QueryCancelledError((self.stop and self.stop.reason) or "The query was closed") from None

    def tell(self) -> None:
        """Let the caller look at what has changed."""
        self._news.put(None)

    def outcome(self) -> T:
        """Return or raise what the function did."""
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # its traceback holds this frame and the rows
        assert self._result is not None  # noqa: S101 it is over
        return self._result[0]


class _Thread(threading.Thread):
    """Runs one call after another. The process does not wait for it to end."""

    def __init__(self, owner: NativeCalls) -> None:
        super().__init__(name="sql", daemon=True)
        self.calls: SimpleQueue[_Call[Any]] = SimpleQueue()
        self._owner = owner

    def run(self) -> None:
        goes_on = True
        while goes_on:
            try:
                call = self.calls.get(timeout=_IDLE_SECONDS)
            except Empty:
                goes_on = not self._owner.forget(self)
                continue
            call.run()
            goes_on = self._owner.over(call, self)
            call.tell()
            del call  # it holds rows


_ALL: weakref.WeakSet[NativeCalls] = weakref.WeakSet()


def is_any_under_way() -> bool:
    """Whether any call of this process runs."""
    return any(calls.under_way for calls in _ALL)


def _let_threads_wait() -> None:
    """Pause threads that return from a call while the process exits: Python before 3.14 ends them, which aborts the process."""
    if sys.version_info < (3, 14) and is_any_under_way():
        with suppress(OSError, AttributeError):  # on other systems threads end without unwinding
            ctypes.CDLL("libstdc++.so.6")._ZSt13set_terminatePFvvE(ctypes.CDLL(None).pause)  # noqa: SLF001 std::set_terminate


atexit.register(_let_threads_wait)
