"""The result of a statement."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from sokuji.types import Field


class Result:
    """The rows of a query, or the outcome of another statement.

    The rows are a stream that can be read once: use only one of `batches`, `arrow` and `rows`. Column names may repeat or be empty, as in
    GoogleSQL; the Arrow table has the same names.
    """

    def __init__(
        self, schema: tuple[Field, ...], reader: pa.RecordBatchReader | None = None, *, message: str = "", rows_affected: int | None = None
    ) -> None:
        self.schema = schema
        self.message = message
        self.rows_affected = rows_affected
        self._reader = reader

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows, one batch at a time."""
        if self._reader is not None:
            yield from self._reader

    def reader(self) -> pa.RecordBatchReader:
        """The rows as a stream for another consumer. A statement without rows has an empty stream."""
        if self._reader is None:
            return pa.RecordBatchReader.from_batches(pa.schema([]), [])
        return self._reader

    def arrow(self) -> pa.Table:
        """All rows in memory."""
        return self.reader().read_all()

    def rows(self) -> list[tuple[Any, ...]]:
        """All rows as tuples of Python values: STRUCT is a dict, ARRAY a list, JSON its text, TIMESTAMP an aware datetime."""
        columns = [column.to_pylist() for column in self.arrow().columns]
        return list(zip(*columns, strict=True))


def rows_said(count: int) -> str:
    """A number of rows in words, for messages."""
    return f"{count:,} row{'' if count == 1 else 's'}"
