"""Rows as GoogleSQL values, for input and output of the reference implementation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sokuji.errors import SqlError
from sokuji.lake.stored import finite, restored
from sokuji.sql.front import values
from sokuji.sql.query import StoredRows
from sokuji.types import Field, Kind, Type, arrow_schema, to_arrow


@dataclass(frozen=True, slots=True)
class ValueRows:
    """Rows of values as in `front.values`."""

    fields: tuple[Field, ...]
    rows: list[tuple[Any, ...]]

    def reader(self) -> pa.RecordBatchReader:
        """The same rows as a stream of Arrow batches."""
        columns = [values.to_arrow([row[place] for row in self.rows], field.type) for place, field in enumerate(self.fields)]
        schema = arrow_schema(self.fields)
        return pa.RecordBatchReader.from_batches(schema, [pa.record_batch(columns, schema=schema)])


def of_arrow(table: pa.Table, fields: Sequence[Field]) -> ValueRows:
    """The rows of an Arrow table with these columns."""
    columns = [values.from_arrow(column, field.type) for column, field in zip(table.columns, fields, strict=True)]
    return ValueRows(tuple(fields), list(zip(*columns, strict=True)) if columns else [()] * table.num_rows)


def of_stored(table: StoredRows) -> ValueRows:
    """The rows of a table."""
    fields = tuple(column.field for column in table.columns)
    if not fields:
        # A batch without columns does not have a number of rows.
        return ValueRows((), [()] * table.lake.scan(table.snapshot, table.snapshot.schema.names[:1]).read_all().num_rows)
    return of_arrow(stored_reader(table).read_all(), fields)


def stored_reader(table: StoredRows) -> pa.RecordBatchReader:
    """The rows of a table that has columns, in the catalog's types, whatever types the files have."""
    schema = arrow_schema(column.field for column in table.columns)
    names = table.snapshot.schema.names
    found = table.lake.scan(table.snapshot, [name for name in schema.names if name in names] or names[:1])

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in found:
            columns = [
                restored(finite(batch.column(column.name)) if table.of_events else batch.column(column.name), column.type)
                if column.name in names
                else pa.nulls(batch.num_rows, to_arrow(column.type))
                for column in table.columns
            ]
            yield pa.record_batch(columns, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def storable(value: Any, type_: Type) -> Any:
    """The value with arrays as BigQuery stores them: a NULL array becomes empty, and a NULL element is an error.

    Raises:
        SqlError: an element is NULL.
    """
    if type_.element is not None:
        if any(item is None for item in value or ()):
            raise SqlError("Array cannot have a null element; error in writing field")
        return [storable(item, type_.element) for item in value or ()]
    if type_.kind is Kind.STRUCT and value is not None:
        return tuple(storable(item, field.type) for item, field in zip(value, type_.fields, strict=True))
    return value
