"""Follow which decisions pages have shown, so that they are not delivered again.

Pages report it with `action_shown`, `action_clicked` and `action_closed`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc

from sokuji.act.decision import Audience, audiences
from sokuji.errors import OffsetTrimmedError
from sokuji.json_text import decode
from sokuji.log.base import Log

logger = logging.getLogger(__name__)

_EVENTS = pa.array(["action_shown", "action_clicked", "action_closed"])
_READ_ROWS = 50_000
# Between two reads: an idle log costs nothing, and it is short compared with the time a person needs to close a message.
_WAIT_SECONDS = 0.05
# The rows of a partition are not exactly in time order: requests that came together are written together.
_SLACK_US = 60_000_000
# Rows before the end to read at the start, whatever their times: the clock may have been set back.
_BACK_ROWS = 100_000


class Shown(NamedTuple):
    """A report that a decision was shown to a person."""

    decision_id: str
    people: list[Audience]


class ShownTail:
    """Follows the events log, and passes reports of shown decisions to `receive` on the event loop."""

    def __init__(self, log: Log, receive: Callable[[Sequence[Shown]], None]) -> None:
        self._log, self._receive = log, receive
        self._offsets: dict[int, int] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shown-tail")
        self._task: asyncio.Task[None] | None = None

    def progress(self) -> Mapping[int, int]:
        """By partition of the events log, the offset before which everything has been passed on."""
        return self._offsets

    def start(self, since: Callable[[], int], after: asyncio.Event) -> None:
        """Start on the running loop once `after` is set: a minute before `since()` or `_BACK_ROWS` before the end, whichever is earlier."""
        self._task = asyncio.get_running_loop().create_task(self._run(since, after))
        self._task.add_done_callback(_ended)

    def close(self) -> None:
        """Stop, and wait for the end of its thread."""
        if self._task is not None:
            self._task.cancel()
        self._thread.shutdown()

    async def _run(self, since: Callable[[], int], after: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        await after.wait()
        offsets = await loop.run_in_executor(self._thread, self._places, since())
        while True:
            reports = await loop.run_in_executor(self._thread, self._read, offsets)
            self._receive(reports)
            self._offsets = dict(offsets)

    def _places(self, since_us: int) -> dict[int, int]:
        log, places = self._log, {}
        for partition in range(log.partitions):
            places[partition] = min(log.before_end(partition, _BACK_ROWS), _first(log, partition, since_us - _SLACK_US))
        return places

    def _read(self, offsets: dict[int, int]) -> list[Shown]:
        """Read the reports from `offsets` on, and advance `offsets`. Waits a moment for new rows."""
        reports: list[Shown] = []
        self._log.wait(offsets, _WAIT_SECONDS)
        for partition, offset in offsets.items():
            try:
                batch, _, offsets[partition] = self._log.read(partition, offset, _READ_ROWS)
            except OffsetTrimmedError as error:
                offsets[partition] = error.start
            else:
                reports += _shown(batch)
        return reports


def _shown(batch: pa.RecordBatch) -> list[Shown]:
    is_report = pc.is_in(batch.column("event_name"), _EVENTS)
    if not pc.any(is_report).as_py():
        return []
    names = ["dataset", "visitor_id", "user_id", "properties"]
    rows = batch.select(names).filter(is_report).to_pylist()
    reports = []
    for row in rows:
        decision_id = _properties(row["properties"]).get("decision_id")
        if isinstance(decision_id, str):
            reports.append(Shown(decision_id, audiences(row["dataset"], row["visitor_id"], row["user_id"])))
    return reports


def _properties(text: str | None) -> dict[str, Any]:
    try:
        properties = decode(text or "{}")
    except (ValueError, RecursionError):  # any page may send anything
        return {}
    return properties if isinstance(properties, dict) else {}


def _first(log: Log, partition: int, time_us: int) -> int:
    """About the offset of a partition's first row received at `time_us` or later, by binary search; a probed offset may be in a gap."""
    low, high = log.start(partition), log.end(partition)
    while low < high:
        middle = (low + high) // 2
        try:
            read = log.read(partition, middle, 1, until=high)
        except OffsetTrimmedError as error:
            low = error.start
            continue
        if read.batch.num_rows and cast("pa.TimestampScalar", read.batch.column("received_at")[0]).value < time_us:
            low = read.next_offset
        else:
            high = middle
    return low


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("the events log cannot be read; nothing is delivered until this process is started again", exc_info=error)
