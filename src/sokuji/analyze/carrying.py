"""What rules remember of profiles, brought along when the declarations change: caps, arms, edges and timers outlive an edit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pyarrow as pa

from sokuji.analyze.pipeline import Pipeline
from sokuji.analyze.rows import RowLayout, Rows
from sokuji.analyze.stage import MARKS, Marks, Position, position
from sokuji.analyze.timers import Timers
from sokuji.log.files import replace_file
from sokuji.online.shared import SharedStore
from sokuji.rules.engine import Rules

LAYOUT_FILE = "layout.json"
"""Of a state that is complete: while history is taken in for the first time it is not there."""

_ROWS_MAX = 10_000  # in memory; each row is read once


class _Stored(msgspec.Struct):
    """Where the rules' bytes are in the rows of a state, and what they mean."""

    width: int
    start: int
    stop: int
    rules: str


def describe(state: Path, layout: RowLayout, rules: Rules) -> None:
    """Keep beside the rows in `state`, which are complete, what a later `Carrier` must know of them."""
    stored = _Stored(layout.width, layout.rules.start, layout.rules.stop, rules.layout)
    replace_file(state / LAYOUT_FILE, msgspec.json.encode(stored))


class Carrier:
    """The last state under other declarations."""

    def __init__(self, store: SharedStore, stored: _Stored, rules: Rules) -> None:
        self._store, self._stored, self._rules = store, stored, rules
        self._timers = Timers(msgspec.msgpack.decode(store.blobs()[MARKS], type=Marks).timers)
        self.position: Position = position(store.offsets())

    def bring(self, keys: pa.Array, segment: Rows) -> None:
        """Give profiles of whom the rules know nothing yet what they knew before, but for timers."""
        unknown = ~segment.any(axis=1)
        if unknown.any():
            segment[unknown] = self._rules.carry(self._rows(keys.filter(pa.array(unknown))), self._stored.rules, with_timers=False)

    def bring_timers(self, pipeline: Pipeline, now_us: int) -> None:
        """Go on with the timers that were armed."""
        keys = pa.array(self._timers.keys(), pa.string())
        if not len(keys):
            return
        rows = pipeline.store.get_many(keys).rows
        segment = rows[:, pipeline.layout.rules]
        segment[:] = self._rules.carry(self._rows(keys), self._stored.rules)
        pipeline.store.put_many(keys, rows, now_us)
        for key, due_us in zip(keys.to_pylist(), self._rules.next_due(segment).tolist(), strict=True):
            pipeline.timers.set(key, due_us)

    def _rows(self, keys: pa.Array) -> Rows:
        return self._store.get_many(keys).rows[:, self._stored.start : self._stored.stop]


@contextmanager
def carrying(folder: Path, state: Path, rules: Rules) -> Iterator[Carrier | None]:
    """The last complete state of a dataset in `folder`, other than `state`; None if there is none."""
    for other in folder.iterdir():
        if other != state and (other / LAYOUT_FILE).exists():
            stored = msgspec.json.decode((other / LAYOUT_FILE).read_bytes(), type=_Stored)
            with SharedStore(other / "rows", width=stored.width, rows_max=_ROWS_MAX) as store:
                yield Carrier(store, stored, rules)
            return
    yield None
