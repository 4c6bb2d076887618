"""Search for the event of a batch that kills the worker, by halves, across deaths of the process.

Each trial processes a part of the batch, from the state before it, and is recorded first. Whether the process survived is known afterwards,
by the same process or by the next one. The worker may also be killed from outside, which looks the same. So an event is the culprit only if
three trials agree: it alone kills the worker, the batch's timers without any event do not, and then it alone kills the worker again.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from sokuji.disk.stored import read_record, write_record

FILE = "search.json"
DEATHS = 2
"""The number of deaths of one batch in a row that is not chance."""

KILLED = "the worker was killed, or crashed without a Python error"
_FORMAT = 1
_TIMES_ALONE = 2
"""Once before the trial without any row, and once after it, because the first death may have come from outside."""


class Search(msgspec.Struct):
    """The knowledge so far. The culprit is among the rows of the batch from `first` to before `last`."""

    batch: int
    first: int
    last: int
    trial: tuple[int, int] | None = None
    alone: int = 0  # how often the one remaining row has killed the worker alone
    is_survived: bool = False  # whether the worker survived the batch without any row
    is_over: bool = False
    culprit: int | None = None  # the row; None when the search is over: no single row is the culprit
    reason: str = KILLED

    def next_trial(self) -> tuple[int, int]:
        """The rows of the next trial, from and to."""
        if self.last - self.first > 1:
            return self.first, (self.first + self.last) // 2
        return (self.first, self.first) if self.alone and not self.is_survived else (self.first, self.last)

    def settle(self, reason: str | None) -> None:
        """Record the outcome of the trial: `reason` says how the worker died; None means that it survived."""
        first, last = self.trial or (self.first, self.last)
        self.trial = None
        if first == last:
            self.is_survived, self.is_over = reason is None, reason is not None
        elif reason is not None:
            self.first, self.last, self.reason = first, last, reason
            self.alone += last - first == 1
            if self.alone == _TIMES_ALONE:
                self.is_over, self.culprit = True, first
        elif last < self.last:
            self.first = last
        else:  # the one remaining row
            self.is_over = True


def load(path: Path, batch: int) -> Search | None:
    """The search in this batch, if one is in progress.

    Raises:
        FormatError, DamagedFileError: see `read_record`.
    """
    if not path.exists():
        return None
    found = read_record(path, Search, format=_FORMAT, remedy="delete it: the search begins again")
    return found if found.batch == batch else None


def save(path: Path, search: Search) -> None:
    """Write the search. It is durable on return."""
    write_record(path, search, format=_FORMAT)
