"""Carry the rules' memory of profiles over when the declarations change: caps, arms, edges and timers survive an edit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pyarrow as pa

from sokuji.analyze.state.base import DatasetState, Position, Remembered, States
from sokuji.analyze.state.layout import RowLayout, Rows
from sokuji.disk.stored import read_record, write_record
from sokuji.errors import DamagedFileError
from sokuji.features.known import Types
from sokuji.lake.events import PROPERTY_TYPES
from sokuji.rules.engine import Rules

LAYOUT_FILE = "layout.json"
"""A file of a complete state. It is missing while history is processed for the first time."""
ROWS = "rows"
"""The folder of a state's profiles."""
ASIDE, BEFORE = ".damaged", ".before"
"""Suffixes of the names of states that are kept only for the rules' memory, beside a state with the same layout."""

_FORMAT = 2  # format 1 had no checksum
_REMEDY = "restore it from a copy, or delete it: what rules remember of that state is then not brought along"
_STATE = re.compile(rf"[0-9a-f]{{16}}({re.escape(ASIDE)}|{re.escape(BEFORE)})?")


class _Stored(msgspec.Struct):
    """The position of the rules' bytes in the rows of a state, and their meaning."""

    width: int
    start: int
    stop: int
    rules: str
    properties: dict[str, str] = {}  # the types of properties; states of earlier releases do not have them


def describe(state: Path, layout: RowLayout, rules: Rules, properties: Types) -> None:
    """Write beside the complete rows in `state` what a later `Carrier`, and readers of the rows, must know about them."""
    types = {name: str(type_) for name, type_ in properties.items()}
    stored = _Stored(layout.width, layout.rules.start, layout.rules.stop, rules.layout, types)
    write_record(state / LAYOUT_FILE, stored, format=_FORMAT)


def check_described(state: Path) -> None:
    """Check that the description beside the rows in `state` may be written again, which happens when the rows are opened.

    Raises:
        FormatError: a newer release wrote it.
    """
    with suppress(FileNotFoundError, DamagedFileError):
        read_record(state / LAYOUT_FILE, _Stored, format=_FORMAT, remedy=_REMEDY)


def is_state(folder: Path) -> bool:
    """Whether this is a folder of the worker, by its name. Other folders beside it are not touched."""
    return _STATE.fullmatch(folder.name) is not None


def taken(folder: Path) -> Types:
    """The types of properties in the newest complete state of a dataset in `folder`; empty if there is none."""
    found: list[tuple[int, _Stored]] = []
    for file in filter(lambda file: is_state(file.parent), folder.glob(f"*/{LAYOUT_FILE}")):
        with suppress(FileNotFoundError):  # the state is being deleted
            found.append((file.stat().st_mtime_ns, read_record(file, _Stored, format=_FORMAT, remedy=_REMEDY)))
    types = max(found, key=lambda each: each[0])[1].properties if found else {}
    return {name: PROPERTY_TYPES[type_] for name, type_ in types.items()}


class Carrier:
    """The last state with other declarations."""

    def __init__(self, remembered: Remembered, stored: _Stored, rules: Rules) -> None:
        self._remembered, self._stored, self._rules = remembered, stored, rules
        self.position: Position = remembered.position

    def bring(self, keys: pa.StringArray, segment: Rows) -> None:
        """Give profiles that the rules do not know yet their earlier memory, without timers."""
        unknown = ~segment.any(axis=1)
        if unknown.any():
            segment[unknown] = self._rules.carry(self._rows(keys.filter(pa.array(unknown))), self._stored.rules, with_timers=False)

    def bring_timers(self, state: DatasetState, now_us: int) -> None:
        """Continue the armed timers."""
        keys = pa.array(self._remembered.timers.keys(), pa.string())
        if not len(keys):
            return
        rows = state.get_many(keys)
        segment = rows[:, state.layout.rules]
        segment[:] = self._rules.carry(self._rows(keys), self._stored.rules)
        state.put_many(keys, rows, now_us)
        for key, due_us in zip(keys.to_pylist(), self._rules.next_due(segment).tolist(), strict=True):
            state.timers.set(key, due_us)

    def _rows(self, keys: pa.StringArray) -> Rows:
        return self._remembered.get_many(keys)[:, self._stored.start : self._stored.stop]


@contextmanager
def carrying(folder: Path, state: Path, rules: Rules, states: States) -> Iterator[Carrier | None]:
    """The last complete state of a dataset in `folder`, other than `state`; None if there is none."""
    for other in folder.iterdir():
        if other != state and is_state(other) and (other / LAYOUT_FILE).exists():
            stored = read_record(other / LAYOUT_FILE, _Stored, format=_FORMAT, remedy=_REMEDY)
            with states.remembered(other, stored.width) as remembered:
                yield Carrier(remembered, stored, rules)
            return
    yield None
