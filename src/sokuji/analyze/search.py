"""The search for the event of a batch that kills the worker: by halves, across the deaths of the process.

Each trial works on a part of the batch, from the state before it, and is written down before. Whether the process survived it is known
afterwards: by the same process, or by the next one. The worker may also be killed from outside meanwhile, which looks the same. So an
event is the culprit only if it kills the worker alone, the batch's timers without any event do not, and then it alone does once more.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from sokuji.disk.stored import read_record, write_record

FILE = "search.json"
DEATHS = 2
"""Of one batch in a row: it is not by chance that the process died then."""

KILLED = "the worker was killed, or crashed without a Python error"
_FORMAT = 1
_TIMES_ALONE = 2
"""Before the trial without any row, and after it: the first death may have come from outside."""


class Search(msgspec.Struct):
    """What is known. The culprit is among the rows from `first` to before `last`, as the batch has them."""

    batch: int
    first: int
    last: int
    trial: tuple[int, int] | None = None
    alone: int = 0  # how often the one row that is left has killed the worker alone
    is_survived: bool = False  # the batch without any row
    is_over: bool = False
    culprit: int | None = None  # the row; None when it is over: no single one
    reason: str = KILLED

    def next_trial(self) -> tuple[int, int]:
        """The rows to work on, from and to."""
        if self.last - self.first > 1:
            return self.first, (self.first + self.last) // 2
        return (self.first, self.first) if self.alone and not self.is_survived else (self.first, self.last)

    def settle(self, reason: str | None) -> None:
        """Take in how the trial ended: `reason` says how the worker died, None that it survived."""
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
        else:  # the one row that is left
            self.is_over = True


def load(path: Path, batch: int) -> Search | None:
    """The search in this batch that is under way.

    Raises:
        FormatError, DamagedFileError: as `read_record`.
    """
    if not path.exists():
        return None
    found = read_record(path, Search, format=_FORMAT, remedy="delete it: the search begins again")
    return found if found.batch == batch else None


def save(path: Path, search: Search) -> None:
    """Write down what is known; durable on return."""
    write_record(path, search, format=_FORMAT)
