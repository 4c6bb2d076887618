"""The raw columns that a model reads, and how the model's graph receives each of them.

The graph has one input tensor of shape [N] per column. It is float64 with NaN for NULL (numbers; BOOL as 0 and 1; TIMESTAMP as seconds
since 1970 UTC), or string with `_null_filler` for NULL (STRING, DATE, DATETIME, TIME). NaN in a FLOAT64 column counts as NULL.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.errors import ModelError
from sokuji.ml.values import NULL_CATEGORY, Floats
from sokuji.types import Field, Kind, field_names

Column = Any
"""`Floats` with NaN for NULL, or a `pa.Array` of strings with NULL_CATEGORY for NULL."""


class InputKind(enum.StrEnum):
    """How a raw column is represented and encoded."""

    NUMBER = "number"
    BOOL = "bool"
    TIMESTAMP = "timestamp"
    STRING = "string"


_KINDS = {
    Kind.INT64: InputKind.NUMBER,
    Kind.FLOAT64: InputKind.NUMBER,
    Kind.NUMERIC: InputKind.NUMBER,
    Kind.BIGNUMERIC: InputKind.NUMBER,
    Kind.BOOL: InputKind.BOOL,
    Kind.TIMESTAMP: InputKind.TIMESTAMP,
    Kind.STRING: InputKind.STRING,
    # BigQuery one-hot encodes every column that is neither numeric nor an array nor a TIMESTAMP.
    Kind.DATE: InputKind.STRING,
    Kind.DATETIME: InputKind.STRING,
    Kind.TIME: InputKind.STRING,
}

BOUNDS = {
    # The range of float32: no value overflows inside a graph, whichever precision the graph computes in.
    InputKind.NUMBER: (-3.4e38, 3.4e38),
    InputKind.BOOL: (0.0, 1.0),
    InputKind.TIMESTAMP: (-62135596800.0, 253402300799.999999),  # years 1 to 9999
}
"""Values outside these bounds are set to the bound."""


@dataclass(frozen=True, slots=True)
class Input:
    """One raw column. `path` leads to the column through STRUCTs; `name` names the graph's input tensor, `<struct>_<field>` for a field."""

    name: str
    kind: InputKind
    path: tuple[str, ...]


def inputs(features: Iterable[Field]) -> tuple[Input, ...]:
    """List the raw columns of `features`, with STRUCTs flattened.

    Raises:
        ModelError: a feature has a type that no model can use, or two columns have the same name.
    """
    found = [item for field in features for item in _flatten(field, "", ())]
    names = {item.name for item in found}
    if len(names) < len(found):
        repeated = sorted({item.name for item in found if sum(item.name == other.name for other in found) > 1})
        raise ModelError(f"feature names must differ, also after `<struct>_<field>` flattening; repeated: {', '.join(repeated)}")
    return tuple(found)


def _flatten(field: Field, prefix: str, path: tuple[str, ...]) -> Iterator[Input]:
    name, here = prefix + field.name, (*path, field.name)
    if field.type.kind is Kind.STRUCT:
        for child_name, child in zip(field_names(field.type), field.type.fields, strict=True):
            yield from _flatten(Field(child_name, child.type), f"{name}_", here)
        return
    if field.type.kind not in _KINDS:
        raise ModelError(
            f"feature {name!r} is {field.type}, which a model cannot use; make it one of "
            f"{', '.join(kind.value for kind in _KINDS)}, or a STRUCT of these, in the query"
        )
    yield Input(name, _KINDS[field.type.kind], here)


def read_column(item: Input, rows: pa.RecordBatch | pa.Table) -> Column:
    """Read the column as its kind is represented: float64 or strings."""
    return read_strings(item, rows) if item.kind is InputKind.STRING else read_numbers(item, rows)


def read_numbers(item: Input, rows: pa.RecordBatch | pa.Table) -> Floats:
    """Read the column as float64 with NaN for NULL, without clipping. The result may share memory with `rows`."""
    column = _column(item, rows)
    if item.kind is InputKind.TIMESTAMP:
        micros = pc.cast(column, pa.timestamp("us", tz="UTC"), safe=False)
        values = pc.divide(pc.cast(pc.cast(micros, pa.int64()), pa.float64(), safe=False), 1e6)
    else:
        values = pc.cast(pc.cast(column, pa.int8()) if pa.types.is_boolean(column.type) else column, pa.float64(), safe=False)
    array = values.to_numpy(zero_copy_only=False)  # NULL becomes NaN
    return np.asarray(array, dtype=np.float64)


def read_strings(item: Input, rows: pa.RecordBatch | pa.Table) -> pa.Array:
    """Read the column as strings with `_null_filler` for NULL."""
    column = _column(item, rows)
    text = pc.cast(column, pa.string())
    if pa.types.is_timestamp(column.type) or pa.types.is_time(column.type):
        text = pc.replace_substring_regex(text, r"\.0+$", "")  # as GoogleSQL formats these types
    filled: pa.Array = pc.fill_null(text, NULL_CATEGORY)
    return filled


def read_labels(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """Class labels with -0.0 replaced by 0.0: the two are equal in SQL but not in Arrow."""
    return pc.add(column, 0.0) if pa.types.is_floating(column.type) else column


def _column(item: Input, rows: pa.RecordBatch | pa.Table) -> pa.Array:
    if item.path[0] not in rows.schema.names:
        raise ModelError(f"the model needs the column {item.path[0]!r}, the rows have: {', '.join(rows.schema.names)}")
    column = rows.column(item.path[0])
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # more than 2 GiB of strings cannot be one array
            raise ModelError(f"the column {item.path[0]!r} is larger than 2 GiB; train on fewer rows")
    for name in item.path[1:]:
        column = pc.struct_field(column, name)
    return column
