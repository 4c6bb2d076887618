"""Training on all cores, by threads: numpy and Arrow let go of the interpreter while they compute."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

CORES = os.cpu_count() or 1

_T = TypeVar("_T")
_R = TypeVar("_R")

_here = threading.local()


def _mark() -> None:
    _here.is_worker = True


_threads = ThreadPoolExecutor(CORES, thread_name_prefix="ml", initializer=_mark)  # starts them when they are needed


def each(function: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    """`function` of every item, in their order. Inside of another `each` one after the other, or all threads could wait for one another."""
    items = list(items)
    if len(items) < 2 or hasattr(_here, "is_worker"):
        return [function(item) for item in items]
    return list(_threads.map(function, items))


def shares(count: int, step: int) -> list[range]:
    """The starts of every `step` of `count` things, in as many ranges as there are cores."""
    steps = -(-count // step)
    share = step * -(-steps // CORES)
    return [range(start, min(start + share, count), step) for start in range(0, count, share)] if count else []
