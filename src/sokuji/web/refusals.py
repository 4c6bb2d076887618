"""Log whose requests were refused: counted by address, with a limit on the lines."""

from __future__ import annotations

import logging
import time
from collections import Counter

logger = logging.getLogger(__name__)

_REPORT_SECONDS = 60.0
_LINES_MAX = 10  # per report, for the addresses with the most refusals
_COUNTED_MAX = 1_000
_OTHERS = "others"


class Refusals:
    """Counts refusals by address and reason, and logs the counts once a minute. One line per refusal would fill the disk."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self.since = time.monotonic()

    def add(self, reason: str, address: str) -> None:
        """Count a refusal of a client at `address`. `reason` is the status of the answer, or text if there was no answer."""
        key = (address, reason)
        self._counts[key if key in self._counts or len(self._counts) < _COUNTED_MAX else (_OTHERS, reason)] += 1

    def report_when_due(self, now: float) -> None:
        """Log the counts if the last report is old enough at the time `now` (monotonic)."""
        if now - self.since >= _REPORT_SECONDS:
            self.since = now
            self.report()

    def report(self) -> None:
        """Log the counts since the last report."""
        for (address, reason), count in self._counts.most_common(_LINES_MAX):
            logger.warning("refused", extra={"client": address, "reason": reason, "times": count})
        left = self._counts.most_common()[_LINES_MAX:]
        if left:
            logger.warning("%d refusals more, of %d addresses", sum(count for _, count in left), len({address for (address, _), _ in left}))
        self._counts.clear()
