"""How many events have had each property that has no column: columns are given by that."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from sokuji.disk.files import make_folder, replace_file

_KEPT_MAX = 10_000  # names; the rarest are forgotten


class Sightings:
    """Of one events table, as far as its sink has committed. Nothing else rests on them: a file that is lost is begun anew."""

    def __init__(self, folder: Path, dataset: str) -> None:
        """Read what is kept in the sink's `folder`."""
        self._path = folder / "sightings" / f"{dataset}.json"
        self.counts: Counter[str] = Counter()
        if self._path.exists():
            try:
                found = json.loads(self._path.read_bytes())
            except ValueError:  # cut off, or flipped bits
                found = None
            if isinstance(found, dict) and all(isinstance(count, int) for count in found.values()):
                self.counts.update(found)
        self._saved = dict(self.counts)

    def save(self) -> None:
        """Keep what has been counted."""
        if self.counts != self._saved:
            self.counts = Counter(dict(self.counts.most_common(_KEPT_MAX)))
            make_folder(self._path.parent)
            replace_file(self._path, json.dumps(self.counts).encode())
            self._saved = dict(self.counts)
