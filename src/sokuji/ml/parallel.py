"""Compute on all cores, by threads: numpy and Arrow release the interpreter lock while they compute."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

CORES = os.cpu_count() or 1

_T = TypeVar("_T")
_R = TypeVar("_R")

_here = threading.local()
_threads = ThreadPoolExecutor(max(1, CORES - 1), thread_name_prefix="ml")  # starts its threads on demand


def each(function: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    """Call `function` for every item, in the calling thread and others. The results are in the order of the items.

    Inside another `each`, the items are computed one after the other, because the threads are in use.
    """
    items = list(items)
    if len(items) < 2 or hasattr(_here, "is_working"):
        return [function(item) for item in items]
    results: dict[int, _R] = {}
    numbers = itertools.count()

    def work() -> None:
        _here.is_working = True
        try:
            while (number := next(numbers)) < len(items):
                results[number] = function(items[number])
        finally:
            del _here.is_working

    others = [_threads.submit(work) for _ in range(min(CORES, len(items)) - 1)]
    try:
        work()
    finally:
        wait(others)
    for other in others:
        other.result()
    return [results[number] for number in range(len(items))]


def shares(count: int, step: int) -> list[range]:
    """Split range(0, count, step) into as many ranges as there are cores."""
    steps = -(-count // step)
    share = step * -(-steps // CORES)
    return [range(start, min(start + share, count), step) for start in range(0, count, share)] if count else []
