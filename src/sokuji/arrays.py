"""Arrow arrays of columns."""

from __future__ import annotations

import pyarrow as pa


def in_one_piece(column: pa.ChunkedArray) -> pa.Array:
    """A column of a table as one array. pyarrow does not combine the chunks of some types, and of columns without chunks."""
    array = column.combine_chunks()
    return array if isinstance(array, pa.Array) else pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
