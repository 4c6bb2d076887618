"""Convert the columns of events to the numbers that the kernel reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.compiled import compiled, fixed
from sokuji.features.kernel.layout import KernelColumn
from sokuji.features.kernel.program import Ints
from sokuji.features.kernel.rows import Floats
from sokuji.features.kernel.strings import Vocabulary
from sokuji.types import Kind, Type


class EventColumns(NamedTuple):
    """For each filter, one number per event (1: the event counts). For each value, one number per event (NaN: NULL)."""

    filters: npt.NDArray[np.uint8]  # [filters, events]
    values: Floats  # [columns, events]

    def take(self, events: Ints) -> EventColumns:
        """The columns of the selected events."""
        return EventColumns(self.filters[:, events], self.values[:, events])


def event_columns(
    batch: pa.RecordBatch | pa.Table,
    filters: Sequence[str],
    columns: Sequence[KernelColumn],
    types: Mapping[str, Type],
    vocabulary: Vocabulary,
) -> EventColumns:
    """The columns of a batch or table that has one column per expression, named by the expression's text."""
    events = batch.num_rows
    chosen = np.empty((len(filters), events), np.uint8)
    for index, sql in enumerate(filters):
        chosen[index] = pc.fill_null(batch.column(sql), False).to_numpy(zero_copy_only=False)
    values = np.empty((len(columns), events), np.float64)
    for index, column in enumerate(columns):
        values[index] = _numbers(batch.column(column.sql), types[column.sql], column.hashed, vocabulary)
    return EventColumns(chosen, values)


def _numbers(array: Any, type_: Type, hashed: bool, vocabulary: Vocabulary) -> Floats:
    if type_.kind is not Kind.STRING:
        numbers: Floats = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return numbers
    return _hashes(array) if hashed else vocabulary.encode(array)


def _hashes(array: Any) -> Floats:
    """Hashes of strings as whole numbers below 2^53; NaN for NULL."""
    if isinstance(array, pa.ChunkedArray):
        return np.concatenate([np.empty(0), *map(_hashes, array.chunks)])
    if isinstance(array, pa.DictionaryArray):
        places = pc.fill_null(array.indices, len(array.dictionary)).to_numpy(zero_copy_only=False)
        taken: Floats = np.append(_hashes(array.dictionary), np.nan)[places]
        return taken
    strings = array.cast(pa.large_string())  # also copies a slice, so that it begins at the start
    _, offsets, data = strings.buffers()
    places = fixed(np.frombuffer(offsets, np.int64, len(array) + 1, strings.offset * 8))
    text = fixed(np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8))
    hashes = np.empty(len(array))
    _hash_all(places, text, hashes)
    hashes[array.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return hashes


@compiled
def _hash_all(offsets: Ints, text: npt.NDArray[np.uint8], found: Floats) -> None:
    """FNV-1a, folded to the 53 bits that a float64 holds."""
    for i in range(found.size):
        hashed = np.uint64(0xCBF29CE484222325)
        for place in range(offsets[i], offsets[i + 1]):
            hashed = (hashed ^ np.uint64(text[place])) * np.uint64(0x100000001B3)
        found[i] = np.float64((hashed ^ (hashed >> np.uint64(32))) & np.uint64(0x1FFFFFFFFFFFFF))
