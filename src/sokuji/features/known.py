"""The types of the properties of a dataset's events, on which the worker, training, checks and SQL agree.

A type declared in `features.py` comes first, then the column in the events table, then the type recorded while there was no column yet
(`Lake.keep`), then a type that makes an expression valid. If an expression cannot use a property as the table has it, for example in a
sum over texts, the property is read with the type that the expression needs. Values of other types are NULL.
"""

from __future__ import annotations

from collections.abc import Mapping

from sokuji.errors import NotFoundError
from sokuji.lake.base import Kept, Lake, Snapshot
from sokuji.lake.events import EVENTS, FIXED_SCHEMA, PROPERTY_TYPES, TIME_COLUMN, property_columns
from sokuji.meta.objects import Ref
from sokuji.sink.writers import make_table
from sokuji.types import Type, from_arrow, to_arrow

Types = dict[str, Type]
"""Types by name: STRING, FLOAT64 or BOOL."""


def columns(lake: Lake, dataset: str) -> Types:
    """The properties that have a column in the dataset's events table."""
    return _columns(_snapshot(lake, dataset))


def known(lake: Lake, dataset: str) -> Types:
    """The properties with a known type: those with a column, and those with a recorded type."""
    snapshot = _snapshot(lake, dataset)
    types = _columns(snapshot)
    names = {name.lower() for name in types}
    return types | {name: from_arrow(kept.type) for name, kept in snapshot.kept.items() if name not in names}


def agree(lake: Lake, dataset: str, wanted: Mapping[str, Type]) -> bool:
    """Record in the events table which types properties are read with, so that later columns get the same types.

    Returns False if a column of another type was added meanwhile: then call `known` again.
    """
    ref = Ref(dataset, EVENTS)
    make_table(lake, ref, FIXED_SCHEMA, day_of=TIME_COLUMN)
    before = lake.snapshot(ref)
    names = {name.lower() for name in _columns(before)}
    to_keep = {name: Kept(to_arrow(type_), before.kept[name].has_column if name in before.kept else True) for name, type_ in _lower(wanted)}
    if new := {name: kept for name, kept in to_keep.items() if name not in names and before.kept.get(name) != kept}:
        lake.keep(ref, new)
    come = {name: type_ for name, type_ in _lower(columns(lake, dataset)) if name not in names}
    return all(come.get(name, type_) == type_ for name, type_ in _lower(wanted))


def _lower(types: Mapping[str, Type]) -> list[tuple[str, Type]]:
    return [(name.lower(), type_) for name, type_ in types.items()]


def _columns(snapshot: Snapshot) -> Types:
    types = {name: from_arrow(type_) for name, type_ in property_columns(snapshot.schema).items()}
    return {name: type_ for name, type_ in types.items() if type_ in PROPERTY_TYPES.values()}


def _snapshot(lake: Lake, dataset: str) -> Snapshot:
    try:
        return lake.snapshot(Ref(dataset, EVENTS))
    except NotFoundError:
        return Snapshot((), FIXED_SCHEMA, -1)
