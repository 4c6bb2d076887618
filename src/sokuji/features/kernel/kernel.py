"""The kernel of a view: turns events into rows of state, and rows into features.

    expressions = Expressions(view.expressions, schema)  # once
    kernel = Kernel(view, expressions.types, vocabulary)
    ...
    evaluated, failed = expressions.evaluate(batch)  # for each batch of events
    columns = kernel.columns(evaluated)
    values = kernel.update(segment, profile_of_event, times_us, columns).batch()

`segment` is `uint8[profiles, kernel.width]`: the rows of the profiles, or a slice of wider rows. Its memory begins at a multiple of 8
bytes, and so does each row. A row of zeros is a profile never seen. The results depend only on the rows and on the events in their order.
Needs the extra `realtime`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sokuji.errors import FeatureError
from sokuji.features.kernel import decode
from sokuji.features.kernel.columns import EventColumns, event_columns
from sokuji.features.kernel.layout import layout
from sokuji.features.kernel.loops import evaluate_all, update_all
from sokuji.features.kernel.merge import merge_all
from sokuji.features.kernel.program import Ints
from sokuji.features.kernel.rows import Floats, RowMemory
from sokuji.features.kernel.strings import Strings, Vocabulary
from sokuji.features.spec import ViewSpec
from sokuji.types import Field, Type

Segment = npt.NDArray[np.uint8]
_WORD = 8


@dataclass(frozen=True, slots=True)
class Values:
    """Features as the kernel computed them, one row per event. They stay `numbers` until columns are requested."""

    kernel: Kernel
    numbers: Floats

    def batch(self) -> pa.RecordBatch:
        """One column per feature, with the types of `kernel.fields`."""
        return self.kernel.decode(self.numbers)


class Kernel:
    """Computes one view. `width` is in bytes. If the `fingerprint` changes, rows written before have another meaning."""

    def __init__(self, view: ViewSpec, types: Mapping[str, Type], vocabulary: Vocabulary) -> None:
        """Create the kernel; `types` has the type of each of `view.expressions`.

        Raises:
            FeatureError: an expression's type does not fit its function.
        """
        decode.check(view, types)
        self.view, self._types, self._vocabulary = view, types, vocabulary
        self.layout = layout(view)
        self.width, self.fingerprint = self.layout.width, self.layout.fingerprint
        self.columns_count = int(self._settings["columns"])  # the kernel's result columns, before they are converted to features
        self.fields = tuple(Field(feature.name, decode.result_type(feature.expression, types)) for feature in view.features)

    def columns(self, evaluated: pa.RecordBatch | pa.Table) -> EventColumns:
        """The columns that the kernel reads. `evaluated` has one column for each of `view.expressions`, named by its text."""
        return event_columns(evaluated, self.layout.filters, self.layout.columns, self._types, self._vocabulary)

    def update(
        self, segment: Segment, profile_of_event: npt.NDArray[np.int32], times_us: Ints, columns: EventColumns, *, want_values: bool = True
    ) -> Values:
        """Apply events in their order. Returns the features of each event's profile, right after that event.

        `profile_of_event` gives the row of `segment` that each event belongs to. Without `want_values`, the result has no rows, and the
        call
        takes half the time.
        """
        out = np.empty((len(times_us) if want_values else 0, self.columns_count))
        if len(times_us):
            state, stride = self.state(segment)
            # Arrow's arrays are read-only. As arguments they would need a second compiled signature.
            rows, times = np.require(profile_of_event, np.int32, ["C", "W"]), np.require(times_us, np.int64, ["C", "W"])
            self._check_events(segment, rows, times, columns)
            update_all(self.layout.program, state, stride, rows, times, columns.filters, columns.values, out)
        return Values(self, out)

    def finalize(self, segment: Segment, at_us: int | Ints, strings: Strings | None = None) -> pa.RecordBatch:
        """The features of each row for a reader at `at_us`, or at the row's own clock if that is later.

        `strings` are the strings of the process that writes the rows; default: the kernel's own vocabulary.
        """
        out = np.empty((len(segment), self.columns_count))
        if len(segment):
            state, stride = self.state(segment)
            evaluate_all(self.layout.program, state, stride, np.broadcast_to(np.int64(at_us), len(segment)).copy(), out)
        return self.decode(out, strings)

    def merge(self, into: Segment, other: Segment) -> None:
        """Merge each row of `other` into the row of `into` at the same place, as if one profile had the events of both.

        Sums, counts and the like are as if one profile had all events. Sessions at most the gap apart become one. Where the order of
        arrival
        matters, the events of `into` came first.
        """
        if len(into) != len(other):
            raise FeatureError(f"view {self.view.name}: merging takes as many rows of each; got {len(into)} and {len(other)}")
        if len(into):
            (state, stride), (others, other_stride) = self.state(into), self.state(other)
            buffer, _ = self.state(np.zeros((1, self.width), np.uint8))
            merge_all(self.layout.program, state, stride, others, other_stride, buffer, len(into))

    def decode(self, numbers: Floats, strings: Strings | None = None, names: Collection[str] | None = None) -> pa.RecordBatch:
        """Convert the kernel's numbers to columns with the types of `fields`: all features, or those in `names`."""
        texts = self._vocabulary if strings is None else strings
        features = [feature for feature in self.view.features if names is None or feature.name in names]
        return decode.decode(features, self.layout.outputs, self._types, numbers, texts)

    @property
    def _settings(self) -> Any:
        return self.layout.program.settings[0]

    def state(self, segment: Segment) -> tuple[RowMemory, int]:
        """The memory from the first row to the last as one array of each kind, and the words from row to row."""
        stride = segment.strides[0] if len(segment) > 1 else self.width
        start = segment.__array_interface__["data"][0]
        if segment.dtype != np.uint8 or segment.ndim != 2 or segment.shape[1] != self.width or segment.strides[1] != 1:
            raise FeatureError(f"view {self.view.name}: a segment is uint8[profiles, {self.width}]; got {segment.dtype}{segment.shape}")
        if stride % _WORD or start % _WORD:
            raise FeatureError(f"view {self.view.name}: rows begin at multiples of {_WORD} bytes; they are {stride} apart from {start}")
        flat = np.lib.stride_tricks.as_strided(segment[0], ((len(segment) - 1) * stride + self.width,), (1,))
        return RowMemory(flat.view(np.int64), flat.view(np.float64), flat.view(np.int32), flat), stride // _WORD

    def _check_events(self, segment: Segment, rows: npt.NDArray[np.int32], times: Ints, columns: EventColumns) -> None:
        # Compiled code does not check array bounds.
        if not len(rows) == len(times) == columns.filters.shape[1] == columns.values.shape[1]:
            raise FeatureError(
                f"view {self.view.name}: {len(rows)} profiles, {len(times)} times and columns of {columns.values.shape[1]} events"
            )
        if rows.min() < 0 or rows.max() >= len(segment):
            raise FeatureError(f"view {self.view.name}: events are of rows {rows.min()} to {rows.max()}, the segment has {len(segment)}")
