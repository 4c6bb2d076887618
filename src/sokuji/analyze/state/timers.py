"""Which profiles have a timer, and when the next one is due. The rows have the timers; this index says which rows to read."""

from __future__ import annotations

import heapq

import msgspec

_STALE_MAX = 3  # outdated entries of the heap for each valid one; above this, the heap is built again
_HEAP_MIN = 10_000


class Timers:
    """Profiles by the time at which their next timer is due.

    A million profiles take about 200 MB of memory, and 0.04 s to save, for which the worker waits at every checkpoint.
    """

    def __init__(self, saved: bytes = b"") -> None:
        """Continue with the result of `save`."""
        self._next: dict[str, int] = msgspec.msgpack.decode(saved, type=dict[str, int]) if saved else {}
        self._heap: list[tuple[int, str]] = []  # an entry that is not in `_next` is outdated
        self._sort()

    def _sort(self) -> None:
        self._heap = [(due_us, key) for key, due_us in self._next.items()]
        heapq.heapify(self._heap)

    def set(self, key: str, due_us: int) -> None:
        """Set the time at which the profile's next timer is due (microseconds); 0: the profile has none."""
        if due_us == self._next.get(key, 0):
            return
        if not due_us:
            del self._next[key]
            return
        self._next[key] = due_us
        heapq.heappush(self._heap, (due_us, key))
        if len(self._heap) > _HEAP_MIN + (1 + _STALE_MAX) * len(self._next):
            self._sort()

    def keys(self) -> list[str]:
        """The profiles that have a timer."""
        return list(self._next)

    def due(self, until_us: int, limit: int) -> list[str]:
        """The profiles with a timer due at or before this time, at most `limit`, in the order in which the timers are due."""
        found: list[str] = []
        while self._heap and self._heap[0][0] <= until_us and len(found) < limit:
            due_us, key = heapq.heappop(self._heap)
            if self._next.get(key) == due_us:
                del self._next[key]
                found.append(key)
        return found

    def next_us(self) -> int | None:
        """The earliest time at which a timer may be due; None if there is none."""
        return self._heap[0][0] if self._heap else None

    def save(self) -> bytes:
        """Encode all timers, in about 50 bytes for each profile with a timer."""
        return msgspec.msgpack.encode(self._next)
