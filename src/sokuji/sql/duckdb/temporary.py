"""Tables of CREATE TEMP TABLE. They exist as long as their script runs, or its results are read."""

from __future__ import annotations

import shutil
from pathlib import Path

from sokuji.lake.delta.tables import DeltaLake
from sokuji.sql.base import temporary_home


class TemporaryTables:
    """A separate catalog, in memory, and a separate lake, in a folder that is deleted with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.home = temporary_home(DeltaLake(folder))

    def close(self) -> None:
        """Delete the tables."""
        self.home.catalog.close()
        shutil.rmtree(self._folder, ignore_errors=True)
