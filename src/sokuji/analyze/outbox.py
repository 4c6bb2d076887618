"""What a worker publishes, once, although after a crash it works on some batches again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa

from sokuji.log.base import Log

_READ_ROWS = 100_000


class Outbox:
    """Appends to partition 0 of a log what is not there yet. Rows are told apart by the values of `key`.

    A message that is sent again much later is another event: as many rows with the same key are left out as are there.

    What a replay publishes again lies between `since`, the log's end at the time of the checkpoint it began from, and the log's end when
    it begins. Others may append to the log too.
    """

    def __init__(self, log: Log, since: int, key: Sequence[str]) -> None:
        self._log, self._key = log, list(key)
        self._published: Counter[tuple[object, ...]] = Counter()
        since, end = max(since, log.start(0)), log.end(0)
        while since < end:
            rows, _, since = log.read(0, since, _READ_ROWS, until=end)
            self._published.update(self._keys(rows))

    def append(self, rows: pa.RecordBatch) -> None:
        """Publish rows; durable on return."""
        if self._published:
            rows = rows.filter(pa.array([self._is_new(key) for key in self._keys(rows)], pa.bool_()))
        if rows.num_rows:
            self._log.append(0, rows)

    def caught_up(self) -> None:
        """The replay is over: nothing will come again."""
        self._published.clear()

    def end(self) -> int:
        """Where the log ends, to be kept with the checkpoint."""
        return self._log.end(0)

    def _is_new(self, key: tuple[object, ...]) -> bool:
        if is_new := not self._published[key]:
            del self._published[key]
        else:
            self._published[key] -= 1
        return is_new

    def _keys(self, rows: pa.RecordBatch) -> Iterator[tuple[object, ...]]:
        return zip(*(rows.column(name).to_pylist() for name in self._key), strict=True)
