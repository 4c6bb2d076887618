"""How values of GoogleSQL types stand in Parquet files, where Delta Lake has no type of its own for them.

| type       | in files                                        |
|------------|-------------------------------------------------|
| TIME       | INT64, microseconds since midnight              |
| INTERVAL   | STRUCT of months, days, nanoseconds (all INT64) |
| BIGNUMERIC | STRING                                          |
| JSON       | STRING                                          |

All others are stored as they are, also inside ARRAY and STRUCT. Which type a column has in SQL is in the catalog.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sokuji.errors import LakeError
from sokuji.lake.delta.sums import check, is_sealed
from sokuji.types import Kind, Type, field_names, to_arrow

_INTERVAL = pa.struct([("months", pa.int64()), ("days", pa.int64()), ("nanoseconds", pa.int64())])
# What DuckDB needs to make the value again; `{}` is the stored one.
_FROM_STORED = {
    Kind.TIME: "(TIME '00:00:00' + to_microseconds({0}))",
    Kind.INTERVAL: "(to_months(({0}).months::INTEGER) + to_days(({0}).days::INTEGER) + to_microseconds(({0}).nanoseconds // 1000))",
    Kind.JSON: "CAST({0} AS JSON)",
}

ROW_BITS = 40  # of the number that says where a row stands; those above are the file's
_OWN_COLUMNS = {"file_index", "file_row_number"}  # DuckDB's, of every file that has none of these names


class RowColumn(NamedTuple):
    """A column, INT64, that says where a row stands: `file's number << ROW_BITS | row in the file`."""

    name: str
    numbers: Mapping[str, int]  # of the files


def stored_type(type_: Type) -> pa.DataType:
    """The Arrow type of a column of `type_` in the files."""
    return stored_arrow_type(to_arrow(type_))


def stored_arrow_type(type_: pa.DataType) -> pa.DataType:
    """The Arrow type in the files for values that come as `type_`.

    Raises:
        LakeError: values of that type cannot be stored.
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
    """`schema` as the files have it: every column may be NULL, as constraints are SQL's to check."""
    return pa.schema([pa.field(field.name, stored_arrow_type(field.type), metadata=field.metadata) for field in schema])


def stored(rows: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """The same rows as the files have them."""
    schema = stored_schema(rows.schema)

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in rows:
            columns = [_stored(column, field.type) for column, field in zip(batch.columns, schema, strict=True)]
            yield pa.record_batch(columns, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def finite(column: pa.Array) -> pa.Array:
    """The column with NULL for numbers beyond FLOAT64, which became infinite."""
    if column.type != pa.float64() or pc.all(is_finite := pc.is_finite(column)).as_py() is not False:
        return column
    return pc.if_else(is_finite, column, None)


def rows_of(
    files: Sequence[str], columns: Collection[str] | None = None, *, row_column: RowColumn | None = None, numbers: Collection[str] = ()
) -> str:
    """What to write after FROM in DuckDB to read these columns, or all, of a snapshot's files, of which there is one at least.

    `row_column` is added to them. `numbers` are columns of properties: what is infinite in them was beyond FLOAT64, and is NULL. Only
    files from before there were checksums have such values.

    Raises:
        DamagedFileError: a file is not as it was written.
    """
    check(files, columns)
    old = [file for file in files if not is_sealed(file)] if numbers else []
    if not old:
        return _read(files, row_column)
    there = {name for file in old for name in pq.read_schema(file).names}
    named = (_quoted(name) for name in numbers if name in there)
    replaced = ", ".join(f"CASE WHEN isfinite({name}) THEN {name} END AS {name}" for name in named)
    items = f"* REPLACE ({replaced})" if replaced else "*"
    new = [file for file in files if is_sealed(file)]
    rest = f" UNION ALL BY NAME FROM {_read(new, row_column)}" if new else ""
    return f"(SELECT {items} FROM {_read(old, row_column)}{rest})"


def can_number(columns: Collection[str]) -> bool:
    """Whether `rows_of` can add a `row_column` beside columns of these names."""
    return _OWN_COLUMNS.isdisjoint(name.lower() for name in columns)


def _read(files: Sequence[str], row_column: RowColumn | None) -> str:
    paths = ", ".join(_text(file) for file in files)
    # Without `hive_partitioning = false`, DuckDB makes a column of every folder on the way that is called `name=value`.
    rows = f"read_parquet([{paths}], union_by_name = true, hive_partitioning = false)"
    if row_column is None:
        return rows
    numbers = [row_column.numbers[file] for file in files]
    number = "file_index" if numbers == list(range(len(files))) else f"{numbers}[CAST(file_index AS BIGINT) + 1]"
    return f"(SELECT *, (CAST({number} AS BIGINT) << {ROW_BITS}) + file_row_number AS {_quoted(row_column.name)} FROM {rows})"


def from_stored(type_: Type, value: str) -> str:
    """The DuckDB expression for a value of `type_`, given the one for the stored value. The same text if nothing is to be done."""
    if type_.element is not None:
        element = from_stored(type_.element, "element")
        return value if element == "element" else f"list_transform({value}, lambda element: {element})"
    if type_.kind is Kind.STRUCT:
        names = [_quoted(name) for name in field_names(type_)]
        stored_fields = [f"({value}).{name}" for name in names]
        fields = [from_stored(field.type, stored) for field, stored in zip(type_.fields, stored_fields, strict=True)]
        if fields == stored_fields:
            return value
        packed = ", ".join(f"{name} := {field}" for name, field in zip(names, fields, strict=True))
        return f"CASE WHEN {value} IS NOT NULL THEN struct_pack({packed}) END"
    return _FROM_STORED.get(type_.kind, "{0}").format(value)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _stored(array: pa.Array, type_: pa.DataType) -> pa.Array:
    if array.type == type_:
        return array
    if pa.types.is_list(type_):
        if array.offset:
            array = pa.concat_arrays([array])  # offsets of a slice cannot be joined with its NULLs
        # flatten() would drop what stands behind a NULL list, and the offsets would no longer fit.
        values = _stored(array.values, type_.value_type)
        return type(array).from_arrays(array.offsets, values, mask=array.is_null() if array.null_count else None).cast(type_)
    if pa.types.is_struct(array.type):
        children = [_stored(pc.struct_field(array, index), field.type) for index, field in enumerate(type_)]
        return pa.StructArray.from_arrays(children, fields=list(type_), mask=array.is_null())
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
