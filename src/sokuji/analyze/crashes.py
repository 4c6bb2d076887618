"""How often the worker died of which batch, in a file that survives the process, but maybe not a power failure."""

from __future__ import annotations

import mmap
from pathlib import Path

from sokuji.disk.files import make_folder, replace_file

_WORDS, _WORD_BYTES = 3, 8
_WORKING, _SUSPECT, _DEATHS = range(_WORDS)
"""The batch in progress and the batch that the worker last died of, both counted from 1, and the number of deaths in a row."""


class Crashes:
    """Records the begin and the end of each batch, in a few nanoseconds."""

    def __init__(self, path: Path) -> None:
        """Open or create the file. A batch that was in progress when the last process ended has killed it."""
        make_folder(path.parent)
        if not path.exists() or path.stat().st_size != _WORDS * _WORD_BYTES:
            replace_file(path, bytes(_WORDS * _WORD_BYTES))
        with path.open("r+b") as file:
            self._words = memoryview(mmap.mmap(file.fileno(), _WORDS * _WORD_BYTES)).cast("Q")
        if killer := self._words[_WORKING]:
            self._words[_DEATHS] = 1 + (self._words[_DEATHS] if self._words[_SUSPECT] == killer else 0)
            self._words[_SUSPECT], self._words[_WORKING] = killer, 0

    def deaths(self, batch: int) -> int:
        """The number of times in a row that the worker died of this batch."""
        return self._words[_DEATHS] if self._words[_SUSPECT] == batch + 1 else 0

    def begin(self, batch: int) -> None:
        """Record that the batch is in progress."""
        self._words[_WORKING] = batch + 1

    def done(self, batch: int) -> None:
        """Record that the batch is processed, or abandoned."""
        self._words[_WORKING] = 0
        if self._words[_SUSPECT] == batch + 1:
            self._words[_SUSPECT] = self._words[_DEATHS] = 0

    def close(self) -> None:
        """Unmap the file."""
        self._words.release()
