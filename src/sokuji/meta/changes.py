"""The number of changes a catalog has seen, stored outside of its database. It shows if the database was lost or is an older copy.

Without this check, such a database would answer from an old state: with an old view, or an old champion.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from sokuji.disk.files import exclusive, make_folder
from sokuji.disk.stored import read_record, write_record
from sokuji.errors import DamagedFileError

_FORMAT = 1
_REMEDY = "nobody knows now whether the database is the newest; it is taken to be"
_LOG = logging.getLogger(__name__)


class _Said(msgspec.Struct):
    changes: int


class Changes:
    """A number in a file that never falls. Any number of processes may use it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> int:
        """The highest number that any process has seen; 0 if the file is lost.

        Raises:
            FormatError: a newer release wrote it.
        """
        try:
            return read_record(self._path, _Said, format=_FORMAT, remedy=_REMEDY).changes
        except FileNotFoundError:
            return 0
        except DamagedFileError as error:
            _LOG.warning("%s", error)
            return 0

    def saw(self, number: int) -> None:
        """Record that there were `number` changes."""
        make_folder(self._path.parent)
        with exclusive(self._path.with_suffix(".lock")):
            if number > self.read():
                write_record(self._path, _Said(number), format=_FORMAT)

    def forget(self) -> None:
        """Accept the database as it is."""
        self._path.unlink(missing_ok=True)


def check(database: str, seen: int, known: int) -> None:
    """Check that a database has `seen` at least as many changes as were `known`. Read `known` with `Changes.read` before `seen`.

    Raises:
        DamagedFileError: changes are missing.
    """
    if seen < known:
        raise DamagedFileError(
            database,
            f"it has seen {seen:,} of the {known:,} changes that were made, like one that was lost and created again, or an older copy",
            "restore a newer copy, or go on with this one: `sokuji adopt` registers the tables and models that it does not know",
        )
