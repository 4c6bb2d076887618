"""Whose requests were refused, in the log: by address, and no more lines than one can read."""

from __future__ import annotations

import logging
import time
from collections import Counter

logger = logging.getLogger(__name__)

_REPORT_SECONDS = 60.0
_LINES_MAX = 10  # a report; the addresses that were refused most
_COUNTED_MAX = 1_000
_OTHERS = "others"


class Refusals:
    """Counts refusals by address and reason, and logs the counts once a minute: a line for each refusal would fill the disk."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self.since = time.monotonic()

    def add(self, reason: str, address: str) -> None:
        """A client at `address` was refused something; `reason` is the answer's status, or what was refused without one."""
        key = (address, reason)
        self._counts[key if key in self._counts or len(self._counts) < _COUNTED_MAX else (_OTHERS, reason)] += 1

    def report_when_due(self, now: float) -> None:
        """Log what was counted, if the last report is long enough ago at the time `now` (monotonic)."""
        if now - self.since >= _REPORT_SECONDS:
            self.since = now
            self.report()

    def report(self) -> None:
        """Log what was counted since the last report."""
        for (address, reason), count in self._counts.most_common(_LINES_MAX):
            logger.warning("refused", extra={"client": address, "reason": reason, "times": count})
        left = self._counts.most_common()[_LINES_MAX:]
        if left:
            logger.warning("%d refusals more, of %d addresses", sum(count for _, count in left), len({address for (address, _), _ in left}))
        self._counts.clear()
