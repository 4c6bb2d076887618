"""The columns that a table may get, and the columns that readers see: the same rules for every lake."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from sokuji.errors import ConflictError, LakeError
from sokuji.lake.base import Kept
from sokuji.meta.objects import Ref

_COLUMN = Kept(pa.null())


def visible(columns: pa.Schema, kept: Mapping[str, Kept]) -> pa.Schema:
    """The columns that readers see: all except those that properties must no longer have."""
    return pa.schema([field for field in columns if kept.get(field.name.lower(), _COLUMN).has_column])


def check_columns(ref: Ref, columns: pa.Schema, kept: Mapping[str, Kept], schema: pa.Schema) -> None:
    """Check that rows with the columns of `schema` can go into a table that has `columns`, visible or not.

    Raises:
        LakeError: a column has another type in the table, was dropped, or differs from another column only in case.
    """
    types = {field.name: field.type for field in columns}
    for field in schema:
        said = kept.get(field.name.lower())
        if said is not None and (not said.has_column or (field.name not in types and said.type != field.type)):
            wanted = f"is to hold {said.type}, not {field.type}" if said.has_column else "was dropped"
            raise LakeError(f"table {ref}: column {field.name!r} {wanted}")
        if types.get(field.name, field.type) != field.type:
            raise LakeError(f"table {ref}: column {field.name!r} holds {types[field.name]}, not {field.type}")
    taken = {name.lower() for name in types}
    for name in schema.names:
        if name not in types and name.lower() in taken:
            raise LakeError(f"table {ref}: column {name!r} differs from another one only in case")
        taken.add(name.lower())


def changed(ref: Ref) -> ConflictError:
    """The error if a result was computed from outdated data."""
    return ConflictError(f"table {ref} was changed by another statement; run the statement again")
