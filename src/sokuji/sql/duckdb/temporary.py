"""Tables of CREATE TEMP TABLE. They exist as long as their script runs, or its results are read."""

from __future__ import annotations

import shutil
from pathlib import Path

from sokuji.lake.acknowledged import OnlyCommitted
from sokuji.lake.delta.tables import DeltaLake
from sokuji.meta.memory import MemoryCatalog
from sokuji.sql.base import Home
from sokuji.sql.front.lookup import SESSION


class TemporaryTables:
    """A separate catalog, in memory, and a separate lake, in a folder that is deleted with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        lake = DeltaLake(folder)
        self.home = Home(MemoryCatalog(), lake, OnlyCommitted(lake))
        self.home.catalog.create_dataset(SESSION)

    def close(self) -> None:
        """Delete the tables."""
        self.home.catalog.close()
        shutil.rmtree(self._folder, ignore_errors=True)
