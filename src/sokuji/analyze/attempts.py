"""How often the worker died of which batch, in a file that outlives the process, if not a power cut."""

from __future__ import annotations

import mmap
from pathlib import Path

from sokuji.disk.files import make_folder, replace_file

_WORDS, _WORD_BYTES = 3, 8
_WORKING, _SUSPECT, _DEATHS = range(_WORDS)
"""The batch that is being worked on and the one that the worker died of last, both counted from 1, and how often in a row."""


class Attempts:
    """Told before and after each batch, in a few nanoseconds."""

    def __init__(self, path: Path) -> None:
        """Open the file, made if it is not there. A batch that was being worked on when the last process ended has killed it."""
        make_folder(path.parent)
        if not path.exists() or path.stat().st_size != _WORDS * _WORD_BYTES:
            replace_file(path, bytes(_WORDS * _WORD_BYTES))
        with path.open("r+b") as file:
            self._words = memoryview(mmap.mmap(file.fileno(), _WORDS * _WORD_BYTES)).cast("Q")
        if killer := self._words[_WORKING]:
            self._words[_DEATHS] = 1 + (self._words[_DEATHS] if self._words[_SUSPECT] == killer else 0)
            self._words[_SUSPECT], self._words[_WORKING] = killer, 0

    def deaths(self, batch: int) -> int:
        """How often in a row the worker died of this batch."""
        return self._words[_DEATHS] if self._words[_SUSPECT] == batch + 1 else 0

    def begin(self, batch: int) -> None:
        """The batch is being worked on now."""
        self._words[_WORKING] = batch + 1

    def done(self, batch: int) -> None:
        """The batch is worked on, or given up."""
        self._words[_WORKING] = 0
        if self._words[_SUSPECT] == batch + 1:
            self._words[_SUSPECT] = self._words[_DEATHS] = 0

    def close(self) -> None:
        """Unmap the file."""
        self._words.release()
