"""Publish the worker's rows once, although it processes some batches again after a crash."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa

from sokuji.log.base import Log

_READ_ROWS = 100_000


class Outbox:
    """Appends rows that are not yet in partition 0 of a log. The values of `key` identify rows.

    A message that is sent again much later is another event: of rows with the same key, as many are left out as are published.

    A replay publishes rows again that lie between `since`, the log's end at the replay's checkpoint, and the log's end when the replay
    begins. Others may also append to the log.
    """

    def __init__(self, log: Log, since: int, key: Sequence[str]) -> None:
        self._log, self._key = log, list(key)
        self._published: Counter[tuple[object, ...]] = Counter()
        since, end = max(since, log.start(0)), log.end(0)
        while since < end:
            rows, _, since = log.read(0, since, _READ_ROWS, until=end)
            self._published.update(self._keys(rows))

    def append(self, rows: pa.RecordBatch) -> None:
        """Publish rows. They are durable on return."""
        if self._published:
            rows = rows.filter(pa.array([self._is_new(key) for key in self._keys(rows)], pa.bool_()))
        if rows.num_rows:
            self._log.append(0, rows)

    def caught_up(self) -> None:
        """Note that the replay is over: no row will be published again."""
        self._published.clear()

    def end(self) -> int:
        """The end of the log, to be stored with the checkpoint."""
        return self._log.end(0)

    def _is_new(self, key: tuple[object, ...]) -> bool:
        if is_new := not self._published[key]:
            del self._published[key]
        else:
            self._published[key] -= 1
        return is_new

    def _keys(self, rows: pa.RecordBatch) -> Iterator[tuple[object, ...]]:
        return zip(*(rows.column(name).to_pylist() for name in self._key), strict=True)
