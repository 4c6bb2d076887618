"""Which profiles have a timer, and when the next one is due. The rows say what is armed; this says where to look."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

import msgspec


class Timers:
    """Profiles by the time their next timer is due. An entry may be out of date: the profile's row is what counts."""

    def __init__(self, saved: bytes = b"") -> None:
        """Go on with what `save` gave."""
        self._heap: list[tuple[int, str]] = msgspec.msgpack.decode(saved, type=list[tuple[int, str]]) if saved else []
        self._next = {key: due_us for due_us, key in self._heap}

    def set(self, key: str, due_us: int) -> None:
        """The profile's next timer is due at this time (microseconds); 0: it has none."""
        known = self._next.get(key, 0)
        if due_us == known:
            return
        if due_us:
            self._next[key] = due_us
            heapq.heappush(self._heap, (due_us, key))
        else:
            del self._next[key]

    def keys(self) -> list[str]:
        """The profiles that have a timer."""
        return list(self._next)

    def due(self, until_us: int) -> list[str]:
        """The profiles with a timer due at or before this time, in the order in which they are due."""
        found = []
        while self._heap and self._heap[0][0] <= until_us:
            due_us, key = heapq.heappop(self._heap)
            if self._next.get(key) == due_us:
                del self._next[key]
                found.append(key)
        return found

    def next_us(self) -> int | None:
        """When the next timer is due, at the earliest."""
        return self._heap[0][0] if self._heap else None

    def save(self) -> bytes:
        """All of it, in as many bytes as there are armed timers times about 50."""
        entries: Iterable[tuple[int, str]] = ((due_us, key) for key, due_us in self._next.items())
        return msgspec.msgpack.encode(sorted(entries))
