"""How tables store values of GoogleSQL types for which Delta Lake has no type.

| type       | in tables                                       |
|------------|-------------------------------------------------|
| TIME       | INT64, microseconds since midnight              |
| INTERVAL   | STRUCT of months, days, nanoseconds (all INT64) |
| BIGNUMERIC | STRING                                          |
| JSON       | STRING                                          |

All other types are stored unchanged, also inside ARRAY and STRUCT. The catalog has the SQL type of each column.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.errors import LakeError
from sokuji.types import Type, to_arrow

_INTERVAL = pa.struct([("months", pa.int64()), ("days", pa.int64()), ("nanoseconds", pa.int64())])


def stored_type(type_: Type) -> pa.DataType:
    """The Arrow type in the files of a column of `type_`."""
    return stored_arrow_type(to_arrow(type_))


def stored_arrow_type(type_: pa.DataType) -> pa.DataType:
    """The Arrow type in the files for values of `type_`.

    Raises:
        LakeError: values of this type cannot be stored.
    """
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return pa.list_(stored_arrow_type(type_.value_type))
    if pa.types.is_struct(type_):
        if not type_.num_fields:
            raise LakeError("a STRUCT without fields cannot be stored; give it a field")
        return pa.struct([pa.field(field.name, stored_arrow_type(field.type)) for field in type_])
    if pa.types.is_time(type_):
        return pa.int64()
    if pa.types.is_interval(type_):
        return _INTERVAL
    if pa.types.is_decimal256(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_) or pa.types.is_null(type_):
        return pa.string()
    return type_


def stored_schema(schema: pa.Schema) -> pa.Schema:
    """The schema in the files for `schema`. Every column may be NULL, because SQL checks constraints."""
    return pa.schema([pa.field(field.name, stored_arrow_type(field.type), metadata=field.metadata) for field in schema])


def stored(rows: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """The same rows as the files store them."""
    schema = stored_schema(rows.schema)

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in rows:
            columns = [_stored(column, field.type) for column, field in zip(batch.columns, schema, strict=True)]
            yield pa.record_batch(columns, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def finite(column: pa.Array) -> pa.Array:
    """The column with NULL for numbers that are infinite because they were beyond FLOAT64."""
    if column.type != pa.float64() or pc.all(is_finite := pc.is_finite(column)).as_py() is not False:
        return column
    kept: pa.Array = pc.if_else(is_finite, column, None)
    return kept


def _stored(array: pa.Array, type_: pa.DataType) -> pa.Array:
    if array.type == type_:
        return array
    if pa.types.is_list(type_):
        if array.offset:
            array = pa.concat_arrays([array])  # the offsets of a slice cannot be combined with its NULLs
        # flatten() would drop values behind a NULL list, and the offsets would no longer match.
        lists = cast("pa.ListArray", array)
        values = _stored(lists.values, type_.value_type)
        return type(lists).from_arrays(lists.offsets, values, mask=array.is_null() if array.null_count else None).cast(type_)
    if pa.types.is_struct(array.type):
        fields = list(cast("pa.StructType", type_))
        children = [_stored(pc.struct_field(array, index), field.type) for index, field in enumerate(fields)]
        return pa.StructArray.from_arrays(children, fields=fields, mask=array.is_null())
    if pa.types.is_time(array.type):
        return array.cast(pa.time64("us")).cast(pa.int64())
    if pa.types.is_interval(array.type):
        return _stored_interval(array)
    return array.cast(type_)


def _stored_interval(array: pa.Array) -> pa.Array:
    layout = np.dtype([("months", "<i4"), ("days", "<i4"), ("nanoseconds", "<i8")])
    values = np.frombuffer(array.buffers()[1], layout, count=len(array), offset=array.offset * layout.itemsize)
    children = [pa.array(values[name].astype(np.int64)) for name in layout.names or ()]
    return pa.StructArray.from_arrays(children, fields=list(_INTERVAL), mask=array.is_null())


def restored(column: pa.Array, type_: Type) -> pa.Array:
    """The values of `type_` that a file stores in `column`, in their own Arrow type."""
    target = to_arrow(type_)
    if column.type == target:
        return column
    if type_.element is not None:
        if column.offset:
            column = pa.concat_arrays([column])  # the offsets of a slice cannot be combined with its NULLs
        lists = cast("pa.ListArray", column)
        items = restored(lists.values, type_.element)
        return pa.ListArray.from_arrays(lists.offsets, items, type=target, mask=column.is_null() if column.null_count else None)
    if type_.fields:
        children = [restored(pc.struct_field(column, place), field.type) for place, field in enumerate(type_.fields)]
        return pa.StructArray.from_arrays(children, fields=list(cast("pa.StructType", target)), mask=column.is_null())
    if pa.types.is_interval(target):
        return pa.array([None if value is None else tuple(value.values()) for value in column.to_pylist()], target)
    return column.cast(target)
