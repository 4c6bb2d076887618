"""Tell the parts of a query, in any thread or library, that the query must end."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sokuji.errors import QueryCancelledError

MEMORY_MIB = 4096  # the default of `Stop.memory_mib`


class Stop:
    """The stop signal of one query, with the reason.

    Code that can only pass numbers, such as DuckDB's functions, uses `number` and `find`.
    """

    def __init__(self, memory_mib: int = MEMORY_MIB) -> None:
        """Create the signal. `memory_mib` is the memory that one evaluation outside of DuckDB may use."""
        self.memory_mib = memory_mib
        self.reason: str | None = None
        self.number = next(_NUMBERS)
        self._lock = threading.Lock()
        self._interrupts: list[Callable[[], None]] = []
        _ALL[self.number] = self

    def now(self, reason: str) -> None:
        """End the query. The first reason counts. Any thread may call this."""
        with self._lock:
            self.reason = self.reason or reason
            for interrupt in self._interrupts:
                interrupt()

    def check(self) -> None:
        """Check whether the query must end; long operations call this often. Raises QueryCancelledError if it must."""
        if self.reason is not None:
            raise QueryCancelledError(self.reason)

    @contextmanager
    def interrupting(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """A block that another thread can end by calling `interrupt`. `interrupt` is called only while the block runs.

        Raises:
            QueryCancelledError: the query must already end.
        """
        with self._lock:
            self.check()
            self._interrupts.append(interrupt)
        try:
            yield
        finally:
            with self._lock:
                self._interrupts.remove(interrupt)


def out_of_time(limit_seconds: float) -> str:
    """The reason to end a query at its time limit."""
    return f"The query ran into its time limit of {limit_seconds:g} s ([sql] timeout_seconds)"


def find(number: int | None) -> Stop:
    """The stop of the query with this number; one that never stops if there is none."""
    return (None if number is None else _ALL.get(number)) or NEVER


_NUMBERS = itertools.count()
_ALL: weakref.WeakValueDictionary[int, Stop] = weakref.WeakValueDictionary()
NEVER = Stop()
