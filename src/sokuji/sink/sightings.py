"""Count the events with each property that has no column. These counts decide which properties get columns."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from sokuji.disk.files import make_folder, replace_file

_KEPT_MAX = 10_000  # names; the rarest are dropped


class Sightings:
    """The counts for one events table, up to the sink's last commit. Nothing else depends on them; a lost file begins again from zero."""

    def __init__(self, folder: Path, dataset: str) -> None:
        """Read the counts stored in the sink's `folder`."""
        self._path = folder / "sightings" / f"{dataset}.json"
        self.counts: Counter[str] = Counter()
        if self._path.exists():
            try:
                found = json.loads(self._path.read_bytes())
            except ValueError:  # truncated, or damaged
                found = None
            if isinstance(found, dict) and all(isinstance(count, int) for count in found.values()):
                self.counts.update(found)
        self._saved = dict(self.counts)

    def save(self) -> None:
        """Store the counts."""
        if self.counts != self._saved:
            self.counts = Counter(dict(self.counts.most_common(_KEPT_MAX)))
            make_folder(self._path.parent)
            replace_file(self._path, json.dumps(self.counts).encode())
            self._saved = dict(self.counts)
