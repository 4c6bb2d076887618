"""How what runs for one query learns, in whichever thread and library it runs, that it is to end."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sokuji.errors import QueryCancelledError

MEMORY_MIB = 4096  # where no query says less


class Stop:
    """Of one query: whether it is to end, and why. `number` finds it where only numbers get to (`find`), as in DuckDB's functions."""

    def __init__(self, memory_mib: int = MEMORY_MIB) -> None:
        """`memory_mib` is what one evaluation outside of DuckDB may take."""
        self.memory_mib = memory_mib
        self.reason: str | None = None
        self.number = next(_NUMBERS)
        self._lock = threading.Lock()
        self._interrupts: list[Callable[[], None]] = []
        _ALL[self.number] = self

    def now(self, reason: str) -> None:
        """End the query; the first reason counts. Any thread may call."""
        with self._lock:
            self.reason = self.reason or reason
            for interrupt in self._interrupts:
                interrupt()

    def check(self) -> None:
        """To be called now and then by what takes long. Raises QueryCancelledError if the query is to end."""
        if self.reason is not None:
            raise QueryCancelledError(self.reason)

    @contextmanager
    def interrupting(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """A block that `interrupt` ends, which is called inside of it at most, by another thread.

        Raises:
            QueryCancelledError: the query is to end already.
        """
        with self._lock:
            self.check()
            self._interrupts.append(interrupt)
        try:
            yield
        finally:
            with self._lock:
                self._interrupts.remove(interrupt)


def find(number: int | None) -> Stop:
    """That of the query of this number; one that never comes if there is none."""
    return (None if number is None else _ALL.get(number)) or NEVER


_NUMBERS = itertools.count()
_ALL: weakref.WeakValueDictionary[int, Stop] = weakref.WeakValueDictionary()
NEVER = Stop()
